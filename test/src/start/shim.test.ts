/** Which of the two the command in tools/bin starts: the bundle, or the modules that it was made of. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { runSync } from '../rig/processes.js';
import { ROOT } from './loaded.js';

const COMMAND = 'remora-system-x86_64';
/** When the modules were compiled; file systems keep time in steps, and what a test writes comes later in any of them. */
const COMPILED = new Date('2001-01-01');

/** A package of the command, modules and a bundle that say who they are. */
function packageOf(t: ExecutionContext): { path: (name: string) => string; said: () => string } {
  const folder = mkdtempSync(join(tmpdir(), 'remora-shim-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = (name: string): string => join(folder, name);
  for (const each of ['bin', 'dist/system', 'dist/bundle']) mkdirSync(path(each), { recursive: true });
  writeFileSync(path('package.json'), '{"type":"module"}');
  cpSync(fileURLToPath(new URL(`tools/bin/${COMMAND}`, ROOT)), path(`bin/${COMMAND}`));
  writeFileSync(path('dist/system/main.js'), 'console.log("modules")');
  writeFileSync(path('dist/bundle/main.mjs'), 'console.log("bundle")');
  writeFileSync(path('dist/other.js'), '');
  const inputs = ['../system/main.js', '../other.js'].map(name => {
    const module = path(`dist/bundle/${name}`);
    utimesSync(module, COMPILED, COMPILED);
    return [name, statSync(module).mtimeMs];
  });
  writeFileSync(path('dist/bundle/inputs.json'), JSON.stringify(inputs));
  const said = (): string => {
    const { stdout, stderr } = runSync(process.execPath, [path(`bin/${COMMAND}`)]);
    return (stdout + stderr).trim();
  };
  return { path, said };
}

test('the bundle, while it is made of what is there', t => {
  t.is(packageOf(t).said(), 'bundle');
});

test('the modules, once one of them was compiled again', t => {
  const { path, said } = packageOf(t);
  writeFileSync(path('dist/other.js'), '// changed');
  t.is(said(), 'modules');
});

test('the modules, once one of them is gone', t => {
  const { path, said } = packageOf(t);
  rmSync(path('dist/other.js'));
  t.is(said(), 'modules');
});

test('the modules, where no bundle was made', t => {
  const { path, said } = packageOf(t);
  rmSync(path('dist/bundle'), { recursive: true });
  t.is(said(), 'modules');
});

test('the bundle of a published package, whose modules do not change', t => {
  const { path, said } = packageOf(t);
  rmSync(path('dist/bundle/inputs.json'));
  writeFileSync(path('dist/other.js'), '// where it came from');
  t.is(said(), 'bundle');
});

test('what to do, where nothing was built', t => {
  const { path, said } = packageOf(t);
  rmSync(path('dist'), { recursive: true });
  t.is(said(), `${COMMAND}: not built yet: run "npm run build" first`);
});
