import { basename } from 'node:path';
import test from 'ava';
import { jsonReport, runReplay, shippedRecordings, textReport, type ReplayResult } from '@remora/tools';
import { linesOf, textFile } from './altered-recording.js';

const SMALL = shippedRecordings().find(file => basename(file).startsWith('P72pt'))!;

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const stdout = { write: (text: string) => (out += text) };
  return { code: await runReplay(args, { stdout, stderr: { write: text => (err += text) } }), out, err };
}

test('--json writes one object per file and line', async t => {
  const { code, out, err } = await run('--json', SMALL, SMALL);
  t.deepEqual([code, err], [0, '']);
  const objects = out
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as unknown);
  const expected = { file: SMALL, operations: 29, compared: 15, mismatches: 0, excused: {}, skipped: {} };
  t.is(objects.length, 2);
  for (const each of objects) t.like(each, expected);
});

test('a mismatch gives exit code 1 and is printed with its line', async t => {
  const lines = await linesOf('P72pt');
  const at = lines.findIndex(line => line.startsWith('R 01c'));
  lines[at] = 'R 01c 4 12345';
  const { code, out, err } = await run(await textFile(t, lines));
  t.deepEqual([code, err], [1, '']);
  t.regex(out, new RegExp(`1 mismatch\n  line ${at + 1}: expected R 01c 4 12345\n +but got  R 01c 4 `));
});

test('a bad file does not keep the others from being replayed, and its exit code wins', async t => {
  const { code, out, err } = await run('/nonexistent', SMALL);
  t.is(code, 2);
  t.regex(out, /^P72pt\.trace\.gz {2}29 operations {2}15 compared {2}0 mismatches\n$/);
  t.is(err, 'remora replay: /nonexistent: no such file\n');
});

const RESULT: ReplayResult = {
  file: '/x/long-name.trace.gz',
  operations: 12345,
  compared: 9,
  comparedByKind: { R: 9 },
  mismatches: 0,
  differences: [],
  excused: { 'some-rule': 2, 'idle-rule': 0 },
  skipped: { I: 4878, N: 181 },
};

test('the text is in columns; excused and skipped things are named', t => {
  const other: ReplayResult = { ...RESULT, file: 'a', operations: 1, excused: {}, skipped: {} };
  t.is(
    textReport([RESULT, other]),
    'long-name.trace.gz  12345 operations  9 compared  0 mismatches  excused 2 some-rule, skipped 4878 I, 181 N\n' +
      'a                       1 operations  9 compared  0 mismatches\n',
  );
});

test('of many differences the first ten are printed', t => {
  const differences = Array.from({ length: 50 }, (_, i) => ({ line: i + 1, expected: 'a', got: 'b' }));
  const text = textReport([{ ...RESULT, mismatches: 300, differences }]);
  t.is(text.split('expected a').length - 1, 10);
  t.regex(text, /and 290 more\n$/);
});

test('the JSON object has the whole result', t => {
  t.deepEqual(JSON.parse(jsonReport(RESULT)), RESULT);
});
