/** What a sweep found, for people and for programs. */
import { type FailNthReport, toldHowOften } from '@remora/testing';

const SHOWN_VIOLATIONS = 10;

/** A line, and the first violations. `width`: of the longest scenario's name; `called`: how it is named on a command line. */
export function textReport(report: FailNthReport, width: number, called = report.scenario): string {
  const { scenario, points, pointsFailed, accesses, accessesFailed, minimum, seed, outcomes, milliseconds } = report;
  const errnos = new Set(outcomes.map(({ errno }) => errno)).size;
  const violated = outcomes.filter(({ violations }) => violations.length > 0);
  const cells = [
    scenario.padEnd(width),
    `${outOf(pointsFailed, points)} points`,
    `${outOf(accessesFailed, accesses)} memory accesses`,
    `${String(errnos).padStart(2)} errnos`,
    `${String(outcomes.length).padStart(5)} lives`,
    `${String(violated.length).padStart(4)} violated`,
    `${(milliseconds / 1000).toFixed(1).padStart(6)} s`,
  ];
  const lines = [cells.join('  ')];
  if (points < minimum) lines.push(`  only ${points} points of failure, at least ${minimum} are expected`);
  for (const { point, name, errno, step, violations } of violated.slice(0, SHOWN_VIOLATIONS)) {
    lines.push(`  ${step === '' ? 'no step' : step}, ${name}: ${errno}`);
    for (const violation of violations) lines.push(`    ${violation}`);
    lines.push(`    again: remora fail-nth ${called} --seed ${seed} --point ${point}${again(errno)}`);
  }
  if (violated.length > SHOWN_VIOLATIONS) lines.push(`  and ${violated.length - SHOWN_VIOLATIONS} more`);
  return lines.map(line => `${line}\n`).join('');
}

/** Three digits each, which is enough for most: columns stay below each other. */
function outOf(some: number, all: number): string {
  return `${some} of ${all}`.padStart('999 of 999'.length);
}

/** What was told, and how often. */
export function textTold(report: FailNthReport): string {
  const told = [...toldHowOften(report)];
  const width = Math.max(...told.map(([, count]) => String(count).length));
  return told.map(([what, count]) => `  ${String(count).padStart(width)} x ${what}\n`).join('');
}

/** One object. */
export function jsonReport(report: FailNthReport): string {
  const { outcomes, ...rest } = report;
  const violations = outcomes.filter(({ violations: found }) => found.length > 0);
  const errnos: Record<string, number> = {};
  for (const { errno } of outcomes) errnos[errno] = (errnos[errno] ?? 0) + 1;
  return JSON.stringify({
    ...rest,
    lives: outcomes.length,
    errnos,
    told: Object.fromEntries(toldHowOften(report)),
    violations,
  });
}

/** How memory failed is not for --errno to say. */
function again(errno: string): string {
  return errno.startsWith('E') && !errno.startsWith('ERROR') ? ` --errno ${errno}` : '';
}
