/** What the SMART log tells (NVMe 1.4, 5.14.1.2). Counts are those of the device's life: no reset clears them. */
import type { StateReader, StateWriter, VirtualClock } from '@remora/core';
import { DATA_UNIT_BYTES, Smart, TEMPERATURE } from '../spec/index.js';

const HOUR_NS = 3600e9;
const SPARE_PERCENT = 100;
const SPARE_THRESHOLD_PERCENT = 10;

export class Health {
  bytesRead = 0;
  bytesWritten = 0;
  reads = 0;
  writes = 0;
  mediaErrors = 0;
  /** Resets without a shutdown before. */
  unsafeShutdowns = 0;
  readonly #clock: VirtualClock;
  #since: number;

  constructor(clock: VirtualClock) {
    this.#clock = clock;
    this.#since = clock.now;
  }

  read(bytes: number): void {
    this.bytesRead += bytes;
    this.reads++;
  }

  written(bytes: number): void {
    this.bytesWritten += bytes;
    this.writes++;
  }

  /** Bytes of the log page; `errors` is what the error log has counted, `warnings` what is critical. */
  fill(page: Uint8Array, errors: number, warnings: number): void {
    const view = new DataView(page.buffer, page.byteOffset, page.length);
    const count = (at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);
    view.setUint8(Smart.CRITICAL_WARNING, warnings);
    view.setUint16(Smart.TEMPERATURE, TEMPERATURE, true);
    view.setUint8(Smart.SPARE, SPARE_PERCENT);
    view.setUint8(Smart.SPARE_THRESHOLD, SPARE_THRESHOLD_PERCENT);
    count(Smart.UNITS_READ, Math.ceil(this.bytesRead / DATA_UNIT_BYTES));
    count(Smart.UNITS_WRITTEN, Math.ceil(this.bytesWritten / DATA_UNIT_BYTES));
    count(Smart.READS, this.reads);
    count(Smart.WRITES, this.writes);
    count(Smart.POWER_CYCLES, 1);
    count(Smart.POWER_ON_HOURS, Math.floor((this.#clock.now - this.#since) / HOUR_NS));
    count(Smart.UNSAFE_SHUTDOWNS, this.unsafeShutdowns);
    count(Smart.MEDIA_ERRORS, this.mediaErrors);
    count(Smart.ERROR_LOG_ENTRIES, errors);
  }

  save(into: StateWriter): void {
    into.integer('bytes-read', this.bytesRead).integer('bytes-written', this.bytesWritten);
    into.integer('reads', this.reads).integer('writes', this.writes).integer('media-errors', this.mediaErrors);
    into.integer('unsafe-shutdowns', this.unsafeShutdowns).integer('on', this.#clock.now - this.#since);
  }

  load(from: StateReader): void {
    this.bytesRead = from.integer('bytes-read');
    this.bytesWritten = from.integer('bytes-written');
    this.reads = from.integer('reads');
    this.writes = from.integer('writes');
    this.mediaErrors = from.integer('media-errors');
    this.unsafeShutdowns = from.integer('unsafe-shutdowns');
    this.#since = this.#clock.now - from.integer('on');
  }
}
