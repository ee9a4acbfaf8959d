/** How many calls a host gets, and of which ranges: large pages, runs of small ones, and what is cut out of them again. */
import test from 'ava';
import { Access, Region } from '@remora/core';
import { owner } from '@remora/testing';
import { mapped, RW, ShadowRig, unmapped } from './shadow-rig.js';

const AT = 0x8_0000;
const DOMAIN = 7;
const [A, B] = [0x100, 0x140];
/** Pages of 2 MiB and of 1 GiB. */
const [LARGE, HUGE] = [512, 512 * 512];
const RAM_PAGES = 4096;

test('a run of pages that lie together on both sides is one mapping', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  rig.take();
  t.is(table.map(AT, A, 8, RW), 0);
  t.is(table.map(AT + 8, B, 8, RW), 0, 'contiguous by IOVA only');
  t.is(table.map(AT + 16, B + 8, 8, Access.READ), 0, 'of another permission');
  t.is(table.map(AT + 32, B + 16, 8, Access.READ), 0, 'contiguous in memory only');
  t.is(rig.flushPages(DOMAIN, AT, 64), 0);
  t.deepEqual(rig.take(), [
    mapped(AT, A, 8),
    mapped(AT + 8, B, 8),
    mapped(AT + 16, B + 8, 8, Access.READ),
    mapped(AT + 32, B + 16, 8, Access.READ),
  ]);
  t.true(rig.writes(engine, AT + 7, A + 7));
  t.true(rig.writes(engine, AT + 15, B + 7));
  t.is(table.unmap(AT, 64), 0);
  t.is(rig.flushPages(DOMAIN, AT, 64), 0);
  t.deepEqual(rig.take(), [unmapped(AT, 40)], 'and all of it goes by one call');
  t.deepEqual(rig.held(), []);
});

test('a run that crosses the end of a table, and of what is flushed', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  rig.attach(table, DOMAIN);
  rig.take();
  const start = 512 * 512 - 4;
  t.is(table.map(start, A, 8, RW), 0);
  t.is(rig.flushPages(DOMAIN, start, 4), 0);
  t.deepEqual(rig.take(), [mapped(start, A, 4)], 'no page more than was reported');
  t.is(rig.flushDomain(DOMAIN), 0);
  t.deepEqual(rig.take(), [mapped(start + 4, A + 4, 4)]);
});

test('pages of 2 MiB and of 1 GiB are walked as such', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table({ largestLeaf: 30 });
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  rig.take();
  t.is(rig.map(table, DOMAIN, 3 * LARGE, 0, LARGE), 0);
  t.deepEqual(rig.take(), [mapped(3 * LARGE, 0, LARGE)]);
  t.true(rig.writes(engine, 3 * LARGE + A, A));
  t.is(rig.map(table, DOMAIN, HUGE, 0, HUGE), 0);
  t.deepEqual(rig.take(), [mapped(HUGE, 0, RAM_PAGES)], 'as much of it as there is memory');
  t.true(rig.writes(engine, HUGE + B, B));
  t.is(rig.flushPages(DOMAIN, HUGE + 5), 0);
  t.deepEqual(rig.take(), [], 'one page of it, and nothing changed');
  t.is(rig.unmap(table, DOMAIN, HUGE, HUGE), 0);
  t.deepEqual(rig.take(), [unmapped(HUGE, RAM_PAGES)]);
});

test('permissions of the levels above count', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  rig.attach(table, DOMAIN);
  t.is(table.map(AT, A, 1, RW), 0);
  const step = table.walk(AT).steps[1]!;
  // The third level loses W.
  rig.guest.write(step.table, Uint8Array.of(step.lo & 0xff & ~2), step.index * 8);
  rig.take();
  t.is(rig.flushDomain(DOMAIN), 0);
  t.deepEqual(rig.take(), [mapped(AT, A, 1, Access.READ)]);
});

