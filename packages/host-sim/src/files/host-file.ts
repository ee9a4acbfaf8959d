import { Errno } from '@remora/core';
import type { IoctlArgument } from '@remora/host';

/** What a file descriptor of a host process stands for. */
export abstract class HostFile {
  /** For dumps: `eventfd`, `vfio-container` ... */
  abstract readonly kind: string;

  ioctl(_request: number, _argument: IoctlArgument): number {
    return -Errno.ENOTTY;
  }

  pread(_buffer: Uint8Array, _offset: number): number {
    return -Errno.EINVAL;
  }

  pwrite(_buffer: Uint8Array, _offset: number): number {
    return -Errno.EINVAL;
  }

  /** The descriptor is closed. */
  abstract release(): void;

  /** JSON-able, for dumps. */
  abstract state(): unknown;
}
