/** `remora diff` as a command: what it says of programs that are no QEMU, and a difference that is saved and run again. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { askQemu, compile, optionsFor, QemuError, readProgram, runDiff } from '@remora/tools/diff';
import { findQemu } from '../qmp/real-qemu.js';

const TIMEOUT_MS = 300_000;
const folder = mkdtempSync(join(tmpdir(), 'remora-diff-test-'));
test.after.always(() => rmSync(folder, { recursive: true }));

let scripts = 0;
/** An executable of one's own. */
function script(text: string): string {
  const file = join(folder, `script-${scripts++}`);
  writeFileSync(file, text, { mode: 0o755 });
  return file;
}

/** Answers as a QEMU, with these devices. */
function fake(version: { major: number; minor: number; micro: number }, devices: readonly string[]): string {
  return script(`#!${process.execPath}
    const say = value => console.log(JSON.stringify(value));
    say({ QMP: {} });
    require('node:readline').createInterface(process.stdin).on('line', line => {
      const { execute, arguments: given } = JSON.parse(line);
      if (execute === 'query-version') say({ return: { qemu: ${JSON.stringify(version)}, package: 'fake' } });
      else if (given === undefined) say({ return: {} });
      else if (${JSON.stringify(devices)}.includes(given.typename)) say({ return: [{ name: 'fsts' }] });
      else say({ error: { class: 'DeviceNotFound', desc: 'not here' } });
    });`);
}

const MISTAKES: readonly (readonly [string, string, RegExp])[] = [
  ['is not there', join(folder, 'nothing'), /cannot be compared with: spawn .* ENOENT/],
  ['is a folder', folder, /EACCES/],
  ['ends at once', script('#!/bin/sh\n'), /it ended at once/],
  ['ends with a message', script('#!/bin/sh\necho one >&2; echo two >&2; exit 1\n'), /cannot be compared with: two/],
  ['says something else', script('#!/bin/sh\necho hello; exec sleep 900\n'), /is no QEMU: it said "hello"/],
  ['says nothing', script('#!/bin/sh\nexec sleep 900\n'), /said nothing as a QEMU would for 1 s/],
  ['has no remapping unit', fake({ major: 10, minor: 0, micro: 2 }, ['edu']), /has no intel-iommu device/],
  ['has no edu', fake({ major: 10, minor: 0, micro: 2 }, ['intel-iommu']), /has no edu device/],
];

for (const [what, program, message] of MISTAKES) {
  test(`a program that ${what} is refused`, async t => {
    const limit = what === 'says nothing' ? 1000 : TIMEOUT_MS;
    const error = await t.throwsAsync(askQemu(program, limit), { instanceOf: QemuError, message });
    t.true(error.message.startsWith(program), error.message);
  });
}

test('version, devices and property names are asked', async t => {
  const facts = await askQemu(fake({ major: 11, minor: 1, micro: 3 }, ['intel-iommu', 'edu', 'iommu-testdev']));
  t.deepEqual([facts.version, facts.series, facts.testdev], ['11.1.3 fake', '11.1', true]);
  t.false((await askQemu(fake({ major: 10, minor: 0, micro: 2 }, ['intel-iommu', 'edu']))).testdev);
  t.deepEqual(optionsFor(facts, ['x-flts=on']), ['fsts=on'], 'renamed since');
  t.throws(() => optionsFor(facts, ['caching-mode=on']), {
    instanceOf: QemuError,
    message: /no property caching-mode/,
  });
});

/** Runs the command. */
async function run(options: Partial<Parameters<typeof runDiff>[0]> & { qemu: string }) {
  const out: string[] = [];
  const err: string[] = [];
  const streams = {
    stdout: { write: (text: string) => out.push(text) },
    stderr: { write: (text: string) => err.push(text) },
  };
  const code = await runDiff({ seed: 1, count: 3, ...options }, streams);
  return { code, out: out.join(''), err: err.join('') };
}

test('a version that nobody has compared with is told before anything else', async t => {
  const unknown = fake({ major: 12, minor: 0, micro: 0 }, ['intel-iommu', 'edu']);
  const err: string[] = [];
  const streams = { stdout: { write: () => true }, stderr: { write: (text: string) => err.push(text) } };
  // It has none of the options, so that no program is run.
  const options = { qemu: unknown, seed: 1, count: 1, config: 'caching-mode' };
  await t.throwsAsync(runDiff(options, streams), { instanceOf: QemuError });
  t.deepEqual(err, ['remora: QEMU 12.0.0 fake was never compared with; known are 10.0, 10.2, 11.1\n']);
});

const qemu = findQemu();
const withQemu = 'program' in qemu ? test.serial : test.serial.skip;
const skipped = 'missing' in qemu ? ` (skipped: ${qemu.missing})` : '';

withQemu(
  `agreement is a line a configuration, aligned; few programs are told what they did not reach${skipped}`,
  async t => {
    t.timeout(TIMEOUT_MS);
    if (!('program' in qemu)) throw new Error(qemu.missing);
    const { code, out } = await run({ qemu: qemu.program });
    t.is(code, 0, out);
    const [first, ...lines] = out.trimEnd().split('\n');
    t.regex(first!, /^QEMU \d+\.\d+\.\d+/);
    const summaries = lines.filter(line => line.endsWith('agree'));
    t.is(summaries.length, 5, out);
    t.is(new Set(summaries.map(line => line.indexOf('programs'))).size, 1);
    t.true(lines.slice(5).every(line => line.startsWith('not reached by fewer than ')));
  },
);

withQemu(`a difference is saved as a small program that can be run again, and as lines${skipped}`, async t => {
  t.timeout(TIMEOUT_MS);
  if (!('program' in qemu)) throw new Error(qemu.missing);
  // A QEMU whose tables are narrower than they should be.
  const narrow = script(`#!/bin/bash\nexec ${qemu.program} "\${@/#intel-iommu/intel-iommu,aw-bits=39}"\n`);
  const save = join(folder, 'program.json');
  const lines = join(folder, 'lines');
  const { code, out, err } = await run({ qemu: narrow, config: 'legacy', save, lines });
  t.is(code, 1, out);
  t.regex(out, /DIFFERENCE\n {2}seed \d+, operation \d+: /);
  t.regex(err, /-accel qtest -qtest stdio < /);

  const program = readProgram(save);
  const sent = readFileSync(lines, 'utf8').trimEnd().split('\n');
  t.deepEqual(
    sent.filter(line => !line.startsWith('clock_step')),
    compile(program).map(({ text }) => text),
  );
  const again = await run({ qemu: narrow, program: save });
  t.is(again.code, 1, again.out);
  t.is(again.out.split('\n')[2], out.split('\n')[2], 'the same difference');
  t.is((await run({ qemu: qemu.program, program: save })).code, 0, 'a whole QEMU agrees');
});

withQemu(`a QEMU that ends on the way is told with the program that ended it${skipped}`, async t => {
  t.timeout(TIMEOUT_MS);
  if (!('program' in qemu)) throw new Error(qemu.missing);
  // Killed by who hands it its lines.
  const short = script(`#!/bin/bash
case "$*" in *"-M none"*) exec ${qemu.program} "$@" ;; esac
lines() {
  for ((line = 0; line < 300; line++)); do
    IFS= read -r text || exit
    printf '%s\\n' "$text"
  done
  kill -9 $$
}
exec ${qemu.program} "$@" < <(lines)
`);
  await t.throwsAsync(run({ qemu: short, config: 'legacy', count: 100_000 }), {
    instanceOf: QemuError,
    message: /^legacy, seed \d+: QEMU ended/,
  });
});
