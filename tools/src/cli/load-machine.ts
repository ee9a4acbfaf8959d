/** From what a person names on the command line to a machine: a ready-made one by its name, or their own TypeScript file. */
import { existsSync } from 'node:fs';
import { register } from 'node:module';
import { basename, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
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
  throw new UsageError(
    `there is no machine "${named}"${didYouMean(named, names)}; expected ${names.join(', ')}, or a file that ends in .ts`,
  );
}

async function loadFile(named: string): Promise<MachineDefinition> {
  const file = resolve(named);
  if (!existsSync(file)) throw new UsageError(`${named}: no such file`);
  if (/\.[cm]?ts$/.test(file)) registerTypeScript();
  try {
    return machineOf(basename(file), (await import(pathToFileURL(file).href)) as Record<string, unknown>);
  } catch (problem) {
    throw new UsageError(`${named}: ${explain(problem)}`, { cause: problem });
  }
}

/** TypeScript through ts-node, transpiled by swc: types are the editor's business, a run should start at once. */
function registerTypeScript(): void {
  process.env['TS_NODE_SWC'] ??= 'true';
  process.env['TS_NODE_SKIP_PROJECT'] ??= 'true';
  process.env['TS_NODE_COMPILER_OPTIONS'] ??= JSON.stringify({
    module: 'nodenext',
    moduleResolution: 'nodenext',
    target: 'es2022',
  });
  register('ts-node/esm', import.meta.url);
}

function explain(problem: unknown): string {
  const message = problem instanceof Error ? (problem.message.split('\n')[0] ?? '') : String(problem);
  const code = (problem as { code?: unknown } | undefined)?.code;
  if (code === 'ERR_REQUIRE_CYCLE_MODULE' || /Cannot use import statement|Unexpected token 'export'/.test(message)) {
    return 'is not an ES module: put "type": "module" into the package.json beside it, or name it .mts';
  }
  return message;
}
