import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { program } from './program.js';
import { UsageError } from './usage-error.js';

interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function failNth(args: readonly string[], terminal = false): Promise<Outcome> {
  const out: string[] = [];
  const err: string[] = [];
  const exitCode = await program(['fail-nth', ...args], {
    stdout: { write: text => out.push(text) },
    stderr: { write: text => err.push(text), isTTY: terminal },
  });
  return { exitCode, stdout: out.join(''), stderr: err.join('') };
}

/** A file with a scenario of one allocation, which is told, or `wrong`. */
function scenarioFile(t: ExecutionContext, text: string, name = 'own.mjs'): string {
  const folder = mkdtempSync(join(tmpdir(), 'remora-fail-nth-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

const OWN = `
export const scenario = {
  name: 'own',
  minimum: MINIMUM,
  begin(ports) {
    let held = 0;
    const allocate = () => (ports.inject('thing') === 0 ? (held++, 'all is well') : (held += LEAK, 'no thing'));
    return {
      steps: [
        { name: 'allocate', tells: 'no thing', run: allocate },
        { name: 'give back', run: () => ((held = 0), 'all is well') },
      ],
      dump: () => ({ held }),
      look: () => String(held),
      [Symbol.dispose]() {},
    };
  },
};`;

function own(t: ExecutionContext, { leak = 0, minimum = 1 } = {}): string {
  return scenarioFile(t, OWN.replace('LEAK', String(leak)).replace('MINIMUM', String(minimum)));
}

test('a file of a person: one line, exit 0', async t => {
  const { exitCode, stdout, stderr } = await failNth([own(t)]);
  t.is(exitCode, 0);
  t.is(stderr, '');
  t.regex(stdout, /^own {6}1 of 1 points {6}0 of 0 memory accesses {3}1 errnos {6}1 lives {5}0 violated +[0-9.]+ s\n$/);
});

test('a violation is told, with how to see it again: exit 1', async t => {
  const file = own(t, { leak: 1 });
  const { exitCode, stdout } = await failNth([file]);
  t.is(exitCode, 1);
  t.deepEqual(stdout.split('\n').slice(1), [
    '  allocate, allocate thing: ENOMEM',
    '    allocate, no thing: the host holds .held: 1, expected 0',
    '    allocate, no thing: sees "1", expected "0"',
    `    again: remora fail-nth ${file} --seed 1 --point 0 --errno ENOMEM`,
    '',
  ]);
});

test('too few points: exit 1', async t => {
  const { exitCode, stdout } = await failNth([own(t, { minimum: 2 })]);
  t.is(exitCode, 1);
  t.regex(stdout, /only 1 points of failure, at least 2 are expected/);
});

test('--json: one object; --verbose: what was told', async t => {
  const { stdout } = await failNth([own(t), '--json']);
  t.like(JSON.parse(stdout), {
    scenario: 'own',
    points: 1,
    pointsFailed: 1,
    accesses: 0,
    accessesFailed: 0,
    lives: 1,
    errnos: { ENOMEM: 1 },
    told: { 'allocate, allocate thing failed: no thing': 1 },
    violations: [],
  });
  const { stdout: verbose } = await failNth([own(t), '--verbose']);
  t.regex(verbose, /\n {2}1 x allocate, allocate thing failed: no thing\n$/);
});

test('a ready-made scenario, by name; progress on a terminal only', async t => {
  const args = ['share/vfio-nesting', '--only', 'VFIO_IOMMU_BIND', '--errno', 'ENOMEM'];
  const { exitCode, stdout, stderr } = await failNth(args, true);
  t.is(exitCode, 0);
  t.regex(
    stdout,
    /^share\/vfio-nesting +(?!(\d+) of \1 )\d+ of \d+ points +0 of \d+ memory accesses +1 errnos .* 0 violated/,
  );
  t.true(stderr.endsWith('\r\x1b[K'));
  t.is((await failNth(args)).stderr, '');
});

const REGISTERS = `
export const scenario = {
  name: 'registers',
  begin(ports) {
    const syscalls = ports.syscalls({ pread: () => 0 });
    const memory = ports.memory({ read: () => 0 });
    const run = () => {
      let failed = 0;
      for (let at = 0; at < 20; at++) failed |= syscalls.pread(3, new Uint8Array(1), at) | memory.read(0, at);
      return failed === 0 ? 'all is well' : 'not read';
    };
    return { steps: [{ name: 'read', tells: 'not read', run }], dump: () => 0, look: () => '', [Symbol.dispose]() {} };
  },
};`;

test('all registers fail and some of memory; --registers and --samples choose, and the line shows what is left out', async t => {
  const file = scenarioFile(t, REGISTERS);
  const { stdout } = await failNth([file]);
  t.regex(stdout, /^registers {4}20 of 20 points {4}16 of 20 memory accesses /);
  const { stdout: some } = await failNth([file, '--registers', '3', '--samples', 'all']);
  t.regex(some, /^registers {5}3 of 20 points {4}20 of 20 memory accesses /);
  t.is((await failNth([file, '--registers', 'all'])).stdout.split(' lives')[0], stdout.split(' lives')[0]);
  const { stdout: json } = await failNth([file, '--registers', '3', '--json']);
  t.like(JSON.parse(json), { points: 20, pointsFailed: 3, accesses: 20, accessesFailed: 16 });
});

test('--point says what was told', async t => {
  const { stdout } = await failNth(['lend/vfio-nesting', '--point', '0']);
  t.regex(stdout, /\n {2}1 x start, mmap failed: refused\n$/);
});

test('--help lists the scenarios', async t => {
  const { exitCode, stdout } = await failNth(['--help']);
  t.is(exitCode, 0);
  for (const name of ['lend/iommufd-nested', 'share/vfio-nesting']) t.true(stdout.includes(`\n  ${name}`));
  t.false(stdout.includes('Machines:'));
});

const mistakes: readonly (readonly [string[], RegExp])[] = [
  [['lend/vfio'], /there is no scenario "lend\/vfio".*lend/],
  [['lend', '--point', '3'], /--point is one of one scenario: lend\/vfio-nesting/],
  [['share/vfio-nesting', '--point', '99999'], /has \d+ points of failure, from 0 to \d+; there is no 99999/],
  [['share/vfio-nesting', '--only', 'mremap'], /no point of failure "mremap"/],
  [
    ['share/vfio-nesting', '--only', 'VFIO_IOMMU_BIN'],
    /point of failure "VFIO_IOMMU_BIN"; did you mean "VFIO_IOMMU_BIND"/,
  ],
  [['share/vfio-nesting', '--only', 'open', '--point', '1'], /--point and --only both choose points/],
  [['share/vfio-nesting', '--errno', 'EIOO'], /--errno: there is no "EIOO"; did you mean "EIO"/],
  [['share/vfio-nesting', '--samples', 'some'], /--samples: "some" is neither a number nor all/],
  [['share/vfio-nesting', '--registers', '-1'], /--registers: "-1" is neither a number nor all/],
  [['share/vfio-nesting', '--point', 'x'], /--point: "x" is not a number/],
  [['none.ts'], /none\.ts: no such file/],
];

for (const [args, message] of mistakes) {
  test(`a mistake: ${args.join(' ')}`, async t => {
    const error = await t.throwsAsync(failNth(args), { instanceOf: UsageError, message });
    t.false(error.message.includes('\n'), 'one line');
  });
}

test('a file without a scenario, and one that does not work undisturbed', async t => {
  const empty = scenarioFile(t, 'export const machine = {};');
  await t.throwsAsync(failNth([empty]), { instanceOf: UsageError, message: /exports no scenario/ });
  const parts: readonly (readonly [string, string])[] = [
    ['{ begin() {} }', 'name'],
    ["{ name: 'x' }", 'begin(), and no createWorld()'],
    ["{ name: 'x', begin() {}, minimum: 'ten' }", 'number as its minimum'],
  ];
  for (const [scenario, what] of parts) {
    const file = scenarioFile(t, `export const scenario = ${scenario};`);
    await t.throwsAsync(failNth([file]), { instanceOf: UsageError, message: `${file}: its scenario has no ${what}` });
  }
  const broken = OWN.replace('LEAK', '0').replace('MINIMUM', '0').replace("'all is well') : (", "'bad luck') : (");
  await t.throwsAsync(failNth([scenarioFile(t, broken)]), {
    instanceOf: UsageError,
    message: 'own, allocate: nothing failed, and it answers "bad luck", expected "all is well"',
  });
});

test("an exception of a person's TypeScript file: the line that they wrote", async t => {
  const text = `interface Nothing {
  readonly no: number;
}
export const scenario = {
  name: 'own',
  begin(): Nothing {
    throw new TypeError('no host today');
  },
};`;
  const message = /^own: throws TypeError: no host today \(at (?:Object\.)?begin \(.*own\.mts:7:11\)\)$/;
  await t.throwsAsync(failNth([scenarioFile(t, text, 'own.mts')]), { instanceOf: UsageError, message });
});
