import test from 'ava';
import { frameHi, frameLo } from '@remora/bits';
import { MemTx, Ram } from '@remora/core';
import { Frames } from './frames.js';

const NO_HOLE = { start: 0, end: 0 };
const MiB = 0x10_0000;

function taken(frames: Frames, count: number): number[] {
  return Array.from({ length: count }, () => frames.take()!);
}

test('the seed decides the order, and neighbours are not neighbours', t => {
  const order = (seed: number): number[] => taken(new Frames(Ram.allocate(16 * MiB), seed, NO_HOLE), 64);
  t.deepEqual(order(1), order(1));
  t.notDeepEqual(order(1), order(2));
  const inOrder = order(1).filter((frame, index, all) => index > 0 && frame === all[index - 1]! + 1);
  t.true(inOrder.length < 4, `${inOrder.length} of 63 pairs are neighbours`);
});

test('all frames but 0 and the hole are handed out, each once, then none', t => {
  const frames = new Frames(Ram.allocate(MiB), 7, { start: 0x20, end: 0x30 });
  const all = taken(frames, 256 - 1 - 16);
  t.is(new Set(all).size, 239);
  t.false(all.some(frame => frame === 0 || (frame >= 0x20 && frame < 0x30)));
  t.is(frames.take(), undefined);
  t.is(frames.inUse, 239);
});

test('a frame is free when its last holder leaves, and comes back zeroed', t => {
  const memory = Ram.allocate(MiB);
  const frames = new Frames(memory, 7, NO_HOLE);
  const frame = frames.take()!;
  memory.write(frameHi(frame), frameLo(frame), Uint8Array.of(1, 2, 3));
  frames.hold(frame);
  frames.drop(frame);
  t.is(frames.inUse, 1);
  frames.drop(frame);
  t.is(frames.inUse, 0);
  t.is(frames.take(), frame);
  const bytes = new Uint8Array(3);
  t.is(memory.read(frameHi(frame), frameLo(frame), bytes), MemTx.OK);
  t.deepEqual([...bytes], [0, 0, 0]);
});

test('freeing twice, and holding what is free, are our own mistakes', t => {
  const frames = new Frames(Ram.allocate(MiB), 7, NO_HOLE);
  const frame = frames.take()!;
  frames.drop(frame);
  t.throws(() => frames.drop(frame), { message: /free already/ });
  t.throws(() => frames.hold(frame), { message: /is free/ });
});

test('a run is contiguous, outside the hole, and comes back zeroed', t => {
  const memory = Ram.allocate(MiB);
  const frames = new Frames(memory, 7, { start: 0xf8, end: 0xfc });
  const first = frames.takeRun(8)!;
  t.is(first, 0xf0);
  t.is(frames.inUse, 8);
  memory.write(0, frameLo(first + 3), Uint8Array.of(9));
  frames.dropRun(first, 8);
  t.is(frames.inUse, 0);
  t.is(frames.takeRun(8), first);
  const byte = new Uint8Array(1);
  memory.read(0, frameLo(first + 3), byte);
  t.is(byte[0], 0);
  t.is(frames.takeRun(1000), undefined);
});

test('runs and single frames never meet', t => {
  const frames = new Frames(Ram.allocate(MiB), 7, NO_HOLE);
  const run = frames.takeRun(16)!;
  const single = taken(frames, 239);
  t.false(single.some(frame => frame >= run && frame < run + 16));
  t.is(frames.take(), undefined);
});

test('when nothing else is left, runs are made of single frames, and single frames of runs', t => {
  const frames = new Frames(Ram.allocate(MiB), 7, NO_HOLE);
  const all = taken(frames, 255);
  t.is(frames.takeRun(2), undefined);
  for (const frame of [0x21, 0x50, 0x23, 0x22, 0x51]) frames.drop(frame);
  t.is(frames.takeRun(3), 0x21);
  t.is(frames.takeRun(3), undefined);
  t.deepEqual(taken(frames, 2).sort(), [0x50, 0x51]);
  t.is(frames.take(), undefined);
  frames.dropRun(0x21, 3);
  t.deepEqual(taken(frames, 3).sort(), [0x21, 0x22, 0x23]);
  t.is(frames.inUse, all.length);
});
