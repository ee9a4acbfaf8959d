/** Guest map and unmap become MAP_DMA and UNMAP_DMA, in legacy and in second-stage mode; DMA of the host's device follows them. */
import test from 'ava';
import { Access } from '@remora/core';
import { owner } from '@remora/testing';
import { mapped, RW, ShadowRig, unmapped } from './shadow-rig.js';

const AT = 0x8_0000;
const DOMAIN = 7;
/** Guest frames that nobody else uses. */
const [A, B, C] = [0x100, 0x140, 0x180];
const RAM = mapped(0, 0, 4096);

for (const mode of ['legacy', 'scalable'] as const) {
  test(`${mode}: what the guest maps and reports is mapped at the host, and DMA lands there`, t => {
    const rig = owner(t)(new ShadowRig({ mode }));
    const table = rig.table();
    const engine = rig.engine();
    t.is(rig.attach(table, DOMAIN), 0);
    t.deepEqual(rig.held(), [], 'the function is translated, and nothing is mapped yet');
    t.false(rig.writes(engine, A, A), 'guest-physical addresses mean nothing any more');

    rig.take();
    t.is(rig.map(table, DOMAIN, AT, A), 0);
    t.deepEqual(rig.take(), [mapped(AT, A)]);
    t.true(rig.writes(engine, AT, A));
    t.false(rig.writes(engine, AT + 1, A + 1));

    t.is(rig.unmap(table, DOMAIN, AT), 0);
    t.deepEqual(rig.take(), [unmapped(AT)]);
    t.false(rig.writes(engine, AT, A));
    t.deepEqual(rig.held(), []);
  });

  test(`${mode}: a page that is mapped elsewhere is unmapped first; an unchanged one is left alone`, t => {
    const rig = owner(t)(new ShadowRig({ mode }));
    const table = rig.table();
    const engine = rig.engine();
    rig.attach(table, DOMAIN);
    rig.map(table, DOMAIN, AT, A);
    rig.map(table, DOMAIN, AT + 5, C);
    rig.take();
    t.is(table.unmap(AT, 1), 0);
    t.is(rig.map(table, DOMAIN, AT, B), 0);
    t.deepEqual(rig.take(), [unmapped(AT), mapped(AT, B)]);
    t.true(rig.writes(engine, AT, B));
    for (const flush of [() => rig.flushPages(DOMAIN, AT, 8), () => rig.flushDomain(DOMAIN), () => rig.flushAll()]) {
      t.is(flush(), 0);
      t.deepEqual(rig.take(), [], 'nothing changed');
    }
    t.true(rig.writes(engine, AT + 5, C));
  });

  test(`${mode}: permissions go along, and a change of them alone is a change`, t => {
    const rig = owner(t)(new ShadowRig({ mode }));
    const table = rig.table();
    const engine = rig.engine();
    rig.attach(table, DOMAIN);
    rig.map(table, DOMAIN, AT, B);
    rig.take();
    t.is(rig.map(table, DOMAIN, AT + 1, A, 1, Access.READ), 0);
    t.deepEqual(rig.take(), [mapped(AT + 1, A, 1, Access.READ)]);
    t.false(rig.writes(engine, AT + 1, A), 'the physical unit refuses the write');
    t.is(rig.platform.takeFaults().at(-1)?.reason, 0x85);
    t.true(rig.reads(engine, AT + 1, A, { iova: AT, frame: B }));

    t.is(table.unmap(AT + 1, 1), 0);
    t.is(rig.map(table, DOMAIN, AT + 1, A, 1, RW), 0);
    t.deepEqual(rig.take(), [unmapped(AT + 1), mapped(AT + 1, A)]);
    t.true(rig.writes(engine, AT + 1, A));

    t.is(table.unmap(AT + 1, 1), 0);
    t.is(rig.map(table, DOMAIN, AT + 1, A, 1, Access.WRITE), 0);
    t.deepEqual(rig.take(), [unmapped(AT + 1), mapped(AT + 1, A, 1, Access.WRITE)]);
    t.true(rig.writes(engine, AT + 1, A));
    t.false(rig.reads(engine, AT + 1, A, { iova: AT, frame: B }));
  });

  test(`${mode}: what is not reported is not seen: neither a map nor an unmap`, t => {
    const rig = owner(t)(new ShadowRig({ mode }));
    const table = rig.table();
    const engine = rig.engine();
    rig.attach(table, DOMAIN);
    rig.take();
    t.is(table.map(AT, A, 1, RW), 0);
    t.false(rig.writes(engine, AT, A), 'mapped, and not reported');
    t.is(rig.flushPages(DOMAIN, AT + 1), 0);
    t.is(rig.flushPages(DOMAIN + 1, AT), 0);
    t.is(rig.flushDomain(DOMAIN + 1), 0);
    t.deepEqual(rig.take(), [], 'other pages, other domains');
    t.is(rig.flushPages(DOMAIN, AT), 0);
    t.true(rig.writes(engine, AT, A));

    t.is(table.unmap(AT, 1), 0);
    t.true(rig.writes(engine, AT, A), 'unmapped, and not reported: still reached, as with real hardware');
    t.is(rig.flushPages(DOMAIN, AT), 0);
    t.false(rig.writes(engine, AT, A));
  });

  test(`${mode}: the function passes through, is translated, and passes through again`, t => {
    const rig = owner(t)(new ShadowRig({ mode }));
    const table = rig.table();
    const engine = rig.engine();
    t.is(table.map(AT, A, 1, RW), 0);
    t.is(rig.passThrough(1), 0);
    t.deepEqual(rig.take(), [RAM]);
    t.true(rig.writes(engine, B, B));
    t.is(rig.attach(table, DOMAIN), 0);
    t.deepEqual(rig.take(), [unmapped(0, 4096), mapped(AT, A)], 'all of the table, at once');
    t.true(rig.writes(engine, AT, A));
    t.false(rig.writes(engine, B, B));
    t.is(rig.passThrough(1), 0);
    t.is(rig.flushDomain(DOMAIN), 0);
    t.deepEqual(rig.take(), [unmapped(AT), RAM]);
    t.false(rig.writes(engine, AT, A));
  });

  test(`${mode}: translation off and on`, t => {
    const rig = owner(t)(new ShadowRig({ mode }));
    const table = rig.table();
    const engine = rig.engine();
    rig.attach(table, DOMAIN);
    rig.map(table, DOMAIN, AT, A);
    rig.take();
    rig.guest.iommu.disableTranslation();
    t.deepEqual(rig.take(), [unmapped(AT), RAM]);
    t.true(rig.writes(engine, B, B));
    t.is(table.map(AT + 1, B, 1, RW), 0);
    rig.guest.iommu.enableTranslation();
    t.deepEqual(rig.take(), [unmapped(0, 4096), mapped(AT, A), mapped(AT + 1, B)]);
    t.true(rig.writes(engine, AT + 1, B));
    t.false(rig.writes(engine, B, B));
  });

  test(`${mode}: two functions in one domain, and one in another`, t => {
    const functions = [{ addr: '03.0' }, { addr: '04.0' }];
    const rig = owner(t)(new ShadowRig({ mode, functions }));
    const [table, other] = [rig.table(), rig.table()];
    const engines = [rig.engine(0), rig.engine(1)];
    const reached = (iova: number, to: number): boolean[] => engines.map(engine => rig.writes(engine, iova, to));
    rig.attach(table, DOMAIN, 0);
    rig.attach(table, DOMAIN, 1);
    rig.take();
    rig.map(table, DOMAIN, AT, A);
    t.deepEqual(rig.take(), [mapped(AT, A), mapped(AT, A)], 'one for each container');
    t.deepEqual(reached(AT, A), [true, true]);

    rig.attach(other, DOMAIN + 1, 1);
    rig.flushDomain(DOMAIN);
    t.deepEqual(reached(AT, A), [true, false]);
    rig.map(other, DOMAIN + 1, AT, B);
    t.true(rig.writes(engines[1]!, AT, B));
    t.true(rig.writes(engines[0]!, AT, A));
    rig.take();
    rig.unmap(table, DOMAIN, AT);
    t.deepEqual(rig.take(), [unmapped(AT)]);
    t.deepEqual(reached(AT, B), [false, true], 'the other domain keeps its page');
  });
}

