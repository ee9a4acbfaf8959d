// PASIDs of the guest's own numbering, at a kernel that binds only what it has given out.
import { ForwardingSyscalls, type HostSyscalls, type IoctlArgument } from '@remora/host';
import {
  IommuGpasidBindData,
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_PASID_REQUEST,
  VfioBindFlag,
  VfioIommuType1PasidRequest,
  VfioPasidRequestFlag,
  viewOf,
} from '@remora/uapi';
import test from 'ava';
import { NumberedPasids } from './numbered-pasids.js';

const ENOSPC = -28;
const EBUSY = -16;
const EINVAL = -22;

/** Gives out every PASID once, and says what it was asked for. */
class Scripted extends ForwardingSyscalls {
  readonly asked: string[] = [];
  readonly given = new Set<number>();
  bind = 0;

  constructor() {
    super(undefined as unknown as HostSyscalls);
  }

  override ioctl(_fd: number, request: number, argument?: IoctlArgument): number {
    const view = viewOf(argument as Uint8Array);
    if (request === VFIO_IOMMU_BIND) {
      this.asked.push('bind');
      return this.bind;
    }
    if (request !== VFIO_IOMMU_PASID_REQUEST) return 7;
    const { flags, min, max, free_pasid } = VfioIommuType1PasidRequest.fields;
    if (flags.get(view) === VfioPasidRequestFlag.FREE) {
      this.asked.push(`free ${free_pasid.get(view)}`);
      return this.given.delete(free_pasid.get(view)) ? 0 : EINVAL;
    }
    this.asked.push(`allocate ${min.get(view)} to ${max.get(view)}`);
    if (this.given.has(min.get(view))) return ENOSPC;
    this.given.add(min.get(view));
    return 0;
  }
}

function request(flags: number, pasid: number): Uint8Array {
  const bytes = new Uint8Array(8 + IommuGpasidBindData.size);
  viewOf(bytes).setUint32(4, flags, true);
  IommuGpasidBindData.fields.hpasid.set(viewOf(bytes), 0, pasid, 8);
  return bytes;
}

test('its number is asked for before the bind, and given back after the unbind', t => {
  const kernel = new Scripted();
  const pasids = new NumberedPasids(kernel);
  const call = (flags: number): number => pasids.ioctl(3, VFIO_IOMMU_BIND, request(flags, 5));
  t.is(call(VfioBindFlag.BIND_GUEST_PGTBL), 0);
  t.deepEqual(kernel.asked, ['allocate 5 to 5', 'bind']);
  t.is(call(VfioBindFlag.BIND_GUEST_PGTBL), ENOSPC, 'it is out already');
  t.is(call(VfioBindFlag.UNBIND_GUEST_PGTBL), 0);
  t.deepEqual(kernel.asked.slice(3), ['bind', 'free 5']);
  t.is(kernel.given.size, 0);
});

test('one that is not bound is given back at once, one that stays bound is kept', t => {
  const kernel = new Scripted();
  const pasids = new NumberedPasids(kernel);
  kernel.bind = EBUSY;
  t.is(pasids.ioctl(3, VFIO_IOMMU_BIND, request(VfioBindFlag.BIND_GUEST_PGTBL, 9)), EBUSY);
  t.deepEqual(kernel.asked, ['allocate 9 to 9', 'bind', 'free 9']);
  kernel.bind = 0;
  pasids.ioctl(3, VFIO_IOMMU_BIND, request(VfioBindFlag.BIND_GUEST_PGTBL, 9));
  kernel.bind = EINVAL;
  t.is(pasids.ioctl(3, VFIO_IOMMU_BIND, request(VfioBindFlag.UNBIND_GUEST_PGTBL, 9)), EINVAL);
  t.true(kernel.given.has(9));
});

test('all else passes', t => {
  const kernel = new Scripted();
  t.is(new NumberedPasids(kernel).ioctl(3, VFIO_IOMMU_GET_INFO, new Uint8Array(24)), 7);
  t.deepEqual(kernel.asked, []);
  t.is(new NumberedPasids(kernel).ioctl(3, VFIO_IOMMU_BIND, request(VfioBindFlag.BIND_GUEST_PGTBL, 0x10_0000)), 0);
  t.deepEqual(kernel.asked, ['bind']);
});
