/** What a live run found, for people and for programs. */
import type { LiveBootResult, LiveResult } from './live-run.js';
import type { UnitCounts } from './observed-unit.js';
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

function bootLines({ checks, account, host }: LiveBootResult, number: number | undefined): string[] {
  const lines = number === undefined ? [] : [`  boot ${number}`];
  const width = Math.max(...checks.map(({ name }) => name.length));
  for (const { name, ok, found } of checks) lines.push(`  ${ok ? 'ok  ' : 'FAIL'} ${name.padEnd(width)}  ${found}`);
  if (account === undefined) return lines;
  lines.push(...accountLines(account));
  if (host === undefined) return lines;
  const calls = [...host.calls].map(([name, { made }]): [string, number] => [name, made]);
  return [...lines, `  the host's kernel  ${counts(new Map(calls))}`, "  the host's unit", ...accountLines(host.unit)];
}

function accountLines({ reads, writes, descriptors, ...transfers }: UnitCounts): string[] {
  const { translated, passed, refused, direct, asked } = transfers;
  return [
    `  register writes  ${counts(writes)}`,
    `  register reads   ${counts(reads)}`,
    `  descriptors      ${counts(descriptors)}`,
    `  transfers        ${translated} translated, ${passed} passed through, ${refused} refused`,
    ...(asked > 0 ? [`  device TLBs      ${direct} transfers, ${asked} translations asked for`] : []),
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
    boots: boots.map(({ checks, report, account, host }) => ({
      checks,
      dmar: report?.dmar ?? [],
      ...(account === undefined ? {} : plain(account)),
      ...(host === undefined ? {} : { host: { calls: Object.fromEntries(host.calls), unit: plain(host.unit) } }),
    })),
  });
}

function plain(account: UnitCounts): object {
  const { reads, writes, descriptors } = account;
  const [read, written, by] = [reads, writes, descriptors].map(each => Object.fromEntries(each));
  return { ...account, reads: read, writes: written, descriptors: by };
}
