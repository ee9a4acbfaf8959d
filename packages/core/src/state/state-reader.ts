import type { Timer, VirtualClock } from '../clock.js';
import { kindOf, type StateSection, type StateValue } from './section.js';
import { StateError } from './state-error.js';

export interface IntegerRange {
  /** Inclusive; default 0. */
  readonly min?: number;
  /** Inclusive; default 2^53 - 1. */
  readonly max?: number;
}

/**
 * Gives a device its state back. Whatever is missing, of another type, length or range, or newer than this Remora is a StateError that
 * names the place; `done` is called by whoever made the reader, and finds what nobody asked for.
 */
export class StateReader {
  readonly #section: StateSection;
  readonly #path: string;
  readonly #taken = new Set<string>();
  readonly #children: [name: string, child: StateReader][] = [];

  /** @throws StateError if the section is of a version above `newest`. */
  constructor(section: StateSection, path = '', newest = 1) {
    this.#section = section;
    this.#path = path;
    if (section.version > newest) {
      const known = newest === 1 ? 'version 1 is' : `versions up to ${newest} are`;
      throw new StateError(path, `version ${section.version} found, only ${known} known to this Remora`);
    }
  }

  /** Of this section's layout. */
  get version(): number {
    return this.#section.version;
  }

  flag(name: string): boolean {
    const value = this.#take(name);
    return typeof value === 'boolean' ? value : this.#mismatch(name, value, 'a flag');
  }

  /** A whole number in `range`. */
  integer(name: string, { min = 0, max = Number.MAX_SAFE_INTEGER }: IntegerRange = {}): number {
    const value = this.#take(name);
    if (typeof value !== 'number') return this.#mismatch(name, value, 'a number');
    if (!Number.isSafeInteger(value) || value < min || value > max)
      throw this.problem(name, `${value} found, a whole number from ${min} to ${max} expected`);
    return value;
  }

  text(name: string): string {
    const value = this.#take(name);
    return typeof value === 'string' ? value : this.#mismatch(name, value, 'a text');
  }

  /** Fills `out`; the state has exactly as many bytes. */
  bytes(name: string, out: Uint8Array): void {
    const value = this.#take(name);
    if (!(value instanceof Uint8Array) || value.length !== out.length)
      return this.#mismatch(name, value, `${out.length} bytes`);
    out.set(value);
  }

  /** Fills `out`; the state has exactly as many words. */
  words(name: string, out: Int32Array): void {
    const value = this.#take(name);
    if (!(value instanceof Int32Array) || value.length !== out.length)
      return this.#mismatch(name, value, `${out.length} words`);
    out.set(value);
  }

  /** Bytes of whatever length, up to `most`. */
  anyBytes(name: string, most: number): Uint8Array {
    const value = this.#take(name);
    if (value instanceof Uint8Array && value.length <= most) return value.slice();
    return this.#mismatch(name, value, `at most ${most} bytes`);
  }

  /** Words of whatever number, up to `most`. */
  anyWords(name: string, most: number): Int32Array {
    const value = this.#take(name);
    if (value instanceof Int32Array && value.length <= most) return value.slice();
    return this.#mismatch(name, value, `at most ${most} words`);
  }

  /** Arms a timer that was pending; undefined if none was. */
  timer(name: string, clock: VirtualClock, fire: () => void): Timer | undefined {
    const from = this.optional(name);
    if (from === undefined) return undefined;
    const remaining = from.integer('remaining');
    return clock.again(remaining, from.integer('order'), fire);
  }

  /** A part of at most version `newest`. */
  child(name: string, newest = 1): StateReader {
    const value = this.#take(name);
    if (!isSection(value)) return this.#mismatch(name, value, 'a section');
    return this.#below(name, value, this.pathOf(name), newest);
  }

  /** A part that may be absent. */
  optional(name: string, newest = 1): StateReader | undefined {
    return this.has(name) ? this.child(name, newest) : undefined;
  }

  /** A list of parts, of `most` at most. */
  list(name: string, most = 2 ** 20, newest = 1): StateReader[] {
    const value = this.#take(name);
    if (!Array.isArray(value) || value.length > most) return this.#mismatch(name, value, `a list of at most ${most}`);
    return value.map((each: StateSection, index) => this.#below(name, each, `${this.pathOf(name)}[${index}]`, newest));
  }

  has(name: string): boolean {
    return this.#section.fields.has(name);
  }

  get names(): readonly string[] {
    return [...this.#section.fields.keys()];
  }

  /** @throws StateError for the first value, here or below, that nobody asked for; those directly here that are `exempt` do not count. */
  done(exempt: (name: string) => boolean = () => false): void {
    for (const name of this.#section.fields.keys()) {
      if (!this.#taken.has(name) && !exempt(name)) throw this.problem(name, 'is unknown to this Remora');
    }
    for (const [name, child] of this.#children) if (!exempt(name)) child.done();
  }

  /** What is wrong with `name`; to be thrown. */
  problem(name: string, problem: string): StateError {
    return new StateError(this.pathOf(name), problem);
  }

  /** Where `name` is in the machine, for messages. */
  pathOf(name: string): string {
    return this.#path === '' ? name : `${this.#path}.${name}`;
  }

  #take(name: string): StateValue {
    const value = this.#section.fields.get(name);
    if (value === undefined) throw this.problem(name, 'is missing');
    this.#taken.add(name);
    return value;
  }

  #below(name: string, section: StateSection, path: string, newest: number): StateReader {
    const child = new StateReader(section, path, newest);
    this.#children.push([name, child]);
    return child;
  }

  #mismatch(name: string, value: StateValue, expected: string): never {
    throw this.problem(name, `${kindOf(value)} found, ${expected} expected`);
  }
}

function isSection(value: StateValue): value is StateSection {
  return typeof value === 'object' && 'version' in value;
}
