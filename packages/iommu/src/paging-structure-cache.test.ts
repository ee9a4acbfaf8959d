import test from 'ava';
import fc from 'fast-check';
import { PagingStructureCache } from './paging-structure-cache.js';

const SLOTS = 1024;
const LEAF_LEVELS = 3;
const LEVELS = [2, 3, 4, 5] as const;

const hi = (value: bigint): number => Number(BigInt.asIntN(32, value >> 32n));
const lo = (value: bigint): number => Number(BigInt.asIntN(32, value));
const shiftOf = (level: number): bigint => BigInt(3 + 9 * level);

function insert(cache: PagingStructureCache, space: number, level: number, address: bigint, table: bigint): void {
  cache.insert(space, level, hi(address), lo(address), hi(table), lo(table), level);
}

/** What the cache knows on the way to an address: its level, and the next table or "dead end". */
function look(
  cache: PagingStructureCache,
  space: number,
  address: bigint,
  levels = 5,
): [number, bigint | string] | undefined {
  const slot = cache.lookup(space, levels, hi(address), lo(address));
  if (slot < 0) return undefined;
  if (cache.isDeadEnd(slot)) return [cache.level(slot), `dead end ${cache.marks(slot)}`];
  const table = (BigInt(cache.tableHi(slot) >>> 0) << 32n) | BigInt(cache.tableLo(slot) >>> 0);
  return [cache.level(slot), table];
}

const ADDRESS = 0x01_2345_6789_a000n;
const TABLE = 0xf_edcb_a987_6000n;

test('bad sizes are programming errors', t => {
  for (const slots of [0, 1, 3, 1.5, 2 ** 21]) {
    t.throws(() => new PagingStructureCache(slots, 3), { instanceOf: RangeError }, String(slots));
  }
});

test('an entry of each level is found at every address that it covers and nowhere else', t => {
  for (const level of LEVELS) {
    const cache = new PagingStructureCache(SLOTS, LEAF_LEVELS);
    const space = cache.space(7, -1, 0);
    const base = (ADDRESS >> shiftOf(level)) << shiftOf(level);
    const end = base + (1n << shiftOf(level));
    insert(cache, space, level, ADDRESS, TABLE);
    for (const inside of [base, ADDRESS, end - 1n]) t.deepEqual(look(cache, space, inside), [level, TABLE]);
    for (const outside of [base - 1n, end]) t.is(look(cache, space, outside), undefined, `${level}`);
    t.is(cache.marks(cache.lookup(space, 5, hi(ADDRESS), lo(ADDRESS))), level);
    t.is(look(cache, cache.space(8, -1, 0), ADDRESS), undefined);
    t.is(look(cache, cache.space(7, 3, 1), ADDRESS), undefined);
  }
});

test('the deepest entry is found, of those that belong to tables of so many levels', t => {
  const cache = new PagingStructureCache(SLOTS, LEAF_LEVELS);
  const space = cache.space(7, -1, 0);
  for (const level of [5, 3, 2, 4]) insert(cache, space, level, ADDRESS, BigInt(level) << 12n);
  t.deepEqual(look(cache, space, ADDRESS), [2, 0x2000n]);
  t.deepEqual(look(cache, space, ADDRESS ^ (1n << 21n)), [3, 0x3000n]);
  t.deepEqual(look(cache, space, ADDRESS ^ (1n << 30n)), [4, 0x4000n]);
  t.is(look(cache, space, ADDRESS ^ (1n << 30n), 3), undefined, 'a table of three levels has no entry of level 4');
  t.deepEqual(look(cache, space, ADDRESS ^ (1n << 39n)), [5, 0x5000n]);
  t.is(look(cache, space, ADDRESS ^ (1n << 48n)), undefined);
});

test('an entry for the same place is replaced, also from the other way', t => {
  const cache = new PagingStructureCache(2, LEAF_LEVELS);
  const space = cache.space(7, -1, 0);
  insert(cache, space, 2, 0n, 0x1000n);
  insert(cache, space, 2, 1n << 21n, 0x2000n);
  insert(cache, space, 2, 0n, 0x3000n);
  cache.invalidatePages(space, 0, 0, 12, false);
  t.is(look(cache, space, 0n), undefined);
  t.true([...cache.entries()].length <= 1);
});

