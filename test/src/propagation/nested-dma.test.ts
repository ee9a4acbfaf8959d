/** DMA under nested translation: guest-virtual to guest-physical to host-physical. */
import test from 'ava';
import { MemTx } from '@remora/core';
import { lendingHost } from '@remora/machines';
import { owner } from '@remora/testing';
import { Rig } from '../rig/rig.js';
import { changedFrames, hostBytes, hostFrame } from './host-memory.js';
import { Reason, refused } from './physical-fault.js';
import { pattern, SharedSpace } from './shared-space.js';

const MIB = 0x10_0000;
const PAGE = 4096;
/** Virtual frame of what is mapped; on a boundary of every leaf size. */
const AT = 0x1_0000_0000;
/** Guest frames of RAM that the guest's allocator leaves alone, on a boundary of 2 MiB. */
const FREE = 0xa00;
const FRAMES_2M = 0x200;
const FRAMES_1G = 0x4_0000;
const FILL = 0xa1b2_c3d4;

test('what the engine writes changes the host page behind the guest page, and no other byte of the host', t => {
  const own = owner(t);
  const host = own(lendingHost({ memory: 64 * MIB }));
  const rig = own(new Rig({ host }));
  const space = new SharedSpace(rig).bind();
  const frame = space.page(AT);
  const changed = changedFrames(host.platform, () => {
    t.true(space.engine.fill({ pasid: space.pasid, to: AT * PAGE + 0x120, length: 16, pattern: FILL }).ok);
  });
  t.deepEqual(changed, [hostFrame(rig, frame)]);
  t.not(hostFrame(rig, frame), frame, 'guest and host frames differ');
  t.deepEqual(hostBytes(rig, frame, 4, 0x120), Uint8Array.of(0xd4, 0xc3, 0xb2, 0xa1));
});

test('neighbours in the guest are not neighbours on the host, and a transfer across them is put together rightly', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  space.map(AT, FREE, { pages: 3 });
  const all = Array.from({ length: rig.machine.board.ram.frames }, (_, frame) => hostFrame(rig, frame));
  const together = all.filter((frame, index) => Math.abs(frame - (all[index - 1] ?? 0)) === 1);
  t.true(together.length < all.length / 100, `${together.length} of ${all.length} pages lie beside the one before`);

  const data = pattern(PAGE + 500);
  t.true(space.deviceWrites(AT, data, PAGE - 200).ok);
  t.deepEqual(hostBytes(rig, FREE, 201, PAGE - 201), Uint8Array.of(0, ...data.slice(0, 200)));
  t.deepEqual(hostBytes(rig, FREE + 1, PAGE), data.slice(200, 200 + PAGE));
  t.deepEqual(hostBytes(rig, FREE + 2, data.length - 199 - PAGE), Uint8Array.of(...data.slice(200 + PAGE), 0));
  t.deepEqual(space.deviceReads(AT, data.length, PAGE - 200), data);
});

test('virtual neighbours that the guest scattered, in descending order', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const frames = [FREE + 9, FREE + 4, FREE + 2];
  frames.forEach((frame, page) => space.map(AT + page, frame));
  const data = pattern(3 * PAGE, 5);
  t.true(space.deviceWrites(AT, data).ok);
  frames.forEach((frame, page) => {
    t.deepEqual(hostBytes(rig, frame, PAGE), data.slice(page * PAGE, (page + 1) * PAGE), `page ${page}`);
    t.deepEqual(rig.guest.read(frame, PAGE), data.slice(page * PAGE, (page + 1) * PAGE), `page ${page}`);
  });
});

test('a first-stage leaf of 2 MiB over second-stage pages of 4 KiB: each page of it is found on its own', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  space.map(AT, FREE, { pages: FRAMES_2M, large: 21 });
  t.is(space.table.walk(AT).shift, 21);
  const after = space.page(AT + FRAMES_2M);
  for (const page of [0, 1, 0x137, FRAMES_2M - 2]) {
    const data = pattern(PAGE + 64, page);
    t.true(space.deviceWrites(AT + page, data, 32).ok);
    t.deepEqual(hostBytes(rig, FREE + page, PAGE - 32, 32), data.slice(0, PAGE - 32), `page ${page}`);
    t.deepEqual(hostBytes(rig, FREE + page + 1, 96), data.slice(PAGE - 32), `page ${page + 1}`);
  }
  // From the last page of the large leaf into a small one.
  const data = pattern(512, 9);
  t.true(space.deviceWrites(AT + FRAMES_2M - 1, data, PAGE - 256).ok);
  t.deepEqual(hostBytes(rig, FREE + FRAMES_2M - 1, 256, PAGE - 256), data.slice(0, 256));
  t.deepEqual(hostBytes(rig, after, 256), data.slice(256));
});

test('a first-stage leaf of 1 GiB reaches all of guest RAM, and nothing behind its end', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  space.map(AT, 0, { pages: FRAMES_1G, large: 30 });
  t.is(space.table.walk(AT).shift, 30);
  for (const frame of [FREE + 3, FREE + 0x345, 0xfff]) {
    t.true(space.deviceWrites(AT + frame, pattern(64, frame)).ok);
    t.deepEqual(hostBytes(rig, frame, 64), pattern(64, frame), `frame ${frame}`);
  }
  const beyond = space.deviceWrites(AT + 0xfff, pattern(PAGE), PAGE - 16);
  t.like(beyond, { ok: false, failedWrite: true, failedAt: (AT + 0x1000) * PAGE, moved: 16 });
  t.deepEqual(rig.host.platform.takeFaults(), [
    refused(Reason.SECOND_STAGE_NOT_PRESENT, { pasid: space.pasid, frame: AT + 0x1000, write: true }),
  ]);
});

test('the upper half of the virtual address space', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const at = 2 ** 52 - 0x1234;
  const frame = space.page(at);
  t.true(space.engine.fill({ pasid: space.pasid, to: BigInt(at) * 4096n + 8n, length: 4, pattern: FILL }).ok);
  t.deepEqual(hostBytes(rig, frame, 4, 8), Uint8Array.of(0xd4, 0xc3, 0xb2, 0xa1));
});

test('two PASIDs of one engine use the same virtual address for different pages', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const one = new SharedSpace(rig).bind();
  const other = new SharedSpace(rig, { did: 8, engine: one.engine }).bind();
  const frames = [one.page(AT), other.page(AT)];
  t.true(one.deviceWrites(AT, pattern(32, 1)).ok);
  t.true(other.deviceWrites(AT, pattern(32, 2)).ok);
  t.deepEqual(hostBytes(rig, frames[0]!, 32), pattern(32, 1));
  t.deepEqual(hostBytes(rig, frames[1]!, 32), pattern(32, 2));
});

test('without a PASID the engine uses guest-physical addresses, through the second stage', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const frame = space.page(AT);
  t.true(space.engine.fill({ to: frame * PAGE + 4, length: 4, pattern: FILL }).ok);
  t.deepEqual(hostBytes(rig, frame, 8), Uint8Array.of(0, 0, 0, 0, 0xd4, 0xc3, 0xb2, 0xa1));
  const virtual = space.engine.fill({ to: AT * PAGE, length: 4, pattern: FILL });
  t.like(virtual, { ok: false, result: MemTx.ACCESS_ERROR, failedAt: AT * PAGE, moved: 0 });
  t.deepEqual(rig.host.platform.takeFaults(), [refused(Reason.SECOND_STAGE_NOT_PRESENT, { frame: AT, write: true })]);
});
