import test from 'ava';
import fc from 'fast-check';
import { Errno } from '@remora/core';
import { VFIO_IOMMU_GET_INFO, viewOf } from '@remora/uapi';
import { ScriptedSyscalls } from '../scripted-syscalls.test.helper.js';
import { type IommuInfo, readIommuInfo } from './iommu-info.js';

const FD = 7;
const PGSIZES = 1;
const CAPS = 2;
const NOTHING_TOLD = { iovaRanges: undefined, dmaAvailable: undefined };

interface Cap {
  readonly id: number;
  readonly next: number;
  readonly body?: readonly number[];
}

/** A kernel whose whole answer is `answer`; it asks for more room until the caller has that much. */
function kernel(answer: Uint8Array): ScriptedSyscalls {
  return new ScriptedSyscalls().on(VFIO_IOMMU_GET_INFO, argument => {
    const bytes = argument as Uint8Array;
    const room = viewOf(bytes).getUint32(0, true);
    bytes.set(answer.subarray(0, Math.min(room, bytes.length)));
    viewOf(bytes).setUint32(0, answer.length, true);
    if (room < answer.length) viewOf(bytes).setUint32(16, 0, true);
    return 0;
  });
}

function info(flags: number, capOffset: number, total: number, caps: Readonly<Record<number, Cap>> = {}): Uint8Array {
  const bytes = new Uint8Array(total);
  const view = viewOf(bytes);
  view.setUint32(0, total, true);
  view.setUint32(4, flags, true);
  view.setBigUint64(8, 0x20_1000n, true);
  view.setUint32(16, capOffset, true);
  for (const [at, { id, next, body = [] }] of Object.entries(caps)) {
    view.setUint16(Number(at), id, true);
    view.setUint16(Number(at) + 2, 1, true);
    view.setUint32(Number(at) + 4, next, true);
    body.forEach((word, index) => view.setUint32(Number(at) + 8 + 4 * index, word, true));
  }
  return bytes;
}

function read(answer: Uint8Array): IommuInfo | number {
  return readIommuInfo(kernel(answer), FD);
}

test('the buffer grows until the answer fits [A07]', t => {
  const host = kernel(info(PGSIZES | CAPS, 24, 72, { 24: { id: 1, next: 56 }, 56: { id: 2, next: 0, body: [1, 1] } }));
  t.deepEqual(readIommuInfo(host, FD), {
    pageSizes: 0x20_1000,
    nesting: { stage1Format: 1, pasidRequests: true },
    ...NOTHING_TOLD,
  });
  t.deepEqual(
    host.ioctls.map(({ argument }) => String(argument).length / 2),
    [24, 72],
  );
});

test('no capabilities, none of this id, no PASID requests', t => {
  t.deepEqual(read(info(PGSIZES, 24, 24)), { pageSizes: 0x20_1000, nesting: undefined, ...NOTHING_TOLD });
  t.deepEqual(read(info(PGSIZES | CAPS, 0, 24)), { pageSizes: 0x20_1000, nesting: undefined, ...NOTHING_TOLD });
  t.deepEqual(read(info(CAPS, 24, 40, { 24: { id: 1, next: 0 } })), {
    pageSizes: 0x1000,
    nesting: undefined,
    ...NOTHING_TOLD,
  });
  const bare = read(info(PGSIZES | CAPS, 24, 40, { 24: { id: 2, next: 0, body: [0, 9] } })) as IommuInfo;
  t.deepEqual(bare.nesting, { stage1Format: 9, pasidRequests: false });
});

test('IOVA ranges in whole pages, and how many mappings there may be', t => {
  const ranges = [0, 0, 0xfedf_ffff, 0, 0xfef0_0800, 0, 0xffff_0ffe, 0xffff].map(word => word >>> 0);
  const answer = read(
    info(PGSIZES | CAPS, 24, 88, {
      24: { id: 3, next: 40, body: [65535, 0] },
      40: { id: 1, next: 0, body: [2, 0, ...ranges] },
    }),
  ) as IommuInfo;
  t.is(answer.dmaAvailable, 65535);
  t.deepEqual(answer.iovaRanges, [
    { startFrame: 0, endFrame: 0xf_ee00 },
    { startFrame: 0xf_ef01, endFrame: 0xf_ffff_fff0 },
  ]);
  t.is(read(info(CAPS, 24, 88, { 24: { id: 1, next: 0, body: [4] } })), -Errno.EINVAL, 'fewer ranges than it says');
  t.is(read(info(CAPS, 24, 34, { 24: { id: 3, next: 0 } })), -Errno.EINVAL, 'cut off');
});

test('a chain that leaves the buffer, points into the header, or goes back is refused', t => {
  t.is(read(info(CAPS, 4096, 40)), -Errno.EINVAL);
  t.is(read(info(CAPS, 36, 40)), -Errno.EINVAL, 'its header is cut off');
  t.is(read(info(CAPS, 8, 40)), -Errno.EINVAL);
  t.is(read(info(CAPS, 24, 48, { 24: { id: 1, next: 24 } })), -Errno.EINVAL);
  t.is(read(info(CAPS, 32, 48, { 32: { id: 1, next: 24 } })), -Errno.EINVAL);
  t.is(read(info(CAPS, 24, 48, { 24: { id: 1, next: 0xffff_ffff } })), -Errno.EINVAL);
  t.is(read(info(CAPS, 24, 36, { 24: { id: 2, next: 0 } })), -Errno.EINVAL, 'the capability is cut off');
});

test('errors of the kernel come back, and one that never has enough is given up', t => {
  t.is(readIommuInfo(new ScriptedSyscalls().on(VFIO_IOMMU_GET_INFO, -Errno.EIO), FD), -Errno.EIO);
  const greedy = new ScriptedSyscalls().on(VFIO_IOMMU_GET_INFO, argument => {
    const view = viewOf(argument as Uint8Array);
    view.setUint32(0, view.byteLength + 24, true);
    return 0;
  });
  t.is(readIommuInfo(greedy, FD), -Errno.EINVAL);
});

test('whatever a kernel answers, reading it ends and throws nothing', t => {
  // Chains of slots of 8 bytes: an id, and most often a step forward or an end.
  const step = fc.oneof(fc.constant(0), fc.nat(12), fc.nat(12), fc.nat(2 ** 32 - 1));
  const slots = fc.array(fc.tuple(fc.nat(3), step), { minLength: 1, maxLength: 12 });
  const answers = fc.tuple(slots, fc.oneof(fc.constant(24), fc.constant(32), fc.nat(60))).map(([chain, capOffset]) => {
    const bytes = info(CAPS, capOffset, 24 + 8 * chain.length);
    chain.forEach(([id, next], slot) => {
      viewOf(bytes).setUint16(24 + 8 * slot, id, true);
      viewOf(bytes).setUint32(28 + 8 * slot, next > 0 && next <= 12 ? 24 + 8 * (slot + next) : next, true);
    });
    return bytes;
  });
  let found = 0;
  fc.assert(
    fc.property(answers, bytes => {
      const result = read(bytes);
      if (typeof result === 'number') return result === -Errno.EINVAL;
      if (result.nesting !== undefined) found++;
      return true;
    }),
    { numRuns: 500, seed: 1 },
  );
  t.true(found > 20, `the capability was found in ${found} chains`);
});
