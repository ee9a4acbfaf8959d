import test, { type ExecutionContext } from 'ava';
import { Errno } from '@remora/core';
import { owner } from '@remora/testing';
import {
  IommuCacheInvalidateInfo,
  IommuGpasidBindData,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_CACHE_INVALIDATE,
  VFIO_IOMMU_PASID_REQUEST,
  VFIO_TYPE1_NESTING_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VfioIommuType1PasidRequest,
  viewOf,
} from '@remora/uapi';
import {
  bench,
  type Bench,
  deviceOf,
  ENGINE,
  ENGINE_ID,
  gadget,
  pointerTo,
  ready,
  SECOND,
  SECOND_ID,
} from '../bench.test.helper.js';
import type { HostProcess } from '../process.js';

type BindValues = Parameters<typeof IommuGpasidBindData.encode>[0];
type FlushValues = Parameters<typeof IommuCacheInvalidateInfo.encode>[0];

/** `struct` behind the two words argsz and flags. */
function headed(flags: number, struct: Uint8Array, argsz = 8 + struct.length): Uint8Array {
  const bytes = new Uint8Array(8 + struct.length);
  const view = viewOf(bytes);
  view.setUint32(0, argsz, true);
  view.setUint32(4, flags, true);
  bytes.set(struct, 8);
  return bytes;
}

class Client {
  readonly process: HostProcess;
  readonly container: number;
  readonly groups: readonly number[];

  constructor(process: HostProcess, groups: readonly number[], type: number = VFIO_TYPE1_NESTING_IOMMU) {
    this.process = process;
    const open = ready(process, type, ...groups);
    this.container = open.container;
    this.groups = open.groups;
  }

  alloc(min = 1, max = 0xfffff): number {
    const bytes = VfioIommuType1PasidRequest.encode({ argsz: 20, flags: 1, min, max });
    const result = this.process.ioctl(this.container, VFIO_IOMMU_PASID_REQUEST, bytes);
    return result < 0 ? result : VfioIommuType1PasidRequest.fields.result.get(viewOf(bytes));
  }

  free(pasid: number): number {
    const bytes = VfioIommuType1PasidRequest.encode({ argsz: 20, flags: 2, free_pasid: pasid });
    return this.process.ioctl(this.container, VFIO_IOMMU_PASID_REQUEST, bytes);
  }

  bind(pasid: number, values: BindValues = {}): number {
    const data = { version: 1, format: 1, flags: 1, gpgd: 0x1000, hpasid: pasid, gpasid: pasid, addr_width: 48 };
    const bytes = headed(1, IommuGpasidBindData.encode({ ...data, ...values }));
    return this.process.ioctl(this.container, VFIO_IOMMU_BIND, bytes);
  }

  unbind(pasid: number): number {
    const bytes = headed(
      2,
      IommuGpasidBindData.encode({ version: 1, format: 1, flags: 1, hpasid: pasid, gpasid: pasid }),
    );
    return this.process.ioctl(this.container, VFIO_IOMMU_BIND, bytes);
  }

  flush(values: FlushValues): number {
    const bytes = headed(0, IommuCacheInvalidateInfo.encode({ version: 1, cache: 1, ...values }));
    return this.process.ioctl(this.container, VFIO_IOMMU_CACHE_INVALIDATE, bytes);
  }

  flushPasid(pasid: number): number {
    return this.flush({ granularity: 1, pasid_info: { flags: 1, pasid } });
  }
}

function fixture(
  t: ExecutionContext,
  groups: readonly number[] = [1],
  options: Parameters<typeof bench>[0] = {},
): Bench & { vm: Client } {
  const made = owner(t)(bench(options));
  const vm = new Client(made.host.process('vm0'), groups);
  made.driver.takeCalls();
  return { ...made, vm };
}

test('a bind is repeated on each device of the container, an unbind and a flush too', t => {
  const { vm, driver } = fixture(t, [1, 2]);
  const pasid = vm.alloc();
  t.is(vm.bind(pasid, { gpgd: 0x1_2345_6000 }), 0);
  t.is(vm.flushPasid(pasid), 0);
  t.is(vm.unbind(pasid), 0);
  t.deepEqual(driver.takeCalls(), [
    `bindPasid 1 0x3f00 ${pasid} 0x123456000`,
    `bindPasid 1 0x3f08 ${pasid} 0x123456000`,
    `flushStage1 1 0x3f00 ${pasid}`,
    `flushStage1 1 0x3f08 ${pasid}`,
    `unbindPasid 1 0x3f00 ${pasid}`,
    `unbindPasid 1 0x3f08 ${pasid}`,
  ]);
});

