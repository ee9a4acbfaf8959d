/**
 * Leak check for tests: what was created and never disposed of is reported with the stack of its creation. Off, which is always
 * outside `Leaks.check`, tracking costs one comparison.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

/** Something that was not disposed of. */
export interface Leak {
  readonly what: string;
  /** Where it was created. */
  readonly stack: string;
}

/** AVA interleaves the tests of a file: each check sees what its own asynchronous context created. */
const current = new AsyncLocalStorage<Leaks>();
let checks = 0;
/** Which check watches what: the end of a resource may come in another context, that of a socket for instance. */
const watchers = new WeakMap<object, Leaks>();

export class Leaks {
  readonly #open = new Map<object, Leak>();

  /**
   * Runs `body` and returns its result. What it creates, it must dispose of by its end; that of an asynchronous body is the end of
   * its promise.
   * @throws Error that lists each leak and the stack of its creation.
   */
  static check<T>(body: (leaks: Leaks) => T): T {
    const leaks = new Leaks();
    checks++;
    let result: T;
    try {
      result = current.run(leaks, () => body(leaks));
    } catch (failure) {
      checks--;
      throw failure;
    }
    if (!(result instanceof Promise)) {
      checks--;
      leaks.assertNone();
      return result;
    }
    const settled = result.finally(() => checks--).then(value => (leaks.assertNone(), value));
    return settled as T;
  }

  /** Watches `resource` until `release`. Returns it. */
  track<T extends object>(what: string, resource: T): T {
    const stack = new Error(what).stack ?? '';
    this.#open.set(resource, { what, stack: stack.split('\n').slice(2).join('\n') });
    return resource;
  }

  /** `resource` is disposed of. */
  release(resource: object): void {
    this.#open.delete(resource);
  }

  /** What is tracked and not released, oldest first. */
  get open(): readonly Leak[] {
    return [...this.#open.values()];
  }

  /** @throws Error that lists what is open. */
  assertNone(): void {
    if (this.#open.size === 0) return;
    const list = this.open.map(({ what, stack }) => `${what}, created\n${stack}`).join('\n');
    throw new Error(`${this.#open.size} not disposed of:\n${list}`);
  }
}

/** Called in the constructor of what must be disposed of. */
export function trackDisposable(resource: object, what: string): void {
  if (checks === 0) return;
  const leaks = current.getStore();
  if (leaks === undefined) return;
  leaks.track(what, resource);
  watchers.set(resource, leaks);
}

/** Called when `resource` is disposed of. */
export function untrackDisposable(resource: object): void {
  if (checks > 0) watchers.get(resource)?.release(resource);
}
