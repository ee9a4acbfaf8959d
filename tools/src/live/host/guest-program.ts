/** Node, our program for it and koffi, as files of a guest. */
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LiveError } from '../peers/live-error.js';

const MAIN = fileURLToPath(new URL('guest-main.js', import.meta.url));
const NATIVE = `@koromix/koffi-linux-${process.arch}`;
/** CommonJS packages ask for Node's own modules so. */
const REQUIRE =
  "import { createRequire as requiringFor } from 'node:module';\nconst require = requiringFor(import.meta.url);";

/** What is used of esbuild. */
interface Packer {
  buildSync(options: Readonly<Record<string, unknown>>): unknown;
}

/**
 * Writes the program to `bundle`. Gives the sources of the guest's files, by their paths there: `node main.mjs` can be run then.
 * @throws LiveError if koffi or esbuild is not installed, or this Node is none for the guest's processor.
 */
export function guestProgram(bundle: string): Record<string, string> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new LiveError(
      `this Node is for ${process.platform} on ${process.arch}: it cannot run in a guest with Linux on x64`,
    );
  const require = createRequire(import.meta.url);
  const { buildSync } = found<Packer>('esbuild', name => require(name) as Packer);
  buildSync({
    entryPoints: [MAIN],
    outfile: bundle,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    banner: { js: REQUIRE },
    logLevel: 'error',
  });
  return { 'main.mjs': bundle, 'bin/node': process.execPath, ...libraries(), ...koffi(require) };
}

/** The shared libraries that this Node runs with. */
function libraries(): Record<string, string> {
  const { sharedObjects } = process.report.getReport() as unknown as { sharedObjects: string[] };
  const files = sharedObjects.filter(path => path.startsWith('/') && !path.endsWith('.node'));
  return Object.fromEntries(files.map(path => [path.slice(1), path]));
}

function koffi(require: NodeJS.Require): Record<string, string> {
  const main = dirname(found('koffi', name => require.resolve(name)));
  const native = dirname(found(NATIVE, name => createRequire(join(main, 'x')).resolve(name)));
  const files: Record<string, string> = {};
  for (const [name, folder] of [
    ['koffi', main],
    [NATIVE, native],
  ] as const) {
    for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      if (/^(vendor|doc|musl|lib)/.test(path) || !/\.(cjs|js|json|node)$/.test(path)) continue;
      files[`node_modules/${name}/${path}`] = join(folder, path);
    }
  }
  return files;
}

function found<T>(name: string, look: (name: string) => T): T {
  try {
    return look(name);
  } catch (cause) {
    throw new LiveError(`mode host needs ${name}, which is not installed here: npm install ${name}`, { cause });
  }
}
