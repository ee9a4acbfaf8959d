import test from 'ava';
import { ConfigError } from '@remora/core';
import { bench } from './bench.test.helper.js';
import { createMachine } from './create-machine.js';
import { defineMachine, machineOf, type MachineDefinition } from './define-machine.js';
import type { Machine } from './machine.js';

const create = ({ seed }: { seed: number }): Machine =>
  createMachine(undefined, { name: `vm${seed}`, board: 'bench', plugins: [bench().plugin] });
const mine = defineMachine({ name: 'mine', description: 'a bench', create });

function named(definition: MachineDefinition): string {
  using machine = definition.create({ seed: 4 });
  return `${definition.name} ${machine.name}`;
}

test('a machine file exports a definition, by default or as its only one, or a function', t => {
  t.is(named(machineOf('mine.ts', { default: mine, other: 5 })), 'mine vm4');
  t.is(named(machineOf('mine.ts', { mine, PLACE: '00:03.0' })), 'mine vm4');
  t.is(named(machineOf('mine.ts', { default: create })), 'create vm4');
  t.is(named(machineOf('mine.ts', { myMachine: create })), 'create vm4');
});

test('a file without a machine, or with several, is refused by its name', t => {
  const expected = 'expected one default export made by defineMachine(), or a function that returns a machine';
  t.throws(() => machineOf('empty.ts', {}), {
    instanceOf: ConfigError,
    message: `empty.ts: exports no machine: ${expected}`,
  });
  t.throws(() => machineOf('odd.ts', { default: 7, mine }), { message: `odd.ts: exports no machine: ${expected}` });
  t.throws(() => machineOf('two.ts', { mine, create }), { message: `two.ts: exports 2 machines: ${expected}` });
});

test('a definition needs a name that a command line can carry', t => {
  t.throws(() => defineMachine({ ...mine, name: 'My Machine' }), {
    instanceOf: ConfigError,
    message: 'name: "My Machine" is not a machine\'s name, as q35-testdev',
  });
});
