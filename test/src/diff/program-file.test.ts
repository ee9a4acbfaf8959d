/** Programs as files: what was written is read, and what is no program is refused. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { ConfigError } from '@remora/core';
import { compile, CONFIGS, generate, readProgram, writeLines, writeProgram } from '@remora/tools/diff';

const folder = mkdtempSync(join(tmpdir(), 'remora-programs-'));
test.after.always(() => rmSync(folder, { recursive: true }));

test('a program that was written is read again, whatever is in it', t => {
  const kinds = new Set<string>();
  for (const config of CONFIGS) {
    for (let seed = 1; seed <= 30; seed++) {
      const program = generate(config, seed, true);
      const file = join(folder, `${config.name}-${seed}.json`);
      writeProgram(file, program);
      t.deepEqual(readProgram(file), program);
      for (const { kind } of program.operations) kinds.add(kind);
    }
  }
  t.is(kinds.size, 6);
});

test('the lines are those of the program, and time goes on where a transfer is waited for', t => {
  const program = generate(CONFIGS[0]!, 1);
  const file = join(folder, 'lines');
  writeLines(file, program);
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  t.deepEqual(
    lines.filter(line => line !== 'clock_step 100000000'),
    compile(program).map(({ text }) => text),
  );
  t.is(lines.length - compile(program).length, compile(program).filter(({ untilIdle }) => untilIdle === true).length);
});

const REFUSED: readonly (readonly [string, RegExp])[] = [
  ['{', /is not JSON/],
  ['[]', /is no program: expected an object with config and operations/],
  ['{"operations": []}', /\.config: must be given/],
  ['{"config": "legacy"}', /\.operations: must be given/],
  ['{"config": "other", "operations": []}', /\.config: "other" is not one of legacy, /],
  ['{"config": "legacy", "operations": [], "more": 1}', /\.more: unknown property/],
  ['{"config": "legacy", "operations": 5}', /\.operations: 5 is not a list/],
  ['{"config": "legacy", "operations": [5]}', /5 is not an operation/],
  ['{"config": "legacy", "operations": [{"kind": "toString"}]}', /kind is not one of memory, /],
  ['{"config": "legacy", "operations": [{"kind": "faults"}]}', /faults\.clear: must be given/],
  ['{"config": "legacy", "operations": [{"kind": "faults", "clear": 7}]}', /faults\.clear: "7" is not on or off/],
  [
    '{"config": "legacy", "operations": [{"kind": "memory", "at": 0, "words": [1, -1]}]}',
    /memory\.words: \[1,-1\] is not a list of 2 or 4 or 8 or 16 whole numbers/,
  ],
  [
    '{"config": "legacy", "operations": [{"kind": "memory", "at": 99999999, "words": [1, 1]}]}',
    /memory\.at: "99999999" is not a whole number from 0 to/,
  ],
  [
    '{"config": "legacy", "operations": [{"kind": "descriptor", "words": [1, 2]}]}',
    /descriptor\.words: \[1,2\] is not a list of 4 or 8/,
  ],
];

for (const [text, message] of REFUSED) {
  test(`refused: ${text}`, t => {
    const file = join(folder, `${REFUSED.findIndex(each => each[0] === text)}.bad`);
    writeFileSync(file, text);
    const error = t.throws(() => readProgram(file), { instanceOf: ConfigError, message });
    t.true(error.message.startsWith(file), error.message);
  });
}

test('a file that is not there, and one that cannot be written', t => {
  const nowhere = join(folder, 'no', 'where');
  t.throws(() => readProgram(nowhere), { instanceOf: ConfigError, message: /ENOENT/ });
  t.throws(() => writeProgram(nowhere, generate(CONFIGS[0]!, 1)), { instanceOf: ConfigError, message: /ENOENT/ });
});
