/** The level above machines: a host that lends them processes, memory and devices, and the plug-ins that all of them share. */
import type { Inspector, Ledger, Plugin, VirtualClock } from '@remora/core';
import type { HostSyscalls } from '@remora/host';
import type { HostDescription } from './description.js';
import { pluginModules } from './plugins.js';
import { Scope } from './scope.js';

/** What machines need of a host. The simulated host is one. */
export interface HostPlatform extends Disposable {
  readonly clock: VirtualClock;
  readonly ledger: Ledger;
  /** A process; disposing of it ends it, and the kernel takes back what it held. */
  process(name: string): HostSyscalls & Disposable;
  inspect(into: Inspector): void;
}

export class Host<P extends HostPlatform = HostPlatform> implements Disposable {
  /** The host itself: its memory, kernel and physical devices. */
  readonly platform: P;
  /** Scope of the plug-ins that every machine of this host has. */
  readonly scope: Scope;
  readonly #names = new Set<string>();
  readonly #describe: () => HostDescription | string;

  /** Takes `platform` over: it is closed with the host. `scope` is made by hostScope. */
  constructor(
    platform: P,
    scope: Scope = hostScope(),
    describe: () => HostDescription | string = () => 'its host was not made by createHost()',
  ) {
    this.#describe = describe;
    this.platform = platform;
    this.scope = scope;
    scope.own(platform);
  }

  /** What it is made of now; or why that cannot be told, so that it cannot be made again from a file. */
  get description(): HostDescription | string {
    return this.#describe();
  }

  get clock(): VirtualClock {
    return this.platform.clock;
  }

  get ledger(): Ledger {
    return this.platform.ledger;
  }

  /** The name of a new machine: `wanted`, or the first free of `vm0`, `vm1` ... Undefined if another machine is called so. */
  claimName(wanted: string | undefined): string | undefined {
    let name = wanted ?? 'vm0';
    for (let count = 1; wanted === undefined && this.#names.has(name); count++) name = `vm${count}`;
    if (this.#names.has(name)) return undefined;
    this.#names.add(name);
    return name;
  }

  /** The machine with that name is gone. */
  releaseName(name: string): void {
    this.#names.delete(name);
  }

  /**
   * Closes the machines that still run, newest first, then the host.
   * @throws AggregateError of everything that failed on the way.
   */
  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}

/**
 * The bindings of the host level.
 * @throws ConfigError if a plug-in was written for another interface, or binds what it cannot satisfy.
 */
export function hostScope(plugins: readonly Plugin[] = []): Scope {
  return new Scope('host', pluginModules('plugins', plugins)).freeze();
}

/** Builds a machine on `host`, which was made for it: if that fails, the host is closed too. */
export function assembleOn<H extends Host, M>(host: H, build: (host: H) => M): M {
  try {
    return build(host);
  } catch (failure) {
    host[Symbol.dispose]();
    throw failure;
  }
}
