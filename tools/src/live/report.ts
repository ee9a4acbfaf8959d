/** What a live run found, for people and for programs. */
import type { LiveBootResult, LiveResult } from './live-run.js';
import type { Peers } from './peers/peers.js';

/** Registers and descriptors that are listed by name. */
const LISTED = 8;

export function textReport({ mode, seconds, boots }: LiveResult): string {
  const failed = boots.flatMap(({ checks }) => checks.filter(({ ok }) => !ok));
  const lines = [
    `${mode.name}: ${failed.length === 0 ? 'as it should be' : `FAILED (${failed.map(({ name }) => name).join(', ')})`}, ${seconds.toFixed(1)} s`,
  ];
  for (const [index, boot] of boots.entries()) lines.push(...bootLines(boot, boots.length > 1 ? index + 1 : undefined));
  return `${lines.join('\n')}\n`;
}

function bootLines({ checks, account }: LiveBootResult, number: number | undefined): string[] {
  const lines = number === undefined ? [] : [`  boot ${number}`];
  const width = Math.max(...checks.map(({ name }) => name.length));
  for (const { name, ok, found } of checks) lines.push(`  ${ok ? 'ok  ' : 'FAIL'} ${name.padEnd(width)}  ${found}`);
  if (account === undefined) return lines;
  const { reads, writes, descriptors, translated, passed, refused, direct, asked } = account;
  const devices = asked > 0 ? [`  device TLBs      ${direct} transfers, ${asked} translations asked for`] : [];
  return [
    ...lines,
    `  register writes  ${counts(writes)}`,
    `  register reads   ${counts(reads)}`,
    `  descriptors      ${counts(descriptors)}`,
    `  transfers        ${translated} translated, ${passed} passed through, ${refused} refused`,
    ...devices,
  ];
}

function counts(all: ReadonlyMap<string, number>): string {
  const sorted = [...all].sort(([, a], [, b]) => b - a);
  const listed = sorted.slice(0, LISTED).map(([name, count]) => `${name} ${count}`);
  return [...listed, ...(sorted.length > LISTED ? [`${sorted.length - LISTED} others`] : [])].join(', ') || 'none';
}

/** One object a run. */
export function jsonReport({ mode, seconds, boots }: LiveResult, peers: Peers): string {
  return JSON.stringify({
    mode: mode.name,
    qemu: peers.qemuVersion,
    linux: peers.kernel.version,
    seconds,
    boots: boots.map(({ checks, report, account }) => ({
      checks,
      dmar: report?.dmar ?? [],
      ...(account === undefined
        ? {}
        : {
            ...account,
            reads: Object.fromEntries(account.reads),
            writes: Object.fromEntries(account.writes),
            descriptors: Object.fromEntries(account.descriptors),
          }),
    })),
  });
}
