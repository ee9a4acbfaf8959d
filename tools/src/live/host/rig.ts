/** Where a script is run: a host with two functions of QEMU's device edu, each in a group of its own, bound to vfio-pci. */
import type { HostSyscalls } from '@remora/host';
import type { Host } from '@remora/machine';

export interface HostRig {
  readonly syscalls: HostSyscalls;
  /** Of machines: the same host. */
  readonly host: Host;
  /** `0000:00:04.0` and the next. */
  readonly devices: readonly [string, string];
  /** Lets some of the time pass in which devices work. */
  wait(): void;
  /** The same, and gives the event loop its turn. */
  pause(): Promise<void>;
}

export const EDU = '0000:00:04.0';
export const SECOND_EDU = '0000:00:05.0';
/** Where the unit nests: a dma-engine with PASIDs, ATS and page requests. */
export const ENGINE = '0000:00:06.0';
