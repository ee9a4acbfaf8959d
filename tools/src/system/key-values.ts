/** Arguments in QEMU's two notations: `driver,name=value,...`, and a JSON object. */
import { CommandLineError } from './mistake.js';

export type Value = string | number | boolean | null | readonly Value[] | { readonly [name: string]: Value };
export type Values = Readonly<Record<string, Value>>;

/**
 * Reads `text`. In the first notation a value's comma is written twice, `implied` names the value that may stand first without a name, and a name
 * without a value is on, with `no` before it off.
 * @throws CommandLineError that begins with `option`.
 */
export function parseKeyValues(option: string, text: string, implied?: string): Values {
  return text.startsWith('{') ? fromJson(option, text) : fromPairs(option, text, implied);
}

function fromJson(option: string, text: string): Values {
  try {
    return JSON.parse(text) as Values;
  } catch {
    throw new CommandLineError(`${option}: that is not JSON`);
  }
}

function fromPairs(option: string, text: string, implied: string | undefined): Values {
  const values = new Map<string, string>();
  for (const [index, part] of splitAtCommas(text).entries()) {
    const equals = part.indexOf('=');
    if (equals > 0) values.set(part.slice(0, equals), part.slice(equals + 1));
    else if (equals === 0) throw new CommandLineError(`${option}: "${part}" has no name`);
    else if (index === 0 && implied !== undefined) values.set(implied, part);
    else if (part !== '')
      values.set(part.replace(/^no(?=.)/, ''), part.startsWith('no') && part !== 'no' ? 'off' : 'on');
  }
  return Object.fromEntries(values);
}

/** The parts between single commas; a pair of commas is one comma of the part. */
function splitAtCommas(text: string): string[] {
  return text
    .replaceAll(',,', '\0')
    .split(',')
    .map(part => part.replaceAll('\0', ','));
}

/** The value called `name` as text. @throws CommandLineError if it is there, and something else. */
export function textOf(option: string, values: Values, name: string): string | undefined {
  const value = values[name];
  if (value === undefined || typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  throw new CommandLineError(`${option}: ${name} is not text`);
}

/** Whether `name` is on; `fallback` if it is not given. @throws CommandLineError if it is neither on nor off. */
export function flagOf(option: string, values: Values, name: string, fallback: boolean): boolean {
  const value = values[name];
  if (value === undefined) return fallback;
  if (value === true || value === 'on' || value === 'yes' || value === 'true' || value === 'y') return true;
  if (value === false || value === 'off' || value === 'no' || value === 'false' || value === 'n') return false;
  throw new CommandLineError(`${option}: ${name} is not on or off`);
}

/** @throws CommandLineError for a value that is not one of `names`. */
export function checkNames(option: string, values: Values, names: readonly string[]): void {
  const unknown = Object.keys(values).find(name => !names.includes(name));
  if (unknown !== undefined) throw new CommandLineError(`${option}: Invalid parameter '${unknown}'`);
}
