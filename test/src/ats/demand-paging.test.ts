/**
 * Demand paging of a device: pages come when the engine asks for them and go whenever the guest likes, also while a command waits. Random
 * programs; in the end the virtual memory must hold what the commands say, wherever its pages went meanwhile.
 */
import test from 'ava';
import { Random } from '@remora/bits';
import { PageResponse } from '@remora/iommu';
import { AT, AtsGuest, PAGE, type Space, SPACES } from './ats-guest.js';

const PAGES = 8;
/** Fewer than there are pages, so that each has to serve several. */
const FRAMES = 5;
const STEPS = 60;

interface Program {
  readonly seed: number;
  readonly space: Space;
  /** Whether a page that goes is flushed from the device TLB. */
  readonly flushes: boolean;
}

/** A virtual memory of 8 pages in 5 frames; the others are on a "disk". */
class Pager {
  readonly at: AtsGuest;
  readonly #space: Space;
  readonly #flushes: boolean;
  readonly #random: Random;
  readonly #free: number[];
  readonly #frames = new Map<number, number>();
  readonly #disk: Uint8Array[];
  moves = 0;

  constructor({ seed, space, flushes }: Program) {
    this.#space = space;
    this.#flushes = flushes;
    this.#random = new Random(seed);
    this.#disk = Array.from({ length: PAGES }, (_, page) => new Uint8Array(PAGE).fill(page + 1));
    this.at = new AtsGuest({
      handler: ({ hi, lo }) => {
        this.bring((hi >>> 0) * 0x10_0000 + (lo >>> 12) - AT);
        return PageResponse.SUCCESS;
      },
    });
    this.#free = Array.from({ length: FRAMES }, () => this.at.guest.page());
  }

  bring(page: number): void {
    if (this.#frames.has(page)) return;
    if (this.#free.length === 0) this.drop([...this.#frames.keys()][this.#random.below(FRAMES)]!);
    const frame = this.#free.splice(this.#random.below(this.#free.length), 1)[0]!;
    this.at.guest.write(frame, this.#disk[page]!);
    this.at.map(this.#space, AT + page, frame);
    this.#frames.set(page, frame);
    this.moves++;
  }

  /** In the architecture's order: table, IOTLB, device TLB; only then is the page's content taken and its frame free. */
  drop(page: number): void {
    const frame = this.#frames.get(page);
    if (frame === undefined) return;
    this.at.unmap(this.#space, AT + page);
    this.at.flushIotlb(this.#space);
    if (this.#flushes) this.at.flushDeviceTlb(this.#space, AT + page);
    this.#frames.delete(page);
    this.#disk[page] = this.at.guest.read(frame, PAGE);
    this.at.guest.write(frame, new Uint8Array(PAGE));
    this.#free.push(frame);
  }

  dropSome(): void {
    for (let page = 0; page < PAGES; page++) if (this.#random.below(4) === 0) this.drop(page);
  }

  content(): Uint8Array {
    const all = new Uint8Array(PAGES * PAGE);
    for (let page = 0; page < PAGES; page++) {
      const frame = this.#frames.get(page);
      all.set(frame === undefined ? this.#disk[page]! : this.at.guest.read(frame, PAGE), page * PAGE);
    }
    return all;
  }
}

/** Runs a program. Returns how many bytes are wrong, and how many pages moved. */
function run(program: Program): { wrong: number; moves: number } {
  const pager = new Pager(program);
  const { at } = pager;
  const random = new Random(program.seed + 1000);
  const expected = Uint8Array.from({ length: PAGES * PAGE }, (_, byte) => Math.floor(byte / PAGE) + 1);
  const pasid = program.space === undefined ? {} : { pasid: program.space };
  const base = AT * PAGE;
  try {
    for (let step = 0; step < STEPS; step++) {
      const length = 1 + random.below(3 * PAGE);
      const from = random.below(PAGES * PAGE - length);
      const to = random.below(PAGES * PAGE - length);
      if (random.below(2) === 0) {
        const value = random.below(256);
        at.engine.fill({ ...pasid, to: base + to, length, pattern: value * 0x0101_0101 });
        expected.fill(value, to, to + length);
      } else {
        at.engine.copy({ ...pasid, from: base + from, to: base + to, length });
        // Piece by piece, as the engine's documentation says.
        for (let done = 0; done < length;) {
          const left = Math.min(PAGE - ((from + done) % PAGE), PAGE - ((to + done) % PAGE), length - done);
          expected.set(expected.slice(from + done, from + done + left), to + done);
          done += left;
        }
      }
      for (let rounds = 0; at.engine.result().busy && rounds < 100; rounds++) {
        if (random.below(3) === 0) pager.dropSome();
        at.requests.handle();
      }
      if (!at.engine.result().ok) return { wrong: Infinity, moves: pager.moves };
      if (random.below(4) === 0) pager.dropSome();
    }
    const content = pager.content();
    return { wrong: content.filter((byte, index) => byte !== expected[index]).length, moves: pager.moves };
  } finally {
    at[Symbol.dispose]();
  }
}

for (const space of SPACES) {
  const name = space === undefined ? 'without PASID' : 'with PASID';

  test(`${name}: pages come and go under the engine, and no byte is lost`, t => {
    for (let seed = 1; seed <= 6; seed++) {
      const { wrong, moves } = run({ seed, space, flushes: true });
      t.is(wrong, 0, `seed ${seed}`);
      t.true(moves > STEPS, `only ${moves} pages moved`);
    }
  });

  test(`${name}: without flushes of the device TLB, bytes are lost`, t => {
    const wrong = [1, 2, 3].map(seed => run({ seed, space, flushes: false }).wrong);
    t.true(
      wrong.every(bytes => bytes > 0),
      wrong.join(' '),
    );
  });
}
