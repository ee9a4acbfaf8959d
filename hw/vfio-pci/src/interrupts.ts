/**
 * Interrupts of a host function in the guest: the guest's function has MSI and MSI-X of its own; while the guest has one of them
 * enabled, the host signals each vector by an eventfd, and the guest's function raises it.
 */
import type { Log } from '@remora/core';
import type { HostSyscalls, VfioDevice } from '@remora/host';
import type { PciFunction } from '@remora/pci';
import { VfioPciIrq } from '@remora/uapi';
import type { VfioPciTrace } from './trace-events.js';

const COUNTER_BYTES = 8;

interface Vector {
  readonly fd: number;
  readonly listening: Disposable;
}

/** The vectors of one VFIO interrupt index, while they are connected. */
class ConnectedVectors {
  readonly #syscalls: HostSyscalls;
  readonly #device: VfioDevice;
  readonly #index: number;
  readonly #vectors: Vector[] = [];
  readonly #counter = new Uint8Array(COUNTER_BYTES);

  constructor(syscalls: HostSyscalls, device: VfioDevice, index: number) {
    this.#syscalls = syscalls;
    this.#device = device;
    this.#index = index;
  }

  /** 0 or a negated errno. */
  connect(count: number, raise: (vector: number) => void): number {
    for (let vector = 0; vector < count; vector++) {
      const fd = this.#syscalls.eventfd();
      if (fd < 0) return fd;
      const listening = this.#syscalls.onReadable(fd, () => {
        if (this.#syscalls.read(fd, this.#counter) === COUNTER_BYTES) raise(vector);
      });
      this.#vectors.push({ fd, listening });
    }
    const fds = this.#vectors.map(({ fd }) => fd);
    return this.#device.setEventFds(this.#index, 0, fds);
  }

  /** 0; or a negated errno if the host leaves the vectors enabled: nobody listens to them any more. */
  disconnect(): number {
    const result = this.#device.disableIrqs(this.#index);
    for (const { fd, listening } of this.#vectors) {
      listening[Symbol.dispose]();
      this.#syscalls.close(fd);
    }
    this.#vectors.length = 0;
    return result;
  }
}

/** What the guest has enabled, as its function's registers say. */
export interface GuestInterrupts {
  /** Vectors of MSI-X; 0 while it is disabled. */
  msix(): number;
  /** Vectors that the guest granted to MSI; 0 while it is disabled. */
  msi(): number;
}

export class HostInterrupts implements Disposable {
  readonly #fn: PciFunction;
  readonly #syscalls: HostSyscalls;
  readonly #device: VfioDevice;
  readonly #guest: GuestInterrupts;
  readonly #log: Log;
  readonly #trace: VfioPciTrace;
  #connected: ConnectedVectors | undefined;
  #index: number | undefined;
  #count = 0;
  /** An index that the host would not disable. It has to be, before another one can be enabled. */
  #stuck: number | undefined;

  constructor(
    fn: PciFunction,
    syscalls: HostSyscalls,
    device: VfioDevice,
    guest: GuestInterrupts,
    log: Log,
    trace: VfioPciTrace,
  ) {
    this.#fn = fn;
    this.#syscalls = syscalls;
    this.#device = device;
    this.#guest = guest;
    this.#log = log;
    this.#trace = trace;
  }

  /** To be called after the guest wrote to MSI's or MSI-X's registers. */
  update(): void {
    const msix = this.#guest.msix();
    const count = msix > 0 ? msix : this.#guest.msi();
    const index = count === 0 ? undefined : msix > 0 ? VfioPciIrq.MSIX : VfioPciIrq.MSI;
    if (this.#stuck !== undefined && this.#device.disableIrqs(this.#stuck) === 0) this.#stuck = undefined;
    if (index === this.#index && count === this.#count) return;
    this[Symbol.dispose]();
    if (index === undefined) return;
    const connected = new ConnectedVectors(this.#syscalls, this.#device, index);
    const offered = this.#device.irqs[index]?.count ?? 0;
    const result = connected.connect(Math.min(count, offered), vector => this.#raise(vector));
    if (result < 0) {
      this.#log.warn('the host connects no interrupts: %d', result);
      connected.disconnect();
      return;
    }
    this.#connected = connected;
    this.#index = index;
    this.#count = count;
    this.#traceEnabled(index, count);
  }

  #traceEnabled(index: number, count: number): void {
    const { vfio_msi_enable: msi, vfio_msix_enable: msix } = this.#trace;
    if (index === VfioPciIrq.MSI && msi.on) msi.emit(this.#device.bdf, count);
    if (index === VfioPciIrq.MSIX && msix.on) msix.emit(this.#device.bdf);
  }

  #raise(vector: number): void {
    const { vfio_msi_interrupt: raised } = this.#trace;
    if (raised.on) raised.emit(this.#device.bdf, vector);
    this.#fn.msi(vector);
  }

  /** What is connected: `MSI-X, 4 vectors`; undefined if nothing is. */
  describe(): string | undefined {
    if (this.#index === undefined) return undefined;
    return `${this.#index === VfioPciIrq.MSIX ? 'MSI-X' : 'MSI'}, ${this.#count} vectors`;
  }

  /** Disconnects whatever is connected. */
  [Symbol.dispose](): void {
    const { vfio_msi_disable: msi, vfio_msix_disable: msix } = this.#trace;
    if (this.#index === VfioPciIrq.MSI && msi.on) msi.emit(this.#device.bdf);
    if (this.#index === VfioPciIrq.MSIX && msix.on) msix.emit(this.#device.bdf);
    const result = this.#connected?.disconnect() ?? 0;
    if (result < 0) {
      this.#log.warn('the host leaves interrupts enabled that nobody takes: %d', result);
      this.#stuck = this.#index;
    }
    this.#connected = undefined;
    this.#index = undefined;
    this.#count = 0;
  }
}
