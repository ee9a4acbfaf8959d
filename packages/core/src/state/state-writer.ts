import type { Timer } from '../clock.js';
import { emptySection, type StateSection, type StateValue } from './section.js';
import { StateError } from './state-error.js';

/**
 * Takes a device's state: named values in sections. What is written under a name is loaded under it, by a `StateReader`. Values are
 * copied. QEMU: VMStateDescription.
 */
export class StateWriter {
  readonly section: StateSection;
  readonly #path: string;

  constructor(section: StateSection = emptySection(1), path = '') {
    this.section = section;
    this.#path = path;
  }

  flag(name: string, value: boolean): this {
    return this.#put(name, value);
  }

  /** A whole number below 2^53, of either sign. @throws StateError for another. */
  integer(name: string, value: number): this {
    if (!Number.isSafeInteger(value)) throw new StateError(this.pathOf(name), `${value} is not a whole number`);
    return this.#put(name, value);
  }

  text(name: string, value: string): this {
    return this.#put(name, value);
  }

  bytes(name: string, value: Uint8Array): this {
    return this.#put(name, value.slice());
  }

  words(name: string, value: Int32Array): this {
    return this.#put(name, value.slice());
  }

  /** A timer that may be pending: what is left of its delay. `now` is the time of its clock. */
  timer(name: string, timer: Timer | undefined, now: number): this {
    if (timer?.pending !== true) return this;
    this.child(name)
      .integer('remaining', timer.deadline - now)
      .integer('order', timer.order);
    return this;
  }

  /**
   * A part with names of its own. Written only while there is something to say, it is what QEMU calls a subsection: a Remora that does
   * not know it still loads state without it.
   */
  child(name: string, version = 1): StateWriter {
    const section = emptySection(version);
    this.#put(name, section);
    return new StateWriter(section, this.pathOf(name));
  }

  /** A section for each of `items`, in order. */
  list<T>(name: string, items: Iterable<T>, write: (into: StateWriter, item: T) => void, version = 1): this {
    const sections: StateSection[] = [];
    for (const item of items) {
      const section = emptySection(version);
      write(new StateWriter(section, `${this.pathOf(name)}[${sections.length}]`), item);
      sections.push(section);
    }
    return this.#put(name, sections);
  }

  /** Why this cannot be saved. Thrown by whoever cannot. */
  refusal(problem: string): StateError {
    return new StateError(this.#path, problem);
  }

  /** Where `name` is in the machine, for messages. */
  pathOf(name: string): string {
    return this.#path === '' ? name : `${this.#path}.${name}`;
  }

  #put(name: string, value: StateValue): this {
    if (this.section.fields.has(name)) throw new Error(`${this.pathOf(name)} is written twice`);
    this.section.fields.set(name, value);
    return this;
  }
}
