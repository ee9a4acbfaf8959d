/**
 * Against a naive cache that forgets nothing by itself: what the IOTLB holds is always a part of it. Nothing in an invalidated range survives;
 * with one page, or with ranges small enough to be searched, nothing else is lost; an insertion loses one entry at most, to make room.
 */
import test, { type ExecutionContext } from 'ava';
import { frameHi, frameLo, Random } from '@remora/bits';
import { Iotlb } from './iotlb.js';

const SIZES = [12, 21, 30] as const;
/** Frames below this: small enough that pages of all sizes meet. */
const FRAMES = 2 ** 20;
/** Largest address mask that is searched with three page sizes in the table; beyond, the whole address space may go. */
const SEARCHED = 9;
const LARGEST_MASK = 20;

interface Entry {
  readonly space: number;
  /** First frame, and frames. */
  readonly first: number;
  readonly frames: number;
  readonly out: number;
}

const keyOf = ({ space, first, frames }: Entry): string => `${space}/${first}/${frames}`;

class Pair {
  readonly tlb: Iotlb;
  readonly naive = new Map<string, Entry>();
  readonly #asids: readonly number[];

  constructor(entries: number, spaces: number) {
    this.tlb = new Iotlb(entries);
    this.#asids = Array.from({ length: spaces }, (_, space) => this.tlb.asid(1 + (space >> 1), space & 1, 0));
  }

  insert(entry: Entry): void {
    const { space, first, frames, out } = entry;
    const shift = 12 + Math.log2(frames);
    this.tlb.insert(this.#asids[space]!, frameHi(first), frameLo(first), shift, frameHi(out), frameLo(out), 3);
    this.naive.set(keyOf(entry), entry);
  }

  /** The range of `2 ** mask` frames around `frame`. */
  invalidate(space: number, frame: number, mask: number): { first: number; end: number } {
    this.tlb.invalidatePages(this.#asids[space]!, frameHi(frame), frameLo(frame), 12 + mask);
    const first = Math.floor(frame / 2 ** mask) * 2 ** mask;
    return { first, end: first + 2 ** mask };
  }

  /** What the table holds, by key. */
  held(): Map<string, Entry> {
    const held = new Map<string, Entry>();
    for (const { domain, pasid, hi, lo, shift, outHi, outLo } of this.tlb.entries()) {
      const frame = (high: number, low: number): number => high * 0x10_0000 + (low >>> 12);
      const space = (domain - 1) * 2 + pasid;
      const entry = { space, first: frame(hi, lo), frames: 2 ** (shift - 12), out: frame(outHi, outLo) };
      held.set(keyOf(entry), entry);
    }
    return held;
  }

  /** Whether a lookup finds just this entry, at its last frame. */
  finds({ space, first, frames, out }: Entry): boolean {
    const frame = first + frames - 1;
    const slot = this.tlb.lookup(this.#asids[space]!, frameHi(frame), frameLo(frame));
    if (slot < 0) return false;
    const size = 2 ** (this.tlb.shift(slot) - 12);
    return size !== frames || this.tlb.hi(slot) * 0x10_0000 + (this.tlb.lo(slot) >>> 12) === out;
  }
}

function randomEntry(random: Random, spaces: number): Entry {
  const frames = 2 ** (SIZES[random.below(SIZES.length)]! - 12);
  const at = Math.floor(random.below(FRAMES) / frames) * frames;
  // Small pages near each other, so that the same ones come again.
  const first = frames === 1 ? at % 64 : at;
  return { space: random.below(spaces), first, frames, out: 0 };
}

/** Everything held is in the naive cache, with what was inserted last, and can be looked up. Pages that were inserted again are among them. */
function isIncluded(t: ExecutionContext, pair: Pair, held: Map<string, Entry>): void {
  for (const [key, entry] of held) {
    t.is(pair.naive.get(key)?.out, entry.out, key);
    t.true(pair.finds(entry), key);
  }
}

for (const [entries, spaces] of [
  [16, 4],
  [16, 1],
  [64, 4],
  [1024, 4],
] as const) {
  test(`what a table for ${entries} holds of address spaces (${spaces}) is part of what was inserted and not invalidated`, t => {
    const random = new Random(entries);
    const pair = new Pair(entries, spaces);
    let before = pair.held();
    let survivors = 0;
    let kept = 0;
    for (let step = 0; step < 3000; step++) {
      if (random.below(8) > 0) {
        const known = [...before.values()];
        const again = random.below(2) === 0 ? known[random.below(known.length + 1)] : undefined;
        const entry = { ...(again ?? randomEntry(random, spaces)), out: 2 ** 18 * random.below(2 ** 20) };
        pair.insert(entry);
        const after = pair.held();
        t.is(after.get(keyOf(entry))?.out, entry.out);
        const lost = [...before.keys()].filter(key => !after.has(key));
        t.true(lost.length <= 1, `an insertion lost ${lost.join(' ')}`);
        before = after;
      } else {
        const space = random.below(spaces);
        // Mostly small ranges, so that sets fill up in between.
        const largest = [0, 0, 0, 0, 3, SEARCHED, LARGEST_MASK][random.below(7)]!;
        const mask = random.below(largest + 1);
        const { first, end } = pair.invalidate(space, random.below(random.below(2) === 0 ? 64 : FRAMES), mask);
        const after = pair.held();
        for (const [key, entry] of pair.naive) {
          if (entry.space !== space || entry.first >= end || entry.first + entry.frames <= first) continue;
          t.false(after.has(key), `${key} survived 2^${mask} pages at ${first}`);
          pair.naive.delete(key);
          before.delete(key);
        }
        for (const [key, entry] of before) {
          if (after.has(key)) survivors++;
          else t.true(mask > SEARCHED && entry.space === space, `${key} lost by 2^${mask} pages at ${first}`);
        }
        kept += before.size;
        before = after;
      }
      isIncluded(t, pair, before);
    }
    t.true(survivors > kept / 2 && survivors > 1000, `only ${survivors} of ${kept} were there to be lost`);
  });
}
