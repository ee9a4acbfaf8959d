import test from 'ava';
import { Linter } from 'eslint';
import { importProblem } from './layers.js';
import { plugin } from './index.js';

function messages(file: string, code: string): string[] {
  const linter = new Linter();
  const rules = { 'remora/layers': 'error', 'remora/log-names': 'error', 'remora/no-bigint': 'error' } as const;
  return linter
    .verify(code, [{ files: ['**/*.ts'], plugins: { remora: plugin }, rules }], file)
    .map(found => found.message);
}

test('a room imports downwards', t => {
  t.is(importProblem('packages/iommu/src/x.ts', '@remora/core'), undefined);
  t.is(importProblem('hw/intel-iommu/src/device/x.ts', '../spec/index.js'), undefined);
  t.is(importProblem('machines/src/x.ts', '@hw/q35/config'), undefined);
});

test('a room does not import upwards or sideways', t => {
  t.regex(
    importProblem('packages/core/src/x.ts', '@remora/iommu') ?? '',
    /^@remora\/core may not import @remora\/iommu; it may import @remora\/bits$/,
  );
  t.regex(importProblem('packages/bits/src/x.ts', '@remora/core') ?? '', /it may import no other room$/);
  t.regex(importProblem('hw/vfio-pci/src/x.ts', '@hw/intel-iommu') ?? '', /may not import @hw\/intel-iommu/);
  t.regex(importProblem('hw/vfio-pci/src/x.ts', '@remora/host-sim') ?? '', /may not import @remora\/host-sim/);
  t.regex(importProblem('packages/machine/src/x.ts', '@remora/testing') ?? '', /may not import @remora\/testing/);
});

test('a relative import stays in its room, and nothing imports tests', t => {
  t.regex(importProblem('packages/iommu/src/x.ts', '../../core/src/index.js') ?? '', /leaves packages\/iommu\/src/);
  t.is(importProblem('packages/iommu/src/x.ts', './x.test.js'), 'nothing imports tests');
});

test('models know no container; only a plug-in module does', t => {
  t.regex(importProblem('hw/q35/src/board.ts', 'inversify') ?? '', /may not import inversify/);
  t.is(importProblem('hw/q35/src/plugin.ts', 'inversify'), undefined);
  t.regex(importProblem('packages/pci/src/x.ts', 'node:fs') ?? '', /may not import node:fs/);
});

test('tests import what they like', t => {
  t.is(importProblem('packages/bits/src/x.test.ts', '@remora/machine'), undefined);
  t.is(importProblem('test/src/x.ts', '@remora/tools'), undefined);
});

test('the rules report through the linter, also for re-exports and dynamic imports', t => {
  t.is(messages('packages/core/src/x.ts', "import '@remora/pci';").length, 1);
  t.is(messages('packages/core/src/x.ts', "export * from '@remora/pci';").length, 1);
  t.is(messages('packages/core/src/x.ts', "export { a } from '@remora/pci';").length, 1);
  t.is(messages('packages/core/src/x.ts', "await import('@remora/pci');").length, 1);
  t.deepEqual(messages('packages/core/src/x.ts', "import '@remora/bits';"), []);
});

test('logger names mirror paths', t => {
  t.deepEqual(messages('hw/intel-iommu/src/x.ts', "logger('remora:hw:intel-iommu:queue', name);"), []);
  t.deepEqual(messages('packages/host-sim/src/x.ts', "logger('remora:host-sim', name);"), []);
  t.is(messages('hw/intel-iommu/src/x.ts', "logger('remora:intel-iommu', name);").length, 1);
  t.is(messages('hw/intel-iommu/src/x.ts', "logger('remora:hw:intel-iommu-x', name);").length, 1);
  t.is(messages('hw/intel-iommu/src/x.ts', 'logger(name);').length, 1);
});

test('hot modules have no BigInt', t => {
  for (const code of [
    'x = 1n;',
    'BigInt(1);',
    'new BigUint64Array(1);',
    'view.getBigUint64(0);',
    'field.big(words, 0);',
  ]) {
    t.is(messages('hw/intel-iommu/src/device/walk.ts', code).length, 1, code);
    t.deepEqual(messages('hw/intel-iommu/src/driver/driver.ts', code), [], code);
    t.deepEqual(messages('hw/intel-iommu/src/device/walk.test.ts', code), [], code);
  }
});
