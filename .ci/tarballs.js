/**
 * What a stranger gets: packs every public package, installs the tarballs into an empty folder, and does there what the README and
 * the tutorials say. In those, a code block whose first line is `// NAME` is a file, and a line `$ COMMAND` of a `console` block is a
 * command. Nothing of the repository is in reach of that folder but the tarballs.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const TUTORIALS = join(ROOT, 'docs/tutorials');
/** Its command waits for a QEMU: a test types it (test/src/vfio-user/serve.test.ts). */
const NEEDS_QEMU = 'device-in-a-real-guest.md';

/** The most that a user may have switched on: what does not hold then is our mistake, not theirs. */
const STRICT = {
  compilerOptions: {
    module: 'nodenext',
    target: 'es2023',
    types: ['node'],
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    noEmit: true,
  },
  include: ['*.ts'],
};

const readJson = file => JSON.parse(readFileSync(file, 'utf8'));

/** Returns what the command printed. @throws Error with all that it printed if it fails. */
function run(cwd, command, args) {
  const options = { cwd, encoding: 'utf8', env: ENVIRONMENT, maxBuffer: 2 ** 26 };
  const { error, status, stdout, stderr } = spawnSync(command, args, options);
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${[command, ...args].join(' ')}: exit code ${status}\n${stdout}${stderr}`);
  return stdout;
}

/** Without what npm adds when it runs this script: the folder should not learn of the repository. */
const ENVIRONMENT = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^npm_(package|lifecycle|config_local_prefix)|^INIT_CWD$/.test(name)),
);

/** Packs all workspaces that are not private. Returns the tarballs. @throws Error if one ships what it should not. */
function pack(into) {
  const workspaces = JSON.parse(run(ROOT, 'npm', ['query', '.workspace'])).filter(found => found.private !== true);
  const args = workspaces.flatMap(({ name }) => ['--workspace', name]);
  const packed = JSON.parse(
    run(ROOT, 'npm', ['pack', '--json', '--loglevel=error', `--pack-destination=${into}`, ...args]),
  );
  for (const { name, files } of packed) {
    const paths = files.map(file => file.path);
    const strays = paths.filter(path => /\.test\.|\.tsbuildinfo$|^(?!src|dist|bin|live|recordings)[^/]+\//.test(path));
    if (strays.length > 0) throw new Error(`${name} ships ${strays.join(', ')}`);
    const missing = ['package.json', 'LICENSE', 'README.md', ...entryPoints(name, workspaces)].filter(
      path => !paths.includes(path),
    );
    if (missing.length > 0) throw new Error(`${name} does not ship ${missing.join(', ')}`);
  }
  console.log(`${packed.length} tarballs, ${Math.round(packed.reduce((sum, { size }) => sum + size, 0) / 1024)} KiB`);
  return packed.map(({ filename }) => join(into, filename));
}

/** Files that `exports` and `bin` of a package name. */
function entryPoints(name, workspaces) {
  const { location } = workspaces.find(workspace => workspace.name === name);
  const { exports = {}, bin = {} } = readJson(join(ROOT, location, 'package.json'));
  const targets = Object.values(exports).flatMap(target =>
    typeof target === 'string' ? [target] : Object.values(target),
  );
  return [...targets, ...Object.values(bin)].map(path => path.replace(/^\.\//, ''));
}

/** Every `exports` entry that code can import. */
function specifiers(installed) {
  const scopes = ['@remora', '@hw'].flatMap(scope =>
    readdirSync(join(installed, scope)).map(name => `${scope}/${name}`),
  );
  return scopes.flatMap(name =>
    Object.keys(readJson(join(installed, name, 'package.json')).exports)
      .filter(entry => entry !== './package.json')
      .map(entry => name + entry.slice(1)),
  );
}

/** Files and commands that a document tells its reader to write and to type. */
export function instructions(markdown) {
  const blocks = [...markdown.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language, text]) => ({
    language,
    text,
  }));
  const files = blocks.flatMap(({ text }) => {
    const name = /^\/\/ ([\w.-]+)\n/.exec(text)?.[1];
    return name === undefined ? [] : [{ name, text }];
  });
  const commands = blocks
    .filter(({ language }) => language === 'console')
    .flatMap(({ text }) => [...text.matchAll(/^\$ (.*)$/gm)].map(([, command]) => command));
  return { files, commands };
}

function follow(document, folder) {
  const { files, commands } = instructions(readFileSync(document, 'utf8'));
  if (commands.length === 0) throw new Error(`${document} tells its reader nothing to type`);
  mkdirSync(folder);
  for (const { name, text } of files) writeFileSync(join(folder, name), text);
  if (files.some(({ name }) => name.endsWith('.ts'))) {
    writeFileSync(join(folder, 'tsconfig.strict.json'), JSON.stringify(STRICT));
    run(folder, 'npx', ['--no-install', 'tsc', '-p', 'tsconfig.strict.json']);
  }
  for (const command of commands) {
    console.log(`${basename(document)}: $ ${command}`);
    run(folder, 'bash', ['-o', 'pipefail', '-c', command]);
  }
}

const temporary = mkdtempSync(join(tmpdir(), 'remora-tarballs-'));
try {
  const tarballs = pack(temporary);
  const empty = join(temporary, 'empty');
  mkdirSync(empty);
  writeFileSync(join(empty, 'package.json'), JSON.stringify({ name: 'stranger', private: true, type: 'module' }));
  const { devDependencies } = readJson(join(ROOT, 'package.json'));
  const types = `@types/node@${devDependencies['@types/node']}`;
  run(empty, 'npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error', types, ...tarballs]);

  const all = specifiers(join(empty, 'node_modules'));
  const imports = all.map(specifier => `import '${specifier}';\n`).join('');
  mkdirSync(join(empty, 'imports'));
  writeFileSync(join(empty, 'imports', 'imports.ts'), imports);
  writeFileSync(join(empty, 'imports', 'imports.js'), imports);
  writeFileSync(join(empty, 'imports', 'tsconfig.json'), JSON.stringify(STRICT));
  run(join(empty, 'imports'), 'npx', ['--no-install', 'tsc']);
  run(join(empty, 'imports'), 'node', ['imports.js']);
  console.log(`${all.length} entry points resolve, with their types`);

  run(empty, 'npx', ['--no-install', 'remora', '--help']);
  run(empty, 'npx', ['--no-install', 'remora-system-x86_64', '--version']);
  run(empty, 'npx', ['--no-install', 'remora', 'replay', 'node_modules/@remora/tools/recordings/A61.trace.gz']);

  const tutorials = readdirSync(TUTORIALS).filter(name => name.endsWith('.md') && name !== NEEDS_QEMU);
  for (const document of [join(ROOT, 'README.md'), ...tutorials.map(name => join(TUTORIALS, name))]) {
    follow(document, join(empty, basename(document, '.md')));
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  rmSync(temporary, { recursive: true });
}
