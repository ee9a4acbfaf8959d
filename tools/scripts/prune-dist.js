/**
 * Removes compiled files whose source is gone, so that the tests of a deleted file do not run and no package ships it.
 * `--all` removes every room's `dist` instead. Runs before anything is built: plain JavaScript, Node's own modules only.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const COMPILED = /\.(js|js\.map|d\.ts|d\.ts\.map)$/;

/** Folders that hold a tsconfig.json: `packages/*`, `hw/*` and the three rooms at the root. */
function rooms() {
  const inside = ['packages', 'hw'].flatMap(folder => readdirSync(join(ROOT, folder)).map(name => join(folder, name)));
  return [...inside, 'machines', 'test', 'tools']
    .map(folder => join(ROOT, folder))
    .filter(folder => existsSync(join(folder, 'tsconfig.json')));
}

/** Compiled files of `room` that no source stands behind. */
function orphans(room) {
  const dist = join(room, 'dist');
  return readdirSync(dist, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && COMPILED.test(entry.name))
    .map(entry => join(entry.parentPath, entry.name))
    .filter(file => !existsSync(join(room, 'src', file.slice(dist.length).replace(COMPILED, '.ts'))));
}

for (const room of rooms().filter(folder => existsSync(join(folder, 'dist')))) {
  if (process.argv.includes('--all')) {
    rmSync(join(room, 'dist'), { recursive: true });
    continue;
  }
  const gone = orphans(room);
  for (const file of gone) rmSync(file);
  // What the compiler remembers of the room no longer holds: it would not write a file again that comes back unchanged.
  if (gone.length > 0) rmSync(join(room, 'dist', '.tsbuildinfo'), { force: true });
}
