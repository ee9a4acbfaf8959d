/** One option of a device: its type, default and explanation, and how people may write its value. */
export interface Property<T> {
  /** What may be written, for help: `on|off`, `integer`, `39|48|57`. */
  readonly type: string;
  readonly fallback: T;
  readonly doc: string;
  /** There is no default: it must be given. */
  readonly required: boolean;
  /**
   * Reads a value: text as in an option string, or a typed value.
   * @throws RangeError whose message names the value and what was expected.
   */
  parse(value: unknown): T;
}

/** How a value shows in messages. */
export function shown(value: unknown): string {
  if (typeof value === 'object' && value !== null) return JSON.stringify(value);
  return typeof value === 'bigint' ? `"${value}"` : `"${String(value)}"`;
}

const ON = ['on', 'yes', 'true', 'y'];
const OFF = ['off', 'no', 'false', 'n'];

/** Truth as QEMU writes it; undefined if it is something else. */
function truth(value: unknown): boolean | undefined {
  if (typeof value === 'boolean') return value;
  if (typeof value !== 'string') return undefined;
  return ON.includes(value) ? true : OFF.includes(value) ? false : undefined;
}

/** `on` or `off`; also yes, true, y and no, false, n. */
export function bool<D extends boolean | undefined>(fallback: D, doc: string): Property<boolean | D> {
  return define('on|off', fallback, doc, value => {
    const parsed = truth(value);
    if (parsed === undefined) throw new RangeError(`${shown(value)} is not on or off`);
    return parsed;
  });
}

/** One of several words. Where they include `on` and `off`, the other spellings of these are accepted, too. */
export function choice<const T extends string, D extends T | undefined>(
  words: readonly T[],
  fallback: D,
  doc: string,
): Property<T | D> {
  return define(words.join('|'), fallback, doc, value => {
    const parsed = truth(value);
    const canonical = parsed === undefined ? value : parsed ? 'on' : 'off';
    const word = words.find(known => known === value) ?? words.find(known => known === canonical);
    if (word === undefined) throw new RangeError(`${shown(value)} is not one of ${words.join(', ')}`);
    return word;
  });
}

export interface IntegerLimits {
  /** Inclusive. */
  readonly min?: number;
  /** Inclusive. */
  readonly max?: number;
  readonly oneOf?: readonly number[];
}

/** A whole number: decimal, or hexadecimal with `0x`. */
export function integer<D extends number | undefined>(
  limits: IntegerLimits,
  fallback: D,
  doc: string,
): Property<number | D> {
  const { min = 0, max = Number.MAX_SAFE_INTEGER, oneOf } = limits;
  const open = limits.max === undefined;
  const span = open
    ? min === 0
      ? 'a whole number'
      : `a whole number of at least ${min}`
    : `a whole number from ${min} to ${max}`;
  return define(oneOf?.join('|') ?? 'integer', fallback, doc, value => {
    const number = wholeNumber(value);
    if (oneOf !== undefined && (number === undefined || !oneOf.includes(number))) {
      throw new RangeError(`${shown(value)} is not one of ${oneOf.join(', ')}`);
    }
    if (number === undefined || number < min || number > max) throw new RangeError(`${shown(value)} is not ${span}`);
    return number;
  });
}

function wholeNumber(value: unknown): number | undefined {
  const number = typeof value === 'string' && /^(-?\d+|0x[0-9a-f]+)$/i.test(value) ? Number(value) : value;
  return typeof number === 'number' && Number.isSafeInteger(number) ? number : undefined;
}

export interface SizeLimits {
  /** In bytes, inclusive. */
  readonly min?: number;
  /** In bytes, inclusive. */
  readonly max?: number;
  /** The size must be a multiple of this many bytes. */
  readonly multipleOf?: number;
}

const UNITS = 'BKMGTPE';