test('a page-selective flush of many pages looks at all of them, and at no other', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  rig.take();
  for (const page of [0, 1000, 2 ** 18 - 1, 2 ** 18]) t.is(table.map(page, A + (page % 7), 1, RW), 0);
  t.is(rig.flushPages(DOMAIN, 12345 & ~0x3ffff, 2 ** 18), 0);
  t.deepEqual(
    rig.take(),
    [0, 1000, 2 ** 18 - 1].map(page => mapped(page, A + (page % 7))),
  );
  t.false(rig.writes(engine, 2 ** 18, A + (2 ** 18 % 7)));
});

test('a page in the middle of a run goes: the rest is mapped again and goes on', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  rig.map(table, DOMAIN, AT, A, 16);
  rig.map(table, DOMAIN, AT + 100, B, 4);
  rig.take();
  t.is(rig.unmap(table, DOMAIN, AT + 5), 0);
  t.deepEqual(rig.take(), [unmapped(AT, 16), mapped(AT, A, 5), mapped(AT + 6, A + 6, 10)]);
  t.true(rig.writes(engine, AT + 4, A + 4));
  t.false(rig.writes(engine, AT + 5, A + 5));
  t.true(rig.writes(engine, AT + 6, A + 6));
  t.true(rig.writes(engine, AT + 15, A + 15));
  t.true(rig.writes(engine, AT + 100, B), 'others have not been touched');

  // The first and the last page, by one flush.
  t.is(table.unmap(AT, 1), 0);
  t.is(table.unmap(AT + 15, 1), 0);
  t.is(rig.flushPages(DOMAIN, AT, 16), 0);
  t.deepEqual(rig.held(), [
    { iova: AT + 1, pages: 4, to: A + 1, access: RW },
    { iova: AT + 6, pages: 9, to: A + 6, access: RW },
    { iova: AT + 100, pages: 4, to: B, access: RW },
  ]);
});

test('a flush of a part leaves the rest of a run as it was told, whatever the table says of it', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  rig.map(table, DOMAIN, AT, A, 8);
  rig.take();
  t.is(table.unmap(AT, 8), 0);
  t.is(rig.flushPages(DOMAIN, AT + 2), 0);
  t.deepEqual(rig.take(), [unmapped(AT, 8), mapped(AT, A, 2), mapped(AT + 3, A + 3, 5)]);
  t.true(rig.writes(engine, AT + 3, A + 3), 'its flush is still missing');
  t.is(rig.flushPages(DOMAIN, AT, 8), 0);
  t.deepEqual(rig.held(), []);
});

test('pages that are added to a run are told alone', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  rig.attach(table, DOMAIN);
  rig.map(table, DOMAIN, AT, A, 2);
  rig.take();
  t.is(rig.map(table, DOMAIN, AT + 2, A + 2, 2), 0);
  t.deepEqual(rig.take(), [mapped(AT + 2, A + 2, 2)]);
  t.is(rig.flushDomain(DOMAIN), 0);
  t.deepEqual(rig.take(), []);
  t.is(rig.unmap(table, DOMAIN, AT, 4), 0);
  t.deepEqual(rig.take(), [unmapped(AT, 4)]);
});

test('two that go by one flush leave alone what stays between them', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  for (const page of [0, 1, 4, 8, 9]) rig.map(table, DOMAIN, AT + page, A + 7 * page);
  rig.take();
  for (const page of [0, 1, 8, 9]) t.is(table.unmap(AT + page, 1), 0);
  t.is(rig.flushPages(DOMAIN, AT, 16), 0);
  t.deepEqual(rig.take(), [unmapped(AT, 2), unmapped(AT + 8, 2)]);
  t.true(rig.writes(engine, AT + 4, A + 28));
  t.deepEqual(rig.held(), [{ iova: AT + 4, pages: 1, to: A + 28, access: RW }]);
});

