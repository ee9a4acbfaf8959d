/**
 * The event descriptors by which one client has a device's vectors signalled (linux/vfio.h, VFIO_DEVICE_SET_IRQS).
 *
 * A vector that is signalled while it is masked is signalled once when the mask is lifted. INTx is a level: it masks itself when it is
 * signalled, and is signalled again if the device still asserts it when the mask is lifted. MSI-X vectors are masked in the device's own
 * table as long as they have no descriptor, so that its pending bits say what waits.
 */
import { readlinkSync, readSync, writeSync } from 'node:fs';
import { Errno } from '@remora/core';
import { PollEvent, type Watch } from '@remora/host-linux';
import { VfioIrqSetFlag, VfioPciIrq } from '@remora/uapi';
import type { ServedDevice } from '../served-device.js';
import type { DescriptorSystem, PassedDescriptor } from './passed.js';

const ONE = new Uint8Array(BigUint64Array.of(1n).buffer);
const EVENTFD = 'anon_inode:[eventfd]';

interface Line {
  readonly index: number;
  readonly vector: number;
  event: PassedDescriptor | undefined;
  masked: boolean;
  /** Signalled while it was masked. */
  pending: boolean;
}

/** What a SET_IRQS with descriptors is about. */
export interface IrqRange {
  /** VfioIrqSetFlag.ACTION_... */
  readonly action: number;
  readonly index: number;
  readonly start: number;
  readonly count: number;
}

export class EventLines implements Disposable {
  readonly #device: ServedDevice;
  readonly #system: DescriptorSystem;
  /** By kind and vector; those that a client never spoke of are not there. */
  readonly #lines = new Map<string, Line>();
  /** Signalled by the client to lift the mask of INTx. */
  #resample: { readonly event: PassedDescriptor; readonly watch: Watch } | undefined;

  constructor(device: ServedDevice, system: DescriptorSystem) {
    this.#device = device;
    this.#system = system;
  }

  /** Descriptors for a range of vectors, one each; none at all take away those that are there. Returns 0 or a Linux error number. */
  assign({ action, index, start, count }: IrqRange, passed: readonly PassedDescriptor[]): number {
    if (passed.length !== count && passed.length !== 0) return Errno.EINVAL;
    if (!passed.every(({ fd }) => readlinkSync(`/proc/self/fd/${fd}`) === EVENTFD)) return Errno.EINVAL;
    // Nobody may keep this server waiting whose event descriptor is full.
    for (const { fd } of passed) this.#system.libc.neverWaits(fd);
    if (action === VfioIrqSetFlag.ACTION_UNMASK && index === VfioPciIrq.INTX) this.#resampleBy(passed[0]);
    else if (action !== VfioIrqSetFlag.ACTION_TRIGGER) return Errno.EOPNOTSUPP;
    else for (let each = 0; each < count; each++) this.#assignOne(index, start + each, passed[each]);
    return 0;
  }

  /** Nothing of this kind is signalled any more. */
  disable(index: number): void {
    for (const line of [...this.#lines.values()].filter(each => each.index === index)) this.#remove(line);
    if (index === VfioPciIrq.INTX) this.#resampleBy(undefined);
  }

  /** Signals a vector, now or when its mask is lifted. False if it has no descriptor. */
  signal(index: number, vector: number): boolean {
    const line = this.#lines.get(keyOf(index, vector));
    if (line?.event === undefined) return false;
    if (line.masked) line.pending = true;
    else signal(line.event);
    return true;
  }

  mask(index: number, vector: number, masked: boolean): void {
    const line = this.#line(index, vector);
    line.masked = masked;
    this.#tell(line);
    if (masked) return;
    const { pending } = line;
    line.pending = false;
    if (index === VfioPciIrq.INTX) this.pinChanged();
    else if (pending) this.signal(index, vector);
  }

  /** The device has asserted its interrupt pin, or let go of it. */
  pinChanged(): void {
    const line = this.#lines.get(keyOf(VfioPciIrq.INTX, 0));
    if (line?.event === undefined || line.masked || this.#device.asserted !== true) return;
    line.masked = true;
    signal(line.event);
  }

  /** Closes all. */
  [Symbol.dispose](): void {
    for (const line of [...this.#lines.values()]) this.#remove(line);
    this.#resampleBy(undefined);
  }

  #line(index: number, vector: number): Line {
    const key = keyOf(index, vector);
    const line = this.#lines.get(key) ?? { index, vector, event: undefined, masked: false, pending: false };
    this.#lines.set(key, line);
    return line;
  }

  #assignOne(index: number, vector: number, passed: PassedDescriptor | undefined): void {
    const line = this.#line(index, vector);
    line.event?.close();
    line.event = passed?.keep();
    if (index === VfioPciIrq.INTX) line.masked = false;
    this.#tell(line);
    if (index === VfioPciIrq.INTX) this.pinChanged();
  }

  #remove(line: Line): void {
    this.#lines.delete(keyOf(line.index, line.vector));
    line.event?.close();
    line.event = undefined;
    this.#tell(line);
  }

  /** MSI-X: the device's own table masks what the client does not take. */
  #tell({ index, vector, event, masked }: Line): void {
    if (index === VfioPciIrq.MSIX) this.#device.takes?.(vector, event !== undefined && !masked);
  }

  #resampleBy(passed: PassedDescriptor | undefined): void {
    this.#resample?.watch[Symbol.dispose]();
    this.#resample?.event.close();
    this.#resample = undefined;
    if (passed === undefined) return;
    const event = passed.keep();
    const watch = this.#system.poller.watch(event.fd, () => this.#resampled(event.fd));
    watch.events = PollEvent.IN;
    this.#resample = { event, watch };
  }

  #resampled(fd: number): void {
    try {
      readSync(fd, new Uint8Array(8));
    } catch {
      // Somebody else has read it.
    }
    this.mask(VfioPciIrq.INTX, 0, false);
  }
}

function signal({ fd }: PassedDescriptor): void {
  try {
    writeSync(fd, ONE);
  } catch {
    // It is full: the client has been told often enough.
  }
}

function keyOf(index: number, vector: number): string {
  return `${index}:${vector}`;
}