test('register commands report changes as descriptors do', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  const engine = rig.engine();
  const { iommu } = rig.guest;
  iommu.disableQueue();
  t.is(rig.attach(table, DOMAIN), 0);
  t.is(table.map(AT, A, 1, RW), 0);
  rig.take();
  t.is(iommu.iotlbInvalidate(3, DOMAIN, { hi: 0, lo: (AT * 4096) | 0, addressMask: 0, leaf: false }), 0);
  t.deepEqual(rig.take(), [mapped(AT, A)]);
  t.true(rig.writes(engine, AT, A));
  t.is(table.unmap(AT, 1), 0);
  t.is(iommu.iotlbInvalidate(2, DOMAIN), 0);
  t.deepEqual(rig.take(), [unmapped(AT)]);
  t.is(table.map(AT, B, 1, RW), 0);
  t.is(iommu.iotlbInvalidate(1), 0);
  t.true(rig.writes(engine, AT, B));
  iommu.clearContextEntry(rig.requesterId());
  t.is(iommu.contextCacheInvalidate(3, DOMAIN, rig.requesterId()), 0);
  t.deepEqual(rig.held(), []);
});

test('a context entry of another table, another domain, and none', t => {
  const rig = owner(t)(new ShadowRig());
  const [one, other] = [rig.table(), rig.table()];
  const engine = rig.engine();
  t.is(one.map(AT, A, 1, RW), 0);
  t.is(one.map(AT + 9, C, 1, RW), 0);
  t.is(other.map(AT, B, 1, RW), 0);
  t.is(other.map(AT + 9, C, 1, RW), 0);
  rig.attach(one, DOMAIN);
  rig.take();
  t.is(rig.attach(other, DOMAIN + 1), 0);
  t.deepEqual(rig.take(), [unmapped(AT), mapped(AT, B)], 'what both tables map stays');
  t.true(rig.writes(engine, AT, B));
  rig.guest.iommu.clearContextEntry(rig.requesterId());
  t.true(rig.writes(engine, AT, B), 'not reported yet');
  t.is(rig.guest.iommu.contextCacheInvalidate(3, 0, rig.requesterId() ^ 8), 0);
  t.true(rig.writes(engine, AT, B), 'another function');
  t.is(rig.guest.iommu.contextCacheInvalidate(2, DOMAIN + 1), 0);
  t.deepEqual(rig.held(), []);
  t.false(rig.writes(engine, AT, B));
});

