import { Access, Errno, Ram, type MemoryPort } from '@remora/core';
import test from 'ava';
import fc from 'fast-check';
import { FrameAllocator, type PageAllocator } from './page-allocator.js';
import { type LeafShift, PageTable, type PageTableOptions } from './page-table.js';

const MIB = 2 ** 20;
/** Tables live from this frame on; what lies below and is mapped to is never read here. */
const FIRST = 0x100;

function rig(
  options: PageTableOptions,
  frames = 4096,
  ram = Ram.allocate(64 * MIB),
): { ram: Ram; pages: FrameAllocator; table: PageTable } {
  const pages = new FrameAllocator(ram, FIRST, frames);
  return { ram, pages, table: new PageTable(ram, pages, options) };
}

/** The entry at `index` of the table at `frame`, as a 64-bit value. */
function entryAt(memory: MemoryPort, frame: number, index: number): bigint {
  const words = new Int32Array(2);
  memory.load(0, frame * 4096 + index * 8, words, 0, 2);
  return (BigInt(words[1]! >>> 0) << 32n) | BigInt(words[0]! >>> 0);
}

test('a second-stage page is reached through entries that allow everything, the leaf decides (VT-d 9.8)', t => {
  const { ram, table } = rig({ stage: 'second', levels: 4 });
  t.is(table.map(0x12345, 0x777, 1, Access.READ), 0);
  const { steps, frame, access, shift } = table.walk(0x12345);
  t.deepEqual({ frame, access, shift }, { frame: 0x777, access: Access.READ, shift: 12 });
  t.deepEqual(
    steps.map(step => [step.level, step.index]),
    [
      [4, 0],
      [3, 0],
      [2, 0x91],
      [1, 0x145],
    ],
  );
  for (const step of steps.slice(0, 3)) t.is(entryAt(ram, step.table, step.index) & 0xfffn, 0x3n);
  t.is(entryAt(ram, steps[3]!.table, 0x145), 0x777001n);
  t.is(table.walk(0x12346).frame, -1);
});

test('first-stage entries look as Linux wrote them in recording C61', t => {
  const { ram, table } = rig({ stage: 'first', levels: 4 });
  t.is(table.map(0xffffd, 0x270d, 1, Access.READ_WRITE), 0);
  t.is(table.map(0xffffb, 0x2fe5b, 1, Access.READ), 0);
  const { steps } = table.walk(0xffffd);
  t.is(entryAt(ram, steps[0]!.table, 0) & 0xfffn, 0x27n);
  t.is(entryAt(ram, steps[3]!.table, 0x1fd), 0x8000_0000_0270_d067n);
  t.is(entryAt(ram, steps[3]!.table, 0x1fb), 0x8000_0000_2fe5_b025n);
});

test('accessed and dirty bits are left to the hardware if so asked; privileged and executable pages', t => {
  const { ram, table } = rig({ stage: 'first', levels: 4, presetAccessed: false });
  t.is(table.map(1, 2, 1, Access.READ_WRITE | Access.EXECUTE), 0);
  t.is(table.map(2, 3, 1, Access.READ | Access.PRIVILEGED), 0);
  const leaf = table.walk(1).steps[3]!.table;
  t.is(entryAt(ram, leaf, 1), 0x2007n);
  t.is(entryAt(ram, leaf, 2), 0x8000_0000_0000_3001n);
  t.is(table.walk(2).access, Access.READ | Access.PRIVILEGED);
});

test('large leaves are used where both sides are aligned, never above the asked size', t => {
  const GIB_PAGES = 2 ** 18;
  for (const [largest, shifts] of [
    [30, [12, 21, 30]],
    [21, [12, 21, 21]],
    [12, [12, 12, 12]],
  ] as const) {
    const { table } = rig({ stage: 'second', levels: 4, largestLeaf: largest as LeafShift });
    const start = GIB_PAGES - 512 - 1;
    t.is(table.map(start, start + GIB_PAGES, 1 + 512 + GIB_PAGES, Access.READ_WRITE), 0);
    t.deepEqual(
      [start, start + 1, GIB_PAGES + 5].map(frame => table.walk(frame).shift),
      [...shifts],
    );
    t.is(table.walk(GIB_PAGES + 5).frame, 2 * GIB_PAGES + 5);
    t.deepEqual(
      [...table.mappings()],
      [{ iovaFrame: start, frame: start + GIB_PAGES, pages: 1 + 512 + GIB_PAGES, access: Access.READ_WRITE }],
    );
  }
});

