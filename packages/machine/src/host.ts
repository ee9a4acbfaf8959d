/** The level above machines: a host that lends them processes, memory and devices, and the plug-ins that all of them share. */
import { type Inspector, type Ledger, type Plugin, type VirtualClock } from '@remora/core';
import type { HostSyscalls } from '@remora/host';
import { pluginModules } from './plugins.js';
import { Scope } from './scope.js';

/** A process on a host; disposing of it ends it, and the kernel takes back what it held. */
export type Process = HostSyscalls & Disposable;

/** What machines need of a host. The simulated host is one. */
export interface HostPlatform extends Disposable {
  readonly clock: VirtualClock;
  readonly ledger: Ledger;
  process(name: string): Process;
  inspect(into: Inspector): void;
}

export class Host<P extends HostPlatform = HostPlatform> implements Disposable {
  /** The host itself: its memory, kernel and physical devices. */
  readonly platform: P;
  /** Scope of the plug-ins that every machine of this host has. */
  readonly scope: Scope;
  readonly #names = new Set<string>();

  /**
   * Takes `platform` over: it is closed with the host.
   * @throws ConfigError if a plug-in was written for another interface, or binds what it cannot satisfy.
   */
  constructor(platform: P, plugins: readonly Plugin[] = []) {
    this.platform = platform;
    this.scope = new Scope('host', pluginModules('plugins', plugins));
    this.scope.own(platform);
    this.scope.freeze();
  }

  get clock(): VirtualClock {
    return this.platform.clock;
  }

  get ledger(): Ledger {
    return this.platform.ledger;
  }

  /** A name that no machine of this host had before: `wanted`, or `vm0`, `vm1` ... */
  claimName(wanted: string | undefined): string | undefined {
    let name = wanted ?? 'vm0';
    for (let count = 1; wanted === undefined && this.#names.has(name); count++) name = `vm${count}`;
    if (this.#names.has(name)) return undefined;
    this.#names.add(name);
    return name;
  }

  /** A machine with that name is gone. */
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
