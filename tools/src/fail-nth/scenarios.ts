/** From what a person names on the command line to scenarios: the ready-made ones, or their own file. */
import { didYouMean } from '@remora/core';
import { failNthScenarios } from '@remora/machines';
import type { AnyScenario } from '@remora/testing';
import { loadModule } from '../cli/load-machine.js';
import { UsageError } from '../cli/usage-error.js';

const ALL = 'all';

/**
 * `lend/vfio-nesting` is one, `lend` on each of its back ends, `all` are all; a name that ends in .ts or .js is a file that exports `scenario`.
 * @throws UsageError if there is none of that name.
 */
export async function scenariosNamed(named: string): Promise<readonly AnyScenario[]> {
  if (/\.[cm]?[jt]s$/.test(named)) return [scenarioOf(named, await loadModule(named))];
  const found = failNthScenarios.filter(({ name }) => named === ALL || name === named || name.startsWith(`${named}/`));
  if (found.length > 0) return found;
  const names = [ALL, ...new Set(failNthScenarios.flatMap(({ name }) => [name.split('/')[0]!, name]))];
  throw new UsageError(`there is no scenario "${named}"${didYouMean(named, names)}; a file's name ends in .ts`);
}

/** For --help: a line each. */
export function scenarioList(): string {
  const width = Math.max(...failNthScenarios.map(({ name }) => name.length));
  return failNthScenarios.map(({ name, description }) => `  ${name.padEnd(width)}  ${description}`).join('\n');
}

function scenarioOf(file: string, exported: Record<string, unknown>): AnyScenario {
  const scenario = exported['scenario'] ?? exported['default'];
  if (typeof scenario !== 'object' || scenario === null) {
    throw new UsageError(
      `${file}: it exports no scenario; "export const scenario: FailNthScenario = { name, begin }" is one`,
    );
  }
  const { name, begin, createWorld, minimum } = scenario as Record<string, unknown>;
  const problem = (what: string): UsageError => new UsageError(`${file}: its scenario has no ${what}`);
  if (typeof name !== 'string') throw problem('name');
  if (typeof begin !== 'function' && typeof createWorld !== 'function') throw problem('begin(), and no createWorld()');
  if (minimum !== undefined && typeof minimum !== 'number') throw problem('number as its minimum');
  return scenario as AnyScenario;
}