test('scattered pages: each where it was asked for, large leaves for the runs among them that are long and aligned', t => {
  const { table } = rig({ stage: 'second', levels: 4, largestLeaf: 21 });
  const frames = Int32Array.from({ length: 3 * 512 }, (_, i) => (i < 512 ? 0x9000 - 3 * i : 0x2_0000 + i));
  t.is(table.mapFrames(512, frames, Access.READ_WRITE), 0);
  t.deepEqual(
    [512, 513, 1023, 1024, 1030, 2047].map(page => table.walk(page).frame),
    [0x9000, 0x8ffd, 0x9000 - 3 * 511, 0x2_0200, 0x2_0206, 0x2_05ff],
  );
  t.deepEqual(
    [512, 1023, 1024, 1536].map(page => table.walk(page).shift),
    [12, 12, 21, 21],
  );
  t.is(table.mapFrames(2047, Int32Array.of(1), Access.READ), -Errno.EEXIST);
  t.is(table.mapFrames(4096, Int32Array.of(), Access.READ), -Errno.EINVAL);
});

test('a leaf that reaches beyond an unmapping is split, and the rest still maps as before', t => {
  const { table, pages } = rig({ stage: 'second', levels: 3, largestLeaf: 30 });
  t.is(table.map(0, 2 ** 18, 2 ** 18, Access.READ), 0);
  t.is(table.walk(0).shift, 30);
  t.is(table.unmap(1000, 1), 0);
  t.is(table.walk(1000).frame, -1);
  t.deepEqual(
    [...table.mappings()],
    [
      { iovaFrame: 0, frame: 2 ** 18, pages: 1000, access: Access.READ },
      { iovaFrame: 1001, frame: 2 ** 18 + 1001, pages: 2 ** 18 - 1001, access: Access.READ },
    ],
  );
  t.is(table.walk(512 * 7).shift, 21);
  t.is(table.unmap(0, 2 ** 18), 0);
  t.is(pages.inUse, 1);
});

test('widths: second-stage addresses end at the width, first-stage ones are canonical', t => {
  const second = rig({ stage: 'second', levels: 3 }).table;
  t.is(second.map(2 ** 27 - 1, 1, 1, Access.READ), 0);
  t.is(second.map(2 ** 27 - 1, 1, 2, Access.READ), -Errno.EINVAL);
  t.is(second.unmap(2 ** 27, 1), -Errno.EINVAL);
  const first = rig({ stage: 'first', levels: 4 }).table;
  t.is(first.map(2 ** 35, 1, 1, Access.READ), -Errno.EINVAL);
  t.is(first.map(2 ** 52 - 2 ** 35, 7, 1, Access.READ), 0);
  t.is(first.map(2 ** 52 - 1, 8, 1, Access.READ), 0);
  t.deepEqual(
    [...first.mappings()].map(run => run.iovaFrame),
    [2 ** 52 - 2 ** 35, 2 ** 52 - 1],
  );
  const five = rig({ stage: 'first', levels: 5 }).table;
  t.is(five.map(2 ** 43, 9, 1, Access.READ), 0);
  t.is(five.walk(2 ** 43).frame, 9);
  t.is(five.walk(2 ** 43).steps.length, 5);
});

test('what cannot be mapped is refused, and nothing has changed', t => {
  const { table } = rig({ stage: 'second', levels: 4 });
  t.is(table.map(10, 1, 1, Access.NONE), -Errno.EINVAL);
  t.is(table.map(10, 1, 0, Access.READ), -Errno.EINVAL);
  t.is(table.map(1000, 500, 1, Access.READ), 0);
  const before = [...table.mappings()];
  t.is(table.map(600, 1, 600, Access.READ), -Errno.EEXIST);
  t.deepEqual([...table.mappings()], before);
  t.is(rig({ stage: 'first', levels: 4 }).table.map(1, 1, 1, Access.WRITE), -Errno.EINVAL);
});

test('when pages run out in the middle of a mapping, or of a split, the table is as before', t => {
  const { table, pages } = rig({ stage: 'second', levels: 4, largestLeaf: 21 }, 6);
  t.is(table.map(512, 512, 512, Access.READ), 0);
  const before = [...table.mappings()];
  const inUse = pages.inUse;
  t.is(table.map(2 ** 18 - 700, 1, 2 ** 18 + 700, Access.READ), -Errno.ENOMEM);
  t.deepEqual([...table.mappings()], before);
  t.is(pages.inUse, inUse);
  while (pages.allocate(1) >= 0);
  t.is(table.unmap(600, 1), -Errno.ENOMEM);
  t.deepEqual([...table.mappings()], before);
});