test('flushes reach the space, the kind, the domain, everything', t => {
  const names = [
    [1, -1, 0],
    [1, 5, 1],
    [1, 5, 2],
    [2, 5, 1],
  ] as const;
  const left = (flush: (cache: PagingStructureCache) => void): boolean[] => {
    const cache = new PagingStructureCache(SLOTS, LEAF_LEVELS);
    const spaces = names.map(name => cache.space(name[0], name[1], name[2]));
    for (const space of spaces) insert(cache, space, 2, ADDRESS, TABLE);
    flush(cache);
    return spaces.map(space => look(cache, space, ADDRESS) !== undefined);
  };
  t.deepEqual(
    left(() => undefined),
    [true, true, true, true],
  );
  t.deepEqual(
    left(cache => cache.invalidateSpace(cache.space(1, 5, 1))),
    [true, false, true, true],
  );
  t.deepEqual(
    left(cache => cache.invalidateDomain(1, 2)),
    [true, true, false, true],
  );
  t.deepEqual(
    left(cache => cache.invalidateDomain(1)),
    [false, false, false, true],
  );
  t.deepEqual(
    left(cache => cache.invalidateAll()),
    [false, false, false, false],
  );
  const pages = (leavesOnly: boolean) => (cache: PagingStructureCache) =>
    cache.invalidateDomainPages(1, 1, hi(ADDRESS), lo(ADDRESS), 12, leavesOnly);
  t.deepEqual(left(pages(false)), [true, false, true, true]);
  t.deepEqual(left(pages(true)), [true, true, true, true]);
});

test('a flush of pages takes what leads to them, at each level, and leaves neighbours', t => {
  for (const level of LEVELS) {
    const covered = 1n << shiftOf(level);
    for (const shift of [12, Number(shiftOf(level)), Number(shiftOf(level)) + 2]) {
      const cache = new PagingStructureCache(SLOTS, LEAF_LEVELS);
      const space = cache.space(7, -1, 0);
      const base = 0x100_0000_0000_0000n;
      for (let i = 0n; i < 8n; i++) insert(cache, space, level, base + i * covered, TABLE);
      const at = base + 5n * covered + 0x3000n;
      cache.invalidatePages(space, hi(at), lo(at), shift, false);
      const gone = [0, 1, 2, 3, 4, 5, 6, 7].filter(i => look(cache, space, base + BigInt(i) * covered) === undefined);
      t.deepEqual(gone, shift > shiftOf(level) ? [4, 5, 6, 7] : [5], `level ${level}, shift ${shift}`);
    }
  }
});

test('ranges of any size up to everything, which flushes the space', t => {
  for (const shift of [39, 57, 64]) {
    const cache = new PagingStructureCache(SLOTS, LEAF_LEVELS);
    const space = cache.space(7, -1, 0);
    for (const level of LEVELS) insert(cache, space, level, ADDRESS, TABLE);
    cache.invalidatePages(space, 0, 0, shift, true);
    t.is([...cache.entries()].length, 4, 'nothing that a leaf replaces');
    cache.invalidatePages(space, hi(ADDRESS), lo(ADDRESS), shift, false);
    t.is(look(cache, space, ADDRESS), undefined);
  }
});

test('dead ends go with leaves where leaves are, and with everything else above', t => {
  for (const level of [1, 2, 3, 4, 5]) {
    const cache = new PagingStructureCache(SLOTS, LEAF_LEVELS);
    const space = cache.space(7, -1, 0);
    cache.insertDeadEnd(space, level, hi(ADDRESS), lo(ADDRESS), 2);
    t.deepEqual(look(cache, space, ADDRESS), [level, 'dead end 2']);
    cache.invalidatePages(space, hi(ADDRESS), lo(ADDRESS), 12, true);
    t.is(look(cache, space, ADDRESS) === undefined, level <= LEAF_LEVELS, `level ${level}`);
    cache.invalidatePages(space, hi(ADDRESS), lo(ADDRESS), 12, false);
    t.is(look(cache, space, ADDRESS), undefined);
  }
});

