/** What `remora` loads for a command: that one, not all of them. */
import test from 'ava';
import { loadedAtFirstLine } from './loaded.js';

const COMMAND = 'tools/bin/remora.js';

test('the version needs no machine', async t => {
  const { line, modules } = await loadedAtFirstLine(COMMAND, ['--version'], '');
  t.regex(line, /^\d+\.\d+\.\d+$/);
  t.deepEqual(
    modules.filter(path => !path.startsWith('tools/') && !path.startsWith('node_modules/commander/')),
    [],
  );
});

test('the help needs the machines that it lists, but no other command', async t => {
  const { line, modules } = await loadedAtFirstLine(COMMAND, ['--help'], '');
  t.regex(line, /^Usage: remora /);
  t.deepEqual(
    modules.filter(path => /^tools\/dist\/(diff|replay|serve|system)\//.test(path)),
    [],
  );
});

test('a replay needs no ready-made machine', async t => {
  const recording = new URL('../../../tools/recordings/A61.trace.gz', import.meta.url).pathname;
  const { modules } = await loadedAtFirstLine(COMMAND, ['replay', recording], '');
  t.true(modules.some(path => path.startsWith('tools/dist/replay/')));
  t.deepEqual(
    modules.filter(path => path.startsWith('machines/')),
    [],
  );
});
