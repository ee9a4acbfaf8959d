/**
 * /dev/iommu, opened. Every argument starts with its size: a shorter structure than the kernel's is read as if zeros followed, a longer one
 * is taken if zeros follow (peers.md 3).
 */
import { Errno } from '@remora/core';
import type { IoctlArgument } from '@remora/host';
import { viewOf } from '@remora/uapi';
import type { HostFile } from '../../files/host-file.js';
import type { HostProcess } from '../../process.js';
import { userBytes } from '../user.js';
import type { IommufdContext } from './context.js';
import { IOMMUFD_BY_REQUEST } from './dispatch.js';
import { vfioCompatIoctl } from './vfio-compat.js';

const SIZE_BYTES = 4;

export class IommufdFile implements HostFile {
  readonly kind = 'iommufd';
  readonly context: IommufdContext;

  constructor(context: IommufdContext) {
    this.context = context;
  }

  ioctl(request: number, argument: IoctlArgument, caller: HostProcess): number {
    this.context.process = caller;
    const ioctl = IOMMUFD_BY_REQUEST.get(request);
    if (ioctl === undefined) return vfioCompatIoctl(this.context, request, argument);
    const first = userBytes(argument, SIZE_BYTES);
    if (typeof first === 'number') return first;
    const size = first.getUint32(0, true);
    if (size < ioctl.minimum) return -Errno.EINVAL;
    const bytes = argument as Uint8Array;
    if (bytes.length < size) return -Errno.EFAULT;
    const known = Math.min(size, ioctl.struct.size);
    for (let at = known; at < size; at++) if (bytes[at] !== 0) return -Errno.E2BIG;
    const copy = new Uint8Array(ioctl.struct.size);
    copy.set(bytes.subarray(0, known));
    const result = ioctl.run(this.context, viewOf(copy));
    bytes.set(copy.subarray(0, known));
    return result;
  }

  release(): void {
    this.context.drop();
  }

  state(): unknown {
    return this.context.state();
  }
}
