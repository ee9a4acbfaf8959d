/** What a comparison found, for people and for programs. */
import { compile } from './compile.js';
import type { DiffResult } from './diff-command.js';
import type { Program } from './program.js';

/** Bytes of a long reply that are shown around its first difference. */
const SHOWN = 24;

export function textReport({ config, programs, coverage, found }: DiffResult): string {
  const all = coverage.transfers.read + coverage.transfers.write;
  const sum = (of: { read: number; write: number }): number => of.read + of.write;
  const counts = (map: ReadonlyMap<string | number, number>): string =>
    [...map].map(([name, count]) => `${name} (${count})`).join(', ') || 'none';
  const lines = [
    `${config.name}: ${programs} programs, ${coverage.operations} operations; ${all} transfers ${JSON.stringify(coverage.translated)} ${JSON.stringify(coverage.passed)} ${Math.round((sum(coverage.translated) / all) * 100)}% ${Math.round((sum(coverage.passed) / all) * 100)}%`,
    `  faults: ${counts(coverage.reasons)}`,
    `  descriptor types: ${counts(coverage.performed)} REFUSED ${counts(coverage.refused)}`,
    `  justified differences: ${counts(coverage.justified)}`,
  ];
  if (found === undefined) return [...lines, '  no difference', ''].join('\n');
  const { program, difference } = found;
  const at = [...difference.ours].findIndex((character, i) => character !== difference.theirs[i]);
  const shown = (reply: string): string =>
    reply.length <= 2 * SHOWN
      ? reply
      : `...${reply.slice(Math.max(0, at - SHOWN), at + SHOWN)}... (from character ${at})`;
  return [
    ...lines,
    `  DIFFERENCE, seed ${program.seed}, operation ${difference.line.of}: ${difference.line.text}`,
    `    model: ${shown(difference.ours)}`,
    `    QEMU:  ${shown(difference.theirs)}`,
    `  smallest program, ${program.operations.length} operations:`,
    ...operationLines(program).map(line => `    ${line}`),
    '',
  ].join('\n');
}

/** One object a configuration. */
export function jsonReport({ config, programs, coverage, found }: DiffResult): string {
  return JSON.stringify({
    config: config.name,
    programs,
    operations: coverage.operations,
    transfers: coverage.transfers,
    reasons: Object.fromEntries(coverage.reasons),
    justified: Object.fromEntries(coverage.justified),
    descriptors: Object.fromEntries(coverage.performed),
    ...(found === undefined
      ? {}
      : { difference: found.difference, program: found.program, lines: compile(found.program) }),
  });
}

function operationLines(program: Program): string[] {
  return program.operations.map((operation, index) => {
    const { kind, ...rest } = operation;
    const fields = Object.entries(rest).map(([name, value]) => {
      const text = Array.isArray(value) ? value.map(word => Number(word).toString(16)).join(' ') : value;
      return `${name} ${typeof text === 'number' ? `0x${text.toString(16)}` : String(text)}`;
    });
    return `${index} ${kind} ${fields.join(', ')}`;
  });
}
