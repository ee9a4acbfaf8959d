/** From what a person names on the command line to a machine: a ready-made one by its name, or their own TypeScript file. */
import { existsSync } from 'node:fs';
import { register } from 'node:module';
import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { inspect } from 'node:util';
import { didYouMean } from '@remora/core';
import { machineOf, type MachineDefinition } from '@remora/machine';
import { machines } from '@remora/machines';
import { UsageError } from './usage-error.js';

/** @throws UsageError if there is no such machine or file, or the file defines none. */
export async function loadMachine(named: string): Promise<MachineDefinition> {
  if (/\.[cm]?[jt]s$/.test(named)) return loadFile(named);
  const known = machines.find(machine => machine.name === named);
  if (known !== undefined) return known;
  const names = machines.map(machine => machine.name);
  throw new UsageError(`there is no machine "${named}"${didYouMean(named, names)}; a file's name ends in .ts`);
}

async function loadFile(named: string): Promise<MachineDefinition> {
  return machineOf(named, await loadModule(named));
}

/** What the JavaScript or TypeScript file `named` exports. @throws UsageError if there is no such file, or it cannot be loaded. */
export async function loadModule(named: string): Promise<Record<string, unknown>> {
  const file = resolve(named);
  if (!existsSync(file)) throw new UsageError(`${named}: no such file`);
  if (/\.[cm]?ts$/.test(file)) registerTypeScript();
  return load(named, file);
}

/** @throws UsageError if the file cannot be loaded. */
async function load(named: string, file: string): Promise<Record<string, unknown>> {
  try {
    return (await import(pathToFileURL(file).href)) as Record<string, unknown>;
  } catch (problem) {
    throw new UsageError(`${named}: ${explain(problem)}`, { cause: problem });
  }
}

/** TypeScript through ts-node, transpiled by swc: types are the editor's business, a run should start at once. */
function registerTypeScript(): void {
  process.env['TS_NODE_PROJECT'] ??= fileURLToPath(new URL('../../user-machine.tsconfig.json', import.meta.url));
  register('./typescript-hooks.js', import.meta.url);
  // The lines of exceptions are then those that the person wrote.
  process.setSourceMapsEnabled(true);
}

/** One line. What ts-node throws comes from another thread and has no class or fields of its own, only its text. */
function explain(problem: unknown): string {
  const code = (problem as { code?: unknown } | null | undefined)?.code;
  const message = problem instanceof Error ? problem.message : inspect(problem);
  const lines = message.split('\n').map(line => line.replace(/^(\s|×|x )+/, '').trim());
  const text = lines.find(line => line !== '') ?? 'cannot be loaded';
  if (code === 'ERR_REQUIRE_CYCLE_MODULE' || /Cannot use import statement|Unexpected token 'export'/.test(text)) {
    return 'is not an ES module: put "type": "module" into the package.json beside it, or name it .mts';
  }
  const line = /,-\[.*:(\d+):\d+\]/.exec(message)?.[1];
  return line === undefined ? text : `line ${line}: ${text}`;
}
