/** Dirty bitmaps over the fake unit (peers.md 3.6/17): all sizes, from any address, and bits that are not the caller's. */
import test from 'ava';
import { Errno } from '@remora/core';
import {
  IOMMU_HWPT_GET_DIRTY_BITMAP,
  IOMMU_HWPT_SET_DIRTY_TRACKING,
  IommuDirtyBitmapFlag,
  IommuHwptAllocFlag,
  IommuHwptGetDirtyBitmap,
  IommuHwptSetDirtyTracking,
} from '@remora/uapi';
import { IommufdBench, PAGE } from './iommufd.test.helper.js';

const MIB = 0x10_0000;

/** A table that tracks, with `bytes` mapped at IOVA 0, in pieces of at most 1 MiB of the same memory. */
function tracking(at: IommufdBench, bytes: number): number {
  const { user } = at;
  const device = at.bind(0);
  const ioas = user.ioas();
  const piece = Math.min(bytes, MIB);
  const { address } = user.memory(piece);
  for (let iova = 0; iova < bytes; iova += piece) user.map(ioas, iova, address, piece);
  const hwpt = user.hwpt(device.id, ioas, { flags: IommuHwptAllocFlag.DIRTY_TRACKING });
  user.attach(device.fd, hwpt);
  user.call(IOMMU_HWPT_SET_DIRTY_TRACKING, IommuHwptSetDirtyTracking, { hwpt_id: hwpt, flags: 1 });
  return hwpt;
}

for (const [bytes, pageSize] of [
  [2 * PAGE, PAGE],
  [MIB / 8, PAGE],
  [MIB, 2 * PAGE],
  [128 * MIB, PAGE],
  [128 * MIB, MIB],
] as const) {
  test(`3.6/17: ${bytes / 1024} KiB in pages of ${pageSize / 1024}, to an odd address, beside bits of others`, t => {
    const at = new IommufdBench(t);
    const hwpt = tracking(at, bytes);
    const pages = [0, 1, bytes / PAGE / 2, bytes / PAGE - 1];
    for (const page of pages) t.true(at.dmaWrite(page * PAGE, 1));
    const size = Math.ceil(bytes / pageSize / 8);
    const { address, ram } = at.user.memory(size + 64);
    ram.write(0, 0, new Uint8Array(size + 64).fill(0x80));
    const get = (flags: number): number =>
      at.user.call(IOMMU_HWPT_GET_DIRTY_BITMAP, IommuHwptGetDirtyBitmap, {
        hwpt_id: hwpt,
        flags,
        length: bytes,
        page_size: pageSize,
        data: address + 13,
      }).result;
    const bits = (): number[] => {
      const all = new Uint8Array(size + 64);
      ram.read(0, 0, all);
      t.deepEqual([...all.subarray(0, 13)], new Array(13).fill(0x80));
      t.deepEqual([...all.subarray(13 + size)], new Array(51).fill(0x80));
      return [...all.subarray(13, 13 + size)].flatMap((byte, index) =>
        [0, 1, 2, 3, 4, 5, 6].filter(bit => (byte & (1 << bit)) !== 0).map(bit => 8 * index + bit),
      );
    };
    const expected = [...new Set(pages.map(page => Math.floor((page * PAGE) / pageSize)))].filter(bit => bit % 8 !== 7);
    t.is(get(IommuDirtyBitmapFlag.NO_CLEAR), 0);
    t.deepEqual(bits(), expected);
    ram.write(0, 0, new Uint8Array(size + 64).fill(0x80));
    t.is(get(0), 0);
    t.deepEqual(bits(), expected, 'NO_CLEAR cleared nothing');
    ram.write(0, 0, new Uint8Array(size + 64).fill(0x80));
    t.is(get(0), 0);
    t.deepEqual(bits(), []);
  });
}

test('3.6/17: a range that goes beyond what is mapped, one that is none, a bitmap that is not there', t => {
  const at = new IommufdBench(t);
  const hwpt = tracking(at, 4 * PAGE);
  const { address, ram } = at.user.memory(1);
  const get = (values: object): number =>
    at.user.call(IOMMU_HWPT_GET_DIRTY_BITMAP, IommuHwptGetDirtyBitmap, {
      hwpt_id: hwpt,
      length: 4 * PAGE,
      page_size: PAGE,
      data: address,
      ...values,
    }).result;
  t.true(at.dmaWrite(2 * PAGE, 1));
  t.is(get({ iova: PAGE, length: 0 }), -Errno.EINVAL);
  t.is(get({ length: 0 }), -Errno.EINVAL);
  t.is(get({ iova: 2n ** 64n - 4096n }), -Errno.EOVERFLOW);
  t.is(get({ page_size: 0 }), -Errno.EINVAL);
  t.is(get({ iova: 512, length: 512, page_size: 512 }), -Errno.EINVAL, 'finer than the unit');
  t.is(get({ iova: 4 * PAGE }), 0, 'nothing is mapped there');
  t.is(get({ length: 2n ** 63n, page_size: PAGE }), 0);
  const byte = new Uint8Array(1);
  ram.read(0, 0, byte);
  t.is(byte[0], 4, 'up to where something is');
  t.true(at.dmaWrite(2 * PAGE, 1));
  t.is(get({ data: 2n ** 64n - 1n }), 0);
  t.is(get({ data: 8 }), 0);
});

test('3.6/17: a driver that cannot: what was in force is', t => {
  const at = new IommufdBench(t);
  const hwpt = tracking(at, PAGE);
  at.bench.driver.fail('setDirtyTracking', Errno.EIO);
  const off = at.user.call(IOMMU_HWPT_SET_DIRTY_TRACKING, IommuHwptSetDirtyTracking, { hwpt_id: hwpt });
  t.is(off.result, -Errno.EIO);
  t.true(at.dmaWrite(0, 1));
  const [domain] = at.bench.driver.userOps.domains;
  t.deepEqual(domain?.kind === 'paging' ? [...domain.dirty] : undefined, [0]);
});
