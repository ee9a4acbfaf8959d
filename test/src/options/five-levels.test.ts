// aw-bits=57 from end to end: a device's DMA through tables of five levels, in each mode.
import { Access } from '@remora/core';
import { owner } from '@remora/testing';
import test from 'ava';
import { type TableMode, TableModeGuest } from './table-modes.js';

const PAGE = 0x1000n;
const HALF = 1n << 56n;

interface Expected {
  /** Addresses that need the fifth level: indices into its table that are not 0. */
  readonly reachable: readonly bigint[];
  /** Next to the first of them, where nothing is mapped. */
  readonly absent: number;
  /** One beyond what five levels reach, and the reason there. */
  readonly beyond: readonly (readonly [address: bigint, reason: number])[];
}

const MODES: Readonly<Record<TableMode, Expected>> = {
  legacy: {
    reachable: [HALF + 0x1234_5000n, (1n << 57n) - PAGE],
    absent: 0x05,
    beyond: [
      [1n << 57n, 0x04],
      [1n << 63n, 0x04],
    ],
  },
  second: { reachable: [HALF + 0x1234_5000n, (1n << 57n) - PAGE], absent: 0x79, beyond: [[1n << 57n, 0x84]] },
  first: {
    reachable: [(1n << 48n) + 0x1234_5000n, HALF - PAGE, (1n << 64n) - HALF, (1n << 64n) - 2n * PAGE],
    absent: 0x71,
    beyond: [
      [HALF, 0x80],
      [(1n << 64n) - HALF - PAGE, 0x80],
    ],
  },
  nested: {
    reachable: [(1n << 48n) + 0x1234_5000n, HALF - PAGE, (1n << 64n) - HALF],
    absent: 0x71,
    beyond: [[HALF, 0x80]],
  },
};
/** Guest frames of pages behind both stages: at bits that the second stage's fifth level indexes. */
const GUEST_FRAME = 2 ** 39;

for (const [mode, { reachable, absent, beyond }] of Object.entries(MODES) as [TableMode, Expected][]) {
  test(`${mode}: DMA reaches pages at both ends of 57 bits, and no further`, t => {
    const rig = new TableModeGuest(mode, { iommu: { 'aw-bits': 57 } });
    owner(t)(rig.machine);
    const pages = reachable.map((iova, i) => rig.map(Number(iova / PAGE), GUEST_FRAME + i * 2 ** 36));
    for (const [i, iova] of reachable.entries()) {
      t.true(rig.fill(iova + 0x10n, 0xc0de_0000 + i).ok, iova.toString(16));
    }
    for (const [i, page] of pages.entries()) {
      t.is(new DataView(rig.guest.read(page, 4, 0x10).buffer).getUint32(0, true), 0xc0de_0000 + i);
    }
    t.is(rig.fault(), undefined);
    t.false(rig.fill(reachable[0]! + PAGE, 1).ok);
    t.deepEqual(rig.fault(), { reason: absent, address: reachable[0]! + PAGE });
    for (const [address, reason] of beyond) {
      t.false(rig.fill(address, 1).ok);
      t.deepEqual(rig.fault(), { reason, address });
    }
  });

  test(`${mode}: a mapping is cached until it is flushed, and tables of four levels go on working`, t => {
    const rig = new TableModeGuest(mode, { iommu: { 'aw-bits': 57 } });
    owner(t)(rig.machine);
    const iova = reachable[0]!;
    const page = rig.map(Number(iova / PAGE), GUEST_FRAME);
    t.true(rig.fill(iova, 0x1111_1111).ok);
    rig.table.unmap(Number(iova / PAGE), 1);
    t.true(rig.fill(iova, 0x2222_2222).ok, 'still in the IOTLB');
    t.is(rig.word(page), 0x2222_2222);
    t.is(rig.guest.iommu.iotlbInvalidate(1), 0);
    t.false(rig.fill(iova, 0x3333_3333).ok);
    t.is(rig.fault()?.reason, absent);
    t.is(rig.word(page), 0x2222_2222);

    const four = new TableModeGuest(mode, { iommu: { 'aw-bits': 57 }, levels: 4 });
    owner(t)(four.machine);
    const low = four.map(0x7f_1234, 0x40_0000, Access.READ_WRITE);
    t.true(four.fill(0x7f_1234_000n, 0x4444_4444).ok);
    t.is(four.word(low), 0x4444_4444);
    t.false(four.fill(1n << 48n, 1).ok, 'a fifth level would be needed');
  });

  test(`${mode}: a unit of 48 bits does not take tables of five levels`, t => {
    const rig = new TableModeGuest(mode);
    owner(t)(rig.machine);
    t.false(rig.fill(0x1000n, 1).ok);
    t.is(rig.fault()?.reason, mode === 'legacy' ? 0x03 : 0x5b);
  });
}
