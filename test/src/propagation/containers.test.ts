/** Several devices in one container and in two, judged by the DMA of each. */
import test from 'ava';
import { Errno } from '@remora/core';
import { owner } from '@remora/testing';
import { bind, BIND, CACHE_INVALIDATE, flushPasid, unbind } from '../behaviours/host-bytes.js';
import { type Placement, Rig } from '../rig/rig.js';
import { hostBytes } from './host-memory.js';
import { ENGINE_ID, Reason, refused, SECOND_ENGINE_ID } from './physical-fault.js';
import { pattern, place, seenBy, SharedSpace } from './shared-space.js';

const AT = 0x1_0000_0000;
const ONE_CONTAINER: readonly Placement[] = [{ addr: '03.0' }, { addr: '04.0' }];
const TWO_CONTAINERS: readonly Placement[] = [
  { addr: '03.0', container: 'new' },
  { addr: '04.0', container: 'new' },
];
const OLD = pattern(16, 1);
const NEW = pattern(16, 2);

test('one container: one bind, one flush and one unbind serve the DMA of both devices', t => {
  const own = owner(t);
  const rig = own(new Rig({ functions: ONE_CONTAINER }));
  const space = new SharedSpace(rig);
  const engines = [space.engine, rig.engine(1)];
  place(AT, space, OLD);
  rig.take();
  space.bind(0, 1);
  t.deepEqual(rig.take(), [bind(space.pasid, { root: space.root })]);
  t.deepEqual(seenBy(AT, space, engines), [OLD, OLD]);

  place(AT, space, NEW, true);
  const swallowed = rig.plan.arm({ request: CACHE_INVALIDATE, result: 'swallow' });
  space.flushAll();
  t.is(swallowed.struck, 1);
  t.deepEqual(seenBy(AT, space, engines), [OLD, OLD], 'swallowed for both');
  rig.take();
  space.flushPages(AT);
  t.is(rig.take().length, 1);
  t.deepEqual(seenBy(AT, space, engines), [NEW, NEW]);

  rig.take();
  space.unbind(0);
  t.deepEqual(rig.take(), []);
  // The kernel of the RFC knows the container, not the device: both go on until the last user is gone.
  t.deepEqual(seenBy(AT, space, engines), [NEW, NEW]);
  space.unbind(1);
  t.deepEqual(rig.take(), [unbind(space.pasid)]);
  t.deepEqual(seenBy(AT, space, engines), [undefined, undefined]);
  t.deepEqual(
    rig.host.platform.takeFaults().map(({ requesterId, pasid, reason }) => [requesterId, pasid, reason]),
    [
      [ENGINE_ID, space.pasid, Reason.PASID_ENTRY_NOT_PRESENT],
      [SECOND_ENGINE_ID, space.pasid, Reason.PASID_ENTRY_NOT_PRESENT],
    ],
  );
});

test('two containers: each device has its own binding, its own flush and its own unbind', t => {
  const own = owner(t);
  const rig = own(new Rig({ functions: TWO_CONTAINERS }));
  const space = new SharedSpace(rig);
  const engines = [space.engine, rig.engine(1)];
  place(AT, space, OLD);
  space.bind(0);
  t.deepEqual(seenBy(AT, space, engines), [OLD, undefined]);
  const directory = { pasid: space.pasid, requesterId: SECOND_ENGINE_ID, frame: AT };
  t.deepEqual(rig.host.platform.takeFaults(), [refused(Reason.DIRECTORY_ENTRY_NOT_PRESENT, directory)]);
  space.bind(1);
  t.deepEqual(seenBy(AT, space, engines), [OLD, OLD]);

  place(AT, space, NEW, true);
  rig.take();
  const swallowed = rig.plan.arm({ request: CACHE_INVALIDATE, nth: 2, result: 'swallow' });
  space.flushAll();
  t.is(new Set(rig.descriptorsOf(CACHE_INVALIDATE)).size, 2, 'two container fds');
  t.deepEqual(rig.take(), [flushPasid(space.pasid), flushPasid(space.pasid)]);
  t.is(swallowed.struck, 1);
  t.deepEqual(seenBy(AT, space, engines), [NEW, OLD]);
  space.flushAll();
  t.deepEqual(seenBy(AT, space, engines), [NEW, NEW]);

  space.unbind(0);
  t.deepEqual(seenBy(AT, space, engines), [undefined, NEW]);
  space.unbind(1);
  t.deepEqual(seenBy(AT, space, engines), [undefined, undefined]);
});

test('two containers: one PASID with a root for each device', t => {
  const own = owner(t);
  const rig = own(new Rig({ functions: TWO_CONTAINERS }));
  const one = new SharedSpace(rig);
  const other = new SharedSpace(rig, { pasid: one.pasid, device: 1 });
  const frames = [place(AT, one, OLD), place(AT, other, NEW)];
  one.enter();
  other.enter();
  rig.take();
  one.sync();
  t.deepEqual(rig.take(), [bind(one.pasid, { root: one.root }), bind(one.pasid, { root: other.root })]);
  t.deepEqual([one.deviceReads(AT, 16), other.deviceReads(AT, 16)], [OLD, NEW]);
  t.true(one.deviceWrites(AT, pattern(16, 3)).ok);
  t.true(other.deviceWrites(AT, pattern(16, 4)).ok);
  t.deepEqual(
    frames.map(frame => hostBytes(rig, frame, 16)),
    [pattern(16, 3), pattern(16, 4)],
  );
});

