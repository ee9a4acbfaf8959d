/**
 * Flushes on their way down, judged by which page the engine reaches. Each case has its twin: the same flush, swallowed on its way
 * to the host, leaves the physical unit with what it cached.
 */
import test from 'ava';
import { Access } from '@remora/core';
import { owner } from '@remora/testing';
import { BIND, CACHE_INVALIDATE, flushPages, flushPasid, type HostCall } from '../behaviours/host-bytes.js';
import { Rig } from '../rig/rig.js';
import { hostBytes } from './host-memory.js';
import { Reason, refused } from './physical-fault.js';
import { pattern, SharedSpace } from './shared-space.js';

const PAGE = 4096;
const AT = 0x1_0000_0000;
const OLD = 1;
const NEW = 2;
const WRITTEN = 3;

interface Flush {
  readonly title: string;
  send(space: SharedSpace): void;
  /** What the host is handed. */
  call(pasid: number): HostCall;
}

const flushes: readonly Flush[] = [
  { title: 'all of the PASID', send: space => space.flushAll(), call: pasid => flushPasid(pasid) },
  {
    title: 'the page',
    send: space => space.flushPages(AT),
    call: pasid => flushPages(pasid, AT * PAGE, PAGE),
  },
  {
    title: 'the page, leaves only (IH)',
    send: space => space.flushPages(AT, 0, true),
    call: pasid => flushPages(pasid, AT * PAGE, PAGE, true),
  },
  {
    title: 'the 2 MiB around the page, by an address inside',
    send: space => space.flushPages(AT + 3, 9),
    call: pasid => flushPages(pasid, AT * PAGE, 512 * PAGE),
  },
];

for (const { title, send, call } of flushes) {
  for (const swallowed of [false, true]) {
    test(`a remapped page and a flush of ${title}${swallowed ? ', swallowed: the old page' : ': the new page'}`, t => {
      const own = owner(t);
      const rig = own(new Rig());
      const space = new SharedSpace(rig).bind();
      const old = space.page(AT);
      rig.guest.write(old, pattern(64, OLD));
      t.deepEqual(space.deviceReads(AT, 64), pattern(64, OLD));
      const fresh = space.remap(AT);
      rig.guest.write(fresh, pattern(64, NEW));
      t.deepEqual(space.deviceReads(AT, 64), pattern(64, OLD), 'nothing is flushed yet');

      rig.take();
      const fault = swallowed ? rig.plan.arm({ request: CACHE_INVALIDATE, result: 'swallow' }) : undefined;
      send(space);
      t.deepEqual(rig.take(), [call(space.pasid)]);
      t.is(fault?.struck, swallowed ? 1 : undefined);
      t.deepEqual(space.deviceReads(AT, 64), pattern(64, swallowed ? OLD : NEW));
      t.true(space.deviceWrites(AT, pattern(64, WRITTEN)).ok);
      t.deepEqual(hostBytes(rig, old, 64), pattern(64, swallowed ? WRITTEN : OLD));
      t.deepEqual(hostBytes(rig, fresh, 64), pattern(64, swallowed ? NEW : WRITTEN));
    });
  }
}

test('a page that the guest takes away stays within reach until its flush arrives', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const frame = space.page(AT);
  t.true(space.deviceWrites(AT, pattern(64)).ok);
  space.unmap(AT);
  rig.plan.arm({ request: CACHE_INVALIDATE, result: 'swallow' });
  space.flushPages(AT);
  t.true(space.deviceWrites(AT, pattern(64, NEW)).ok, 'the flush never arrived');
  t.deepEqual(hostBytes(rig, frame, 64), pattern(64, NEW));
  space.flushPages(AT);
  t.false(space.deviceWrites(AT, pattern(64, WRITTEN)).ok);
  t.deepEqual(hostBytes(rig, frame, 64), pattern(64, NEW));
  t.deepEqual(rig.host.platform.takeFaults(), [
    refused(Reason.FIRST_STAGE_NOT_PRESENT, { pasid: space.pasid, frame: AT, write: true }),
  ]);
});

