/** What a host told that it does not map: it is not asked for it, and the guest hears of it. And who must report what it maps at all. */
import test from 'ava';
import { ConfigError } from '@remora/core';
import { createMachine, type Machine } from '@remora/machine';
import { lendingHost } from '@remora/machines';
import { owner } from '@remora/testing';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import { mapped, RW, ShadowRig, unmapped } from './shadow-rig.js';

const AT = 0x8_0000;
const DOMAIN = 7;
const [A, B] = [0x100, 0x140];

function warnings({ ledger }: Machine): string[] {
  return ledger.events.filter(({ kind }) => kind === 'warning').map(({ data }) => String(data['message']));
}

test('reserved IOVAs: nothing of a range that reaches into them is mapped, all else is', t => {
  const reservedIova = [
    { startFrame: 0xf_ee00, endFrame: 0xf_ef00 },
    { startFrame: AT + 4, endFrame: AT + 6 },
  ];
  const rig = owner(t)(new ShadowRig({ knobs: { reservedIova } }));
  const table = rig.table();
  const engine = rig.engine();
  rig.machine.ledger.on = true;
  rig.attach(table, DOMAIN);
  rig.map(table, DOMAIN, AT, A, 4);
  rig.take();
  t.is(table.map(AT + 4, B, 1, RW), 0);
  rig.refused(rig.pagesDescriptor(DOMAIN, AT + 4));
  t.deepEqual(rig.take(), [], 'the host has said so before');
  t.deepEqual(
    warnings(rig.machine).map(message => message.replace(/ \(.*\)/, '')),
    [
      'vm0/container0: MAP_DMA 0x80004000 +0x1000: EINVAL, ' +
        'the host maps IOVAs 0x0 to 0x80003fff and 0x80006000 to 0xfedfffff and 0xfef00000 to 0xffffffffffff',
    ],
  );
  t.true(rig.writes(engine, AT + 3, A + 3), 'what is mapped stays');
  rig.goOn();
  t.is(rig.map(table, DOMAIN, AT + 6, B), 0);
  t.true(rig.writes(engine, AT + 6, B));
  t.is(table.unmap(AT + 4, 1), 0);
  t.is(rig.flushPages(DOMAIN, AT + 4), 0, 'the guest has thought better of it');
});

test('a host of fewer bits than the guest', t => {
  const rig = owner(t)(new ShadowRig({ knobs: { iovaWidth: 39 } }));
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  const last = 2 ** 27 - 1;
  t.is(rig.map(table, DOMAIN, last, A), 0);
  t.is(table.map(last + 1, B, 1, RW), 0);
  rig.refused(rig.pagesDescriptor(DOMAIN, last + 1));
  t.true(rig.writes(engine, last, A));
  t.is(rig.held()!.length, 1);
});

test('a host that takes so many mappings and no more: ENOSPC, and room again after an unmap', t => {
  const rig = owner(t)(new ShadowRig({ knobs: { dmaEntryLimit: 3 } }));
  const table = rig.table();
  const engine = rig.engine();
  rig.machine.ledger.on = true;
  rig.attach(table, DOMAIN);
  for (let page = 0; page < 3; page++) t.is(rig.map(table, DOMAIN, AT + 2 * page, A + page), 0);
  t.is(table.map(AT + 6, B, 1, RW), 0);
  rig.take();
  rig.refused(rig.pagesDescriptor(DOMAIN, AT + 6));
  t.deepEqual(rig.take(), []);
  t.regex(warnings(rig.machine).at(-1)!, /ENOSPC, the host takes no more than 3 mappings$/);
  for (let page = 0; page < 3; page++) t.true(rig.writes(engine, AT + 2 * page, A + page));
  rig.goOn();
  t.is(table.unmap(AT, 1), 0);
  t.is(rig.flushPages(DOMAIN, AT), 0);
  t.deepEqual(rig.take(), [unmapped(AT), mapped(AT + 6, B)], 'what was refused comes in its place');
  t.true(rig.writes(engine, AT + 6, B));
});

test('at the limit a run is not cut in two: it stays as it is, and the guest hears of it', t => {
  const rig = owner(t)(new ShadowRig({ knobs: { dmaEntryLimit: 1 } }));
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  rig.map(table, DOMAIN, AT, A, 8);
  t.is(table.unmap(AT + 3, 1), 0);
  rig.refused(rig.pagesDescriptor(DOMAIN, AT + 3));
  for (const page of [0, 3, 7]) t.true(rig.writes(engine, AT + page, A + page));
  t.is(table.unmap(AT + 4, 4), 0);
  t.true(rig.clearError(), 'of two parts one is left');
  t.deepEqual(rig.held(), [{ iova: AT, pages: 3, to: A, access: RW }]);
});

