/** A program that knows only VFIO, and an iommufd behind its container (peers.md 3.6, numbers 20 and 21). */
import test, { type ExecutionContext } from 'ava';
import { Errno } from '@remora/core';
import * as uapi from '@remora/uapi';
import { deviceOf, ENGINE, ENGINE_ID, pointerTo, ready, SECOND } from '../../bench.test.helper.js';
import { IommufdBench, PAGE, RW, U64_MAX } from './iommufd.test.helper.js';

const { TYPE1, V2 } = { TYPE1: uapi.VFIO_TYPE1_IOMMU, V2: uapi.VFIO_TYPE1v2_IOMMU };
const IOVA = 0x10_0000;

/** VFIO's ioctls on one descriptor. */
class VfioUser {
  readonly b: IommufdBench;
  readonly fd: number;

  constructor(b: IommufdBench, fd: number) {
    this.b = b;
    this.fd = fd;
  }

  ask(request: number, value?: number): number {
    return this.b.process.ioctl(this.fd, request, value);
  }

  map(iova: number | bigint, vaddr: number | bigint, size: number | bigint, flags = 3): number {
    const bytes = uapi.VfioIommuType1DmaMap.encode({ argsz: 32, flags, vaddr, iova, size });
    return this.b.process.ioctl(this.fd, uapi.VFIO_IOMMU_MAP_DMA, bytes);
  }

  /** Bytes that are gone, and -errno if there is one. */
  unmap(iova: number | bigint, size: number | bigint, flags = 0): { result: number; size: number | bigint } {
    const bytes = uapi.VfioIommuType1DmaUnmap.encode({ argsz: 24, flags, iova, size });
    const result = this.b.process.ioctl(this.fd, uapi.VFIO_IOMMU_UNMAP_DMA, bytes);
    return { result, size: uapi.VfioIommuType1DmaUnmap.decode(uapi.viewOf(bytes)).size };
  }

  info(argsz: number): Record<string, unknown> | number {
    const bytes = uapi.VfioIommuType1Info.encode({ argsz });
    const whole = new Uint8Array(Math.max(argsz, bytes.length));
    whole.set(bytes);
    const result = this.b.process.ioctl(this.fd, uapi.VFIO_IOMMU_GET_INFO, whole);
    return result === 0 ? uapi.decodeIoctl(uapi.VFIO_IOMMU_GET_INFO, whole) : result;
  }
}

/** Group 1 set to an iommufd, its device open, its type chosen. */
function lent(t: ExecutionContext, type: number): { b: IommufdBench; vfio: VfioUser; group: number; device: number } {
  const b = new IommufdBench(t);
  const vfio = new VfioUser(b, b.user.fd);
  const group = b.process.open('/dev/vfio/1');
  t.is(b.process.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, pointerTo(b.user.fd)), 0);
  t.is(vfio.ask(uapi.VFIO_SET_IOMMU, type), 0);
  const device = deviceOf(b.process, group, ENGINE);
  t.true(device >= 0);
  b.bench.host.function(ENGINE).config.write(4, 0x6, 2);
  return { b, vfio, group, device };
}

test('3.6/20: extensions, and what there is before a group comes', t => {
  const b = new IommufdBench(t);
  const vfio = new VfioUser(b, b.user.fd);
  t.is(vfio.ask(uapi.VFIO_GET_API_VERSION), uapi.VFIO_API_VERSION);
  const extensions = [TYPE1, V2, uapi.VFIO_UNMAP_ALL, uapi.VFIO_TYPE1_NESTING_IOMMU, uapi.VFIO_UPDATE_VADDR, 99];
  t.deepEqual(
    extensions.map(extension => vfio.ask(uapi.VFIO_CHECK_EXTENSION, extension)),
    [1, 1, 1, 0, 0, 0],
  );
  t.is(vfio.ask(uapi.VFIO_CHECK_EXTENSION, uapi.VFIO_DMA_CC_IOMMU), -Errno.ENODEV);
  t.is(vfio.ask(uapi.VFIO_SET_IOMMU, V2), -Errno.ENODEV);
  t.is(vfio.ask(uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1_NESTING_IOMMU), -Errno.EINVAL);
  t.is(vfio.info(4096), -Errno.ENODEV);
  t.is(vfio.info(15), -Errno.EINVAL);
  t.is(vfio.map(IOVA, 0x1000, PAGE), -Errno.ENODEV);
  t.is(vfio.unmap(IOVA, PAGE).result, -Errno.ENODEV);
  t.is(vfio.ask(uapi.VFIO_IOMMU_PASID_REQUEST), -Errno.ENOTTY);
});