test('what is bound reaches the unit whole', t => {
  const { vm, driver } = fixture(t);
  const pasid = vm.alloc();
  const vtd = { flags: 0x3f, pat: 0x8765_4321, emt: 6 };
  t.is(vm.bind(pasid, { gpgd: 0xffff_f765_4321_0000n, addr_width: 57, vtd }), 0);
  t.deepEqual(driver.domainOf(ENGINE_ID)!.attached.get(ENGINE_ID)!.get(pasid), {
    rootHi: 0xffff_f765,
    rootLo: 0x4321_0000,
    addressWidth: 57,
    attributes: { format: 1, sre: 1, eafe: 1, pcd: 1, pwt: 1, emte: 1, cd: 1, pat: 0x8765_4321, emt: 6 },
  });
});

test('BIND again: equal data is a success without a second user, other data is EBUSY', t => {
  const { vm, driver } = fixture(t);
  const pasid = vm.alloc();
  vm.bind(pasid);
  driver.takeCalls();
  t.is(vm.bind(pasid), 0);
  t.is(vm.bind(pasid, { gpgd: 0x2000 }), -Errno.EBUSY);
  t.is(vm.bind(pasid, { addr_width: 57 }), -Errno.EBUSY);
  t.deepEqual(driver.takeCalls(), []);
  t.is(vm.unbind(pasid), 0, 'one user');
  t.is(vm.unbind(pasid), -Errno.EINVAL);
});

test('a device refuses a bind: the others are unbound', t => {
  const { host, vm, driver } = fixture(t, [1, 2]);
  const pasid = vm.alloc();
  const before = host.dump();
  driver.fail('bindPasid', Errno.ENOMEM, 2);
  t.is(vm.bind(pasid), -Errno.ENOMEM);
  t.deepEqual(host.dump(), before);
  t.is(vm.bind(pasid), 0);
});

test('a device refuses an unbind: the others are bound again, as they were', t => {
  const { host, vm, driver } = fixture(t, [1, 2]);
  const pasid = vm.alloc();
  vm.bind(pasid);
  const before = host.dump();
  const config = driver.domainOf(ENGINE_ID)!.attached.get(ENGINE_ID)!.get(pasid);
  driver.fail('unbindPasid', Errno.EIO, 2);
  t.is(vm.unbind(pasid), -Errno.EIO);
  t.deepEqual(host.dump(), before);
  t.is(driver.domainOf(ENGINE_ID)!.attached.get(ENGINE_ID)!.get(pasid), config);
  t.is(vm.unbind(pasid), 0);
});

test('a device refuses a flush: the others are flushed all the same, and the error is told', t => {
  const { vm, driver } = fixture(t, [1, 2]);
  const pasid = vm.alloc();
  vm.bind(pasid);
  driver.takeCalls();
  driver.fail('flushStage1', Errno.EIO, 1);
  t.is(vm.flushPasid(pasid), -Errno.EIO);
  t.is(driver.takeCalls().length, 2);
});

test('a device that joins has none of the bindings; a bind again gives it them', t => {
  const { vm, driver } = fixture(t, [1]);
  const pasid = vm.alloc();
  vm.bind(pasid);
  const second = vm.process.open('/dev/vfio/2');
  t.is(vm.process.ioctl(second, VFIO_GROUP_SET_CONTAINER, pointerTo(vm.container)), 0);
  const bound = (): boolean => driver.domainOf(SECOND_ID)!.attached.get(SECOND_ID)!.has(pasid);
  t.false(bound());
  driver.takeCalls();
  t.is(vm.bind(pasid), 0);
  t.deepEqual(driver.takeCalls(), [`bindPasid 1 0x3f08 ${pasid} 0x1000`]);
  t.is(vm.process.ioctl(second, VFIO_GROUP_UNSET_CONTAINER), 0);
  t.deepEqual(driver.takeCalls(), [`unbindPasid 1 0x3f08 ${pasid}`, 'detach 1 0x3f08']);
  t.is(vm.flushPasid(pasid), 0, 'the first device keeps it');
});

test('whose PASID it is', t => {
  const { host, vm, driver } = fixture(t, [1]);
  const other = new Client(host.process('vm1'), [2]);
  const mine = vm.alloc();
  const his = other.alloc();
  t.not(mine, his);
  driver.takeCalls();
  t.is(vm.bind(his), -Errno.EACCES);
  t.is(vm.unbind(his), -Errno.EACCES);
  t.is(vm.free(his), -Errno.EACCES);
  other.bind(his);
  driver.takeCalls();
  t.is(vm.flushPasid(his), -Errno.EINVAL, 'it is not bound here');
  t.deepEqual(driver.takeCalls(), []);
  const nobodys = [1, 2, 3].find(pasid => pasid !== mine && pasid !== his)!;
  t.is(vm.bind(nobodys), -Errno.ENOENT);
  t.is(vm.free(nobodys), -Errno.ENOENT);
});

