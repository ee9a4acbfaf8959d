/** DMA that must not happen, judged by memory, by the engine and by the faults of the physical unit. */
import test from 'ava';
import { Access, MemTx } from '@remora/core';
import { owner } from '@remora/testing';
import { BIND } from '../behaviours/host-bytes.js';
import { Rig } from '../rig/rig.js';
import { hostBytes } from './host-memory.js';
import { ENGINE_ID, Reason, refused } from './physical-fault.js';
import { pattern, SharedSpace } from './shared-space.js';

const PAGE = 4096;
const AT = 0x1_0000_0000;
const FILL = 0xa1b2_c3d4;

test('a read-only page: writes stop there, and what came before it is written', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const frames = [space.page(AT), space.page(AT + 1, Access.READ), space.page(AT + 2)];
  rig.guest.write(frames[1]!, pattern(64, 3));
  t.deepEqual(space.deviceReads(AT + 1, 64), pattern(64, 3));

  const data = pattern(3 * PAGE, 4);
  t.deepEqual(space.deviceWrites(AT, data), {
    ok: false,
    busy: false,
    error: 4,
    result: MemTx.ACCESS_ERROR,
    failedWrite: true,
    failedAt: (AT + 1) * PAGE,
    moved: PAGE,
  });
  t.deepEqual(hostBytes(rig, frames[0]!, PAGE), data.slice(0, PAGE));
  t.deepEqual(hostBytes(rig, frames[1]!, 64), pattern(64, 3));
  t.deepEqual(hostBytes(rig, frames[1]!, PAGE - 64, 64), new Uint8Array(PAGE - 64));
  t.deepEqual(hostBytes(rig, frames[2]!, PAGE), new Uint8Array(PAGE));
  t.deepEqual(rig.host.platform.takeFaults(), [
    refused(Reason.NO_WRITE_PERMISSION, { pasid: space.pasid, frame: AT + 1, write: true }),
  ]);
});

test('a table beyond guest RAM cannot be walked, and a page beyond it cannot be reached', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  space.map(AT, 0x1000);
  t.is(space.deviceReads(AT, 4), undefined);
  const lost = new SharedSpace(rig, { engine: space.engine });
  rig.entry(lost.pasid, { did: lost.did, root: 0x1000 * PAGE });
  lost.sync();
  t.is(lost.deviceReads(AT, 4), undefined);
  t.deepEqual(rig.host.platform.takeFaults(), [
    refused(Reason.SECOND_STAGE_NOT_PRESENT, { pasid: space.pasid, frame: AT }),
    refused(Reason.SECOND_STAGE_NOT_PRESENT, { pasid: lost.pasid, frame: AT }),
  ]);
});

test('after an unbind the physical unit names device, PASID, address and reason', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const frame = space.page(AT);
  t.true(space.deviceWrites(AT, pattern(32)).ok);
  space.unbind();
  t.is(space.deviceReads(AT, 32), undefined);
  t.false(space.engine.fill({ pasid: space.pasid, to: AT * PAGE, length: 4, pattern: FILL }).ok);
  t.deepEqual(hostBytes(rig, frame, 32), pattern(32));
  t.deepEqual(rig.host.platform.takeFaults(), [
    { requesterId: ENGINE_ID, pasid: space.pasid, hi: 0x1000, lo: 0, write: false, reason: 0x59 },
    { requesterId: ENGINE_ID, pasid: space.pasid, hi: 0x1000, lo: 0, write: true, reason: 0x59 },
  ]);
  space.bind();
  t.deepEqual(space.deviceReads(AT, 32), pattern(32));
});

test('an unbind that the host never hears of leaves the PASID translating: the call is what counts', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const frame = space.page(AT);
  const swallowed = rig.plan.arm({ request: BIND, result: 'swallow' });
  space.unbind();
  t.is(swallowed.struck, 1);
  t.false(rig.isCached(space.pasid), 'the vIOMMU takes it for gone');
  t.true(space.deviceWrites(AT, pattern(32)).ok);
  t.deepEqual(hostBytes(rig, frame, 32), pattern(32));
  t.deepEqual(rig.host.platform.takeFaults(), []);
});

