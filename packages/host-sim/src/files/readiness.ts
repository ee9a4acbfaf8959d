/** Who waits for a file to become readable. */
export class Readiness {
  readonly #listeners = new Set<() => void>();

  /** Calls `ready` at each signal from now on; at once if the file `isReadable` now. */
  listen(ready: () => void, isReadable: boolean): Disposable {
    this.#listeners.add(ready);
    if (isReadable) ready();
    return { [Symbol.dispose]: () => void this.#listeners.delete(ready) };
  }

  signal(): void {
    for (const ready of [...this.#listeners]) ready();
  }

  /** The file is closed: nobody waits any more. */
  close(): void {
    this.#listeners.clear();
  }
}