test('3.6/20: VFIO_IOAS: chosen, told, taken back; gone when it is destroyed', t => {
  const b = new IommufdBench(t);
  const { GET, SET, CLEAR } = uapi.IommuVfioIoasOp;
  const op = (code: number, ioas_id = 0): number => {
    const { result, out } = b.user.call(uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas, { op: code, ioas_id });
    return result === 0 ? out.ioas_id : result;
  };
  t.is(op(GET), -Errno.ENODEV);
  t.is(op(SET, 9), -Errno.ENOENT);
  const ioas = b.user.ioas();
  t.is(op(SET, ioas), ioas);
  t.is(op(GET), ioas);
  t.is(op(CLEAR), 0);
  t.is(op(GET), -Errno.ENODEV);
  t.is(op(7), -Errno.EOPNOTSUPP);
  op(SET, ioas);
  t.is(b.user.destroy(ioas), 0);
  t.is(b.user.ioas(), ioas, 'the id again, for another');
  t.is(op(GET), -Errno.ENODEV);
});

test('3.6/20: a group brings an address space, a device of it is attached as it is opened, and DMA goes there', t => {
  const { b, vfio, group, device } = lent(t, V2);
  const { result, out } = b.user.call(uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas, { op: uapi.IommuVfioIoasOp.GET });
  t.is(result, 0);
  t.is(vfio.ask(uapi.VFIO_CHECK_EXTENSION, uapi.VFIO_DMA_CC_IOMMU), 1);
  const { address, ram } = b.user.memory(4 * PAGE);
  t.is(vfio.map(IOVA, address, 4 * PAGE), 0);
  t.true(b.dmaWrite(IOVA + 3 * PAGE, 0x33));
  const byte = new Uint8Array(1);
  ram.read(0, 3 * PAGE, byte);
  t.is(byte[0], 0x33);
  t.is(b.user.destroy(out.ioas_id), -Errno.EBUSY);
  t.is(b.unmap(out.ioas_id, IOVA, 4 * PAGE), 4 * PAGE, 'the same address space for both');
  t.false(b.dmaWrite(IOVA, 1));
  t.is(b.process.ioctl(group, uapi.VFIO_GROUP_UNSET_CONTAINER), 0, 'devices hold the iommufd themselves');
  vfio.map(IOVA, address, PAGE);
  t.true(b.dmaWrite(IOVA, 2));
  t.is(b.process.close(device), 0);
  t.false(b.dmaWrite(IOVA, 3));
  t.is(b.user.destroy(out.ioas_id), 0);
  t.deepEqual(b.bench.host.dump()['pinned'], []);
});

test('3.6/20: a group that is set to an iommufd takes the address space that was chosen', t => {
  const b = new IommufdBench(t);
  const ioas = b.user.ioas();
  b.user.call(uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas, { op: uapi.IommuVfioIoasOp.SET, ioas_id: ioas });
  const group = b.process.open('/dev/vfio/1');
  t.is(b.process.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, pointerTo(b.user.fd)), 0);
  t.is(b.process.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, pointerTo(b.user.fd)), -Errno.EINVAL);
  t.true(deviceOf(b.process, group, ENGINE) >= 0);
  t.is(deviceOf(b.process, group, SECOND), -Errno.ENODEV);
  t.is(b.user.destroy(ioas), -Errno.EBUSY);
  t.is(b.process.open('/dev/vfio/1'), -Errno.EBUSY);
});

test('3.6/20: without its address space a group lends nothing; reserved addresses that are mapped keep its device out', t => {
  const b = new IommufdBench(t);
  const group = b.process.open('/dev/vfio/1');
  t.is(b.process.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, pointerTo(b.user.fd)), 0);
  const vfio = new VfioUser(b, b.user.fd);
  t.is(vfio.map(0xfee0_0000, b.user.memory(PAGE).address, PAGE), 0);
  t.is(deviceOf(b.process, group, ENGINE), -Errno.EADDRINUSE);
  t.is(vfio.unmap(0, 0, uapi.VfioDmaUnmapFlag.ALL).result, 0);
  b.user.call(uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas, { op: uapi.IommuVfioIoasOp.CLEAR });
  t.is(deviceOf(b.process, group, ENGINE), -Errno.ENODEV);
  t.is(b.bench.driver.domainOf(ENGINE_ID), undefined);
});

test('3.6/20: the information and its chain: what fits, and how much it would be', t => {
  const { vfio } = lent(t, V2);
  t.like(vfio.info(16), { argsz: 24 + 48 + 16, flags: 3, iova_pgsizes: PAGE, cap_offset: 0 });
  t.deepEqual(vfio.info(24), { argsz: 88, flags: 3, iova_pgsizes: PAGE, cap_offset: 0, capabilities: [] });
  t.deepEqual(vfio.info(4096), {
    argsz: 88,
    flags: 3,
    iova_pgsizes: PAGE,
    cap_offset: 24,
    capabilities: [
      { header: { id: 3, version: 1, next: 40 }, avail: 0xffff_ffff },
      {
        header: { id: 1, version: 1, next: 0 },
        nr_iovas: 2,
        iova_ranges: [
          { start: 0, end: 0xfedf_ffff },
          { start: 0xfef0_0000, end: 2 ** 48 - 1 },
        ],
      },
    ],
  });
});

