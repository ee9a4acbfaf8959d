/**
 * A guest that forgets to tell its vIOMMU of a mapping: with caching mode the DMA that it had tried before goes on failing, and a flush
 * makes good; without caching mode nothing is missing. Judged by what is in guest memory and by the fault records.
 */
import test from 'ava';
import { Access } from '@remora/core';
import { createMachine, type Machine } from '@remora/machine';
import { Guest, type GuestEngine } from '@remora/machines';
import { owner } from '@remora/testing';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import { Granularity, PasidCacheGranularity } from '@hw/intel-iommu';
import { legacyContext, type PageTable, secondStagePasid } from '@hw/intel-iommu/driver';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';

const PAGE = 4096;
const BDF = '00:05.0';
const REQUESTER = 0x28;
const DOMAIN = 7;
/** Page frames that the device uses; each has tables of its own. */
const AT = 0x12_3456;
const FILL = 0xa1b2_c3d4;
const FILLED = Uint8Array.of(0xd4, 0xc3, 0xb2, 0xa1);

type Mode = 'legacy' | 'scalable';

class Rig implements Disposable {
  readonly machine: Machine;
  readonly guest: Guest;
  readonly engine: GuestEngine;
  readonly table: PageTable;
  readonly #mode: Mode;

  /** The function has a second-stage table, unless it is not `attached`. */
  constructor(mode: Mode, cachingMode: boolean, attached = true) {
    this.#mode = mode;
    const options = [
      `caching-mode=${cachingMode ? 'on' : 'off'}`,
      ...(mode === 'scalable' ? ['x-scalable-mode=on'] : []),
    ];
    this.machine = createMachine(undefined, {
      board: 'q35,memory=16M',
      plugins: [q35Plugin, intelIommuPlugin, dmaEnginePlugin],
      devices: [`intel-iommu,${options.join()}`, 'dma-engine,addr=05.0'],
    });
    this.machine.start();
    this.guest = new Guest(this.machine, { mode });
    this.table = this.guest.secondStage();
    this.guest.iommu.start(undefined, () => {
      if (attached) this.enter();
    });
    this.engine = this.guest.engine(BDF);
  }

  /** Writes the function's entries, and tells nobody. */
  enter(): void {
    const { iommu } = this.guest;
    if (this.#mode === 'legacy') {
      iommu.contextEntry(REQUESTER, legacyContext(this.table, DOMAIN));
    } else {
      iommu.contextEntry(REQUESTER, {});
      iommu.pasidEntry(REQUESTER, 0, secondStagePasid(this.table, DOMAIN));
    }
  }

  /** A zeroed page that is mapped at `at`; nobody is told. Returns its frame. */
  map(at: number): number {
    const frame = this.guest.page();
    if (this.table.map(at, frame, 1, Access.READ_WRITE) !== 0) throw new Error('nothing is mapped');
    return frame;
  }

  /** The engine writes at page `at`: the reasons for which it was refused, or what is in guest frame `frame` afterwards. */
  writes(at: number, frame: number): readonly string[] | Uint8Array {
    const { ok } = this.engine.fill({ to: at * PAGE, length: 4, pattern: FILL });
    const faults = this.guest.iommu.handleFaults().map(({ reason }) => reason.toString(16));
    return ok && faults.length === 0 ? this.guest.read(frame, 4) : faults;
  }

  /** A page-selective IOTLB invalidation of `at`. */
  flush(at: number, leaf = false): void {
    const range = { hi: Math.floor(at / 0x10_0000), lo: (at % 0x10_0000) * PAGE, addressMask: 0, leaf };
    this.guest.iommu.iotlbInvalidate(Granularity.PAGE, DOMAIN, range);
  }

  [Symbol.dispose](): void {
    this.machine[Symbol.dispose]();
  }
}

const EMPTY = Uint8Array.of(0, 0, 0, 0);

