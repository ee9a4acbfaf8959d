/** Decoded values as text, for the ledger and for messages. */

/** What a decoded field may be. */
export type PlainValue =
  number | bigint | string | Uint8Array | readonly PlainValue[] | { readonly [key: string]: PlainValue };

/** The values that are not zero: `argsz=0x38 cache_info={version=1 cache=1}`. Small numbers are decimal, others hexadecimal. */
export function formatValues(values: { readonly [key: string]: PlainValue }): string {
  return Object.entries(values)
    .filter(([, value]) => !isZero(value))
    .map(([key, value]) => `${key}=${formatValue(value)}`)
    .join(' ');
}

function formatValue(value: PlainValue): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number' || typeof value === 'bigint') {
    return value < 10 ? String(value) : `0x${value.toString(16)}`;
  }
  if (value instanceof Uint8Array) return Array.from(value, byte => byte.toString(16).padStart(2, '0')).join('');
  if (isList(value)) return `[${value.map(formatValue).join(' ')}]`;
  return `{${formatValues(value)}}`;
}

function isZero(value: PlainValue): boolean {
  if (typeof value === 'string') return false;
  if (typeof value === 'number' || typeof value === 'bigint') return value === 0 || value === 0n;
  if (value instanceof Uint8Array) return value.every(byte => byte === 0);
  return isList(value) ? value.every(isZero) : Object.values(value).every(isZero);
}

function isList(value: PlainValue): value is readonly PlainValue[] {
  return Array.isArray(value);
}
