import test from 'ava';
import { frameHi, frameLo, hva } from '@remora/bits';
import { Errno, MemTx, Ram } from '@remora/core';
import type { MappedMemory } from '@remora/host';
import { Frames } from './frames.js';
import { ProcessMemory } from './process-memory.js';

const MiB = 0x10_0000;

function host(): { memory: Ram; frames: Frames } {
  const memory = Ram.allocate(MiB);
  return { memory, frames: new Frames(memory, 3, { start: 0, end: 0 }) };
}

test('a mapping is a view of host frames: one copy of every byte', t => {
  const { memory, frames } = host();
  const { address, ram } = new ProcessMemory(memory, frames, 1).map(0x4000) as MappedMemory;
  ram.write(0, 0x2010, Uint8Array.of(0xca, 0xfe));
  const frame = ram.backing(2);
  const bytes = new Uint8Array(2);
  t.is(memory.read(frameHi(frame), frameLo(frame) + 0x10, bytes), MemTx.OK);
  t.deepEqual([...bytes], [0xca, 0xfe]);
  t.is(address % 4096, 0);
});

test('framesAt knows every page of every mapping and nothing between them', t => {
  const { memory, frames } = host();
  const process = new ProcessMemory(memory, frames, 1);
  const one = process.map(0x2000) as MappedMemory;
  const two = process.map(0x1000) as MappedMemory;
  t.deepEqual(process.framesAt(one.address, 2), Int32Array.of(one.ram.backing(0), one.ram.backing(1)));
  t.deepEqual(process.framesAt(two.address, 1), Int32Array.of(two.ram.backing(0)));
  t.is(process.framesAt(one.address + 0x1000, 2), undefined);
  t.is(process.framesAt(two.address + 0x1000, 1), undefined);
  t.is(process.framesAt(two.address, 2 ** 40), undefined, 'more than the host has');
});

test('munmap frees frames, whole or in part, and leaves holes', t => {
  const { memory, frames } = host();
  const process = new ProcessMemory(memory, frames, 1);
  const { address, ram } = process.map(0x3000) as MappedMemory;
  t.is(process.unmap(hva(address + 0x1000), 0x1000), 0);
  t.is(frames.inUse, 2);
  t.is(process.framesAt(address + 0x1000, 1), undefined);
  t.is(process.framesAt(address, 3), undefined, 'a hole in the middle');
  t.is(ram.read(0, 0x1000, new Uint8Array(1)), MemTx.DECODE_ERROR);
  t.deepEqual(process.state(), [{ address, bytes: 0x2000 }]);
  t.is(process.unmap(address, 0x3000), 0);
  t.is(frames.inUse, 0);
  t.deepEqual(process.state(), []);
});

test('a pinned frame outlives its mapping', t => {
  const { memory, frames } = host();
  const process = new ProcessMemory(memory, frames, 1);
  const { address, ram } = process.map(0x1000) as MappedMemory;
  const frame = ram.backing(0);
  frames.hold(frame);
  process.unmap(address, 0x1000);
  t.is(frames.holders(frame), 1);
});

test('no memory: -ENOMEM, and nothing is kept', t => {
  const { memory, frames } = host();
  const process = new ProcessMemory(memory, frames, 1);
  t.is(process.map(2 * MiB), -Errno.ENOMEM);
  t.is(process.map(MiB), -Errno.ENOMEM, 'frame 0 is never handed out');
  t.is(frames.inUse, 0);
  t.is(process.map(0), -Errno.EINVAL);
  t.is(process.map(0x1001), -Errno.EINVAL);
  t.is(process.unmap(hva(0x1001), 0x1000), -Errno.EINVAL);
});
