import test from 'ava';
import fc from 'fast-check';
import { difference, wanted } from './difference.js';
import { append, endOf, type MappedRange } from './mapped-range.js';

const WINDOW = 64;

/** Ascending ranges that do not overlap, each page as `at` of the window maps it; neighbours are told apart by `cuts`. */
function rangesOf(pages: readonly (number | undefined)[], cuts: readonly boolean[]): MappedRange[] {
  const ranges: MappedRange[] = [];
  for (const [frame, delta] of pages.entries()) {
    if (delta === undefined) continue;
    const page = { frame, pages: 1, outFrame: frame + delta, access: 1 + (delta % 3) };
    if (cuts[frame] === true) ranges.push(page);
    else append(ranges, page);
  }
  return ranges;
}

function pagesOf(ranges: readonly MappedRange[]): Map<number, string> {
  const pages = new Map<number, string>();
  for (const { frame, pages: count, outFrame, access } of ranges) {
    for (let page = 0; page < count; page++) pages.set(frame + page, `${outFrame + page} ${access}`);
  }
  return pages;
}

const page = fc.option(fc.constantFrom(1000, 2000, 3001), { nil: undefined, freq: 3 });
const window = fc.array(page, { minLength: WINDOW, maxLength: WINDOW });
const cuts = fc.array(fc.boolean(), { minLength: WINDOW, maxLength: WINDOW });
/** A window in runs: pages that go on as the one before. */
const runs = fc.tuple(window, fc.array(fc.nat(3), { minLength: WINDOW, maxLength: WINDOW })).map(([pages, fresh]) => {
  const result: (number | undefined)[] = [];
  for (const [index, value] of pages.entries()) result.push(fresh[index] === 0 ? value : result.at(-1));
  return result;
});

test('what is kept, and what comes, is what is wanted; what goes, goes whole', t => {
  let replaced = 0;
  fc.assert(
    fc.property(runs, runs, cuts, (before, after, cut) => {
      const told = rangesOf(before, cut);
      const want = rangesOf(after, []);
      const { kept, changes } = difference(told, want);
      const gone = changes.flatMap(change => change.gone);
      const come = changes.flatMap(change => change.come);
      replaced += changes.filter(change => change.gone.length > 0 && change.come.length > 0).length;
      t.deepEqual(
        [...kept, ...gone].sort((a, b) => a.frame - b.frame),
        told,
      );
      const result = [...kept, ...come].sort((a, b) => a.frame - b.frame);
      for (const [index, range] of result.entries()) {
        t.true(index === 0 || endOf(result[index - 1]!) <= range.frame, 'no overlap');
      }
      t.deepEqual(pagesOf(result), pagesOf(want));
      // What is told already is not told again.
      for (const range of kept) t.deepEqual(pagesOf([range]), sameIn(pagesOf(want), range));
      for (const range of gone) t.notDeepEqual(pagesOf([range]), sameIn(pagesOf(want), range));
    }),
    { numRuns: 300, seed: 7 },
  );
  t.true(replaced > 100, `${replaced} changes replaced something`);
});

test('changes are ascending, and those that overlap are one', t => {
  fc.assert(
    fc.property(runs, runs, cuts, (before, after, cut) => {
      const { changes } = difference(rangesOf(before, cut), rangesOf(after, []));
      let end = 0;
      for (const { gone, come } of changes) {
        const all = [...gone, ...come].sort((a, b) => a.frame - b.frame);
        t.true(all.length > 0 && all[0]!.frame >= end);
        end = all[0]!.frame + 1;
        for (const range of all) {
          t.true(range.frame < end, 'it overlaps what came before');
          end = Math.max(end, endOf(range));
        }
      }
    }),
    { numRuns: 300, seed: 8 },
  );
});

test('outside what was looked at, what was told is wanted', t => {
  fc.assert(
    fc.property(runs, runs, cuts, fc.nat(WINDOW), fc.nat(WINDOW), (before, after, cut, a, b) => {
      const [start, end] = [Math.min(a, b), Math.max(a, b)];
      const told = rangesOf(before, cut).filter(range => range.frame < end && endOf(range) > start);
      const found = rangesOf(
        after.map((delta, index) => (index >= start && index < end ? delta : undefined)),
        [],
      );
      const want = pagesOf(wanted(told, found, start, end));
      const expected = new Map(
        [...pagesOf(told)].filter(([frame]) => frame < start || frame >= end).concat([...pagesOf(found)]),
      );
      t.deepEqual(want, new Map([...expected].sort(([x], [y]) => x - y)));
    }),
    { numRuns: 300, seed: 9 },
  );
});

test('a range that was added to is kept, and the addition comes alone', t => {
  const told = [{ frame: 0, pages: 4, outFrame: 100, access: 3 }];
  const want = [{ frame: 0, pages: 6, outFrame: 100, access: 3 }];
  t.deepEqual(difference(told, want), {
    kept: told,
    changes: [{ gone: [], come: [{ frame: 4, pages: 2, outFrame: 104, access: 3 }] }],
  });
  t.deepEqual(difference(told, told), { kept: told, changes: [] });
  t.deepEqual(difference([], []), { kept: [], changes: [] });
});

/** The part of `pages` that lies in `range`. */
function sameIn(pages: Map<number, string>, { frame, pages: count }: MappedRange): Map<number, string> {
  return new Map([...pages].filter(([page]) => page >= frame && page < frame + count));
}
