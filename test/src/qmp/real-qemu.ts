/** A real QEMU as the judge: `QEMU` names the program, or qemu-system-x86_64 is in the PATH. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { QmpClient } from './qmp-client.js';

/** Its schema must know what ours has. */
const OLDEST = 10;

/** The program, or why there is none to compare with. */
export function findQemu(): { readonly program: string } | { readonly missing: string } {
  const program = process.env['QEMU'] ?? 'qemu-system-x86_64';
  const { error, stdout } = spawnSync(program, ['--version'], { encoding: 'utf8' });
  if (error !== undefined) return { missing: `${program} cannot be run: set QEMU to a qemu-system-x86_64` };
  const version = /version (\d+)\./.exec(stdout)?.[1];
  if (version === undefined) return { missing: `${program} does not tell its version` };
  return Number(version) < OLDEST ? { missing: `${program} is version ${version}, older than ${OLDEST}` } : { program };
}

export class RealQemu {
  readonly client: QmpClient;
  readonly greeting: unknown;
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess, client: QmpClient, greeting: unknown) {
    this.#process = process;
    this.client = client;
    this.greeting = greeting;
  }

  /** Starts it, halted, with `args`. */
  static async start(program: string, args: readonly string[]): Promise<RealQemu> {
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
    const child = spawn(program, [...common, ...args], { stdio: ['pipe', 'pipe', 'ignore'] });
    const client = new QmpClient(child.stdout, child.stdin);
    return new RealQemu(child, client, await client.next());
  }

  async close(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const gone = once(this.#process, 'exit');
    this.#process.kill();
    await gone;
  }
}
