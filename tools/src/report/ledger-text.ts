/** Ledger events as text and as JSON, for any machine. */
import type { LedgerEvent } from '@remora/core';

/** One event on one line of JSON; byte arrays as hexadecimal. */
export function eventJson(event: LedgerEvent): string {
  return JSON.stringify(event, (_, value: unknown) => plain(value));
}

function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  return typeof value === 'bigint' ? `0x${value.toString(16)}` : value;
}

/** All events, each indented below its cause. */
export function eventTree(events: readonly LedgerEvent[]): string {
  const depths = new Map<number, number>();
  const lines = events.map(event => {
    const depth = event.cause === 0 ? 0 : (depths.get(event.cause) ?? 0) + 1;
    depths.set(event.id, depth);
    return `${'  '.repeat(depth)}${event.source} ${event.kind} ${words(event.data)}`.trimEnd();
  });
  return `${lines.join('\n')}\n`;
}

function words(data: Readonly<Record<string, unknown>>): string {
  return Object.entries(data)
    .map(([key, value]) => `${key}=${shown(value)}`)
    .join(' ');
}

function shown(value: unknown): string {
  if (typeof value === 'number') return value > 9 ? `0x${value.toString(16)}` : String(value);
  if (typeof value === 'string') return /\s/.test(value) ? JSON.stringify(value) : value;
  return JSON.stringify(plain(value), (_, inner: unknown) => plain(inner));
}
