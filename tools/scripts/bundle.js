/**
 * Packs what `remora-system-x86_64` loads into a few files. Node needs half a millisecond to find and link a module, and there are 500 of
 * them: test programs start a machine for every test, and would wait a quarter of a second for each. Beside the files stand the licences
 * of what is in them, and `inputs.json`: what they were made of, with its times, so that tools/bin does not run a bundle of yesterday.
 */
import { readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const BUNDLE = join(ROOT, 'tools/dist/bundle');
/** Nobody runs what is half written. */
const UNFINISHED = `${BUNDLE}.new`;
const MODULES = `node_modules${sep}`;
/** CommonJS packages ask for Node's own modules so. */
const REQUIRE = "import { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);";

const began = Date.now();
rmSync(UNFINISHED, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: ROOT,
  entryPoints: ['tools/dist/system/main.js'],
  outdir: UNFINISHED,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  // What is imported when it is needed stays a file of its own.
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  banner: { js: REQUIRE },
  metafile: true,
  logLevel: 'warning',
});
const inputs = Object.keys(metafile.inputs).map(path => join(ROOT, path));
for (const path of inputs) {
  if (readFileSync(path, 'utf8').includes('import.meta'))
    throw new Error(`${path} looks for files beside itself, and would look beside the bundle`);
}
writeFileSync(join(UNFINISHED, 'LICENSES.txt'), licences());
// An input that was written meanwhile has changed since.
const times = inputs.map(path => [relative(BUNDLE, path), Math.min(statSync(path).mtimeMs, began)]);
writeFileSync(join(UNFINISHED, 'inputs.json'), JSON.stringify(times));
rmSync(BUNDLE, { recursive: true, force: true });
renameSync(UNFINISHED, BUNDLE);

/** Of each package from elsewhere: name, version, and every text about its licence. */
function licences() {
  const folders = new Set(inputs.filter(path => path.includes(MODULES)).map(packageFolder));
  const sections = [...folders].sort().map(folder => {
    const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const files = readdirSync(folder).filter(entry => /licen[cs]e|copyright/i.test(entry));
    if (files.length === 0) throw new Error(`${name} ${version} has no licence`);
    return [`${name} ${version}`, ...files.map(file => readFileSync(join(folder, file), 'utf8').trim())].join('\n\n');
  });
  return `${sections.join(`\n\n${'-'.repeat(80)}\n\n`)}\n`;
}

function packageFolder(path) {
  const start = path.lastIndexOf(MODULES) + MODULES.length;
  const [scope, name] = path.slice(start).split(sep);
  return path.slice(0, start) + (scope.startsWith('@') ? join(scope, name) : scope);
}
