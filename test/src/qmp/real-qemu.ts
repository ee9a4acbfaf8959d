/** A real QEMU as the judge: `QEMU` names the program, or qemu-system-x86_64 is in the PATH. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { MORTAL, runSync } from '../rig/processes.js';
import { QmpClient } from './qmp-client.js';

/** Its schema must know what ours has. */
const OLDEST = 10;

/** The program, or why there is none to compare with. */
export function findQemu(): { readonly program: string } | { readonly missing: string } {
  const program = process.env['QEMU'] ?? 'qemu-system-x86_64';
  const { error, stdout } = runSync(program, ['--version']);
  if (error !== undefined) return { missing: `${program} cannot be run: set QEMU to a qemu-system-x86_64` };
  const version = /version (\d+)\./.exec(stdout)?.[1];
  if (version === undefined) return { missing: `${program} does not tell its version` };
  return Number(version) < OLDEST ? { missing: `${program} is version ${version}, older than ${OLDEST}` } : { program };
}

/** What Remora has for it, as a command line. */
export const REMORA: readonly string[] = [
  process.execPath,
  fileURLToPath(new URL('../../../tools/bin/remora-system-x86_64', import.meta.url)),
];

/** A running program that understands QEMU's command line, with its monitor on standard input and output. */
export class SystemProcess {
  readonly client: QmpClient;
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess, client: QmpClient) {
    this.#process = process;
    this.client = client;
  }

  /** Starts it, halted, with `args`, and reads its greeting. */
  static async start([program, ...before]: readonly string[], args: readonly string[]): Promise<SystemProcess> {
    const common = [
      '-M',
      'q35',
      '-m',
      '128M',
      '-nodefaults',
      '-S',
      '-display',
      'none',
      '-accel',
      'tcg',
      '-qmp',
      'stdio',
    ];
    const all = [...before, ...common, ...args];
    const child = spawn(program!, all, { ...MORTAL, stdio: ['pipe', 'pipe', 'ignore'] });
    const client = new QmpClient(child.stdout, child.stdin);
    client.greeting = await client.next();
    return new SystemProcess(child, client);
  }

  /** Its exit status once it has ended by itself; null for a signal. */
  async ended(): Promise<number | null> {
    if (!this.#gone) await once(this.#process, 'exit');
    return this.#process.exitCode;
  }

  async close(): Promise<void> {
    if (this.#gone) return;
    const gone = once(this.#process, 'exit');
    this.#process.kill();
    await gone;
  }

  get #gone(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null;
  }
}
