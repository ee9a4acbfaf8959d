import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { parseCommandLine } from './command-line.js';
import { CommandLineError } from './mistake.js';
import { type TraceOptions, unknownEvents } from './trace-options.js';

const traceOf = (...args: string[]): TraceOptions => parseCommandLine(args).trace;
const patternsOf = (...args: string[]): string[] => traceOf(...args).patterns.map(({ pattern }) => pattern);

test('patterns of -trace and -d, in the order in which they are given', t => {
  t.deepEqual(patternsOf(), []);
  t.deepEqual(patternsOf('-trace', 'vtd_*', '-d', 'trace:-vtd_reg_*', '-trace', 'enable=vtd_reg_write'), [
    'vtd_*',
    '-vtd_reg_*',
    'vtd_reg_write',
  ]);
  t.deepEqual(patternsOf('-d', 'trace:vfio_*,trace:vtd_ir_*'), ['vfio_*', 'vtd_ir_*']);
  t.deepEqual(patternsOf('--trace', ''), [], 'nothing is asked for');
  t.deepEqual(patternsOf('-trace', 'enable='), [''], 'an event without a name');
});

test('the last file counts, that of -trace before that of -D', t => {
  t.is(traceOf('-trace', 'vtd_*').file, undefined);
  t.is(traceOf('-D', 'a', '-trace', 'vtd_*').file, 'a');
  t.is(traceOf('-trace', 'vtd_*,file=a', '-trace', 'file=b', '-D', 'c').file, 'b');
  t.is(traceOf('-D', 'log-%d').file, `log-${process.pid}`);
});

test('-msg timestamp', t => {
  const timestamps = (...args: string[]): boolean => traceOf(...args).timestamps;
  t.deepEqual([timestamps(), timestamps('-msg', 'timestamp'), timestamps('-msg', 'timestamp=on')], [false, true, true]);
  t.false(timestamps('-msg', 'timestamp=on', '-msg', 'timestamp=off,guest-name=on'));
});

test('a file of patterns: a line each, and where each was written', t => {
  const folder = mkdtempSync(join(tmpdir(), 'trace-options-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'events');
  writeFileSync(file, '# of the queue\nvtd_inv_*\n\n  -vtd_inv_qi_*\nbogus');
  const { patterns } = traceOf('-trace', 'vtd_reg_read', '-trace', `events=${file},file=log`);
  t.deepEqual(patterns, [
    { pattern: 'vtd_reg_read', written: '-trace vtd_reg_read' },
    { pattern: 'vtd_inv_*', written: `${file}:2` },
    { pattern: '-vtd_inv_qi_*', written: `${file}:4` },
    { pattern: 'bogus', written: `${file}:5` },
  ]);
  t.deepEqual(unknownEvents(patterns, new Set(['vtd_reg_read'])), [`${file}:5: there is no trace event 'bogus'`]);
});

test('names that no device has are warned of, patterns are not', t => {
  const { patterns } = traceOf('-trace', '-a', '-trace', 'b', '-trace', 'c*', '-trace', 'd?', '-trace', 'e');
  t.deepEqual(unknownEvents(patterns, new Set(['e'])), [
    "-trace -a: there is no trace event 'a'",
    "-trace b: there is no trace event 'b'",
  ]);
});

test('help asks for the names', t => {
  for (const args of [
    ['-trace', 'help'],
    ['-trace', '?'],
    ['-d', 'trace:help'],
    ['-trace', 'vtd_*', '-trace', 'help'],
  ])
    t.is(parseCommandLine(args).show, 'trace-events', args.join(' '));
  t.is(parseCommandLine(['-trace', 'vtd_*']).show, undefined);
});

test('log items without events: those of QEMU are told of, others are mistakes', t => {
  const { patterns, warnings } = traceOf('-d', 'guest_errors,trace:vtd_*');
  t.deepEqual(
    [patterns.length, warnings],
    [1, ["-d guest_errors,trace:vtd_*: of 'guest_errors' there is nothing to log here"]],
  );
});

for (const [args, message] of [
  [['-trace', 'vtd_*,other=1'], "-trace vtd_*,other=1: Invalid parameter 'other'"],
  [['-trace', 'vtd_reg_read,vtd_reg_write'], "-trace vtd_reg_read,vtd_reg_write: Invalid parameter 'vtd_reg_write'"],
  [['-trace', 'events=/nonexistent/file'], '-trace events=/nonexistent/file: ENOENT: no such file or directory'],
  [['-trace'], '-trace: requires an argument'],
  [['-d', 'bogus'], "-d bogus: 'bogus' is not trace:PATTERN"],
  [['-msg', 'timestamp=maybe'], '-msg timestamp=maybe: timestamp is not on or off'],
  [['-msg', 'time=on'], "-msg time=on: Invalid parameter 'time'"],
] as const) {
  test(`refused: ${args.join(' ')}`, t => {
    const { message: told } = t.throws(() => parseCommandLine(args), { instanceOf: CommandLineError })!;
    t.true(told.startsWith(message), told);
  });
}