test('FREE of a bound PASID is EBUSY; of an unbound one it makes room', t => {
  const { vm } = fixture(t, [1], { kernel: { pasidQuota: 1 } });
  const pasid = vm.alloc();
  t.is(vm.alloc(), -Errno.ENOSPC);
  vm.bind(pasid);
  t.is(vm.free(pasid), -Errno.EBUSY);
  vm.unbind(pasid);
  t.is(vm.free(pasid), 0);
  t.true(vm.alloc() > 0);
});

test('the quota of 1000 is shared by the containers of a process', t => {
  const { host, vm } = fixture(t, [1]);
  const second = new Client(vm.process, [2]);
  for (let count = 0; count < 500; count++) t.true(vm.alloc() > 0 && second.alloc() > 0);
  t.is(vm.alloc(), -Errno.ENOSPC);
  t.is(second.alloc(), -Errno.ENOSPC);
  t.is((host.dump()['pasids'] as unknown[]).length, 1000);
});

test('PASIDs go with the last container of their process', t => {
  const { host, vm } = fixture(t, [1]);
  const second = new Client(vm.process, [2]);
  const pasid = vm.alloc();
  vm.bind(pasid);
  vm.process.close(vm.groups[0]!);
  t.is((host.dump()['pasids'] as unknown[]).length, 1, 'unbound, but still owned');
  t.is(second.bind(pasid), 0, 'by the process, not by the container');
  vm.process.close(second.groups[0]!);
  t.deepEqual(host.dump()['pasids'], []);
});

test('a PASID needs 20 bits of every device and of the unit', t => {
  const own = owner(t);
  const half = bench({ devices: [gadget(ENGINE), gadget(SECOND, { pasidBits: 16 })] });
  const { host, driver } = own(half);
  const both = new Client(host.process('vm0'), [1, 2]);
  const pasid = both.alloc();
  driver.takeCalls();
  t.is(both.bind(pasid), -Errno.EINVAL);
  t.deepEqual(driver.takeCalls(), []);
  const none = own(bench({ devices: [gadget(ENGINE, { pasidBits: 0 })] }));
  const lone = new Client(none.host.process('vm0'), [1]);
  t.is(lone.bind(lone.alloc()), -Errno.EINVAL);
});

test('the kernel enables PASIDs on devices of a nesting container, and nowhere else', t => {
  const { host, vm } = fixture(t, [1]);
  const plain = new Client(host.process('vm1'), [2], VFIO_TYPE1v2_IOMMU);
  const enabled = (): boolean[] => [ENGINE, SECOND].map(bdf => host.function(bdf).pasidEnabled);
  t.deepEqual(enabled(), [true, false]);
  deviceOf(vm.process, vm.groups[0]!, ENGINE);
  t.deepEqual(enabled(), [true, false], 'the reset at opening does not lose it');
  vm.process[Symbol.dispose]();
  plain.process[Symbol.dispose]();
  t.deepEqual(enabled(), [false, false]);
});

test('a container that does not nest has no PASIDs: EINVAL', t => {
  const { host, driver } = owner(t)(bench());
  const vm = new Client(host.process('vm0'), [1], VFIO_TYPE1v2_IOMMU);
  driver.takeCalls();
  t.deepEqual([vm.alloc(), vm.free(5), vm.bind(5), vm.unbind(5), vm.flushPasid(5)], new Array(5).fill(-Errno.EINVAL));
  t.deepEqual(driver.takeCalls(), []);
});

test('which caches and granularities make sense (vsva.md 3.8)', t => {
  const { vm } = fixture(t);
  const pasid = vm.alloc();
  vm.bind(pasid);
  const pasid_info = { flags: 1, pasid };
  const addr_info = { flags: 1, pasid, addr: 0x7000, granule_size: 0x1000, nb_granules: 1 };
  const result = (cache: number, granularity: number): number =>
    vm.flush({ cache, granularity, ...(granularity === 1 ? { pasid_info } : granularity === 2 ? { addr_info } : {}) });
  const allowed = [0, 1, 2].map(granularity => [1, 2, 4, 5, 7].map(cache => result(cache, granularity) === 0));
  t.deepEqual(allowed, [
    // IOTLB, device TLB, PASID cache, IOTLB + PASID cache, all
    [true, false, true, true, false],
    [true, true, true, true, true],
    [true, true, false, false, false],
  ]);
  t.is(result(0, 1), -Errno.EINVAL);
  t.is(result(8, 1), -Errno.EINVAL);
  t.is(result(1, 3), -Errno.EINVAL);
});