test('another root table takes effect with SRTP', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  rig.map(table, DOMAIN, AT, A);
  rig.take();
  const { registers } = rig.guest;
  const empty = rig.guest.page();
  registers.write64(0x20, 0, empty * 4096);
  t.deepEqual(rig.take(), [], 'the register alone changes nothing');
  registers.write32(0x18, (registers.read32(0x1c) & 0x96ff_ffff) | 0x4000_0000);
  t.deepEqual(rig.take(), [unmapped(AT)]);
  t.false(rig.writes(engine, AT, A));
  rig.guest.iommu.setRootTable();
  t.deepEqual(rig.take(), [mapped(AT, A)]);
  t.true(rig.writes(engine, AT, A));
});

test('a system reset: guest-physical memory, as before the guest began', t => {
  const rig = owner(t)(new ShadowRig({ start: false }));
  const before = rig.held();
  rig.boot();
  const table = rig.table();
  rig.attach(table, DOMAIN);
  rig.map(table, DOMAIN, AT, A);
  rig.take();
  rig.machine.reset();
  t.deepEqual(rig.take(), [unmapped(AT), RAM]);
  t.deepEqual(rig.held(), before);
  rig.boot();
  t.deepEqual(rig.held(), []);
  rig.attach(rig.table(), DOMAIN);
  t.deepEqual(rig.held(), []);
});

test('a function that is plugged in finds what is mapped already; unplugged, it leaves nothing', t => {
  const functions = [{ addr: '03.0' }, { addr: '01.0', later: true as const }];
  const rig = owner(t)(new ShadowRig({ functions }));
  const table = rig.table();
  rig.attach(table, DOMAIN, 0);
  rig.attach(table, DOMAIN, 1);
  rig.map(table, DOMAIN, AT, A, 3);
  rig.map(table, DOMAIN, AT + 3, B);
  const before = rig.platform.dump();
  rig.take();
  const id = rig.machine.plug(rig.deviceString(1));
  t.deepEqual(rig.take(), [mapped(AT, A, 3), mapped(AT + 3, B)], 'one for each run, and no RAM before');
  const engine = rig.engine(1);
  t.true(rig.writes(engine, AT + 2, A + 2));
  rig.unmap(table, DOMAIN, AT + 3);
  t.false(rig.writes(engine, AT + 3, B));
  rig.map(table, DOMAIN, AT + 3, B);
  rig.machine.unplug(id);
  t.deepEqual(rig.platform.dump(), before);
  rig.take();
  rig.map(table, DOMAIN, AT + 8, C);
  t.deepEqual(rig.take(), [mapped(AT + 8, C)], 'the one that is left');
});
