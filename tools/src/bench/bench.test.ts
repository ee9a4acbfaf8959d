import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { benchText, runBench } from './bench-command.js';
import { cacheFolder } from '../live/peers/cache-folder.js';
import { cachedQemu } from '../live/peers/peers.js';
import { KERNELS } from './kernels/index.js';
import { byTurns } from './live/by-turns.js';
import { loopImage } from './live/loop-image.js';
import { WORKS } from './works.js';

function folderOf(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'remora-bench-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function bench(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const code = await runBench(args, {
    stdout: { write: text => (out += text) },
    stderr: { write: text => (err += text) },
  });
  return { code, out, err };
}

/** A compiler that makes, of every source, a program that answers each run with `checksum`. */
function forger(folder: string, checksum: string): string {
  const script = join(folder, 'cc');
  writeFileSync(
    script,
    `#!/bin/sh
[ "$1" = --version ] && exit 0
printf '#!/bin/sh\\necho ready\\nwhile read run; do echo 1000 ${checksum}; done\\n' > "$3"
chmod +x "$3"
`,
  );
  chmodSync(script, 0o755);
  return script;
}

test('the table is aligned and says what is small as a fraction', t => {
  const text = benchText([
    { work: 'a', peer: 'C', ratio: 2.126, target: 2, met: false },
    { work: 'longer', peer: 'GLib table', ratio: 0.001, target: 0.02, met: true },
  ]);
  t.deepEqual(text.split('\n'), [
    'work    peer         ratio  at most  met',
    'a       C             2.13     2.00  no',
    'longer  GLib table  1/1000     1/50  yes',
    '',
  ]);
});

test('every work has a kernel, and a title of its own', t => {
  for (const { kernel } of WORKS) t.true(kernel in KERNELS, kernel);
  t.is(new Set(WORKS.map(({ title }) => title)).size, WORKS.length);
});

test('bad arguments are one line and exit code 2', async t => {
  for (const [args, problem] of [
    [['--jsn', 'x'], /^bench: Unknown option '--jsn'; usage: /],
    [['--only', 'nothing of that name'], /^bench: --only: nothing is called "nothing of that name"\n$/],
    [['--rounds', '0'], /^bench: --rounds: not a positive number\n$/],
  ] as const) {
    const { code, err } = await bench(...args);
    t.is(code, 2);
    t.regex(err, problem);
  }
});

test.serial('rows have the agreed fields, in the file and on the screen', async t => {
  const file = join(folderOf(t), 'bench.json');
  const { code, out, err } = await bench('--only', 'IOTLB hit, 1 K', '--rounds', '1', '--json', file);
  t.is(code, 0);
  const rows = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>[];
  const compiles = spawnSync('gcc', ['--version']).error === undefined;
  t.is(rows.length + err.split('left out').length - 1, 2, 'each peer has a row, or a line that says why not');
  if (!compiles) return;
  t.deepEqual(Object.keys(rows[0]!), ['work', 'peer', 'ratio', 'target', 'met']);
  t.is(rows[0]!['met'], (rows[0]!['ratio'] as number) <= 2);
  t.regex(out, /^IOTLB hit, 1 K entries +C +\d/m);
});

test.serial('what is measured in a guest says what it lacks', async t => {
  const before = process.env['REMORA_CACHE'];
  t.teardown(() => {
    if (before === undefined) delete process.env['REMORA_CACHE'];
    else process.env['REMORA_CACHE'] = before;
  });
  process.env['REMORA_CACHE'] = folderOf(t);
  for (const [title, what] of [
    ['live: registers', 'no QEMU'],
    ['live: disks', 'no QEMU and Linux 6.1'],
  ] as const) {
    const { code, err } = await bench('--only', title);
    t.is(code, 0);
    t.true(
      err.startsWith(`left out: ${title}: ${what} in ${process.env['REMORA_CACHE']}: "remora live --fetch" gets`),
      err,
    );
  }
});

const hasQemu = cachedQemu(cacheFolder()) !== undefined;
(hasQemu ? test.serial : test.serial.skip)(
  `a register of a served device is read and written by a guest${hasQemu ? '' : ' (skipped: "remora live --fetch" gets the QEMU)'}`,
  async t => {
    const { code, out, err } = await bench('--only', 'live: registers', '--rounds', '1');
    t.is(code, 0, err);
    for (const work of ['read of a register', 'posted write', 'write that is waited for'])
      t.regex(out, new RegExp(`^live: ${work} +QEMU +\\d`, 'm'));
  },
);

test('sides take turns, the first turn warms up, and what they find must be the same', async t => {
  const order: string[] = [];
  const run = (side: string): Promise<{ time: number; checksum: number }> => {
    order.push(side);
    return Promise.resolve({ time: order.length, checksum: side === 'c' ? 1 : 0 });
  };
  t.deepEqual(await byTurns(2, ['a', 'b'], run), [
    [3, 5],
    [4, 6],
  ]);
  t.is(order.join(''), 'ababab');
  await t.throwsAsync(byTurns(2, ['a', 'c'], run), { message: 'a and c: checksums 0 and 1' });
});

test('the image for -kernel: a Multiboot header with a right sum, all of the file is loaded', t => {
  const image = loopImage();
  const words = new Uint32Array(image.slice(0, 32).buffer);
  t.is((words[0]! + words[1]! + words[2]!) >>> 0, 0);
  t.is(words[5]! - words[4]!, image.length);
});

test.serial('the first qtest reply has its bound, and QEMU beside it where there is one', async t => {
  const before = process.env['QEMU'];
  t.teardown(() => {
    if (before === undefined) delete process.env['QEMU'];
    else process.env['QEMU'] = before;
  });
  const qemu = join(folderOf(t), 'qemu');
  writeFileSync(qemu, '#!/bin/sh\nread command\necho OK\n', { mode: 0o755 });
  process.env['QEMU'] = qemu;
  const both = await bench('--only', 'first qtest reply', '--rounds', '1');
  t.is(both.code, 0);
  t.regex(both.out, /^first qtest reply +QEMU +\d.*\nfirst qtest reply +400 ms +/m);
  t.regex(both.out, /^first qtest reply, medians of 1: \d+ ms, Node alone \d+ ms, QEMU \d+ ms$/m);
  process.env['QEMU'] = join(qemu, 'absent');
  const alone = await bench('--only', 'first qtest reply', '--rounds', '1');
  t.is(alone.code, 0);
  t.notRegex(alone.out, /QEMU/);
  t.regex(alone.err, /^left out: first qtest reply: "\S+absent" does not start \(set QEMU\)$/m);
});

test.serial('results that differ fail the run', async t => {
  const folder = folderOf(t);
  const before = process.env['CC'];
  t.teardown(() => {
    if (before === undefined) delete process.env['CC'];
    else process.env['CC'] = before;
  });
  process.env['CC'] = forger(folder, '7');
  const forged = await bench('--only', 'IOTLB hit, 1 K', '--rounds', '1');
  t.is(forged.code, 1);
  t.regex(forged.err, /^bench: IOTLB hit, 1 K entries: against C: checksums \d+ and 7\n$/);
  process.env['CC'] = join(folder, 'no-such-compiler');
  const missing = await bench('--only', '4-level walk, 1 K', '--rounds', '1');
  t.is(missing.code, 0);
  t.regex(missing.err, /^left out: 4-level walk, 1 K pages: no C compiler: /);
});
