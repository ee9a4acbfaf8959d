/** Which pages a device wrote, on a unit with accessed and dirty bits in its second stage (peers.md 3.6/17). */
import test, { type ExecutionContext } from 'ava';
import { Errno, NO_PASID } from '@remora/core';
import { owner } from '@remora/testing';
import {
  IOMMU_HWPT_GET_DIRTY_BITMAP,
  IOMMU_HWPT_SET_DIRTY_TRACKING,
  IommuDirtyBitmapFlag,
  IommuDirtyTrackingFlag,
  IommuHwptAllocFlag,
  IommuHwptGetDirtyBitmap,
  IommuHwptSetDirtyTracking,
} from '@remora/uapi';
import { RawHost } from './raw-host.js';

const { NEST_PARENT, PASID, DIRTY_TRACKING } = IommuHwptAllocFlag;
const PAGE = 4096;
const PAGES = 256;
const DIRTY = { 'x-ssads': true, 'x-smpwcs': true } as const;

class Tracked {
  readonly at: RawHost;
  readonly hwpt: number;
  readonly #bitmap: {
    readonly address: number;
    readonly ram: {
      read(hi: number, lo: number, out: Uint8Array): unknown;
      write(hi: number, lo: number, from: Uint8Array): unknown;
    };
  };

  constructor(t: ExecutionContext, flags = 0) {
    this.at = owner(t)(new RawHost(DIRTY));
    const { user, devices, ioas } = this.at;
    this.hwpt = user.hwpt(devices[0].id, ioas, { flags: DIRTY_TRACKING | flags });
    t.true(this.hwpt > 0);
    this.#bitmap = user.memory(2 * PAGE);
  }

  track(on: boolean, flags = on ? IommuDirtyTrackingFlag.ENABLE : 0, hwpt = this.hwpt): number {
    return this.at.user.call(IOMMU_HWPT_SET_DIRTY_TRACKING, IommuHwptSetDirtyTracking, { hwpt_id: hwpt, flags }).result;
  }

  ask(values: object): number {
    return this.at.user.call(IOMMU_HWPT_GET_DIRTY_BITMAP, IommuHwptGetDirtyBitmap, {
      hwpt_id: this.hwpt,
      iova: 0,
      length: PAGES * PAGE,
      page_size: PAGE,
      data: this.#bitmap.address,
      ...values,
    }).result;
  }

  /** The numbers of the bits that are set; `offset` bytes into the memory for bitmaps. A negated errno alone. */
  dirty(values: object = {}, offset = 0): number[] {
    this.#bitmap.ram.write(0, 0, new Uint8Array(2 * PAGE));
    const result = this.ask({ data: this.#bitmap.address + offset, ...values });
    if (result !== 0) return [result];
    const bytes = new Uint8Array(PAGE);
    this.#bitmap.ram.read(0, offset, bytes);
    return [...bytes].flatMap((byte, index) =>
      [0, 1, 2, 3, 4, 5, 6, 7].filter(bit => byte & (1 << bit)).map(bit => index * 8 + bit),
    );
  }
}

test('3.6/17: what was written since it was reported last; NO_CLEAR leaves it; reads do not count', t => {
  const tracked = new Tracked(t);
  const { at } = tracked;
  t.is(at.user.attach(at.devices[0].fd, tracked.hwpt), 0);
  t.true(at.write(3, 1), 'before tracking is on');
  t.deepEqual(tracked.dirty(), [], 'tracking is off');
  t.is(tracked.track(true), 0);
  t.is(tracked.track(true), 0, 'again');
  t.deepEqual(tracked.dirty(), []);
  t.is(at.read(9), 0);
  t.true(at.write(3, 1) && at.write(200, 1) && at.write(4, 1));
  const { NO_CLEAR } = IommuDirtyBitmapFlag;
  t.deepEqual(tracked.dirty({ flags: NO_CLEAR }), [3, 4, 200]);
  t.deepEqual(tracked.dirty({}, 5), [3, 4, 200], 'a bitmap at a crooked address');
  t.deepEqual(tracked.dirty(), []);
  t.true(at.write(4, 2), 'a page that the unit had cached as written');
  t.deepEqual(tracked.dirty({ iova: 4 * PAGE, length: PAGE }), [0]);
  t.true(at.write(3, 2) && at.write(5, 2));
  t.deepEqual(tracked.dirty({ page_size: 2 * PAGE }), [1, 2], 'one bit for two pages');
  t.true(at.write(6, 2));
  t.is(tracked.track(false), 0);
  t.deepEqual(tracked.dirty(), [6], 'what was written before it went off is told still');
  t.true(at.write(7, 3));
  t.is(tracked.track(true), 0);
  t.deepEqual(tracked.dirty(), [], 'what was written meanwhile does not count');
});

test('3.6/17: a domain at a PASID, and a parent below a guest’s own table', t => {
  const tracked = new Tracked(t, NEST_PARENT | PASID);
  const { at } = tracked;
  const { user, devices } = at;
  const stage1 = at.stage1();
  stage1.map(0x5_0000, 33);
  t.is(user.attach(devices[0].fd, tracked.hwpt, 4), 0);
  t.is(user.attach(devices[1].fd, at.nested(tracked.hwpt, stage1, PASID), 6), 0);
  t.true(at.write(12, 1, 4) && at.write(0x5_0000, 1, 6, 1), 'the unit knows the pages already');
  t.is(tracked.track(true), 0);
  t.deepEqual(tracked.dirty(), []);
  t.true(at.write(12, 1, 4) && at.write(0x5_0000, 1, 6, 1));
  const dirty = tracked.dirty();
  t.deepEqual(
    dirty.filter(page => page < 192),
    [12, 33],
  );
  t.true(at.write(0x5_0000, 2, 6, 1));
  t.deepEqual(
    tracked.dirty().filter(page => page < 192),
    [33],
  );
});

test('3.6/17: what is refused, and that it changes nothing', t => {
  const tracked = new Tracked(t);
  const { at } = tracked;
  const { user, devices, ioas } = at;
  const plain = user.hwpt(devices[0].id, ioas);
  t.is(tracked.track(true, 1, plain), -Errno.EOPNOTSUPP, 'not made for it');
  t.is(tracked.track(true, 1, ioas), -Errno.ENOENT);
  t.is(tracked.track(true, 2), -Errno.EOPNOTSUPP);
  t.is(user.attach(devices[0].fd, tracked.hwpt), 0);
  t.is(tracked.track(true), 0);
  t.true(at.write(3, 1, NO_PASID));
  for (const [values, result] of [
    [{ flags: 2 }, -Errno.EOPNOTSUPP],
    [{ hwpt_id: 0x7777 }, -Errno.ENOENT],
    [{ hwpt_id: plain }, -Errno.EOPNOTSUPP],
    [{ page_size: 0 }, -Errno.EINVAL],
    [{ iova: 0x800 }, -Errno.EINVAL],
    [{ iova: PAGE, page_size: 2 * PAGE }, -Errno.EINVAL],
    [{ length: 0 }, -Errno.EINVAL],
    [{ iova: PAGE, length: 0 }, -Errno.EINVAL],
    [{ iova: 2n ** 64n - 4096n, length: 8192 }, -Errno.EOVERFLOW],
  ] as const) {
    t.is(tracked.ask(values), result, Object.keys(values).join());
  }
  t.deepEqual(tracked.dirty(), [3], 'none of these cleared anything');
});

test('3.6/17: up to the first gap; bits for which there is no memory are lost: a real 7.3.4 does both', t => {
  const tracked = new Tracked(t);
  const { at } = tracked;
  const { user, devices, ioas } = at;
  t.is(user.attach(devices[0].fd, tracked.hwpt), 0);
  t.is(user.map(ioas, 0x20_0000, user.memory(PAGE).address, PAGE), 0);
  t.is(tracked.track(true), 0);
  t.true(at.write(3, 1) && at.write(0x200, 1));
  const gap = { length: 0x40_0000, flags: IommuDirtyBitmapFlag.NO_CLEAR };
  t.deepEqual(tracked.dirty(gap), [3]);
  t.deepEqual(tracked.dirty({ ...gap, iova: 0x20_0000 }), [0]);
  t.deepEqual(tracked.dirty({ ...gap, iova: 0x18_0000 }), [], 'it begins in a gap');
  t.deepEqual(tracked.dirty({ iova: 2n ** 64n - 4096n, length: PAGE }), []);
  t.is(tracked.ask({ data: 0x1000 }), 0);
  t.deepEqual(tracked.dirty(), []);
});