/** A size in bytes; text may end in B, K, M, G, T, P or E (powers of 1024) and have a fraction: `512M`, `1.5G`. */
export function size<D extends number | undefined>(limits: SizeLimits, fallback: D, doc: string): Property<number | D> {
  const { min = 0, max = Number.MAX_SAFE_INTEGER, multipleOf = 1 } = limits;
  return define('size', fallback, doc, value => {
    const bytes = sizeOf(value);
    if (bytes === undefined) throw new RangeError(`${shown(value)} is not a size, as 4096, 512M or 1.5G`);
    if (bytes < min) throw new RangeError(`${shown(value)} is less than ${formatSize(min)}`);
    if (bytes > max) throw new RangeError(`${shown(value)} is more than ${formatSize(max)}`);
    if (bytes % multipleOf !== 0)
      throw new RangeError(`${shown(value)} is not a multiple of ${formatSize(multipleOf)}`);
    return bytes;
  });
}

function sizeOf(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
  if (typeof value !== 'string') return undefined;
  const [, digits, unit] = /^(\d+(?:\.\d+)?|0x[0-9a-f]+)([bkmgtpe])?$/i.exec(value) ?? [];
  if (digits === undefined) return undefined;
  const bytes = Math.round(Number(digits) * 1024 ** UNITS.indexOf((unit ?? 'B').toUpperCase()));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

function formatSize(bytes: number): string {
  let rest = bytes;
  let unit = 0;
  for (; unit < UNITS.length - 1 && rest >= 1024 && rest % 1024 === 0; unit++) rest /= 1024;
  return unit === 0 ? `${bytes}` : `${rest}${UNITS[unit]}`;
}

/** Any text; with `form`, text of that form, which `expected` describes (`a path`). */
export function string<D extends string | undefined>(
  fallback: D,
  doc: string,
  form?: { readonly pattern: RegExp; readonly expected: string },
): Property<string | D> {
  return define('text', fallback, doc, value => {
    if (typeof value !== 'string') throw new RangeError(`${shown(value)} is not ${form?.expected ?? 'text'}`);
    if (form !== undefined && !form.pattern.test(value))
      throw new RangeError(`${shown(value)} is not ${form.expected}`);
    return value;
  });
}

/** A PCI address, `[domain:]bus:device.function` in hexadecimal. Its value has the domain: `0000:3f:00.0`. */
export function bdf<D extends string | undefined>(fallback: D, doc: string): Property<string | D> {
  return define('[dddd:]bb:dd.f', fallback, doc, value => {
    const form = /^(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i;
    const [, domain = '0', bus, device, fn] = (typeof value === 'string' ? form.exec(value) : undefined) ?? [];
    if (bus === undefined || device === undefined || parseInt(device, 16) > 0x1f) {
      throw new RangeError(`${shown(value)} is not a PCI address, as 0000:3f:00.0 or 3f:00.0`);
    }
    return `${domain.padStart(4, '0')}:${bus.padStart(2, '0')}:${device.padStart(2, '0')}.${fn}`.toLowerCase();
  });
}

/** A place on a bus, `device[.function]` in hexadecimal. Its value is device << 3 | function. QEMU: `addr=`. */
export function slot<D extends number | undefined>(fallback: D, doc: string): Property<number | D> {
  return define('dd[.f]', fallback, doc, value => {
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0xff) return value;
    const [, device, fn = '0'] =
      (typeof value === 'string' ? /^([0-9a-f]{1,2})(?:\.([0-7]))?$/i.exec(value) : undefined) ?? [];
    if (device === undefined || parseInt(device, 16) > 0x1f)
      throw new RangeError(`${shown(value)} is not a slot, as 3 or 1f.2`);
    return parseInt(device, 16) * 8 + Number(fn);
  });
}

/** `property` without its default: whoever configures the device must give it. */
export function required<T>(property: Property<T>): Property<Exclude<T, undefined>> {
  return { ...property, required: true } as Property<Exclude<T, undefined>>;
}

function define<T, D>(type: string, fallback: D, doc: string, parse: (value: unknown) => T): Property<T | D> {
  return { type, fallback, doc, required: false, parse };
}