test('what is inserted answers until it is flushed, whatever else comes: never another table', t => {
  const command = fc.record({
    op: fc.constantFrom('insert', 'insert', 'insert', 'dead', 'pages', 'leaves', 'space', 'domain', 'all'),
    space: fc.nat(3),
    level: fc.integer({ min: 1, max: 5 }),
    address: fc.bigInt(0n, (1n << 57n) - 1n).map(each => each & 0x100_8080_6060_1000n),
    table: fc.bigInt(0n, (1n << 40n) - 1n).map(frame => frame << 12n),
    shift: fc.integer({ min: 12, max: 64 }),
  });
  let hits = 0;
  fc.assert(
    fc.property(fc.array(command, { minLength: 20, maxLength: 60 }), commands => {
      const cache = new PagingStructureCache(64, LEAF_LEVELS);
      const spaces = [0, 1, 2, 3].map(i => cache.space(i >> 1, i, i & 1));
      const model = new Map<string, { space: number; level: number; base: bigint; value: bigint | string }>();
      const drop = (
        covered: (each: { space: number; level: number; base: bigint; value: unknown }) => boolean,
      ): void => {
        for (const [key, each] of model) if (covered(each)) model.delete(key);
      };
      for (const { op, space, level, address, table, shift } of commands) {
        const inRange = (each: { level: number; base: bigint }): boolean => {
          const wider = shiftOf(each.level) > BigInt(shift) ? shiftOf(each.level) : BigInt(shift);
          return each.base >> wider === address >> wider;
        };
        const base = (address >> shiftOf(level)) << shiftOf(level);
        const key = `${space}/${level}/${base}`;
        if (op === 'insert' && level > 1) {
          insert(cache, spaces[space]!, level, address, table);
          model.set(key, { space, level, base, value: table });
        } else if (op === 'dead') {
          cache.insertDeadEnd(spaces[space]!, level, hi(address), lo(address), 1);
          model.set(key, { space, level, base, value: 'dead end 1' });
        } else if (op === 'pages') {
          cache.invalidatePages(spaces[space]!, hi(address), lo(address), shift, false);
          drop(each => each.space === space && inRange(each));
        } else if (op === 'leaves') {
          cache.invalidatePages(spaces[space]!, hi(address), lo(address), shift, true);
          drop(each => each.space === space && inRange(each) && each.level <= 3 && typeof each.value === 'string');
        } else if (op === 'space') {
          cache.invalidateSpace(spaces[space]!);
          drop(each => each.space === space);
        } else if (op === 'domain') {
          cache.invalidateDomain(space >> 1);
          drop(each => each.space >> 1 === space >> 1);
        } else if (op === 'all') {
          cache.invalidateAll();
          model.clear();
        }
        for (const other of commands) {
          for (const [i, id] of spaces.entries()) {
            const found = look(cache, id, other.address);
            if (found === undefined) continue;
            hits++;
            const at = (other.address >> shiftOf(found[0])) << shiftOf(found[0]);
            t.is(model.get(`${i}/${found[0]}/${at}`)?.value, found[1]);
          }
        }
      }
    }),
    { numRuns: 100, seed: 3 },
  );
  t.true(hits > 1000, `only ${hits} hits`);
});

test('when ids and tags run out nothing stale answers', t => {
  const cache = new PagingStructureCache(64, LEAF_LEVELS);
  const first = cache.space(0, 0, 1);
  insert(cache, first, 2, ADDRESS, TABLE);
  // More tags than there are: each flush takes one back, to be given out anew.
  for (let i = 0; i < 70_000; i++) {
    cache.invalidateSpace(first);
    insert(cache, first, 2, BigInt(i) << 21n, BigInt(i) << 12n);
    if (i % 1000 === 7) t.is([...cache.entries()].length, 1);
  }
  for (let domain = 1; domain <= 2 ** 17; domain++) cache.space(domain, -1, 0);
  t.false(cache.isCurrent(first));
  t.is(look(cache, first, 69_999n << 21n), undefined);
  insert(cache, first, 2, ADDRESS, TABLE);
  t.is([...cache.entries()].length, 0);
});
