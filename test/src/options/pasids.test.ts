// pasid-bits: a guest's directory covers the PASIDs that the unit has, and DMA with the last of them arrives.
import { Access } from '@remora/core';
import { firstStagePasid, PageTable, secondStagePasid } from '@hw/intel-iommu/driver';
import { owner } from '@remora/testing';
import { Guest, q35Testdev } from '@remora/machines';
import test from 'ava';

const ENGINE = 0x28;
const DOMAIN = 5;
const IOVA = 0x1234_5000n;
const IOVA_FRAME = 0x12345;

for (const stage of ['second', 'first'] as const) {
  for (const bits of [1, 8, 12, 20]) {
    test(`${stage} stage, ${bits} bits: the last PASID reaches its own page, one that no entry names does not`, t => {
      const machine = owner(t)(
        q35Testdev({ 'x-scalable-mode': 'on', 'x-flts': stage === 'first', 'pasid-bits': bits }),
      );
      machine.start();
      const guest = new Guest(machine);
      t.is(guest.iommu.capabilities.pasidBits, bits);
      const engine = guest.engine('00:05.0');
      const [last, other] = [2 ** bits - 1, 0];
      const page = guest.page();
      const table = new PageTable(machine.memory, guest.pages, { stage, levels: 4 });
      t.is(table.map(IOVA_FRAME, page, 1, Access.READ_WRITE), 0);
      const values = stage === 'first' ? firstStagePasid(table, DOMAIN) : secondStagePasid(table, DOMAIN);
      guest.iommu.start(undefined, () => {
        t.is(guest.iommu.pasidEntry(ENGINE, last, values), 0);
        t.is(guest.iommu.attach(ENGINE, {}), 0);
      });
      t.true(engine.fill({ to: IOVA, length: 4, pattern: 0x1b1b_1b1b, pasid: last }).ok);
      t.deepEqual(guest.read(page, 4), new Uint8Array(4).fill(0x1b));
      t.false(engine.fill({ to: IOVA, length: 4, pattern: 0x2c2c_2c2c, pasid: other }).ok);
      const [fault, ...more] = guest.iommu.handleFaults();
      t.deepEqual(more, []);
      t.like(fault, { requesterId: ENGINE, pasid: other, reason: bits > 6 ? 0x51 : 0x59 });
      t.deepEqual(guest.read(page, 4), new Uint8Array(4).fill(0x1b));
    });
  }
}

test('without pasid-bits a request with a PASID is refused by the context entry', t => {
  const machine = owner(t)(q35Testdev({ 'x-scalable-mode': 'on' }));
  machine.start();
  const guest = new Guest(machine);
  t.is(guest.iommu.capabilities.pasidBits, 0);
  const engine = guest.engine('00:05.0');
  const table = guest.secondStage();
  const page = guest.page();
  table.map(IOVA_FRAME, page, 1, Access.READ_WRITE);
  guest.iommu.start(undefined, () => {
    guest.iommu.pasidEntry(ENGINE, 0, secondStagePasid(table, DOMAIN));
    guest.iommu.attach(ENGINE, {});
  });
  t.true(engine.fill({ to: IOVA, length: 4, pattern: 0x3d3d_3d3d }).ok);
  t.false(engine.fill({ to: IOVA, length: 4, pattern: 0x4e4e_4e4e, pasid: 0 }).ok);
  t.like(guest.iommu.handleFaults()[0], { requesterId: ENGINE, pasid: 0, reason: 0x45 });
  t.deepEqual(guest.read(page, 4), new Uint8Array(4).fill(0x3d));
});