for (const [mode, absent] of [
  ['legacy', '5'],
  ['scalable', '79'],
] as const) {
  test(`${mode}: a page that is mapped after the device has asked for it, and the flush is missing`, t => {
    const rig = owner(t)(new Rig(mode, true));
    t.deepEqual(rig.writes(AT, 0), [absent]);
    const frame = rig.map(AT);
    t.deepEqual(rig.writes(AT, frame), [absent], 'as before, and recorded again');
    t.deepEqual(rig.guest.read(frame, 4), EMPTY);
    rig.flush(AT);
    t.deepEqual(rig.writes(AT, frame), FILLED);
  });

  test(`${mode}: without caching mode nothing is missing`, t => {
    const rig = owner(t)(new Rig(mode, false));
    t.deepEqual(rig.writes(AT, 0), [absent]);
    t.deepEqual(rig.writes(AT, rig.map(AT)), FILLED);
  });

  test(`${mode}: a flush of leaves is enough for a leaf, and not for the tables above it`, t => {
    const rig = owner(t)(new Rig(mode, true));
    const first = rig.map(AT);
    rig.flush(AT);
    t.deepEqual(rig.writes(AT, first), FILLED);
    t.deepEqual(rig.writes(AT + 1, 0), [absent]);
    const beside = rig.map(AT + 1);
    t.deepEqual(rig.writes(AT + 1, beside), [absent]);
    rig.flush(AT + 1, true);
    t.deepEqual(rig.writes(AT + 1, beside), FILLED);

    // Another entry of the topmost table.
    const far = AT + 2 ** 27;
    t.deepEqual(rig.writes(far, 0), [absent]);
    const there = rig.map(far);
    rig.flush(far, true);
    t.deepEqual(rig.writes(far, there), [absent]);
    rig.flush(far);
    t.deepEqual(rig.writes(far, there), FILLED);
  });

  test(`${mode}: a function that is attached after it has asked, and the flush is missing`, t => {
    const rig = owner(t)(new Rig(mode, true, false));
    // What is not there is the whole bus.
    const reason = mode === 'legacy' ? '1' : '39';
    const frame = rig.map(AT);
    t.deepEqual(rig.writes(AT, frame), [reason]);
    rig.enter();
    t.deepEqual(rig.writes(AT, frame), [reason]);
    rig.guest.iommu.contextCacheInvalidate(Granularity.DEVICE, 0, REQUESTER);
    t.deepEqual(rig.writes(AT, frame), FILLED);
  });
}

test('scalable: a PASID entry that comes late needs a flush of the PASID cache', t => {
  const rig = owner(t)(new Rig('scalable', true, false));
  const { iommu } = rig.guest;
  const frame = rig.map(AT);
  iommu.contextEntry(REQUESTER, {});
  t.deepEqual(rig.writes(AT, frame), ['51'], 'the directory is empty');
  iommu.pasidEntry(REQUESTER, 0, secondStagePasid(rig.table, DOMAIN));
  t.deepEqual(rig.writes(AT, frame), ['51']);
  iommu.pasidCacheInvalidate(PasidCacheGranularity.PASID, DOMAIN, 0);
  t.deepEqual(rig.writes(AT, frame), FILLED);
});

test('a driver that replaces a table and says that only leaves changed: DMA goes by the table that it took back', t => {
  for (const told of [false, true]) {
    const rig = owner(t)(new Rig('legacy', false));
    const old = [rig.map(AT), rig.map(AT + 1)];
    t.deepEqual(rig.writes(AT, old[0]!), FILLED);
    const step = rig.table.walk(AT).steps.at(-2)!;
    // Clear the entry that leads to the last table, as if that were free; the next mapping makes another one.
    rig.guest.write(step.table, new Uint8Array(8), step.index * 8);
    const fresh = rig.map(AT + 1);
    rig.flush(AT, !told);
    t.deepEqual(rig.writes(AT + 1, fresh), told ? FILLED : EMPTY);
    t.deepEqual(rig.guest.read(old[1]!, 4), told ? EMPTY : FILLED);
  }
});

test('a driver that flushes as Linux does never notices: attach, map, unmap, map again', t => {
  for (const mode of ['legacy', 'scalable'] as const) {
    const rig = owner(t)(new Rig(mode, true, false));
    const { iommu } = rig.guest;
    const missing = mode === 'legacy' ? '1' : '39';
    t.deepEqual(rig.writes(AT, 0), [missing]);
    if (mode === 'legacy') iommu.attach(REQUESTER, legacyContext(rig.table, DOMAIN));
    else {
      iommu.attach(REQUESTER, {});
      iommu.addPasid(REQUESTER, 0, secondStagePasid(rig.table, DOMAIN));
    }
    const absent = mode === 'legacy' ? '5' : '79';
    for (let time = 0; time < 3; time++) {
      t.deepEqual(rig.writes(AT, 0), [absent]);
      const frame = rig.map(AT);
      rig.flush(AT);
      t.deepEqual(rig.writes(AT, frame), FILLED);
      rig.table.unmap(AT, 1);
      rig.flush(AT);
    }
  }
});