test('a bind that the host never hears of translates nothing', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig);
  const frame = space.page(AT);
  rig.plan.arm({ request: BIND, result: 'swallow' });
  space.bind();
  t.true(rig.isCached(space.pasid));
  t.false(space.engine.fill({ pasid: space.pasid, to: AT * PAGE, length: 4, pattern: FILL }).ok);
  t.deepEqual(hostBytes(rig, frame, 4), new Uint8Array(4));
  // No entry was ever written near it: there is not even a table.
  t.deepEqual(rig.host.platform.takeFaults(), [
    refused(Reason.DIRECTORY_ENTRY_NOT_PRESENT, { pasid: space.pasid, frame: AT, write: true }),
  ]);
});

test('a page that was unmapped and flushed is not there; its neighbours are', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const frames = [0, 1, 2].map(page => space.page(AT + page));
  t.true(space.deviceWrites(AT, pattern(3 * PAGE)).ok);
  space.unmap(AT + 1);
  space.flushPages(AT + 1);
  const data = pattern(3 * PAGE, 2);
  t.like(space.deviceWrites(AT, data), { ok: false, failedAt: (AT + 1) * PAGE, moved: PAGE });
  t.deepEqual(hostBytes(rig, frames[0]!, PAGE), data.slice(0, PAGE));
  t.deepEqual(hostBytes(rig, frames[1]!, PAGE), pattern(3 * PAGE).slice(PAGE, 2 * PAGE));
  t.true(space.deviceWrites(AT + 2, data.slice(0, 64)).ok);
  t.deepEqual(rig.host.platform.takeFaults(), [
    refused(Reason.FIRST_STAGE_NOT_PRESENT, { pasid: space.pasid, frame: AT + 1, write: true }),
  ]);
});

test('PASIDs that nobody bound, and those beside a bound one, translate nothing', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const frame = space.page(AT);
  // In another table of the directory, and in the same one.
  const far = space.pasid ^ 0x8_0000;
  const near = space.pasid ^ 1;
  for (const pasid of [far, near]) {
    t.false(space.engine.fill({ pasid, to: AT * PAGE, length: 4, pattern: FILL }).ok);
    t.false(space.engine.fill({ pasid, to: frame * PAGE, length: 4, pattern: FILL }).ok);
  }
  t.deepEqual(hostBytes(rig, frame, 4), new Uint8Array(4));
  t.deepEqual(
    rig.host.platform.takeFaults().map(({ pasid, reason }) => [pasid, reason]),
    [
      [far, Reason.DIRECTORY_ENTRY_NOT_PRESENT],
      [far, Reason.DIRECTORY_ENTRY_NOT_PRESENT],
      [near, Reason.PASID_ENTRY_NOT_PRESENT],
      [near, Reason.PASID_ENTRY_NOT_PRESENT],
    ],
  );
});

test('while bus mastering is off nothing leaves the engine: no byte moves, no fault is recorded', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const frame = space.page(AT);
  t.true(space.deviceWrites(AT, pattern(32)).ok);
  space.engine.master(false);
  for (const pasid of [space.pasid, undefined]) {
    const to = (pasid === undefined ? frame : AT) * PAGE;
    const command = { to, length: 32, pattern: FILL, ...(pasid === undefined ? {} : { pasid }) };
    t.like(space.engine.fill(command), { ok: false, failedWrite: true, failedAt: to, moved: 0 });
  }
  t.deepEqual(hostBytes(rig, frame, 32), pattern(32));
  t.deepEqual(rig.host.platform.takeFaults(), []);
  space.engine.master(true);
  t.true(space.deviceWrites(AT, pattern(32, 2)).ok);
  t.deepEqual(hostBytes(rig, frame, 32), pattern(32, 2));
});