test('3.6/20: version 2 does not cut mappings, ENOENT; version 1 does', t => {
  for (const type of [V2, TYPE1]) {
    const { b, vfio } = lent(t, type);
    const { address, ram } = b.user.memory(4 * PAGE);
    for (let page = 0; page < 4; page++) ram.write(0, page * PAGE, Uint8Array.of(page + 1));
    t.is(vfio.map(IOVA, address, 4 * PAGE), 0);
    const { result, size } = vfio.unmap(IOVA + PAGE, 2 * PAGE);
    const seen = [0, 1, 2, 3].map(page => b.dmaRead(IOVA + page * PAGE));
    if (type === V2) t.deepEqual([result, size, ...seen], [-Errno.ENOENT, 0, 1, 2, 3, 4]);
    else t.deepEqual([result, size, ...seen], [0, 2 * PAGE, 1, undefined, undefined, 4]);
    t.deepEqual(vfio.unmap(0, 0, uapi.VfioDmaUnmapFlag.ALL), { result: 0, size: (type === V2 ? 4 : 2) * PAGE });
    t.deepEqual(b.bench.host.dump()['pinned'], []);
  }
});

test('3.6/20: what MAP_DMA and UNMAP_DMA refuse', t => {
  const { b, vfio } = lent(t, V2);
  const { address } = b.user.memory(PAGE);
  const before = b.bench.host.dump();
  t.is(vfio.map(IOVA, address, PAGE, 8), -Errno.EINVAL);
  t.is(vfio.map(IOVA, address, PAGE, 0), -Errno.EINVAL);
  t.is(vfio.map(IOVA, address, 0), -Errno.EINVAL);
  t.is(vfio.map(IOVA, address, 0x800), -Errno.EINVAL);
  t.is(vfio.map(IOVA, 0x1000, PAGE), -Errno.EFAULT);
  for (const flags of [1, 3, 4, 8]) t.is(vfio.unmap(IOVA, PAGE, flags).result, -Errno.EINVAL);
  t.is(vfio.unmap(IOVA, 0).result, -Errno.EINVAL);
  t.is(vfio.unmap(1, 1, uapi.VfioDmaUnmapFlag.ALL).result, -Errno.EINVAL);
  t.is(vfio.unmap(U64_MAX, 2).result, -Errno.EOVERFLOW);
  t.deepEqual(vfio.unmap(IOVA, PAGE), { result: 0, size: 0 }, 'nothing is there: nothing is gone');
  t.deepEqual(b.bench.host.dump(), before);
});

/** How a function is lent, and memory mapped for it: the same promises in all five. */
const MODES: Readonly<
  Record<string, (t: ExecutionContext, b: IommufdBench) => { map(a: number): number; unmap(): number }>
> = {
  type1: (t, b) => container(t, b, TYPE1),
  type1v2: (t, b) => container(t, b, V2),
  'type1 on iommufd': (t, b) => {
    b.bench.host.knobs.vfioContainer = 'iommufd';
    return container(t, b, TYPE1);
  },
  'type1v2 on iommufd': (t, b) => {
    b.bench.host.knobs.vfioContainer = 'iommufd';
    return container(t, b, V2);
  },
  iommufd: (_t, b) => {
    const ioas = b.user.ioas();
    b.user.attach(b.bind(0).fd, ioas);
    return {
      map: address =>
        Number(typeof b.map(ioas, { user_va: address, length: 2 * PAGE, iova: IOVA, flags: 1 | RW }) !== 'object'),
      unmap: () => Number(b.unmap(ioas, IOVA, 2 * PAGE) !== 2 * PAGE),
    };
  },
};

function container(t: ExecutionContext, b: IommufdBench, type: number): { map(a: number): number; unmap(): number } {
  const { container: fd, groups } = ready(b.process, type, 1);
  t.true(deviceOf(b.process, groups[0]!, ENGINE) >= 0);
  b.bench.host.function(ENGINE).config.write(4, 0x6, 2);
  const vfio = new VfioUser(b, fd);
  return { map: address => vfio.map(IOVA, address, 2 * PAGE), unmap: () => vfio.unmap(IOVA, 2 * PAGE).result };
}

for (const [mode, lend] of Object.entries(MODES)) {
  test(`3.6/21: ${mode}: DMA goes where it is mapped, and nowhere after; an exit gives all back`, t => {
    const b = new IommufdBench(t);
    const before = JSON.stringify(new IommufdBench(t).bench.host.dump());
    const { map, unmap } = lend(t, b);
    const { address, ram } = b.user.memory(2 * PAGE);
    t.false(b.dmaWrite(IOVA, 1));
    t.is(map(address), 0);
    t.true(b.dmaWrite(IOVA + PAGE + 5, 0x99));
    const byte = new Uint8Array(1);
    ram.read(0, PAGE + 5, byte);
    t.is(byte[0], 0x99);
    t.false(b.dmaWrite(IOVA + 2 * PAGE, 1));
    t.is(unmap(), 0);
    t.false(b.dmaWrite(IOVA, 1));
    t.is(map(address), 0, 'again');
    b.process[Symbol.dispose]();
    const after = { ...b.bench.host.dump(), processes: [] };
    const fresh = { ...(JSON.parse(before) as object), processes: [] };
    b.bench.host.function(ENGINE).config.write(4, 0, 2);
    t.deepEqual({ ...after, devices: b.bench.host.dump()['devices'] }, fresh);
  });
}