test('emptied tables go to the sink, and back to the allocator only from there', t => {
  const { table, pages } = rig({ stage: 'second', levels: 4 });
  t.is(table.map(0x1000, 1, 3, Access.READ_WRITE), 0);
  t.is(pages.inUse, 4);
  const removed: number[] = [];
  const retired: number[] = [];
  table.unmap(0x1000, 3, { removed: iovaFrame => removed.push(iovaFrame), retire: frame => retired.push(frame) });
  t.deepEqual(removed, [0x1000, 0x1001, 0x1002]);
  t.is(retired.length, 3);
  t.is(pages.inUse, 4);
  for (const frame of retired) pages.free(frame, 1);
  table.free();
  t.is(pages.inUse, 0);
});

/** One step of the property below; frames are kept near table boundaries, where mistakes live. */
const near = fc
  .tuple(fc.constantFrom(0, 512, 1024, 2 ** 18, 2 ** 18 + 512, 2 ** 27 - 512), fc.integer({ min: -6, max: 518 }))
  .map(([base, offset]) => Math.min(Math.max(0, base + offset), 2 ** 27 - 1));
const step = fc.record({
  kind: fc.constantFrom('map', 'mapFrames', 'unmap'),
  /** Swaps neighbours, or blocks of them, among scattered pages. */
  swap: fc.constantFrom(0, 1, 64, 1024),
  iovaFrame: near,
  frame: near,
  pages: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 500, max: 1100 })),
  access: fc.constantFrom(Access.READ, Access.WRITE, Access.READ_WRITE),
});

function holds(oracle: Map<number, [number, number]>, from: number, pages: number): boolean {
  for (let page = from; page < from + pages; page++) if (oracle.has(page)) return true;
  return false;
}

for (const largestLeaf of [12, 30] as const) {
  test(`property: as a map from page to page, and every table is returned (leaves up to 2^${largestLeaf})`, t => {
    const ram = Ram.allocate(64 * MIB);
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), steps => {
        const { table, pages } = rig({ stage: 'second', levels: 3, largestLeaf }, 4096, ram);
        const oracle = new Map<number, [frame: number, access: number]>();
        for (const { kind, swap, iovaFrame, frame, pages: count, access } of steps) {
          const inside = iovaFrame + count <= 2 ** 27;
          if (kind !== 'unmap') {
            const expected = !inside ? -Errno.EINVAL : holds(oracle, iovaFrame, count) ? -Errno.EEXIST : 0;
            const frames = Int32Array.from({ length: count }, (_, i) => frame + (kind === 'map' ? i : i ^ swap));
            const result =
              kind === 'map' ? table.map(iovaFrame, frame, count, access) : table.mapFrames(iovaFrame, frames, access);
            if (result !== expected) return false;
            if (expected === 0) for (let i = 0; i < count; i++) oracle.set(iovaFrame + i, [frames[i]!, access]);
          } else {
            if (table.unmap(iovaFrame, count) !== (inside ? 0 : -Errno.EINVAL)) return false;
            if (inside) for (let i = 0; i < count; i++) oracle.delete(iovaFrame + i);
          }
        }
        const seen = new Map<number, [number, number]>();
        for (const run of table.mappings()) {
          for (let i = 0; i < run.pages; i++) seen.set(run.iovaFrame + i, [run.frame + i, run.access]);
        }
        t.deepEqual(
          [...seen],
          [...oracle].sort((a, b) => a[0] - b[0]),
        );
        for (const [page, [frame, access]] of [...oracle].slice(0, 50)) {
          const walk = table.walk(page);
          if (walk.frame !== frame || walk.access !== access) return false;
        }
        table.unmap(0, 2 ** 27);
        const left = pages.inUse;
        table.free();
        return left === 1 && pages.inUse === 0;
      }),
      { numRuns: 60, seed: 1 },
    );
    t.pass();
  });
}

test('the allocator zeroes pages, keeps runs contiguous, and refuses what it did not give', t => {
  const ram = Ram.allocate(MIB);
  const pages: PageAllocator & { inUse: number } = new FrameAllocator(ram, 2, 10);
  const run = pages.allocate(4);
  t.is(run, 2);
  ram.write(0, run * 4096 + 3 * 4096, Uint8Array.of(1, 2, 3));
  t.throws(() => pages.free(run, 3), { message: /are not out/ });
  t.throws(() => pages.free(run + 1, 4), { message: /are not out/ });
  pages.free(run, 4);
  t.throws(() => pages.free(run, 4), { message: /are not out/ });
  t.is(pages.allocate(4), run);
  const byte = new Uint8Array(1);
  ram.read(0, run * 4096 + 3 * 4096, byte);
  t.is(byte[0], 0);
  t.is(pages.allocate(7), -Errno.ENOMEM);
  t.is(pages.inUse, 4);
});
