/**
 * A kernel of RFC v3.1 binds PASIDs that it has given out, and its guest gets them from it by virtual command. Today's Linux numbers its own.
 * So whoever lends it a device asks for just that number before each bind, and gives it back after the unbind.
 */
import { ForwardingSyscalls, type IoctlArgument } from '@remora/host';
import {
  IommuGpasidBindData,
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_PASID_REQUEST,
  VfioBindFlag,
  VfioIommuType1Bind,
  VfioIommuType1PasidRequest,
  VfioPasidRequestFlag,
  viewOf,
} from '@remora/uapi';

const MAX_PASID = 0xf_ffff;
const BYTES = VfioIommuType1PasidRequest.size;

export class NumberedPasids extends ForwardingSyscalls {
  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    if (request !== VFIO_IOMMU_BIND || !(argument instanceof Uint8Array)) return super.ioctl(fd, request, argument);
    const view = viewOf(argument);
    const pasid = IommuGpasidBindData.fields.hpasid.number(view, VfioIommuType1Bind.fields.data.offset);
    // The kernel says what it thinks of that.
    if (pasid > MAX_PASID) return super.ioctl(fd, request, argument);
    const binds = VfioIommuType1Bind.fields.flags.get(view) === VfioBindFlag.BIND_GUEST_PGTBL;
    if (binds) {
      const { ALLOC: flags } = VfioPasidRequestFlag;
      const bytes = VfioIommuType1PasidRequest.encode({ argsz: BYTES, flags, min: pasid, max: pasid });
      const refused = super.ioctl(fd, VFIO_IOMMU_PASID_REQUEST, bytes);
      if (refused < 0) return refused;
    }
    const result = super.ioctl(fd, request, argument);
    if (binds === result < 0) {
      const { FREE: flags } = VfioPasidRequestFlag;
      const bytes = VfioIommuType1PasidRequest.encode({ argsz: BYTES, flags, free_pasid: pasid });
      super.ioctl(fd, VFIO_IOMMU_PASID_REQUEST, bytes);
    }
    return result;
  }
}
