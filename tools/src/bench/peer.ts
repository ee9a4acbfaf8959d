/** A process that runs one side of a comparison, each time it is told to. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** One run. */
export interface Run {
  /** Of one operation. */
  readonly nanoseconds: number;
  readonly checksum: string;
}

export class Peer implements Disposable {
  readonly #process: ChildProcess;
  readonly #name: string;
  readonly #lines: AsyncIterator<string>;

  private constructor(name: string, process: ChildProcess) {
    this.#name = name;
    this.#process = process;
    this.#lines = createInterface({ input: process.stdout! })[Symbol.asyncIterator]();
  }

  /** Starts it and waits until it is prepared. @throws Error if it ends before that. */
  static async start(name: string, command: string, args: readonly string[]): Promise<Peer> {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(child, 'spawn');
    const peer = new Peer(name, child);
    await peer.#line();
    return peer;
  }

  /** @throws Error if the process has ended. */
  async run(): Promise<Run> {
    this.#process.stdin!.write('run\n');
    const [nanoseconds, checksum] = (await this.#line()).split(' ');
    return { nanoseconds: Number(nanoseconds), checksum: checksum! };
  }

  [Symbol.dispose](): void {
    this.#process.kill();
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error(`${this.#name} ended early`);
    return value;
  }
}
