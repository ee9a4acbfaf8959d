/**
 * Requests without PASID of a device that is lent through iommufd: they go where the guest's tables say, PASID 0 standing for them. Judged by
 * the engine's DMA and by guest memory.
 */
import test, { type ExecutionContext } from 'ava';
import { frameHi, frameLo } from '@remora/bits';
import { Access } from '@remora/core';
import { openState, restoreMachine, saveState } from '@remora/machine';
import {
  Guest,
  GuestEngine,
  lendingHost,
  PHYSICAL_VTD,
  physicalVtd,
  plugins,
  vsvaIommufdMachine,
} from '@remora/machines';
import { owner } from '@remora/testing';
import { PasidIotlbGranularity } from '@hw/intel-iommu';
import {
  firstStagePasid,
  type PageTable,
  passThroughPasid,
  type PasidValues,
  secondStagePasid,
} from '@hw/intel-iommu/driver';
import type { VfioPci } from '@hw/vfio-pci';

const REQUESTER = 0x18;
const DOMAIN = 5;
/** A frame that is no guest-physical one. */
const AT = 0x7_6543_2100;
const PASID_SELECTIVE = 1;
/** Where the guest puts the engine's registers. */
const BAR = 0xe000_0000;

function bench(t: ExecutionContext) {
  const host = owner(t)(lendingHost());
  const machine = vsvaIommufdMachine(host);
  machine.start();
  machine.ledger.on = true;
  const guest = new Guest(machine);
  const engine = guest.engine('00:03.0');
  const { iommu } = guest;
  /** Whether the engine reaches a frame, and what is in `behind` then. */
  const writes = (frame: number, behind: number, value: number, pasid?: number): boolean => {
    const command = { to: frame * 4096, length: 4, pattern: value * 0x0101_0101 };
    const { ok } = engine.fill(pasid === undefined ? command : { ...command, pasid });
    t.is(guest.read(behind, 1)[0] === value, ok, 'what is told of a write is what became of it');
    return ok;
  };
  const guestPhysical = (value: number): boolean => {
    const frame = guest.page();
    return writes(frame, frame, value);
  };
  const map = (table: PageTable, frame = AT): number => {
    const behind = guest.page();
    t.is(table.map(frame, behind, 1, Access.READ_WRITE), 0);
    return behind;
  };
  /** An entry of the function, and the descriptor that tells the unit. */
  const enter = (pasid: number, values: PasidValues): void => {
    t.is(iommu.pasidEntry(REQUESTER, pasid, { did: DOMAIN, ...values }), 0);
    t.is(iommu.pasidCacheInvalidate(PASID_SELECTIVE, DOMAIN, pasid), 0);
  };
  const clear = (pasid: number): void => {
    iommu.clearPasidEntry(REQUESTER, pasid);
    t.is(iommu.pasidCacheInvalidate(PASID_SELECTIVE, DOMAIN, pasid), 0);
  };
  const flush = (frame: number): number => {
    const page = { hi: frameHi(frame), lo: frameLo(frame), addressMask: 0, leaf: false };
    return iommu.pasidIotlbInvalidate(PasidIotlbGranularity.PAGE, DOMAIN, 0, page);
  };
  const context = () => {
    const { connection } = machine.device<VfioPci>('vfio-pci');
    return connection !== undefined && 'ioas' in connection ? connection.context! : undefined;
  };
  return { host, machine, guest, iommu, writes, guestPhysical, map, enter, clear, flush, context };
}

test('without translation: guest-physical addresses; with it, and without an entry: nothing', t => {
  const { iommu, guestPhysical } = bench(t);
  t.true(guestPhysical(1));
  iommu.start();
  t.false(guestPhysical(2), 'no context entry');
  iommu.disableTranslation();
  t.true(guestPhysical(3));
});

test('a first stage at PASID 0: its addresses, and its flushes', t => {
  const { iommu, guest, writes, guestPhysical, map, enter, clear, flush, context } = bench(t);
  iommu.start(undefined, () => iommu.contextEntry(REQUESTER, {}));
  t.false(guestPhysical(1), 'no entry for PASID 0');
  const table = guest.firstStage();
  const first = map(table);
  enter(0, firstStagePasid(table, DOMAIN));
  t.deepEqual([...context()!.bindings.keys()], [0]);
  t.true(writes(AT, first, 2));
  t.false(guestPhysical(3));
  t.is(table.unmap(AT, 1), 0);
  const second = map(table);
  t.is(flush(AT), 0);
  t.true(writes(AT, second, 4));
  t.is(guest.read(first, 1)[0], 2);
  clear(0);
  t.false(writes(AT, second, 5));
  t.deepEqual([...context()!.bindings.keys()], []);
});

test('one table after another at PASID 0, then guest-physical addresses, then none', t => {
  const { iommu, guest, writes, guestPhysical, map, enter, clear } = bench(t);
  iommu.start(undefined, () => iommu.contextEntry(REQUESTER, {}));
  const tables = [guest.firstStage(), guest.firstStage()];
  const [first, second] = tables.map(table => map(table));
  enter(0, firstStagePasid(tables[0]!, DOMAIN));
  t.true(writes(AT, first!, 1));
  enter(0, firstStagePasid(tables[1]!, DOMAIN));
  t.true(writes(AT, second!, 2));
  t.is(guest.read(first!, 1)[0], 1);
  enter(0, passThroughPasid(DOMAIN));
  t.true(guestPhysical(3));
  t.false(writes(AT, second!, 4));
  clear(0);
  t.false(guestPhysical(5));
});

