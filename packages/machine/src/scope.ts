/**
 * A lifetime: one inversify container, the things it must close, and the scopes opened inside it. inversify composes; what it
 * does not do is done here: it closes newest first (inversify deactivates in binding order and forgets child containers), and
 * it refuses a binding that would hand one machine's object to the next.
 */
import { ConfigError, token, trackDisposable, untrackDisposable, type Token } from '@remora/core';
import { Container, ContainerModule } from 'inversify';

/** Where a binding's factory leaves what it opened: `own(new Thing())` ties the thing to the scope that built it. */
export interface Lifetime {
  own<T extends Disposable>(resource: T): T;
}

/** The scope that builds. Bound in every scope, so a factory that names it gets the scope of its own binding. */
export const Lifetime: Token<Lifetime> = token('Lifetime');

export class Scope implements Disposable, Lifetime {
  readonly name: string;
  readonly #container: Container;
  readonly #parent: Scope | undefined;
  /** Every token that a module of this scope bound. */
  readonly #bound = new Set<Token<unknown>>();
  readonly #owned: Disposable[] = [];
  #frozen = false;
  #closed = false;

  /**
   * Loads `modules`. A parent is frozen first: what it has not built by now, a child must not be the first to ask for.
   * @throws ConfigError if the parent has a binding that its own bindings cannot satisfy.
   */
  constructor(name: string, modules: readonly ContainerModule[], parent?: Scope) {
    this.name = name;
    this.#parent = parent;
    parent?.freeze();
    this.#container = new Container(parent === undefined ? {} : { parent: parent.#container });
    this.#container.bind<Lifetime>(Lifetime).toConstantValue(this);
    for (const module of modules) this.#container.load(this.#watched(module));
    parent?.own(this);
    trackDisposable(this, `scope ${name}`);
  }

  /** The object that `token` stands for. @throws Error once the scope is closed, or if nothing is bound. */
  get<T>(token: Token<T>): T {
    this.#assertOpen();
    return this.#container.get<T>(token);
  }

  /** All objects bound to `token` here and in the scopes around this one; none is fine. @throws Error once closed. */
  all<T>(token: Token<T>): T[] {
    this.#assertOpen();
    return this.#container.getAll<T>(token, { chained: true });
  }

  /**
   * Builds everything that this scope's modules bound, now: afterwards no child can be the first to ask, so no binding of this
   * scope can capture a child's object.
   * @throws ConfigError naming the binding that this scope alone cannot build.
   */
  freeze(): this {
    this.#assertOpen();
    if (this.#frozen) return this;
    for (const token of this.#bound) {
      try {
        this.#container.getAll(token);
      } catch (cause) {
        const what = token.description ?? 'a binding';
        const why = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
        throw new ConfigError(this.name, `"${what}" cannot be built from the bindings of this scope alone: ${why}`, {
          cause,
        });
      }
    }
    this.#frozen = true;
    return this;
  }

  /** Closes `resource` when this scope closes, before everything that was owned earlier. */
  own<T extends Disposable>(resource: T): T {
    this.#assertOpen();
    this.#owned.push(resource);
    return resource;
  }

  /** Gives `resource` up: whoever calls this closes it. */
  release(resource: Disposable): void {
    const at = this.#owned.lastIndexOf(resource);
    if (at >= 0) this.#owned.splice(at, 1);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Closes what is owned, newest first, all of it whatever fails.
   * @throws AggregateError of everything that was thrown on the way.
   */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    untrackDisposable(this);
    this.#parent?.release(this);
    const failures: unknown[] = [];
    const attempt = (close: () => void): void => {
      try {
        close();
      } catch (failure) {
        if (failure instanceof AggregateError) failures.push(...failure.errors);
        else failures.push(failure);
      }
    };
    for (let last = this.#owned.pop(); last !== undefined; last = this.#owned.pop()) {
      const resource = last;
      attempt(() => resource[Symbol.dispose]());
    }
    attempt(() => this.#container.unbindAll());
    if (failures.length > 0) throw new AggregateError(failures, `${this.name}: ${failures.length} failed to close`);
  }

  /** `module`, with each token that it binds noted for `freeze`. */
  #watched(module: ContainerModule): ContainerModule {
    return new ContainerModule(options =>
      module.load({
        ...options,
        bind: identifier => {
          if (typeof identifier === 'symbol') this.#bound.add(identifier);
          return options.bind(identifier);
        },
      }),
    );
  }

  #assertOpen(): void {
    if (this.#closed) throw new Error(`${this.name} is closed`);
  }
}