test('a page that turns read-only can be written until its flush arrives', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const frame = space.page(AT);
  t.true(space.deviceWrites(AT, pattern(64)).ok);
  space.unmap(AT);
  space.map(AT, frame, { access: Access.READ });
  t.true(space.deviceWrites(AT, pattern(64, NEW)).ok, 'not flushed yet');
  space.flushPages(AT, 0, true);
  t.false(space.deviceWrites(AT, pattern(64, WRITTEN)).ok);
  t.deepEqual(space.deviceReads(AT, 64), pattern(64, NEW));
  t.deepEqual(rig.host.platform.takeFaults(), [
    refused(Reason.NO_WRITE_PERMISSION, { pasid: space.pasid, frame: AT, write: true }),
  ]);
});

test('a flush of a page leaves the other pages, and one of a PASID the other PASIDs', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const one = new SharedSpace(rig).bind();
  const other = new SharedSpace(rig, { engine: one.engine }).bind();
  const places = [
    [one, AT],
    [one, AT + 1],
    [other, AT],
  ] as const;
  for (const [space, at] of places) {
    rig.guest.write(space.page(at), pattern(16, OLD));
    t.deepEqual(space.deviceReads(at, 16), pattern(16, OLD));
    rig.guest.write(space.remap(at), pattern(16, NEW));
  }
  const seen = (): number[] =>
    places.map(([space, at]) => (space.deviceReads(at, 16)![0] === pattern(1, NEW)[0] ? NEW : OLD));
  t.deepEqual(seen(), [OLD, OLD, OLD]);
  rig.pasidIotlb(2, one.did + 1, one.pasid);
  t.deepEqual(seen(), [OLD, OLD, OLD], 'another domain');
  one.flushPages(AT);
  t.deepEqual(seen(), [NEW, OLD, OLD]);
  one.flushAll();
  t.deepEqual(seen(), [NEW, NEW, OLD]);
  other.flushAll();
  t.deepEqual(seen(), [NEW, NEW, NEW]);
});

test('a leaf of 2 MiB split into small pages: one flush of its range and all pages are the new ones', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const [large, moved] = [0xa00, 0xc07];
  space.map(AT, large, { pages: 512, large: 21 });
  for (const page of [0, 7]) rig.guest.write(large + page, pattern(16, OLD));
  for (const page of [0, 7]) t.deepEqual(space.deviceReads(AT + page, 16), pattern(16, OLD));
  rig.guest.write(moved, pattern(16, NEW));
  space.unmap(AT + 7);
  space.map(AT + 7, moved);
  t.is(space.table.walk(AT).shift, 12);
  t.deepEqual(space.deviceReads(AT + 7, 16), pattern(16, OLD), 'still the large leaf');
  space.flushPages(AT, 9);
  t.deepEqual(space.deviceReads(AT + 7, 16), pattern(16, NEW));
  t.deepEqual(space.deviceReads(AT, 16), pattern(16, OLD));
});

test('another root: the old table is in force until the binding is replaced', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const other = new SharedSpace(rig, { pasid: space.pasid, engine: space.engine });
  const [old, fresh] = [space.page(AT), other.page(AT)];
  rig.guest.write(old, pattern(16, OLD));
  rig.guest.write(fresh, pattern(16, NEW));
  t.deepEqual(space.deviceReads(AT, 16), pattern(16, OLD));
  other.enter();
  space.flushAll();
  t.deepEqual(space.deviceReads(AT, 16), pattern(16, OLD), 'an IOTLB flush does not look at PASID entries');
  other.sync();
  t.deepEqual(other.deviceReads(AT, 16), pattern(16, NEW));
  t.deepEqual(rig.host.bound(), [space.pasid]);

  // And back, with both calls swallowed: the host goes on with what it has.
  space.enter();
  const swallowed = rig.plan.arm({ request: BIND, times: 2, result: 'swallow' });
  space.sync();
  t.is(swallowed.struck, 2, 'UNBIND, BIND');
  t.deepEqual(other.deviceReads(AT, 16), pattern(16, NEW));
});