test('ROM is mapped for reading only, and what is no memory is left out and told', t => {
  const rig = owner(t)(new ShadowRig());
  const { machine } = rig;
  const ROM = 0x8_0000;
  machine.memory.root.add(ROM * 4096, Region.ram('flash', machine.board.ram, { readonly: true }), 5);
  machine.ledger.on = true;
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  rig.take();
  t.is(rig.map(table, DOMAIN, AT, ROM + A, 2), 0);
  t.deepEqual(rig.take(), [mapped(AT, A, 2, Access.READ)]);
  t.false(rig.writes(engine, AT, A));
  t.is(rig.map(table, DOMAIN, AT + 16, ROM + A, 1, Access.WRITE), 0);
  t.deepEqual(rig.take(), [], 'nothing is left of it');
  // The last two pages of RAM, and two behind it.
  t.is(rig.map(table, DOMAIN, AT + 32, RAM_PAGES - 2, 4), 0);
  t.deepEqual(rig.take(), [mapped(AT + 32, RAM_PAGES - 2, 2)]);
  t.is(rig.map(table, DOMAIN, AT + 64, 0xfec00, 1), 0, "the IOAPIC's registers");
  t.deepEqual(rig.take(), []);
  const told = machine.ledger.events
    .filter(({ kind, data }) => kind === 'warning' && String(data['message']).includes('no memory'))
    .map(({ data }) => String(data['message']).split(' (')[0]);
  t.deepEqual(told, ['0x80010000 +0x1000', '0x80022000 +0x2000', '0x80040000 +0x1000']);
  t.is(rig.unmap(table, DOMAIN, AT + 32, 4), 0);
  t.is(rig.unmap(table, DOMAIN, AT + 64, 1), 0);
  t.deepEqual(rig.take(), [unmapped(AT + 32, 2)]);
});

test('reserved bits, a table outside memory, and what lies beyond the width map nothing', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  rig.attach(table, DOMAIN);
  t.is(table.map(AT, A, 3, RW), 0);
  const leaf = table.walk(AT + 1).steps.at(-1)!;
  // A leaf with SNP set, without snoop control.
  rig.guest.write(leaf.table, Uint8Array.of(0x03, 0x08 | ((leaf.lo >>> 8) & 0xff)), leaf.index * 8);
  t.is(rig.flushDomain(DOMAIN), 0);
  t.deepEqual(rig.held(), [
    { iova: AT, pages: 1, to: A, access: RW },
    { iova: AT + 2, pages: 1, to: A + 2, access: RW },
  ]);
  const step = table.walk(AT).steps[2]!;
  rig.guest.write(step.table, Uint8Array.of(0x03, 0xf0, 0xff, 0x7f, 0, 0, 0, 0), step.index * 8);
  t.is(rig.flushDomain(DOMAIN), 0);
  t.deepEqual(rig.held(), []);
});

test('a table of three levels, and one of five', t => {
  const own = owner(t);
  for (const [levels, iommu] of [
    [3, 'aw-bits=39'],
    [5, 'aw-bits=57'],
  ] as const) {
    const rig = own(new ShadowRig({ iommu }));
    const table = rig.table({ levels });
    const engine = rig.engine();
    t.is(rig.attach(table, DOMAIN), 0);
    rig.take();
    // The host's unit takes 48 bits.
    const top = 2 ** (Math.min(48, 9 * levels + 12) - 12) - 1;
    t.is(rig.map(table, DOMAIN, top, A), 0);
    t.deepEqual(rig.take(), [mapped(top, A)]);
    t.true(rig.writes(engine, top, A));
  }
});

test('the interrupt range is never translated, so that nothing is mapped there', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table({ largestLeaf: 21 });
  rig.attach(table, DOMAIN);
  rig.take();
  t.is(rig.map(table, DOMAIN, 0xf_ec00, 0x400, 2 * LARGE), 0);
  t.deepEqual(rig.take(), [mapped(0xf_ec00, 0x400, 0x200), mapped(0xf_ef00, 0x700, 0x100)]);
});
