/**
 * What can be swept: a scenario that is lived through again and again, on a new host each time, with one failure in it.
 *
 * A life is a list of steps that somebody takes (a VMM, its guest), a dump of all that the host holds, and a look at what is in force. Its first
 * undisturbed run says what should be; the sweep compares the others with it.
 */
import type { MemoryPort } from '@remora/core';
import type { HostSyscalls } from '@remora/host';
import type { UapiVariant } from '@remora/uapi';

/** Where a life lets failures in. */
export interface FailurePorts {
  /** Stands before a host's system calls: `interpose` of a machine. `variant`: which ioctls 122 and 123 are; default those of RFC v3.1. */
  syscalls(next: HostSyscalls, variant?: UapiVariant): HostSyscalls;
  /** What a host asks before it allocates or queues something: `failures` of a simulated host. */
  readonly inject: (what: string) => number;
  /** Stands before memory, whose accesses are sampled. */
  memory(next: MemoryPort): MemoryPort;
  /** The point that was made to fail; undefined until then. */
  readonly struck: string | undefined;
  /** What `act` asks of the host is not counted and does not fail: it prepares, or looks. */
  uncounted<T>(act: () => T): T;
}

/** What a step answers when nothing went wrong. */
export const ALL_IS_WELL = 'all is well';
/** What a step that creates something answers if it was created without what the host refused. */
export const GOES_WITHOUT = 'goes without';

export interface FailNthStep {
  readonly name: string;
  /** It creates something, and may throw a ConfigError or VfioError; then nothing of it is left. */
  readonly creates?: true;
  /** What it answers if the host failed and there is an architectural way to tell. Absent: there is none, as for a device that is unplugged. */
  readonly tells?: string;
  /** Documented: when it fails, a part of it may be done. */
  readonly partial?: true;
  /** Returns ALL_IS_WELL, GOES_WITHOUT, or `tells`. */
  run(): string;
  /** Tries again after `run` has failed, or was disturbed; default: `run`. */
  retry?(): string;
}

export interface FailNthLife extends Disposable {
  /** The last one ends it all, and may come after any other. */
  readonly steps: readonly FailNthStep[];
  /** What the host holds for anybody, JSON-able, without what depends on what was there before. Equal: the same is held. */
  dump(): unknown;
  /** Compared only before the first step and after the last: also what the host may keep as long as something lives. Default: `dump`. */
  leftovers?(): unknown;
  /** What devices and guest see now. Equal: the same is in force. */
  look(): string;
}

export interface FailNthScenario {
  readonly name: string;
  readonly description?: string;
  /** How many points of failure it has at least. */
  readonly minimum?: number;
  /** A new life. */
  begin(ports: FailurePorts): FailNthLife;
}
