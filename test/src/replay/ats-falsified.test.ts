// A recording of a device with a TLB in which something is wrong is found out, at its line, or refused.
import { Random } from '@remora/bits';
import test from 'ava';
import { replayFile, TraceError } from '@remora/tools';
import { textFile } from './altered-recording.js';
import { everything } from './ats-guest.js';

const FALSIFICATIONS: Readonly<Record<string, { find: RegExp; by: (line: string) => string }>> = {
  'a permission (A)': { find: /^A .* r$/, by: line => line.replace(/r$/, 'rw') },
  'an address (A)': { find: /^A .* r$/, by: line => line.replace('-> 3', '-> 4') },
  'a flag (A)': { find: /^A .* r$/, by: line => `${line} g` },
  'a status (AF)': { find: /^AF /, by: line => line.replace('-> ca', '-> ur') },
  'a translated request that was refused (D)': { find: /^D /, by: line => `${line.replace('D', 'DF')} -> ca` },
  'a page request that was refused (P)': { find: /^P /, by: line => line.replace('P', 'PF') },
  'the group of a response (PR)': { find: /^ PR /, by: line => line.replace(' 5 0', ' 6 0') },
  'the code of a response (PR)': { find: /^ PR /, by: line => line.replace(' 5 0', ' 5 1') },
  'what a device was granted within a response (A)': { find: /^ {2}A /, by: line => line.replace(/rw$/, 'w') },
  'an invalidation of one PASID (N)': { find: /^ N .* all/, by: line => line.replace(' all', '') },
  'an invalidation of another PASID (N)': { find: /^ N .* all/, by: line => line.replace(' 1 ', ' 2 ') },
};

for (const [what, { find, by }] of Object.entries(FALSIFICATIONS)) {
  test(`${what}, falsified: found at that line`, async t => {
    const lines = await everything(t);
    t.deepEqual((await replayFile(await textFile(t, lines))).differences, []);
    const at = lines.findIndex(line => find.test(line));
    const falsified = by(lines[at]!);
    t.not(falsified, lines[at]);
    const { differences } = await replayFile(await textFile(t, lines.with(at, falsified)));
    t.is(differences[0]?.line, at + 1);
    t.is(differences[0]?.expected, falsified.trim());
  });
}

test('a completion of what nobody was told is found at its line', async t => {
  const lines = await everything(t);
  const { differences } = await replayFile(await textFile(t, lines.toSpliced(-1, 0, 'C 9')));
  t.like(differences, [{ line: lines.length, expected: 'C 9' }]);
});

test('a response that is missing from the recording is found', async t => {
  const lines = await everything(t);
  const at = lines.findIndex(line => line.startsWith(' PR '));
  const end = lines.findIndex((line, index) => index > at && !line.startsWith('  '));
  const { differences } = await replayFile(await textFile(t, lines.toSpliced(at, end - at)));
  t.is(differences[0]?.got, lines[at]!.trim());
});

test('operations within one another without end are refused', async t => {
  const lines = await everything(t);
  const deep = Array.from({ length: 2000 }, (_, depth) => {
    return `${' '.repeat(depth)}${depth % 2 === 0 ? 'P 00:03.0 1 200000 w 5 last' : 'PR 00:03.0 1 5 0'}`;
  });
  const error = await t.throwsAsync(replayFile(await textFile(t, lines.toSpliced(-1, 0, ...deep))), {
    instanceOf: TraceError,
  });
  t.regex(error.message, /expected no more than 64 operations and messages within one another, found " {60}\.\.\."/);
});

test('a recording with mistakes in it is refused with their line, or replays: nothing else comes of it', async t => {
  const lines = await everything(t);
  const random = new Random(1);
  const seen = { refused: 0, differs: 0 };
  for (let round = 0; round < 400; round++) {
    const altered = [...lines];
    for (let mistake = 0; mistake <= random.below(4); mistake++) {
      const at = 2 + random.below(altered.length - 3);
      const line = altered[at]!;
      const place = random.below(line.length);
      const other = lines[2 + random.below(lines.length - 3)]!;
      const character = '0123456789abcdef rwxpAPDC-'[random.below(26)]!;
      const choices = [
        [],
        [line, line],
        [` ${line}`],
        [line.trimStart()],
        [line, other],
        [line.slice(0, place) + character + line.slice(place + 1)],
      ];
      altered.splice(at, 1, ...choices[random.below(choices.length)]!);
    }
    try {
      const { mismatches } = await replayFile(await textFile(t, altered));
      if (mismatches > 0) seen.differs++;
    } catch (error) {
      if (!(error instanceof TraceError)) throw error;
      t.regex(error.message, /altered\.trace:\d+: expected /);
      seen.refused++;
    }
  }
  t.true(seen.refused > 50 && seen.differs > 50, JSON.stringify(seen));
});
