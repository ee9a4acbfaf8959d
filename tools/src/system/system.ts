/** A running `remora-system-x86_64`: the machine, who is connected to it, and how it ends. */
import { closeSync, openSync, writeSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import type { Machine } from '@remora/machine';
import type { ShutdownCause } from '@remora/qmp';
import { openTransport, type QtestTarget, serveQtest } from '@remora/qtest';
import type { MachineTarget } from '../qmp/index.js';
import { assemble, type Assembled } from './assemble.js';
import type { Chardev } from './chardevs.js';
import { acceptClients } from './clients.js';
import type { CommandLine } from './command-line.js';
import { CommandLineError } from './mistake.js';
import { qtestTarget } from './qtest-target.js';
import { openTraceLog, type TraceLog } from './trace-log.js';

const PARENT_CHECK_MS = 200;
const STANDARD_ERROR = ['/dev/fd/2', '/dev/stderr'];

export class System implements Disposable {
  readonly machine: Machine | undefined;
  /** What test programs hold. */
  readonly qtest: QtestTarget;
  readonly warnings: readonly string[];
  readonly #line: CommandLine;
  readonly #traces: TraceLog;
  readonly #open: Disposable[] = [];
  readonly #end: () => void;
  #monitor: MachineTarget | undefined;

  /** `end` is called when the program is to end. @throws CommandLineError for what cannot be built. */
  constructor(line: CommandLine, end: () => void) {
    this.#traces = openTraceLog(line.trace);
    const { machine, warnings } = this.#assembled(line);
    this.#line = line;
    this.#end = end;
    this.machine = machine;
    this.warnings = warnings;
    this.qtest = qtestTarget(machine);
  }

  /** What monitors control. @throws CommandLineError for a `-object` that cannot be. */
  async monitor(): Promise<MachineTarget> {
    const { createMonitor } = await import('./monitor.js');
    return (this.#monitor ??= createMonitor(this.#line, this.machine, () => this.#end()));
  }

  /** Connects to whoever was named: the test program first, as it expects that. @throws CommandLineError if it cannot be reached. */
  async connect(): Promise<void> {
    const { qtest, qtestLog, monitors, objects, exitWithParent } = this.#line;
    if (objects.length > 0) await this.monitor();
    if (exitWithParent) this.#open.push(watchParent(() => this.quit('host-signal')));
    if (qtest !== undefined) {
      const log = openLog(qtestLog);
      if (log !== undefined) this.#open.push(log);
      await this.#serve(qtest, stream => {
        const ended = (): void => this.quit('host-signal');
        return serveQtest(stream, this.qtest, { ended, ...(log === undefined ? {} : { log: log.line }) });
      });
    }
    if (monitors.length === 0) return;
    const { serveQmp } = await import('./monitor.js');
    const monitor = await this.monitor();
    for (const each of monitors) await this.#serve(each, stream => serveQmp(stream, monitor));
  }

  /** Monitors are told. */
  quit(cause: ShutdownCause): void {
    if (this.#monitor === undefined) this.#end();
    else this.#monitor.quit(cause);
  }

  /** Connections are closed, then the machine, of which traces tell to the end. */
  [Symbol.dispose](): void {
    for (const each of this.#open.reverse()) each[Symbol.dispose]();
    this.#open.length = 0;
    this.machine?.[Symbol.dispose]();
    this.#traces[Symbol.dispose]();
  }

  #assembled(line: CommandLine): Assembled {
    try {
      return assemble(line, this.#traces.trace);
    } catch (failure) {
      this.#traces[Symbol.dispose]();
      throw failure;
    }
  }

  /** Waits for a connection of its own, but not for those of others. */
  async #serve(address: NonNullable<Chardev>, take: (stream: Duplex) => Disposable): Promise<void> {
    const unreachable = (failure: unknown): never => {
      throw new CommandLineError(
        `${address.kind === 'unix' ? address.path : address.kind}: ${(failure as Error).message}`,
      );
    };
    if (address.kind !== 'stdio' && address.server) {
      this.#open.push(await acceptClients(address, take).catch(unreachable));
      return;
    }
    const transport = openTransport(address);
    this.#open.push(take(await transport.stream.catch(unreachable)), transport);
  }
}

/** Asked whether the process that started this one is still its parent. */
function watchParent(gone: () => void): Disposable {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid !== parent) gone();
  }, PARENT_CHECK_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

interface Log extends Disposable {
  readonly line: (direction: 'R' | 'S', line: string) => void;
}

/** QEMU's format: direction, seconds since the start, line. Without a file it is standard error. */
function openLog(file: string | undefined): Log | undefined {
  if (file === 'none' || file === '/dev/null') return undefined;
  const fd = file === undefined || STANDARD_ERROR.includes(file) ? undefined : openLogFile(file);
  const start = performance.now();
  return {
    line: (direction, line) => {
      const text = `[${direction} +${((performance.now() - start) / 1000).toFixed(6)}] ${line}\n`;
      if (fd === undefined) process.stderr.write(text);
      else writeSync(fd, text);
    },
    [Symbol.dispose]: () => {
      if (fd !== undefined) closeSync(fd);
    },
  };
}

function openLogFile(file: string): number {
  try {
    return openSync(file, 'w');
  } catch (failure) {
    throw new CommandLineError(`-qtest-log ${file}: ${(failure as Error).message}`);
  }
}