test('many pages far apart: as many mappings as pages, up to the limit of Linux', t => {
  const rig = owner(t)(new ShadowRig({ memory: 16 }));
  const table = rig.table();
  rig.attach(table, DOMAIN);
  for (let page = 0; page < 2000; page++) t.is(table.map(AT + 2 * page, A, 1, RW), 0);
  t.is(rig.flushDomain(DOMAIN), 0);
  t.is(rig.held()!.length, 2000);
  rig.take();
  t.is(table.unmap(AT, 4000), 0);
  t.is(rig.flushDomain(DOMAIN), 0);
  t.is(rig.take().length, 1);
});

test('a guest that would not report what it maps is refused, by the option that makes it', t => {
  const own = owner(t);
  const start = (iommu: string): void => {
    const host = own(lendingHost({ kernel: { nestingType: false } }));
    createMachine(host, {
      board: 'q35,memory=16M',
      plugins: [q35Plugin, intelIommuPlugin, vfioPciPlugin],
      devices: [iommu, 'vfio-pci,host=3f:00.0,addr=03.0'],
    }).start();
  };
  for (const mode of ['off', 'on', 'legacy']) {
    const error = t.throws(() => start(`intel-iommu,x-scalable-mode=${mode}`), { instanceOf: ConfigError });
    t.regex(error!.path, /caching-mode$/);
    t.regex(error!.message, /set caching-mode=on/);
    t.notThrows(() => start(`intel-iommu,x-scalable-mode=${mode},caching-mode=on`));
  }
  // With a first stage, caching mode would not help, and what passes through is served.
  t.notThrows(() => start('intel-iommu,x-scalable-mode=modern'));
  t.notThrows(() => start('intel-iommu,x-scalable-mode=on,x-flts=on'));
});

test('a first stage is not followed, caching mode or not: its requests fault, and somebody says so, once', t => {
  const rig = owner(t)(new ShadowRig({ mode: 'scalable', iommu: 'x-flts=on' }));
  const { iommu } = rig.guest;
  rig.machine.ledger.on = true;
  const table = rig.table({ stage: 'first' });
  t.is(table.map(AT, A, 1, RW), 0);
  const engine = rig.engine();
  t.is(iommu.attach(rig.requesterId(), {}), 0);
  for (const did of [DOMAIN, DOMAIN + 1]) {
    t.is(iommu.pasidEntry(rig.requesterId(), 0, { pgtt: 1, fsptptr: table.rootFrame, did }), 0);
    t.is(iommu.pasidCacheInvalidate(3), 0);
    t.false(rig.writes(engine, AT, A));
    t.false(rig.writes(engine, A, A));
  }
  const told = rig.machine.ledger.events.filter(({ data }) => data['what'] === 'not-shadowed');
  t.deepEqual(
    told.map(({ data }) => data),
    [{ what: 'not-shadowed', requesterId: 0x18 }],
  );
  t.is(rig.passThrough(1), 0);
  t.is(iommu.pasidCacheInvalidate(3), 0);
  t.true(rig.writes(engine, A, A));
});

test('a function whose mapped pages the host does not take cannot be plugged in', t => {
  const reservedIova = [{ startFrame: AT, endFrame: AT + 1 }];
  const rig = owner(t)(new ShadowRig({ knobs: { reservedIova }, functions: [{ addr: '03.0', later: true }] }));
  const table = rig.table();
  rig.attach(table, DOMAIN);
  rig.map(table, DOMAIN, AT + 1, B);
  rig.map(table, DOMAIN, AT, A);
  const before = rig.platform.dump();
  const error = t.throws(() => rig.machine.plug(rig.deviceString()), { instanceOf: ConfigError });
  t.regex(error!.message, /MAP_DMA 0x80000000 \+0x1000.*EINVAL, the host maps IOVAs/);
  t.deepEqual(rig.platform.dump(), before);
  t.is(rig.unmap(table, DOMAIN, AT), 0);
  t.notThrows(() => rig.machine.plug(rig.deviceString()));
  t.deepEqual(rig.held(), [{ iova: AT + 1, pages: 1, to: B, access: RW }]);
});
