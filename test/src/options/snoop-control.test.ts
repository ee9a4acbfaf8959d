// snoop-control: what a second-stage leaf and a PASID entry may say, as the DMA of a device shows.
import { owner } from '@remora/testing';
import test from 'ava';
import { type TableMode, TableModeGuest } from './table-modes.js';

const IOVA_FRAME = 0x12345;
const IOVA = BigInt(IOVA_FRAME) << 12n;
const GUEST_FRAME = 0x45678;
const SNP = 1 << 11;
const PASID_ENTRY_RESERVED = 0x5a;

const RESERVED: Readonly<Record<'legacy' | 'second' | 'nested', number>> = { legacy: 0x0c, second: 0x7a, nested: 0x7a };

for (const [mode, reserved] of Object.entries(RESERVED) as [Exclude<TableMode, 'first'>, number][]) {
  for (const offered of [false, true]) {
    test(`${mode}: SNP in a leaf ${offered ? 'is allowed' : 'is reserved without snoop-control'}, above it never`, t => {
      const rig = new TableModeGuest(mode, { iommu: { 'snoop-control': offered }, levels: 4 });
      owner(t)(rig.machine);
      const page = rig.map(IOVA_FRAME, GUEST_FRAME);
      const second = rig.second!;
      const frame = mode === 'nested' ? GUEST_FRAME : IOVA_FRAME;
      rig.flip(second, frame, 1, SNP);
      const { ok } = rig.fill(IOVA, 0xabcd_ef01);
      t.is(ok, offered);
      t.is(rig.word(page), offered ? 0xabcd_ef01 : 0);
      t.is(rig.fault()?.reason, offered ? undefined : reserved);

      rig.flip(second, frame, 1, SNP);
      for (const level of [2, 3, 4]) {
        rig.flip(second, frame, level, SNP);
        rig.guest.iommu.iotlbInvalidate(1);
        t.false(rig.fill(IOVA, 2).ok, `level ${level}`);
        t.is(rig.fault()?.reason, reserved, `level ${level}`);
        rig.flip(second, frame, level, SNP);
      }
      t.true(rig.fill(IOVA, 3).ok);
    });
  }
}

for (const mode of ['second', 'first', 'nested'] as const) {
  test(`${mode}: PGSNP in a PASID entry needs snoop-control`, t => {
    for (const offered of [false, true]) {
      const rig = new TableModeGuest(mode, { iommu: { 'snoop-control': offered }, pasid: { pgsnp: 1 }, levels: 4 });
      owner(t)(rig.machine);
      const page = rig.map(IOVA_FRAME, GUEST_FRAME);
      t.is(rig.fill(IOVA, 0x5a5a_0001).ok, offered);
      t.is(rig.word(page), offered ? 0x5a5a_0001 : 0);
      t.is(rig.fault()?.reason, offered ? undefined : PASID_ENTRY_RESERVED);
    }
  });
}
