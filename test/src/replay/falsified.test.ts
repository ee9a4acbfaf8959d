// A recording in which one expectation is wrong is refused, and the wrong line is named: every kind of expectation is really compared.
import test from 'ava';
import { replayFile } from '@remora/tools';
import { linesOf, textFile } from './altered-recording.js';

/** Falsifies the last line that `find` matches; the first ones are often zeros or resets. */
const FALSIFICATIONS: Readonly<Record<string, { recording: string; find: RegExp; by: (line: string) => string }>> = {
  'a translated address (T)': { recording: 'E61leg', find: /^T /, by: line => line.replace('-> ', '-> 1') },
  'the size of a translated page (T)': {
    recording: 'E61leg',
    find: /^T /,
    by: line => line.replace(' fff ', ' 1fffff '),
  },
  'the permission of a translation (T)': {
    recording: 'E61leg',
    find: /^T .* rw$/,
    by: line => line.replace(/rw$/, 'w'),
  },
  'a translation that was refused (T)': {
    recording: 'E61leg',
    find: /^TF /,
    by: line => line.replace(/^TF (.*) -> .*/, 'T $1 -> 1000 fff rw'),
  },
  'a refusal that was a translation (TF)': {
    recording: 'E61leg',
    find: /^T /,
    by: line => line.replace(/^T (.*) -> .*/, 'TF $1 -> 5 fff'),
  },
  'a fault reason (TF)': { recording: 'E61leg', find: /^TF .* -> 5 /, by: line => line.replace('-> 5', '-> 6') },
  'a register (R)': { recording: 'E61leg', find: /^R 228 /, by: line => line.replace(/.$/, 'f') },
  'PASID bits of a fault record (R)': {
    recording: 'V61leg',
    find: /^R 22c 4 80ffff05/,
    by: line => line.replace('80ffff05', '80000005'),
  },
  'a status word (MW)': { recording: 'E61leg', find: /^ MW /, by: line => line.replace(/..$/, 'ff') },
  'the address of a status word (MW)': { recording: 'E61leg', find: /^ MW /, by: line => line.replace('MW ', 'MW 1') },
  'a fault record (F)': { recording: 'E61leg', find: /^ F /, by: line => line.replace(/.$/, '1') },
  'the source of a fault (F)': { recording: 'E61leg', find: /^ F /, by: line => line.replace(/F ..../, 'F 0008') },
  'the data of a message (IRQ)': { recording: 'E61leg', find: /^ IRQ /, by: line => line.replace(/.$/, '3') },
  'the address of a message (IRQ)': { recording: 'E61leg', find: /^ IRQ /, by: line => line.replace('fee0', 'fee1') },
  'the vector of a remapped interrupt (I)': { recording: 'D61', find: /^I /, by: line => line.replace(/.$/, 'f') },
  'the destination of a remapped interrupt (I)': {
    recording: 'D61',
    find: /^I /,
    by: line => line.replace(/-> fee0(.)/, '-> fee1$1'),
  },
  'an interrupt that was blocked (I)': {
    recording: 'D61',
    find: /^I /,
    by: line => line.replace(/^I (.*) -> .*/, 'IF $1 -> 22'),
  },
  'the range of a device-TLB invalidation (N)': {
    recording: 'F72ats',
    find: /^ N .* fff devtlb/,
    by: line => line.replace(' fff ', ' 1fff '),
  },
  'the address of a device-TLB invalidation (N)': {
    recording: 'F72ats',
    find: /^ N /,
    by: line => line.replace(/000 (\w+) devtlb$/, '001 $1 devtlb'),
  },
  'the device of a device-TLB invalidation (N)': {
    recording: 'F72ats',
    find: /^ N /,
    by: line => line.replace('01:00.0', '01:00.1'),
  },
};

for (const [what, { recording, find, by }] of Object.entries(FALSIFICATIONS)) {
  test(`${recording} with ${what} falsified is refused at that line`, async t => {
    const lines = await linesOf(recording);
    const at = lines.findLastIndex(line => find.test(line));
    const falsified = by(lines[at]!);
    t.not(falsified, lines[at]);
    lines[at] = falsified;
    const result = await replayFile(await textFile(t, lines));
    t.is(result.mismatches, 1);
    t.deepEqual(
      result.differences.map(({ line }) => line),
      [at + 1],
    );
  });
}

test('a memory write that is missing from the recording is refused', async t => {
  const lines = await linesOf('E61leg');
  const at = lines.findIndex(line => line.startsWith(' MW '));
  const [removed] = lines.splice(at, 1);
  const { mismatches, differences } = await replayFile(await textFile(t, lines));
  t.is(mismatches, 1);
  t.is(differences[0]!.got, removed!.trim());
  t.regex(differences[0]!.expected, /nothing more/);
});

test('a device-TLB invalidation that is missing from the recording is refused', async t => {
  const lines = await linesOf('F72ats');
  const at = lines.findLastIndex(line => line.startsWith(' N '));
  const [removed] = lines.splice(at, 1);
  const { mismatches, differences } = await replayFile(await textFile(t, lines));
  t.is(mismatches, 1);
  t.is(differences[0]!.got, removed!.trim());
});

test('effects in another order are refused', async t => {
  const lines = await linesOf('E61leg');
  const message = lines.findIndex(line => line.startsWith(' IRQ '));
  const fault = message - 1;
  t.regex(lines[fault]!, /^ F /);
  [lines[fault], lines[message]] = [lines[message]!, lines[fault]!];
  const { differences } = await replayFile(await textFile(t, lines));
  t.deepEqual(
    differences.map(({ line }) => line),
    [fault + 1],
  );
});

test('a message that is missing from the model is refused: the interrupt was masked by altering an input', async t => {
  const lines = await linesOf('E61leg');
  const at = lines.findLastIndex(line => /^W 038 4 0$/.test(line));
  lines[at] = 'W 038 4 80000000';
  const { mismatches } = await replayFile(await textFile(t, lines));
  t.true(mismatches > 0);
});

test('random recordings are judged as strictly: a page that a flush spared, and one that it did not', async t => {
  for (const [recording, find, by] of [
    ['leg39dt-1', /^T 00:06\.0 - f6ffe w -> 10154000 fff w$/, (line: string) => line.replace('10154000', '10238000')],
    ['slt-1', /^TF .* -> 6 fff$/, (line: string) => line.replace('-> 6', '-> 5')],
  ] as const) {
    const lines = await linesOf(recording);
    const at = lines.findLastIndex(line => find.test(line));
    lines[at] = by(lines[at]!);
    const { mismatches, excused, differences } = await replayFile(await textFile(t, lines));
    t.deepEqual([mismatches, excused, differences[0]?.line], [1, {}, at + 1]);
  }
});
