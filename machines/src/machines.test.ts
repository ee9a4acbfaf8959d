import test from 'ava';
import { Leaks } from '@remora/core';
import { machineOf } from '@remora/machine';
import * as exported from './index.js';
import { lendingHost, machines, q35Testdev, vsvaMachine } from './index.js';

for (const definition of machines) {
  test(`${definition.name} assembles, starts, resets and leaves nothing open, for every seed`, t => {
    t.regex(definition.description, /^\S.{20,100}$/);
    for (const seed of [1, 2, 77]) {
      Leaks.check(() => {
        const machine = definition.create({ seed });
        machine.start();
        machine.reset();
        t.true(machine.ids.length > 0);
        t.regex(machine.memory.tree(), /ram-below-4g/);
        (machine.host ?? machine)[Symbol.dispose]();
      });
    }
  });
}

test('names are unique', t => {
  const names = machines.map(({ name }) => name);
  t.deepEqual([...new Set(names)], names);
});

test('a machine of this package is what its own file would define', t => {
  t.is(machineOf('vsva.ts', { default: exported.vsva }), exported.vsva);
});

test('option strings assemble the ready-made machines too', t => {
  const typed = q35Testdev({ 'x-scalable-mode': 'on', 'aw-bits': 39 });
  const host = lendingHost();
  const nested = vsvaMachine(host, { name: 'typed' });
  const text = vsvaMachine(host, {
    name: 'typed2',
    board: 'q35,memory=64M',
    devices: ['vfio-pci,host=3f:00.0,addr=3', 'intel-iommu,scalable-mode=modern'],
  });
  const config = (machine: typeof nested): unknown => machine.inspect().toJSON()['devices'];
  t.deepEqual(config(nested), config(text));
  t.like(typed.inspect().toJSON(), { devices: { 'intel-iommu': { config: { 'aw-bits': 39 } } } });
  typed[Symbol.dispose]();
  host[Symbol.dispose]();
});

test('the seed moves host memory and nothing that the guest sees', t => {
  const [first, second] = [1, 2].map(seed => {
    const machine = exported.vsva.create({ seed });
    machine.start();
    t.teardown(() => machine.host![Symbol.dispose]());
    return machine;
  });
  t.deepEqual(first!.inspect().toJSON(), second!.inspect().toJSON());
  t.not(first!.board.ram.backing(9), second!.board.ram.backing(9));
});