test('pages of a flush: sizes, alignment, leaf', t => {
  const { vm, driver } = fixture(t);
  const pasid = vm.alloc();
  vm.bind(pasid);
  driver.takeCalls();
  const flush = (info: object): number =>
    vm.flush({
      granularity: 2,
      addr_info: { flags: 1, pasid, addr: 0, granule_size: 0x1000, nb_granules: 1, ...info },
    });
  t.is(flush({ addr: 0x7000 }), 0);
  t.is(flush({ addr: 0x40_0000, granule_size: 0x20_0000, flags: 5 }), 0);
  t.is(flush({ addr: 0x8000, nb_granules: 3 }), 0);
  t.is(flush({ addr: 2n ** 63n, granule_size: 2n ** 63n }), 0);
  t.deepEqual(driver.takeCalls(), [
    `flushStage1 1 0x3f00 ${pasid} 0x7000 shift 12 x1`,
    `flushStage1 1 0x3f00 ${pasid} 0x400000 shift 21 x1 leaf`,
    `flushStage1 1 0x3f00 ${pasid} 0x8000 shift 12 x3`,
    `flushStage1 1 0x3f00 ${pasid} 0x8000000000000000 shift 63 x1`,
  ]);
  t.is(flush({ addr: 0x1000, nb_granules: 2 }), -Errno.ERANGE);
  t.is(flush({ addr: 0x4000, nb_granules: 5 }), -Errno.ERANGE, 'rounded up to 8 pages');
  t.is(flush({ addr: 0x7001 }), -Errno.ERANGE);
  t.is(flush({ addr: 0x1000, granule_size: 2n ** 40n }), -Errno.ERANGE);
  t.is(flush({ granule_size: 0x800 }), -Errno.EINVAL);
  t.is(flush({ granule_size: 0x3000 }), -Errno.EINVAL);
  t.is(flush({ granule_size: 2n ** 40n + 0x1000n }), -Errno.EINVAL);
  t.is(flush({ granule_size: 0 }), -Errno.EINVAL);
  t.is(flush({ nb_granules: 0 }), -Errno.EINVAL);
  t.is(flush({ granule_size: 2n ** 63n, nb_granules: 3 }), -Errno.EINVAL, 'more than there are addresses');
  t.is(flush({ flags: 8 }), -Errno.EINVAL);
  t.is(flush({ flags: 2 }), -Errno.EINVAL, 'an architecture id names nothing here');
  t.is(flush({ pasid: 0x10_0000 }), -Errno.EINVAL);
  t.deepEqual(driver.takeCalls(), []);
});

test('a flush without a PASID means all that the container bound', t => {
  const { vm, driver } = fixture(t);
  const pasids = [vm.alloc(), vm.alloc()];
  for (const pasid of pasids) vm.bind(pasid);
  driver.takeCalls();
  t.is(vm.flush({ granularity: 0 }), 0);
  t.is(vm.flush({ granularity: 2, addr_info: { flags: 0, addr: 0x5000, granule_size: 0x1000, nb_granules: 1 } }), 0);
  t.deepEqual(driver.takeCalls(), [
    ...pasids.map(pasid => `flushStage1 1 0x3f00 ${pasid}`),
    ...pasids.map(pasid => `flushStage1 1 0x3f00 ${pasid} 0x5000 shift 12 x1`),
  ]);
});

test('a kernel of the VMID series: numbers 122 and 123 mean other things, per container', t => {
  const { host } = owner(t)(bench());
  const process = host.process('vm0');
  const rfc = ready(process, VFIO_TYPE1_NESTING_IOMMU, 1);
  host.knobs.uapi = 'vmid-rfc-v2';
  const fresh = process.open('/dev/vfio/vfio');
  const vmid = (container: number): number => {
    const bytes = new Uint8Array(4);
    const result = process.ioctl(container, VFIO_IOMMU_PASID_REQUEST, bytes);
    return result < 0 ? result : viewOf(bytes).getUint32(0, true);
  };
  t.is(vmid(fresh), 0xffff_ffff);
  t.is(process.ioctl(fresh, VFIO_IOMMU_BIND, 0xffff_ffff), -Errno.EINVAL);
  t.is(process.ioctl(fresh, VFIO_IOMMU_BIND, 7), 0);
  t.is(vmid(fresh), 7);
  t.is(process.ioctl(fresh, VFIO_IOMMU_PASID_REQUEST, new Uint8Array(2)), -Errno.EFAULT);
  t.is(process.ioctl(rfc.container, VFIO_IOMMU_PASID_REQUEST, new Uint8Array(4)), -Errno.EFAULT, 'still the RFC');
  const nesting = ready(process, VFIO_TYPE1_NESTING_IOMMU, 2);
  t.is(vmid(nesting.container), 2, 'the id of its domain');
  t.is(process.ioctl(nesting.container, VFIO_IOMMU_CACHE_INVALIDATE, new Uint8Array(56)), -Errno.ENOTTY);
});
