/**
 * A host that cannot nest: the container is a plain one, and its map follows the device's address space (decisions, row 60). What is
 * translated in the guest must fault on the host, never slip through to guest-physical addresses.
 */
import test from 'ava';
import { Errno } from '@remora/core';
import type { KernelKnobs } from '@remora/host-sim';
import { lendingHost } from '@remora/machines';
import { owner } from '@remora/testing';
import { Rig } from '../rig/rig.js';
import { changedFrames, hostBytes } from './host-memory.js';
import { Reason, refused } from './physical-fault.js';
import { SharedSpace } from './shared-space.js';

const MIB = 0x10_0000;
const PAGE = 4096;
const AT = 0x1_0000;
const FILL = 0xa1b2_c3d4;
const FILLED = Uint8Array.of(0xd4, 0xc3, 0xb2, 0xa1);
const TYPE1V2 = 3;
/** Guest frames at both ends of RAM and between. */
const EVERYWHERE = [1, 0x7ff, 0xa00, 0xfff];

const hosts: readonly { title: string; knobs: Partial<KernelKnobs> }[] = [
  { title: 'without the nesting type', knobs: { nestingType: false } },
  { title: 'with an unknown uAPI', knobs: { nestingUapiVersion: 0 } },
  { title: 'that fails to tell its uAPI', knobs: { nestingUapiVersion: -Errno.EINVAL } },
];

for (const { title, knobs } of hosts) {
  test(`a host ${title}: all of RAM while the device passes through, nothing while it is translated`, t => {
    const own = owner(t);
    // Small, so that all of its memory can be compared.
    const host = own(lendingHost({ memory: 64 * MIB, kernel: knobs }));
    const rig = own(new Rig({ host }));
    const { platform } = host;
    t.is(rig.containerType(), TYPE1V2);
    t.true(rig.guest.iommu.allocPasid() < 0, 'no host to ask for a PASID');
    const engine = rig.engine();
    const reaches = (frame: number): boolean => {
      const { ok } = engine.fill({ to: frame * PAGE, length: 4, pattern: FILL });
      const arrived = Buffer.from(FILLED).equals(hostBytes(rig, frame, 4));
      rig.guest.write(frame, new Uint8Array(4));
      t.is(ok, arrived, 'the engine knows whether it arrived');
      return arrived;
    };
    const changed = (act: () => void): number => changedFrames(platform, act).length;

    t.deepEqual(EVERYWHERE.map(reaches), [true, true, true, true], 'PASID 0 passes through');
    t.deepEqual(platform.takeFaults(), []);

    // The guest puts a table before the device's plain requests: second-stage, then first-stage.
    const second = rig.guest.secondStage();
    t.is(second.map(AT, 0xa00, 1, 3), 0);
    const first = rig.guest.firstStage();
    t.is(first.map(AT, 0xa00, 1, 3), 0);
    for (const entry of [
      { did: 2, pgtt: 2, aw: 2, ssptptr: second.rootFrame },
      { did: 2, root: first.rootFrame * PAGE },
    ]) {
      rig.entry(0, entry);
      rig.pasidCache(1, 2, 0);
      const before = changed(() => {
        t.false(engine.fill({ to: AT * PAGE, length: 4, pattern: FILL }).ok, 'where the guest maps it');
        for (const frame of EVERYWHERE) t.false(engine.fill({ to: frame * PAGE, length: 4, pattern: FILL }).ok);
      });
      t.is(before, 0, 'and nothing of the host changes');
      t.deepEqual(
        platform.takeFaults(),
        [AT, ...EVERYWHERE].map(frame => refused(Reason.SECOND_STAGE_NOT_PRESENT, { frame, write: true })),
      );
      rig.entry(0, { did: 1, pgtt: 4 });
      rig.pasidCache(1, 2, 0);
      t.deepEqual(EVERYWHERE.map(reaches), [true, true, true, true], 'passes through again');
    }

    rig.guest.iommu.clearContextEntry(rig.requesterId());
    rig.contextCache(3, 0, rig.requesterId());
    t.deepEqual(EVERYWHERE.map(reaches), [false, false, false, false], 'no context entry');
    platform.takeFaults();
    rig.guest.iommu.disableTranslation();
    t.deepEqual(EVERYWHERE.map(reaches), [true, true, true, true], 'translation off');
    t.deepEqual(platform.takeFaults(), []);
  });
}

test('without nesting a first stage under a PASID is never bound, and its DMA faults', t => {
  const own = owner(t);
  for (const nestingType of [false, true]) {
    const rig = own(new Rig({ knobs: { nestingType } }));
    const space = new SharedSpace(rig, nestingType ? {} : { pasid: 5 });
    const frame = space.page(AT);
    rig.take();
    space.bind();
    const { ok } = space.engine.fill({ pasid: space.pasid, to: AT * PAGE, length: 4, pattern: FILL });
    t.is(ok, nestingType);
    t.deepEqual(hostBytes(rig, frame, 4), nestingType ? FILLED : new Uint8Array(4));
    t.is(rig.take().length, Number(nestingType));
    t.is(rig.host.platform.takeFaults().length, Number(!nestingType));
  }
});

test('without nesting two devices share a container only while they see the same memory', t => {
  const own = owner(t);
  const rig = own(new Rig({ knobs: { nestingType: false }, functions: [{ addr: '03.0' }, { addr: '04.0' }] }));
  const engines = [rig.engine(0), rig.engine(1)];
  const reach = (): boolean[] => engines.map(engine => engine.fill({ to: 0xa00 * PAGE, length: 4, pattern: FILL }).ok);
  t.deepEqual(reach(), [true, true]);
  rig.entry(0, { did: 2, root: rig.guest.firstStage().rootFrame * PAGE }, 1);
  rig.pasidCache(1, 2, 0);
  t.deepEqual(reach(), [true, false], 'one is translated, the other is not');
  rig.entry(0, { did: 1, pgtt: 4 }, 1);
  rig.entry(0, { did: 2, root: rig.guest.firstStage().rootFrame * PAGE }, 0);
  rig.pasidCache(3, 0, 0);
  t.deepEqual(reach(), [false, true]);
});

test('under nesting a first stage for plain requests is not bound: they use guest-physical addresses, and somebody says so', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const table = rig.guest.firstStage();
  t.is(table.map(AT, 0xa00, 1, 3), 0);
  rig.machine.ledger.on = true;
  rig.entry(0, { did: 2, root: table.rootFrame * PAGE });
  rig.pasidCache(1, 2, 0);
  const engine = rig.engine();
  t.false(engine.fill({ to: AT * PAGE, length: 4, pattern: FILL }).ok);
  t.true(engine.fill({ to: 0xa00 * PAGE, length: 4, pattern: FILL }).ok);
  t.deepEqual(hostBytes(rig, 0xa00, 4), FILLED);
  const warnings = rig.machine.ledger.events.filter(
    ({ kind, data }) => kind === 'warning' && data['what'] === 'pasid0-unbound',
  );
  t.is(warnings.length, 1);
});
