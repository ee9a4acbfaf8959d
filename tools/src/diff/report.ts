/** What a comparison found, for people and for programs. */
import { faultName } from '@hw/intel-iommu/spec';
import { compile } from './compile.js';
import { CONFIGS } from './configs.js';
import type { Coverage } from './coverage.js';
import type { DiffResult } from './diff-config.js';
import type { Program } from './program.js';
import type { QemuFacts } from './qemu-facts.js';
import { QUOTA_PROGRAMS, QUOTAS } from './quotas.js';
import type { Verdict } from './verdict.js';

/** Bytes of a long reply that are shown around its first difference. */
const SHOWN = 24;
const NAME_WIDTH = Math.max(...CONFIGS.map(({ name }) => name.length));

export function peerReport({ version, testdev }: QemuFacts): string {
  return `QEMU ${version}${testdev ? '' : ', which has no iommu-testdev: transfers are those of edu only'}\n`;
}

/** A line, and the difference if there is one. */
export function textReport({ config, programs, coverage, found }: DiffResult): string {
  const { transfers } = QUOTAS[config.name]!;
  const all = coverage.transfers.read + coverage.transfers.write;
  const share = Math.floor(((coverage[transfers].read + coverage[transfers].write) * 100) / Math.max(all, 1));
  const excused = [...coverage.justified.values()].reduce((sum, count) => sum + count, 0);
  const summary = [
    config.name.padEnd(NAME_WIDTH),
    `${String(programs).padStart(5)} programs`,
    `${String(coverage.operations).padStart(6)} operations`,
    `${String(all).padStart(5)} transfers, ${String(share).padStart(2)} % ${transfers.padEnd('translated'.length)}`,
    `${String(coverage.reasons.size).padStart(2)} fault reasons`,
    `${coverage.performed.size} descriptor types`,
    `${String(excused).padStart(3)} justified`,
    found === undefined ? 'agree' : 'DIFFERENCE',
  ];
  return `${summary.join('  ')}\n${found === undefined ? '' : differenceText(found)}`;
}

function differenceText({ program, difference }: NonNullable<DiffResult['found']>): string {
  const at = [...difference.ours].findIndex((character, i) => character !== difference.theirs[i]);
  const shown = (reply: string): string =>
    reply.length <= 2 * SHOWN
      ? reply
      : `...${reply.slice(Math.max(0, at - SHOWN), at + SHOWN)}... (from character ${at})`;
  return [
    `  seed ${program.seed}, operation ${difference.line.of}: ${difference.line.text}`,
    `    model: ${shown(difference.ours)}`,
    `    QEMU:  ${shown(difference.theirs)}`,
    `  smallest program, ${program.operations.length} operations:`,
    ...operationLines(program).map(line => `    ${line}`),
    '',
  ].join('\n');
}

export function textVerdict({ failures, told }: Verdict): string {
  return [
    ...failures.map(failure => `FAILED ${failure}`),
    ...told.map(each => `not reached by fewer than ${QUOTA_PROGRAMS} programs: ${each}`),
  ]
    .map(line => `${line}\n`)
    .join('');
}

/** One object a configuration. */
export function jsonReport({ config, programs, coverage, found }: DiffResult): string {
  const report = {
    config: config.name,
    programs,
    ...counts(coverage),
    ...(found === undefined
      ? {}
      : { difference: found.difference, program: found.program, lines: compile(found.program) }),
  };
  return `${JSON.stringify(report)}\n`;
}

function counts({ operations, transfers, translated, passed, ...maps }: Coverage): object {
  const named = (reasons: ReadonlyMap<number, number>): object =>
    Object.fromEntries([...reasons].map(([reason, count]) => [faultName(reason), count]));
  return {
    ...{ operations, transfers, translated, passed },
    reasons: named(maps.reasons),
    performed: Object.fromEntries(maps.performed),
    refused: Object.fromEntries(maps.refused),
    justified: Object.fromEntries(maps.justified),
  };
}

/** One object for all of them. */
export function jsonVerdict({ version, testdev }: QemuFacts, judged: Verdict): string {
  return `${JSON.stringify({ qemu: version, testdev, ...judged })}\n`;
}

function operationLines(program: Program): string[] {
  return program.operations.map((operation, index) => {
    const { kind, ...rest } = operation;
    const fields = Object.entries(rest).map(([name, value]) => `${name} ${fieldText(value)}`);
    return `${index} ${kind} ${fields.join(', ')}`.trimEnd();
  });
}

function fieldText(value: unknown): string {
  if (typeof value === 'number') return `0x${value.toString(16)}`;
  if (!Array.isArray(value)) return String(value);
  return Array.isArray(value[0])
    ? `[${value.map(fieldText).join('; ')}]`
    : value.map(word => Number(word).toString(16)).join(' ');
}
