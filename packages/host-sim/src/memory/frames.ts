/**
 * Host page frames: who gets which, how often each is held, and when it is free again.
 *
 * Frames are handed out in an order that the seed permutes inside windows of a sixteenth of memory, 64 MiB at most, so that
 * neighbouring pages of a guest are not neighbours on the host, while a large host still touches few of its own. A frame is held by each mapping of a process and by
 * each pin; it is free when nobody holds it, and zeroed before somebody else gets it.
 */
import { frameHi, frameLo, Random } from '@remora/bits';
import { PAGE_BYTES, type Ram } from '@remora/core';

const LARGEST_WINDOW = 0x4000;
const SMALLEST_WINDOW = 0x40;

/** Frames that are not memory: `[start, end)`. */
export interface FrameHole {
  readonly start: number;
  readonly end: number;
}

const ZEROS = new Uint8Array(PAGE_BYTES);

export class Frames {
  readonly #memory: Ram;
  readonly #hole: FrameHole;
  readonly #random: Random;
  readonly #window: number;
  readonly #holders: Int32Array;
  /** Free frames of the windows opened so far; the last is handed out next. */
  readonly #free: number[] = [];
  /** Freed since they were last zeroed. */
  readonly #dirty = new Set<number>();
  /** First frame of the next window. */
  #next = 0;
  /** Exclusive end of what windows may take; runs are taken from above it, downwards. */
  #top: number;
  /** Freed runs by length, for reuse. */
  readonly #runs = new Map<number, number[]>();
  #inUse = 0;

  constructor(memory: Ram, seed: number, hole: FrameHole) {
    this.#memory = memory;
    this.#hole = hole;
    this.#random = new Random(seed);
    this.#window = Math.max(SMALLEST_WINDOW, Math.min(LARGEST_WINDOW, Math.floor(memory.frames / 16)));
    this.#holders = new Int32Array(memory.frames);
    this.#top = memory.frames;
  }

  /** Frames that somebody holds. */
  get inUse(): number {
    return this.#inUse;
  }

  /** One zeroed frame, held once; undefined if memory is used up. */
  take(): number | undefined {
    while (this.#free.length === 0) if (!this.#openWindow() && !this.#breakRun()) return undefined;
    const frame = this.#free.pop()!;
    this.#zero(frame);
    this.#holders[frame] = 1;
    this.#inUse++;
    return frame;
  }

  /** `count` zeroed neighbours, each held once: the first frame, or undefined. */
  takeRun(count: number): number | undefined {
    if (count === 1) return this.take();
    const first = this.#runs.get(count)?.pop() ?? this.#carve(count) ?? this.#gather(count);
    if (first === undefined) return undefined;
    for (let frame = first; frame < first + count; frame++) {
      this.#zero(frame);
      this.#holders[frame] = 1;
    }
    this.#inUse += count;
    return first;
  }

  /** One more holder of a frame that is held. */
  hold(frame: number): void {
    if (this.holders(frame) === 0) throw new Error(`host frame ${frame} is free: nobody can hold it`);
    this.#holders[frame]!++;
  }

  /** One more holder of each: what is pinned. */
  holdAll(frames: Int32Array): void {
    for (const frame of frames) this.hold(frame);
  }

  /** One holder less of each. */
  dropAll(frames: Int32Array): void {
    for (const frame of frames) this.drop(frame);
  }

  holders(frame: number): number {
    return this.#holders[frame] ?? 0;
  }

  /** One holder less; the last one frees the frame. */
  drop(frame: number): void {
    if (this.#leave(frame)) this.#free.push(frame);
  }

  /** Gives back what takeRun returned. */
  dropRun(first: number, count: number): void {
    if (count === 1) return this.drop(first);
    for (let frame = first; frame < first + count; frame++) {
      if (!this.#leave(frame)) throw new Error(`host frame ${frame} of a run is held elsewhere`);
    }
    const runs = this.#runs.get(count);
    if (runs === undefined) this.#runs.set(count, [first]);
    else runs.push(first);
  }

  /** Whether that was the last holder. */
  #leave(frame: number): boolean {
    if (this.holders(frame) === 0) throw new Error(`host frame ${frame} is free already`);
    if (--this.#holders[frame]! > 0) return false;
    this.#inUse--;
    this.#dirty.add(frame);
    return true;
  }

  #zero(frame: number): void {
    if (this.#dirty.delete(frame)) this.#memory.write(frameHi(frame), frameLo(frame), ZEROS);
  }

  #openWindow(): boolean {
    const start = this.#next;
    const end = Math.min(start + this.#window, this.#top);
    if (start >= end) return false;
    this.#next = end;
    const window: number[] = [];
    // Frame 0 stays unused: a null pointer in a table must not reach anybody's memory.
    for (let frame = Math.max(start, 1); frame < end; frame++) {
      if (frame < this.#hole.start || frame >= this.#hole.end) window.push(frame);
    }
    for (const frame of this.#random.shuffle(window)) this.#free.push(frame);
    return true;
  }

  #carve(count: number): number | undefined {
    let first = this.#top - count;
    if (first < this.#hole.end && first + count > this.#hole.start) first = this.#hole.start - count;
    if (first < this.#next) return undefined;
    this.#top = first;
    return first;
  }

  /** Makes single frames of a freed run; false if there is none. */
  #breakRun(): boolean {
    for (const [count, runs] of this.#runs) {
      const first = runs.pop();
      if (first === undefined) continue;
      for (let frame = first; frame < first + count; frame++) this.#free.push(frame);
      return true;
    }
    return false;
  }

  /** Neighbours among the single frames that are free: when nothing else is left. */
  #gather(count: number): number | undefined {
    const sorted = Int32Array.from(this.#free).sort();
    let length = 0;
    for (const [index, frame] of sorted.entries()) {
      length = index > 0 && frame === sorted[index - 1]! + 1 ? length + 1 : 1;
      if (length < count) continue;
      const first = frame - count + 1;
      const kept = this.#free.filter(free => free < first || free > frame);
      this.#free.length = 0;
      for (const free of kept) this.#free.push(free);
      return first;
    }
    return undefined;
  }
}
