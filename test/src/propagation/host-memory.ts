/** Guest pages as the host has them: read from host memory, not through the guest. */
import assert from 'node:assert/strict';
import { frameHi, frameLo } from '@remora/bits';
import { MemTx, PAGE_BYTES, type Ram } from '@remora/core';
import type { SimulatedHost } from '@remora/host-sim';
import type { Rig } from '../rig/rig.js';

/** The host frame behind a guest frame. */
export function hostFrame(rig: Rig, guestFrame: number): number {
  const address = rig.host.platform.hpaOf(rig.machine.board.ram, guestFrame);
  assert.ok(address !== undefined, `guest frame ${guestFrame} is a hole`);
  return address / PAGE_BYTES;
}

/** Bytes of a guest page, from the host's memory. */
export function hostBytes(rig: Rig, guestFrame: number, length: number, offset = 0): Uint8Array {
  return framed(rig.host.platform.memory, hostFrame(rig, guestFrame), length, offset);
}

/** All of the guest's memory. */
export function guestMemory(rig: Rig): Uint8Array {
  const { ram } = rig.machine.board;
  return framed(ram, 0, ram.size);
}

/** The page frames of the host whose bytes `act` changes. */
export function changedFrames(host: SimulatedHost, act: () => void): number[] {
  const { memory } = host;
  const before = Buffer.from(framed(memory, 0, memory.size));
  act();
  const after = Buffer.from(framed(memory, 0, memory.size));
  const changed: number[] = [];
  if (before.equals(after)) return changed;
  for (let frame = 0; frame < memory.frames; frame++) {
    const [start, end] = [frame * PAGE_BYTES, (frame + 1) * PAGE_BYTES];
    if (before.compare(after, start, end, start, end) !== 0) changed.push(frame);
  }
  return changed;
}

function framed(memory: Ram, frame: number, length: number, offset = 0): Uint8Array {
  const out = new Uint8Array(length);
  assert.equal(memory.read(frameHi(frame), frameLo(frame) + offset, out), MemTx.OK);
  return out;
}
