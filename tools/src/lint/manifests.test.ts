/** What each room's package.json and tsconfig.json say, against what its source imports. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { isTest, ROOMS } from './rooms.js';

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly private?: boolean;
  readonly license: string;
  readonly exports?: Readonly<Record<string, string | { types: string; default: string }>>;
  readonly dependencies?: Readonly<Record<string, string>>;
}

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/**
 * Dependencies that no import shows. inversify asks for reflect-metadata; `remora run FILE.ts` registers ts-node by name, which loads
 * swc and TypeScript.
 */
const UNSEEN: Readonly<Record<string, readonly string[]>> = {
  '@remora/core': ['reflect-metadata'],
  '@remora/machine': ['reflect-metadata'],
  '@remora/tools': ['ts-node', '@swc/core'],
};
/** The lint rules run in the repository only: the package leaves them out. */
const NOT_SHIPPED = 'tools/src/lint/';

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const manifestOf = (folder: string): Manifest => JSON.parse(read(`${folder}/package.json`)) as Manifest;

/** Packages that the shipped source of `folder` imports. */
function importsOf(folder: string): string[] {
  const found = new Set<string>();
  for (const entry of readdirSync(join(ROOT, folder, 'src'), { recursive: true, withFileTypes: true })) {
    const file = relative(ROOT, join(entry.parentPath, entry.name));
    if (!file.endsWith('.ts') || (isTest(file) && !folder.startsWith('test')) || file.startsWith(NOT_SHIPPED)) continue;
    for (const [, name] of read(file).matchAll(/(?:from|^import) '((?:@[^/']+\/)?[^./'][^/']*)[^']*';$/gm)) {
      if (!name!.startsWith('node:')) found.add(name!);
    }
  }
  return [...found].sort();
}

const rooms = Object.entries(ROOMS);
const shipped = rooms.filter(([, { folder }]) => manifestOf(folder).private !== true);

test('each room is a package of its name and the common version', t => {
  const { version } = JSON.parse(read('package.json')) as Manifest;
  for (const [name, { folder }] of rooms) {
    const manifest = manifestOf(folder);
    t.deepEqual([manifest.name, manifest.version, manifest.license], [name, version, 'MIT'], folder);
    for (const [dependency, range] of Object.entries(manifest.dependencies ?? {})) {
      if (dependency in ROOMS) t.is(range, version, `${name} -> ${dependency}`);
    }
  }
});

test('only the tests are not for the public', t => {
  t.deepEqual(
    rooms.filter(room => !shipped.includes(room)).map(([name]) => name),
    ['@remora/test'],
  );
});

for (const [name, { folder }] of shipped) {
  test(`${name} depends on what it imports, and on nothing else`, t => {
    const expected = [...importsOf(folder), ...(UNSEEN[name] ?? [])].sort();
    t.deepEqual(Object.keys(manifestOf(folder).dependencies ?? {}).sort(), expected);
  });

  test(`${name} exports files that exist, with their types`, t => {
    for (const [entry, target] of Object.entries(manifestOf(folder).exports ?? {})) {
      const files = typeof target === 'string' ? [target] : [target.types, target.default];
      for (const file of files) t.true(existsSync(join(ROOT, folder, file)), `${entry}: ${file}`);
    }
  });

  test(`${name} ships the licence`, t => {
    t.is(read(`${folder}/LICENSE`), read('LICENSE'));
  });
}

test('each room is compiled after the rooms that it imports', t => {
  for (const [name, { folder }] of rooms) {
    const config = JSON.parse(read(`${folder}/tsconfig.json`)) as { references?: { path: string }[] };
    const referenced = (config.references ?? []).map(({ path }) => join(folder, path));
    for (const dependency of importsOf(folder)) {
      const room = ROOMS[dependency];
      if (room !== undefined) t.true(referenced.includes(room.folder), `${name} lacks a reference to ${dependency}`);
    }
  }
});
