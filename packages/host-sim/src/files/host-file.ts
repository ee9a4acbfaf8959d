import type { IoctlArgument } from '@remora/host';
import type { HostProcess } from '../process.js';

/** What a file descriptor of a host process stands for. It answers what it has methods for. */
export interface HostFile {
  /** For dumps: `eventfd`, `vfio-container` ... */
  readonly kind: string;
  /** A value or a negated errno; -ENOTTY for a request that it does not know. `caller` is not always who opened the file. */
  ioctl?(request: number, argument: IoctlArgument, caller: HostProcess): number;
  /** The count of bytes or a negated errno. */
  pread?(buffer: Uint8Array, offset: number): number;
  pwrite?(buffer: Uint8Array, offset: number): number;
  /** read(2) and write(2), of files without positions. The count of bytes or a negated errno. */
  read?(buffer: Uint8Array): number;
  write?(buffer: Uint8Array): number;
  /** Calls `ready` whenever it becomes readable. */
  onReadable?(ready: () => void): Disposable;
  /** The descriptor is closed. */
  release(): void;
  /** JSON-able, for dumps. */
  state(): unknown;
}
