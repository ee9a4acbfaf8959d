/** The `remora` command as a process: what a person types, with mistakes in it. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { folderInRepository, remora } from './rig/processes.js';

const MACHINE = fileURLToPath(new URL('../fixtures/my-machine.ts', import.meta.url));

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
    const file = join(folderInRepository(t, 'machine-'), 'machine.ts');
    await writeFile(file, text);
    const { exitCode, stdout, stderr } = await remora('run', file);
    t.is(exitCode, 2);
    t.is(stdout, '');
    t.regex(stderr, message);
    t.is(stderr.trim().split('\n').length, 1, stderr);
  });
}
