/** Which devices of a machine the user named, and how the others are called: as in QEMU, `device[0]` and so on, each number once. */
import type { Machine } from '@remora/machine';

export class DeviceNames {
  readonly #machine: Machine;
  readonly #numbers = new Map<string, number>();
  #next = 0;

  constructor(machine: Machine) {
    this.#machine = machine;
    for (const { id, named } of machine.listing) if (!named) this.addNameless(id);
  }

  /** The device that the machine calls `key` was added without an id. */
  addNameless(key: string): void {
    this.#numbers.set(key, this.#next++);
  }

  forget(key: string): void {
    this.#numbers.delete(key);
  }

  /** What the user called it; empty if he did not. */
  idOf(key: string): string {
    return this.#numbers.has(key) ? '' : key;
  }

  /** The path of its object. */
  pathOf(key: string): string {
    const number = this.#numbers.get(key);
    return number === undefined ? `/machine/peripheral/${key}` : `/machine/peripheral-anon/device[${number}]`;
  }

  /** Devices with an id, or without, with the names of their objects. */
  list(nameless: boolean): { readonly key: string; readonly name: string }[] {
    const keys = this.#machine.listing.map(({ id }) => id).filter(key => this.#numbers.has(key) === nameless);
    return keys.map(key => ({ key, name: nameless ? `device[${this.#numbers.get(key)!}]` : key }));
  }
}
