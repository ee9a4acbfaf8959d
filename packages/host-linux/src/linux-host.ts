/** The Linux that we run on, as the host of machines: `createMachine(new Host(linuxHost()), ...)`. */
import { readFileSync } from 'node:fs';
import { ConfigError, type Inspector, Ledger, VirtualClock } from '@remora/core';
import type { HostSyscalls } from '@remora/host';
import { LinuxProcess } from './linux-process.js';
import { linuxSyscalls } from './linux-syscalls.js';
import { type LendingOptions, obstacles } from './obstacles.js';

export interface LinuxHostOptions {
  /** Of the models of its machines. It is theirs alone: nobody turns it as time passes, and devices of the host do not ask it. */
  readonly clock?: VirtualClock;
  readonly ledger?: Ledger;
  /** Default: linuxSyscalls(). */
  readonly syscalls?: HostSyscalls;
}

export class LinuxHost implements Disposable {
  readonly clock: VirtualClock;
  readonly ledger: Ledger;
  readonly #syscalls: HostSyscalls;
  readonly #processes = new Set<LinuxProcess>();

  /** Made by linuxHost. */
  constructor(syscalls: HostSyscalls, { clock = new VirtualClock(), ledger = new Ledger() }: LinuxHostOptions) {
    this.#syscalls = syscalls;
    this.clock = clock;
    this.ledger = ledger;
  }

  /** A share of this process: what is opened and mapped in it goes with it. */
  process(name: string): LinuxProcess {
    const process: LinuxProcess = new LinuxProcess(this.#syscalls, name, () => this.#processes.delete(process));
    this.#processes.add(process);
    return process;
  }

  /** @throws ConfigError at `path` that says all that is missing, and how to get it, unless the function at `bdf` can be lent. */
  check(bdf: string, options: LendingOptions = {}, path = 'host'): void {
    const found = obstacles(this.#syscalls, bdf, options);
    if (found.length === 0) return;
    throw new ConfigError(path, found.map(({ what, remedy }) => `${what} (${remedy})`).join('; '));
  }

  inspect(into: Inspector): void {
    into.value('kernel', release());
    const processes = into.child('processes');
    for (const process of this.#processes) {
      const { descriptors, bytes } = process.state();
      processes.child(process.name).value('descriptors', descriptors).value('bytes', bytes);
    }
  }

  /** Gives back what its processes still have. */
  [Symbol.dispose](): void {
    for (const process of [...this.#processes].reverse()) process[Symbol.dispose]();
  }
}

/** @throws ConfigError at `host` if koffi is not installed, or this is no 64-bit Linux. */
export function linuxHost(options: LinuxHostOptions = {}): LinuxHost {
  return new LinuxHost(options.syscalls ?? linuxSyscalls(), options);
}

/** As the kernel calls itself. */
function release(): string {
  try {
    return readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim();
  } catch {
    return 'unknown';
  }
}