test('one container: a second device with another root for a PASID is refused, the first goes on', t => {
  const own = owner(t);
  const rig = own(new Rig({ functions: ONE_CONTAINER }));
  const one = new SharedSpace(rig);
  const other = new SharedSpace(rig, { pasid: one.pasid, device: 1 });
  place(AT, one, OLD);
  const stranger = place(AT, other, NEW);
  one.bind();
  const before = rig.host.dump();
  rig.take();
  other.enter();
  rig.refused(rig.descriptor.pasidCache(1, 7, one.pasid));
  t.deepEqual(rig.take(), [], 'the host cannot be told what it cannot represent');
  t.deepEqual(rig.host.dump(), before);
  t.deepEqual(one.deviceReads(AT, 16), OLD);
  t.true(other.deviceWrites(AT, pattern(16, 3)).ok, 'the kernel repeats a bind on every device of the container');
  t.deepEqual(hostBytes(rig, stranger, 16), NEW, 'but never with the root of the second');

  // The guest gives in, and can go on.
  rig.clearEntry(one.pasid, 1);
  rig.clearError();
  t.false(rig.isCached(one.pasid, 1));
  one.enter(1);
  one.sync();
  t.true(rig.isCached(one.pasid, 1));
  one.unbind(0, 1);
  t.deepEqual(rig.take(), [unbind(one.pasid)]);
});

test('one container: one descriptor moves a PASID of both devices to a new root', t => {
  const own = owner(t);
  const rig = own(new Rig({ functions: ONE_CONTAINER }));
  const old = new SharedSpace(rig);
  const fresh = new SharedSpace(rig, { pasid: old.pasid, engine: old.engine });
  const engines = [old.engine, rig.engine(1)];
  place(AT, old, OLD);
  place(AT, fresh, NEW);
  old.bind(0, 1);
  t.deepEqual(seenBy(AT, old, engines), [OLD, OLD]);
  rig.take();
  fresh.bind(0, 1);
  t.deepEqual(rig.take(), [unbind(old.pasid), bind(old.pasid, { root: fresh.root })]);
  t.deepEqual(seenBy(AT, fresh, engines), [NEW, NEW]);
  fresh.unbind(0, 1);
  t.deepEqual(rig.take(), [unbind(old.pasid)]);
});

test('one container: a move of both devices that the host refuses leaves both where they were', t => {
  for (const nth of [1, 2]) {
    using rig = new Rig({ functions: ONE_CONTAINER });
    const old = new SharedSpace(rig);
    const fresh = new SharedSpace(rig, { pasid: old.pasid, engine: old.engine });
    const engines = [old.engine, rig.engine(1)];
    place(AT, old, OLD);
    place(AT, fresh, NEW);
    old.bind(0, 1);
    const before = rig.host.dump();
    fresh.enter(0);
    fresh.enter(1);
    rig.plan.arm({ request: BIND, nth, result: -Errno.ENOMEM });
    rig.refused(rig.descriptor.pasidCache(1, 7, old.pasid));
    t.deepEqual(rig.host.dump(), before, `call ${nth}`);
    t.deepEqual(seenBy(AT, old, engines), [OLD, OLD]);
    rig.clearError();
    t.deepEqual(seenBy(AT, fresh, engines), [NEW, NEW], 'tried again');
    fresh.unbind(0, 1);
    t.deepEqual(rig.host.bound(), []);
  }
});

test('two containers: the second bind fails, the first stays; only the second is tried again', t => {
  const own = owner(t);
  const rig = own(new Rig({ functions: TWO_CONTAINERS }));
  const space = new SharedSpace(rig);
  const engines = [space.engine, rig.engine(1)];
  place(AT, space, OLD);
  space.enter(0);
  space.enter(1);
  rig.plan.arm({ request: BIND, nth: 2, result: -Errno.ENOMEM });
  rig.refused(rig.descriptor.pasidCache(1, 7, space.pasid));
  t.deepEqual(seenBy(AT, space, engines), [OLD, undefined]);
  rig.take();
  rig.clearError();
  t.deepEqual(rig.take(), [bind(space.pasid, { root: space.root })]);
  t.deepEqual(seenBy(AT, space, engines), [OLD, OLD]);
});

test('a replacement fails and the old root cannot be had back either: nothing is bound, and the next try binds the new one', t => {
  for (const functions of [ONE_CONTAINER.slice(0, 1), ONE_CONTAINER]) {
    using rig = new Rig({ functions });
    const old = new SharedSpace(rig);
    const fresh = new SharedSpace(rig, { pasid: old.pasid, engine: old.engine });
    const engines = functions.map((_, device) => (device === 0 ? old.engine : rig.engine(device)));
    place(AT, old, OLD);
    place(AT, fresh, NEW);
    old.bind(...functions.keys());
    for (const device of functions.keys()) fresh.enter(device);
    // UNBIND; then BIND of the new root and, for each device, of the old one.
    rig.plan.arm({ request: BIND, nth: 2, times: 1 + functions.length, result: -Errno.ENOMEM });
    rig.refused(rig.descriptor.pasidCache(1, 7, old.pasid));
    t.deepEqual(rig.host.bound(), []);
    t.true(seenBy(AT, old, engines).every(seen => seen === undefined));
    rig.clearError();
    t.true(seenBy(AT, fresh, engines).every(seen => seen !== undefined && Buffer.from(seen).equals(NEW)));
    rig.take();
    fresh.unbind(...functions.keys());
    t.deepEqual(rig.take(), [unbind(old.pasid)], 'nobody is counted twice');
  }
});
