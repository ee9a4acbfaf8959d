/** The `remora` command as a process: what a person types, with mistakes in it. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const MACHINE = join(REPOSITORY, 'test/fixtures/my-machine.ts');

function remora(...args: string[]): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  return new Promise(resolve => {
    const child = execFile(
      process.execPath,
      [join(REPOSITORY, 'tools/bin/remora.js'), ...args],
      (_, stdout, stderr) => {
        resolve({ exitCode: child.exitCode ?? -1, stdout, stderr });
      },
    );
  });
}

/** Runs a machine file with this text, from a folder of its own inside the repository. */
async function runText(text: string): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  const folder = await mkdtemp(join(REPOSITORY, 'test/dist/machine-'));
  try {
    const file = join(folder, 'machine.ts');
    await writeFile(file, text);
    return await remora('run', file);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("a person's own machine file runs, and its guest's steps are shown", async t => {
  const { exitCode, stdout, stderr } = await remora('run', MACHINE);
  t.is(stderr, '');
  t.is(exitCode, 0);
  t.regex(stdout, /guest-physical/);
  t.regex(stdout, /read 4 B at/);
});

for (const [name, text, message] of [
  ['a syntax error', 'const a = 1;\nexport const x: = a', /machine\.ts: line 2: Unexpected token/],
  ['a module that is not there', "import './nowhere.js';", /machine\.ts: Cannot find module/],
  ['no machine', 'export default 3;', /exports no machine: expected one default export/],
  [
    'a mistake in a device',
    "import { createMachine } from '@remora/machine';\nimport q35 from '@hw/q35/plugin';\n" +
      "export default () => createMachine(undefined, { board: 'q35,memroy=1M', plugins: [q35] });",
    /board\.memroy: unknown property.*memory/,
  ],
] as const) {
  test(`a machine file with ${name}: one line, exit code 2`, async t => {
    const { exitCode, stdout, stderr } = await runText(text);
    t.is(exitCode, 2);
    t.is(stdout, '');
    t.regex(stderr, message);
    t.is(stderr.trim().split('\n').length, 1, stderr);
  });
}
