/** Tests of what is done with descriptors: skipped where they cannot be passed. */
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { Copier, Rig } from '../rig.test.helper.js';
import { Descriptors } from './descriptors.js';

function load(): Descriptors | string {
  try {
    return new Descriptors();
  } catch (failure) {
    return (failure as Error).message;
  }
}

const loaded = load();

/** A test that needs descriptors to be passed. */
export function withDescriptors(title: string, run: (t: ExecutionContext, system: Descriptors) => Promise<void>): void {
  if (typeof loaded === 'string') test.skip(`${title} (skipped: ${loaded})`, t => t.pass());
  else test(title, t => run(t, loaded));
}

/** A device with every kind of interrupt. */
export function everyKind(): Copier {
  return new Copier({ msi: 4, msix: 4, pin: 1 });
}

export function start(system: Descriptors, device = everyKind(), contents?: Uint8Array): Promise<Rig> {
  return Rig.start({ device, before: contents, descriptors: system });
}

/** How often this process has the file `path` open. */
export function timesOpen(path: string): number {
  return linksOfDescriptors().filter(link => link === path).length;
}

function linksOfDescriptors(): string[] {
  return readdirSync('/proc/self/fd').flatMap(fd => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      // It was that of the folder.
      return [];
    }
  });
}

/** An event descriptor, and its copies in this process. */
export class Event implements Disposable {
  readonly fd: number;
  readonly #system: Descriptors;

  constructor(system: Descriptors) {
    this.#system = system;
    this.fd = system.libc.eventfd();
  }

  /** How often it was signalled since it was asked last. */
  take(): number {
    const count = new Uint8Array(8);
    try {
      readSync(this.fd, count);
    } catch {
      return 0;
    }
    return count[0]!;
  }

  /** How many descriptors of this process stand for it, this one included. */
  copies(): number {
    const own = idOf(this.fd);
    return readdirSync('/proc/self/fd').filter(fd => idOf(fd) === own).length;
  }

  [Symbol.dispose](): void {
    this.#system.libc.close(this.fd);
  }
}

/** A number that the kernel has given an event descriptor. */
function idOf(fd: number | string): string | undefined {
  try {
    return /^eventfd-id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
  } catch {
    return undefined;
  }
}

/** `path` opened with `flags`, until the test is over. */
export function opened(t: ExecutionContext, path: string, flags: string | number = 'r+'): number {
  const fd = openSync(path, flags);
  t.teardown(() => closeSync(fd));
  return fd;
}
