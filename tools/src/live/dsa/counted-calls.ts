/** How often a machine has asked the kernel of its host for what. */
import { ForwardingSyscalls, type IoctlArgument } from '@remora/host';
import { ioctlName } from '@remora/uapi';

export interface CallCount {
  made: number;
  refused: number;
}

export class CountedCalls extends ForwardingSyscalls {
  /** By the names of the requests: `VFIO_IOMMU_BIND`. */
  readonly counts = new Map<string, CallCount>();

  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    const name = ioctlName(request, 'vsva-rfc-v3.1');
    const count = this.counts.get(name) ?? { made: 0, refused: 0 };
    this.counts.set(name, count);
    const result = super.ioctl(fd, request, argument);
    count.made++;
    if (result < 0) count.refused++;
    return result;
  }
}
