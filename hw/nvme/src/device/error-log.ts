/** The error log (NVMe 1.4, 5.14.1.1): the latest errors, newest first, and how many there have been. */
import type { StateReader, StateWriter } from '@remora/core';
import { ERROR_ENTRIES, ERROR_ENTRY_BYTES, ErrorEntry, NOWHERE } from '../spec/index.js';
import type { Command } from './command.js';

export class ErrorLog {
  /** Errors ever. */
  count = 0;
  /** A ring: error n is in entry n - 1, modulo their number. */
  readonly #entries = new Uint8Array(ERROR_ENTRIES * ERROR_ENTRY_BYTES);
  readonly #view = new DataView(this.#entries.buffer);

  /** `command` ends with `status`. */
  failed(command: Command, status: number): void {
    const at = this.#begin(command.queue, command.cid, status, command.location);
    this.#view.setUint32(at + ErrorEntry.LBA, command.dword(10), true);
    this.#view.setUint32(at + ErrorEntry.LBA + 4, command.dword(11), true);
    this.#view.setUint32(at + ErrorEntry.NSID, command.nsid, true);
  }

  /** An error that is no command's. */
  happened(queue: number, status: number): void {
    this.#begin(queue, NOWHERE, status, NOWHERE);
  }

  /** Bytes of the log page. */
  fill(page: Uint8Array): void {
    for (let age = 0; age < Math.min(this.count, ERROR_ENTRIES); age++) {
      const at = ((this.count - 1 - age) % ERROR_ENTRIES) * ERROR_ENTRY_BYTES;
      page.set(this.#entries.subarray(at, at + ERROR_ENTRY_BYTES), age * ERROR_ENTRY_BYTES);
    }
  }

  save(into: StateWriter): void {
    into.integer('count', this.count).bytes('entries', this.#entries);
  }

  load(from: StateReader): void {
    this.count = from.integer('count');
    from.bytes('entries', this.#entries);
  }

  #begin(queue: number, cid: number, status: number, location: number): number {
    const at = (this.count % ERROR_ENTRIES) * ERROR_ENTRY_BYTES;
    this.count++;
    const view = this.#view;
    this.#entries.fill(0, at, at + ERROR_ENTRY_BYTES);
    view.setUint32(at + ErrorEntry.COUNT, this.count % 2 ** 32, true);
    view.setUint32(at + ErrorEntry.COUNT + 4, Math.floor(this.count / 2 ** 32), true);
    view.setUint16(at + ErrorEntry.SQID, queue, true);
    view.setUint16(at + ErrorEntry.CID, cid, true);
    // As in a completion: the phase tag, then the status.
    view.setUint16(at + ErrorEntry.STATUS, status << 1, true);
    view.setUint16(at + ErrorEntry.LOCATION, location, true);
    return at;
  }
}
