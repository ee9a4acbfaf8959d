// dma-drain: DR and DW of an IOTLB invalidation.
import { owner } from '@remora/testing';
import { IotlbDescriptor } from '@hw/intel-iommu';
import { iotlbDescriptor } from '@hw/intel-iommu/driver';
import test from 'ava';
import { DOMAIN, TableModeGuest } from './table-modes.js';

const IOVA_FRAME = 0x12345;
const IOVA = BigInt(IOVA_FRAME) << 12n;
const DOMAIN_SELECTIVE = 2;
const IQH = 0x80;
const FSTS = 0x34;
const QUEUE_ERROR = 0x10;

test('a guest asks for draining where CAP offers it, and only there', t => {
  for (const offered of [false, true]) {
    const rig = new TableModeGuest('legacy', { iommu: { 'dma-drain': offered }, levels: 4 });
    owner(t)(rig.machine);
    const { iommu, registers } = rig.guest;
    t.deepEqual([iommu.capabilities.cap.drd, iommu.capabilities.cap.dwd], [Number(offered), Number(offered)]);
    const head = registers.read32(IQH);
    const queue = Math.floor(registers.read32(0x90) / 4096);
    t.is(iommu.iotlbInvalidate(DOMAIN_SELECTIVE, DOMAIN), 0);
    const words = new Int32Array(rig.guest.read(queue, 16, head).buffer);
    t.like(IotlbDescriptor.decode(words), { type: 2, g: DOMAIN_SELECTIVE, dr: Number(offered), dw: Number(offered) });
  }
});

for (const offered of [false, true]) {
  for (const bits of [0, 1]) {
    test(`dma-drain=${offered ? 'on' : 'off'}: an invalidation with DR = DW = ${bits} works; what a device wrote before is there`, t => {
      const rig = new TableModeGuest('legacy', { iommu: { 'dma-drain': offered }, levels: 4 });
      owner(t)(rig.machine);
      const page = rig.map(IOVA_FRAME, 0);
      t.true(rig.fill(IOVA, 0x7777_0001).ok);
      rig.table.unmap(IOVA_FRAME, 1);
      const drain = { reads: bits === 1, writes: bits === 1 };
      t.is(rig.guest.iommu.invalidate(iotlbDescriptor(DOMAIN_SELECTIVE, DOMAIN, drain)), 0);
      t.is(rig.word(page), 0x7777_0001, 'drained before the wait that has completed');
      t.false(rig.fill(IOVA, 0x7777_0002).ok);
      t.is(rig.word(page), 0x7777_0001);
      t.is(rig.guest.registers.read32(FSTS) & QUEUE_ERROR, 0);
    });
  }
}
