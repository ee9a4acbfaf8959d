/** RAM in a state file: the pages that are not all zeroes, in runs that are compressed one by one, so that little is in memory at once. */
import { deflateSync, inflateSync } from 'node:zlib';
import { frameHi, frameLo } from '@remora/bits';
import { PAGE_BYTES, StateError, type Ram } from '@remora/core';

const RUN_PAGES = 256;
const FRAME_BYTES = 4;
const PREFIX_BYTES = 8;

/**
 * Calls `put` with the parts of the file: for each run the number of pages and the length of what follows (u32 each), then, deflated,
 * the frame numbers and the pages; at the end a run of none. Returns how many pages that were.
 */
export function writePages(ram: Ram, put: (part: Uint8Array) => void): number {
  let total = 0;
  let frames: number[] = [];
  for (let frame = 0; frame < ram.frames; frame++) {
    if (ram.isZero(frame)) continue;
    if (frames.push(frame) < RUN_PAGES) continue;
    total += frames.length;
    putRun(ram, frames, put);
    frames = [];
  }
  if (frames.length > 0) putRun(ram, frames, put);
  put(prefix(0, 0));
  return total + frames.length;
}

function putRun(ram: Ram, frames: readonly number[], put: (part: Uint8Array) => void): void {
  const bytes = new Uint8Array(frames.length * (FRAME_BYTES + PAGE_BYTES));
  const view = new DataView(bytes.buffer);
  for (const [index, frame] of frames.entries()) {
    view.setUint32(FRAME_BYTES * index, frame, true);
    const at = FRAME_BYTES * frames.length + PAGE_BYTES * index;
    ram.read(frameHi(frame), frameLo(frame), bytes.subarray(at, at + PAGE_BYTES));
  }
  const deflated = deflateSync(bytes);
  put(prefix(frames.length, deflated.length));
  put(deflated);
}

function prefix(pages: number, length: number): Uint8Array {
  const bytes = new Uint8Array(PREFIX_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, pages, true);
  view.setUint32(4, length, true);
  return bytes;
}

/** Goes through what writePages wrote; `page` gets each frame, ascending, and its bytes, valid during the call. @throws StateError at `path`. */
export function readPages(
  bytes: Uint8Array,
  frames: number,
  path: string,
  page: (frame: number, bytes: Uint8Array) => void,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const broken = (problem: string): StateError => new StateError(path, `its pages of RAM are damaged: ${problem}`);
  let at = 0;
  let next = 0;
  for (;;) {
    if (at + PREFIX_BYTES > bytes.length) throw broken('the last one is missing');
    const count = view.getUint32(at, true);
    const length = view.getUint32(at + 4, true);
    at += PREFIX_BYTES;
    if (count === 0) break;
    if (count > RUN_PAGES || at + length > bytes.length) throw broken(`a run of ${count} pages in ${length} bytes`);
    const run = inflated(bytes.subarray(at, at + length), count * (FRAME_BYTES + PAGE_BYTES));
    if (run === undefined) throw broken('a run does not unpack to what it says');
    at += length;
    next = readRun(run, count, next, frames, broken, page);
  }
  if (at !== bytes.length) throw broken(`${bytes.length - at} bytes too many`);
}

function readRun(
  run: Uint8Array,
  count: number,
  first: number,
  frames: number,
  broken: (problem: string) => StateError,
  page: (frame: number, bytes: Uint8Array) => void,
): number {
  const view = new DataView(run.buffer, run.byteOffset, run.length);
  let next = first;
  for (let index = 0; index < count; index++) {
    const frame = view.getUint32(FRAME_BYTES * index, true);
    if (frame < next || frame >= frames) throw broken(`frame ${frame} where ${next} to ${frames - 1} may come`);
    const at = FRAME_BYTES * count + PAGE_BYTES * index;
    page(frame, run.subarray(at, at + PAGE_BYTES));
    next = frame + 1;
  }
  return next;
}

/** Exactly `length` bytes, or undefined: whatever the data would grow to, no more than that is made. */
export function inflated(data: Uint8Array, length: number): Uint8Array | undefined {
  try {
    const bytes = inflateSync(data, { maxOutputLength: Math.max(1, length) });
    return bytes.length === length ? bytes : undefined;
  } catch {
    return undefined;
  }
}
