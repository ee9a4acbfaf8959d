/** How fast a machine starts is counted here, in what it loads until it answers: times depend on who else is at work. */
import { statSync } from 'node:fs';
import test from 'ava';
import { loadedAtFirstLine, ROOT } from './loaded.js';

const PROGRAM = 'tools/bin/remora-system-x86_64';
const MODULES = 'tools/dist/system/main.js';
const BUNDLE = 'tools/dist/bundle/';
const MACHINE = '-M q35 -device intel-iommu'.split(' ');
const QTEST = [...MACHINE, '-qtest', 'stdio', '-qtest-log', 'none'];
const QMP = [...MACHINE, '-qmp', 'stdio'];
const IDENTITY = 'readl 0xfed90000\n';
const REPLY = 'OK 0x0000000000000010';

/** With some room to grow: 8 files of 1.3 MB, and 338 modules besides 248 of inversify and other packages. */
const FILES = 12;
const BYTES = 1_500_000;
const OWN_MODULES = 370;
const FOREIGN_MODULES = 260;
/** What only monitors, simulated hosts and people at a terminal need. */
const LATER = /^(packages\/(qmp|host-sim|testing)|machines|tools\/dist\/(qmp|cli|diff|replay))\//;

test('a few files are loaded until the first qtest reply', async t => {
  const { line, modules } = await loadedAtFirstLine(PROGRAM, QTEST, IDENTITY);
  t.is(line, REPLY);
  const [first, ...bundled] = modules;
  t.is(first, PROGRAM);
  const strays = bundled.filter(path => !path.startsWith(BUNDLE));
  t.is(strays.length, 0, 'modules were compiled after the bundle: "npm run build" makes both');
  t.true(modules.length <= FILES, `${modules.length} files`);
  const bytes = modules.reduce((sum, path) => sum + statSync(new URL(path, ROOT)).size, 0);
  t.true(bytes <= BYTES, `${bytes} bytes`);
});

test('the monitor is loaded when one is asked for', async t => {
  const isMonitor = (path: string): boolean => /\/monitor[^/]*\.mjs$/.test(path);
  const without = await loadedAtFirstLine(PROGRAM, QTEST, IDENTITY);
  t.false(without.modules.some(isMonitor));
  const { line, modules } = await loadedAtFirstLine(PROGRAM, QMP, '');
  t.regex(line, /^\{"QMP":/);
  t.true(modules.some(isMonitor), 'or "npm run build" was forgotten');
});

test('the bundle is made of no more modules than the first reply needs', async t => {
  const { line, modules } = await loadedAtFirstLine(MODULES, QTEST, IDENTITY);
  t.is(line, REPLY);
  const foreign = modules.filter(path => path.startsWith('node_modules/'));
  t.true(foreign.length <= FOREIGN_MODULES, `${foreign.length} modules of other packages`);
  t.true(modules.length - foreign.length <= OWN_MODULES, `${modules.length - foreign.length} modules`);
  t.deepEqual(
    modules.filter(path => LATER.test(path)),
    [],
  );
  const monitored = await loadedAtFirstLine(MODULES, QMP, '');
  t.true(monitored.modules.some(path => path.startsWith('packages/qmp/')));
});
