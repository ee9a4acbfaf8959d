import { ConfigError } from '@remora/core';

/** A function's place as people write it: `0000:3f:00.0`, `3f:00.0` or, on a bus that is known, `03.0`. */
export interface FunctionAddress {
  readonly segment: number;
  /** undefined where only device and function were written. */
  readonly bus: number | undefined;
  /** device << 3 | function. */
  readonly devfn: number;
}

/** device << 3 | function. `device` is 0 .. 31, `fn` 0 .. 7. */
export function devfnOf(device: number, fn = 0): number {
  return (device << 3) | fn;
}

/** `0000:3f:00.0`. */
export function formatBdf(bus: number, devfn: number, segment = 0): string {
  return `${padded(segment, 4)}:${padded(bus, 2)}:${formatDevfn(devfn)}`;
}

/** `1f.7`. */
export function formatDevfn(devfn: number): string {
  return `${padded(devfn >>> 3, 2)}.${devfn & 7}`;
}

function padded(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}

const SYNTAX = /^(?:(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,2}):)?([0-9a-f]{1,2})(?:\.([0-7]))?$/i;

/**
 * Parses `[[segment:]bus:]device[.function]`, all hexadecimal.
 * @throws ConfigError at `path` if `text` is not such an address.
 */
export function parseBdf(path: string, text: string): FunctionAddress {
  const match = SYNTAX.exec(text);
  const device = match === null ? NaN : parseInt(match[3]!, 16);
  if (match === null || device > 0x1f) {
    throw new ConfigError(
      path,
      `"${text}" is not a PCI address: expected [[segment:]bus:]device[.function], device at most 1f`,
    );
  }
  return {
    segment: parseInt(match[1] ?? '0', 16),
    bus: match[2] === undefined ? undefined : parseInt(match[2], 16),
    devfn: devfnOf(device, parseInt(match[4] ?? '0', 16)),
  };
}
