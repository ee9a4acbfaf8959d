/** All kinds of device and of board that a machine's plug-ins bring: gathered once, before the first device is built. */
import { ConfigError, didYouMean } from '@remora/core';

/** What the registry has to know of a kind. */
export interface NamedKind {
  readonly id: string;
  readonly aliases?: readonly string[];
}

export class Kinds<K extends NamedKind> {
  readonly #what: string;
  readonly #byName = new Map<string, K>();

  /**
   * `what` names the set in messages: `device`, `board`.
   * One kind may be contributed by several plug-ins.
   * @throws ConfigError if two kinds answer to one name.
   */
  constructor(what: string, contributed: readonly K[]) {
    this.#what = what;
    for (const kind of contributed) {
      for (const name of [kind.id, ...(kind.aliases ?? [])]) {
        if ((this.#byName.get(name) ?? kind) !== kind)
          throw new ConfigError('plugins', `two plug-ins define the ${what} "${name}"`);
        this.#byName.set(name, kind);
      }
    }
  }

  /** Each kind once, by id. */
  get all(): readonly K[] {
    return [...new Set(this.#byName.values())].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** The kind that is called `name`. @throws ConfigError at `path` that lists what there is. */
  find(path: string, name: string): K {
    const kind = this.#byName.get(name);
    if (kind !== undefined) return kind;
    throw new ConfigError(path, `"${name}" is not a ${this.#what}${didYouMean(name, [...this.#byName.keys()])}`);
  }
}
