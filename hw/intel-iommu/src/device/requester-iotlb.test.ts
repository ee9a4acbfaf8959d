/** The requester's IOTLB keeps and loses exactly what a list that is searched from end to end keeps and loses. */
import test from 'ava';
import { RequesterIotlb } from './requester-iotlb.js';

interface Entry {
  readonly requester: number;
  readonly pasid: number;
  readonly domain: number;
  readonly kind: number;
  readonly page: bigint;
  readonly shift: number;
  readonly out: bigint;
  readonly access: number;
}

const SECOND_STAGE = 0;
const FIRST_STAGE = 1;
const NO_PASID = -1;
const hi = (value: bigint): number => Number(BigInt.asIntN(32, value >> 32n));
const lo = (value: bigint): number => Number(BigInt.asIntN(32, value));
const alignDown = (value: bigint, shift: number): bigint => (value >> BigInt(shift)) << BigInt(shift);

/** The cache as one would describe it: a list. */
class Naive {
  entries: Entry[] = [];
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  insert(entry: Entry): void {
    if (this.entries.length >= this.#limit) this.entries = [];
    this.entries = this.entries.filter(
      each =>
        each.requester !== entry.requester ||
        each.pasid !== entry.pasid ||
        each.shift !== entry.shift ||
        each.page !== entry.page,
    );
    this.entries.push(entry);
  }

  lookup(requester: number, pasid: number, address: bigint): Entry | undefined {
    return this.entries
      .filter(each => each.requester === requester && each.pasid === pasid)
      .sort((a, b) => a.shift - b.shift)
      .find(each => alignDown(address, each.shift) === each.page);
  }

  remove(condition: (entry: Entry) => boolean): void {
    this.entries = this.entries.filter(each => !condition(each));
  }
}

function overlaps({ page, shift }: Entry, address: bigint, range: number): boolean {
  const start = alignDown(address, range);
  return page < start + (1n << BigInt(range)) && start < page + (1n << BigInt(shift));
}

/** A repeatable stream of random integers below a bound. */
function randomIntegers(seed: number): (bound: number) => number {
  let state = seed;
  return bound => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return ((state >>> 8) * bound) >>> 24;
  };
}

const show = (entry: Entry): string =>
  [entry.requester, entry.pasid, entry.domain, entry.kind, entry.page, entry.shift, entry.out, entry.access].join(' ');

for (const [seed, limit] of [
  [1, 1024],
  [2, 64],
  [3, 5],
] as const) {
  test(`random use agrees with a naive list of ${limit}`, t => {
    const random = randomIntegers(seed);
    const cache = new RequesterIotlb(limit);
    const naive = new Naive(limit);
    const address = (): bigint => {
      const region = [0x0n, 0x7f_c000_0000n, 0xffff_8000_0000_0000n, 0xf_c000_0000n][random(4)]!;
      return region + (BigInt(random(3)) << 30n) + (BigInt(random(4)) << 21n) + BigInt(random(40)) * 0x1000n;
    };
    const count = { hits: 0, removed: 0 };
    for (let step = 0; step < 6000; step++) {
      const requester = [0x30, 0x38, 0x100][random(3)]!;
      const pasid = [NO_PASID, 0, 5][random(3)]!;
      const domain = random(3);
      const where = address();
      const range = 12 + (random(4) === 0 ? random(53) : random(19));
      const before = naive.entries.length;
      switch (random(limit > 100 ? 60 : 12)) {
        case 0:
          cache.invalidateDomainPages(domain, SECOND_STAGE, hi(where), lo(where), range);
          naive.remove(each => each.domain === domain && (each.kind !== SECOND_STAGE || overlaps(each, where, range)));
          break;
        case 1:
          cache.invalidatePasidPages(domain, pasid, FIRST_STAGE, hi(where), lo(where), range);
          naive.remove(
            each =>
              each.domain === domain &&
              each.pasid === pasid &&
              each.kind === FIRST_STAGE &&
              overlaps(each, where, range),
          );
          break;
        case 2:
          if (random(4) !== 0) break;
          cache.invalidatePasid(domain, pasid);
          naive.remove(each => each.domain === domain && each.pasid === pasid);
          break;
        case 3:
          if (random(8) !== 0) break;
          cache.invalidateDomain(domain);
          naive.remove(each => each.domain === domain);
          break;
        case 4:
          if (random(40) !== 0) break;
          cache.invalidateAll();
          naive.entries = [];
          break;
        default: {
          const shift = [12, 12, 21, 30][random(4)]!;
          const out = alignDown(BigInt(random(1 << 20)) << 28n, shift);
          const entry = {
            requester,
            pasid,
            domain,
            kind: random(2),
            page: alignDown(where, shift),
            shift,
            out,
            access: random(256),
          };
          naive.insert(entry);
          cache.insert(
            requester,
            pasid,
            domain,
            entry.kind,
            hi(where),
            lo(where),
            shift,
            hi(out),
            lo(out),
            entry.access,
          );
        }
      }
      count.removed += Math.max(0, before - naive.entries.length);
      const asked = address();
      const expected = naive.lookup(requester, pasid, asked);
      const slot = cache.lookup(requester, pasid, hi(asked), lo(asked));
      t.is(slot >= 0, expected !== undefined, `step ${step}`);
      if (expected === undefined) continue;
      count.hits++;
      t.is((BigInt(cache.hi(slot)) << 32n) | BigInt(cache.lo(slot)), expected.out);
      t.deepEqual([cache.shift(slot), cache.access(slot)], [expected.shift, expected.access]);
    }
    const left = [...cache.entries()].map(each =>
      show({
        ...each,
        requester: each.requesterId,
        page: BigInt.asIntN(64, (BigInt(each.hi) << 32n) | BigInt(each.lo)),
        out: (BigInt(each.outHi) << 32n) | BigInt(each.outLo),
      }),
    );
    t.deepEqual(left.sort(), naive.entries.map(each => show({ ...each, page: BigInt.asIntN(64, each.page) })).sort());
    t.true(count.hits > 100 && count.removed > 100, `${count.hits} hits, ${count.removed} removed`);
  });
}

test('one more than fit empties it, also when it would have replaced one', t => {
  const cache = new RequesterIotlb(2);
  const insert = (page: number): void => cache.insert(8, NO_PASID, 1, SECOND_STAGE, 0, page, 12, 0, 0x9000, 3);
  insert(0x1000);
  insert(0x2000);
  t.true(cache.lookup(8, NO_PASID, 0, 0x1000) >= 0);
  insert(0x2000);
  t.is(cache.lookup(8, NO_PASID, 0, 0x1000), -1);
  t.true(cache.lookup(8, NO_PASID, 0, 0x2fff) >= 0);
});