test('a second stage of the guest’s own is nothing that the host could walk: refused, never guest-physical', t => {
  const { iommu, guest, writes, guestPhysical, map, enter } = bench(t);
  iommu.start(undefined, () => iommu.contextEntry(REQUESTER, {}));
  const table = guest.secondStage();
  const behind = map(table);
  enter(0, secondStagePasid(table, DOMAIN));
  t.false(writes(AT, behind, 1));
  t.false(guestPhysical(2));
});

test('a function without PASIDs has PASID 0 all the same; its other entries do not count', t => {
  const { iommu, guest, writes, map, enter, context } = bench(t);
  iommu.start(undefined, () => iommu.contextEntry(REQUESTER, { paside: 0 }));
  const table = guest.firstStage();
  const behind = map(table);
  enter(0, firstStagePasid(table, DOMAIN));
  enter(6, firstStagePasid(table, DOMAIN));
  t.true(writes(AT, behind, 1));
  t.deepEqual([...context()!.bindings.keys()], [0]);
});

test('guest-physical addresses at a PASID', t => {
  const { iommu, guest, writes, enter, clear, context } = bench(t);
  iommu.start(undefined, () => iommu.contextEntry(REQUESTER, {}));
  const frame = guest.page();
  t.false(writes(frame, frame, 1, 6));
  enter(6, passThroughPasid(DOMAIN));
  t.true(writes(frame, frame, 2, 6));
  t.true(context()!.passThrough.has(6));
  clear(6);
  t.false(writes(frame, frame, 3, 6));
  t.false(context()!.passThrough.has(6));
});

test('PASIDs and requests without one do not touch each other', t => {
  const { iommu, guest, writes, map, enter, clear } = bench(t);
  iommu.start(undefined, () => iommu.contextEntry(REQUESTER, {}));
  const [plain, shared] = [guest.firstStage(), guest.firstStage()];
  const [behindPlain, behindShared] = [map(plain), map(shared)];
  enter(0, firstStagePasid(plain, DOMAIN));
  enter(6, firstStagePasid(shared, DOMAIN));
  t.true(writes(AT, behindPlain, 1));
  t.true(writes(AT, behindShared, 2, 6));
  clear(6);
  t.true(writes(AT, behindPlain, 3));
  t.false(writes(AT, behindShared, 4, 6));
  t.is(guest.read(behindShared, 1)[0], 2);
});

test('a reset: guest-physical addresses, as before the guest began', t => {
  const { machine, iommu, guest, map, enter, context } = bench(t);
  iommu.start(undefined, () => iommu.contextEntry(REQUESTER, {}));
  const table = guest.firstStage();
  map(table);
  enter(0, firstStagePasid(table, DOMAIN));
  enter(6, firstStagePasid(table, DOMAIN));
  machine.reset();
  t.deepEqual([...context()!.bindings.keys()], []);
  t.deepEqual([...context()!.passThrough], [0]);
  const engine = guest.engine('00:03.0');
  const frame = guest.page();
  t.true(engine.fill({ to: frame * 4096, length: 4, pattern: 0x0808_0808 }).ok);
  t.is(guest.read(frame, 1)[0], 8);
});

test('unplugged while PASID 0 is bound, and plugged again: nothing of it is left', t => {
  const { host, machine, iommu, guest, map, enter } = bench(t);
  const before = host.platform.dump()['iommu'];
  iommu.start(undefined, () => iommu.contextEntry(REQUESTER, {}));
  const table = guest.firstStage();
  map(table);
  enter(0, firstStagePasid(table, DOMAIN));
  machine.unplug('vfio-pci');
  t.deepEqual(host.platform.dump()['iommu'], owner(t)(lendingHost()).platform.dump()['iommu']);
  iommu.disableTranslation();
  machine.plug('vfio-pci,host=0000:3f:00.0,addr=03.0,iommufd=iommufd0');
  t.deepEqual(host.platform.dump()['iommu'], before);
});

for (const [title, values, outcome] of [
  ['a first stage', (table: PageTable) => firstStagePasid(table, DOMAIN), { mapped: true, plain: false }],
  ['guest-physical addresses', () => passThroughPasid(DOMAIN), { mapped: false, plain: true }],
  ['nothing', () => undefined, { mapped: false, plain: false }],
] as const) {
  test(`restored on another host, PASID 0 has what it had: ${title}`, t => {
    const { machine, iommu, guest, map, enter } = bench(t);
    iommu.start(undefined, () => iommu.contextEntry(REQUESTER, {}));
    const table = guest.firstStage();
    const behind = map(table);
    const entry = values(table);
    if (entry !== undefined) enter(0, entry);
    const frame = guest.page();
    const file = openState(saveState(machine), 'saved');
    const iommus = { [PHYSICAL_VTD]: physicalVtd };
    const { machine: restored } = restoreMachine(file, { plugins, iommus, seed: 7 });
    owner(t)(restored.host!);
    const engine = new GuestEngine(restored, '00:03.0', BAR, true);
    const reaches = (to: number, at: number): boolean => {
      const { ok } = engine.fill({ to: to * 4096, length: 4, pattern: 0x2a2a_2a2a });
      const byte = new Uint8Array(1);
      restored.memory.read(frameHi(at), frameLo(at), byte);
      t.is(byte[0] === 0x2a, ok);
      return ok;
    };
    t.deepEqual({ mapped: reaches(AT, behind), plain: reaches(frame, frame) }, outcome);
  });
}
