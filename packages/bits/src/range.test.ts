import test from 'ava';
import fc from 'fast-check';
import { contains, intersect, overlaps, range, subtract } from './range.js';
import type { Range } from './range.js';

const some = fc.tuple(fc.nat(20), fc.nat(10)).map(([start, size]) => range(start, start + size));
const members = ({ start, end }: Range): number[] => Array.from({ length: end - start }, (_, index) => start + index);

test('what is no range is refused', t => {
  for (const [start, end] of [
    [1, 0],
    [-1, 0],
    [0.5, 1],
    [0, 2 ** 53],
    [NaN, 1],
  ] as const) {
    t.throws(() => range(start, end), { instanceOf: RangeError });
  }
  t.deepEqual(range(3, 3), { start: 3, end: 3 });
});

test('neighbours do not overlap: the end is exclusive', t => {
  t.false(overlaps(range(0, 4), range(4, 8)));
  t.true(overlaps(range(0, 5), range(4, 8)));
  t.is(intersect(range(0, 4), range(4, 8)), undefined);
  t.deepEqual(intersect(range(0, 5), range(4, 8)), { start: 4, end: 5 });
});

test('a hole leaves none, one or two ranges', t => {
  t.deepEqual(subtract(range(2, 8), range(0, 10)), []);
  t.deepEqual(subtract(range(2, 8), range(0, 4)), [{ start: 4, end: 8 }]);
  t.deepEqual(subtract(range(2, 8), range(4, 6)), [
    { start: 2, end: 4 },
    { start: 6, end: 8 },
  ]);
  t.deepEqual(subtract(range(2, 8), range(8, 9)), [{ start: 2, end: 8 }]);
  t.deepEqual(subtract(range(2, 2), range(8, 9)), []);
});

test('ranges are sets of numbers', t => {
  fc.assert(
    fc.property(some, some, (a, b) => {
      const inB = new Set(members(b));
      const both = members(a).filter(value => inB.has(value));
      const onlyA = members(a).filter(value => !inB.has(value));
      const shared = intersect(a, b);
      t.deepEqual(shared === undefined ? [] : members(shared), both);
      t.deepEqual(subtract(a, b).flatMap(members), onlyA);
      if (a.start < a.end && b.start < b.end) t.is(overlaps(a, b), both.length > 0);
      if (b.start < b.end) t.is(contains(a, b), both.length === b.end - b.start);
    }),
    { seed: 1 },
  );
});
