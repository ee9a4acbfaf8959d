/** A QEMU whose guest does what it is told over its second serial port, one request at a time. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MEMORY_MIB = 256;
const SHARED_MEMORY = '/dev/shm';
/** For all that a guest is asked for, on a busy computer. */
const PATIENCE_MS = 300_000;

/** A folder for files that are memory. The caller removes it. */
export function memoryFolder(): string {
  return mkdtempSync(join(existsSync(SHARED_MEMORY) ? SHARED_MEMORY : tmpdir(), 'remora-bench-'));
}

/** What is to be closed at the end. */
export class Opened implements Disposable {
  readonly #all: Disposable[] = [];

  add(each: Disposable): void {
    this.#all.push(each);
  }

  [Symbol.dispose](): void {
    for (const each of this.#all.reverse()) each[Symbol.dispose]();
  }
}

export class BenchVm implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #folder: string;
  #received = Buffer.alloc(0);
  #errors = '';
  #wake = (): void => undefined;
  #over = false;

  /** `memory`: the file that the guest's memory is in. `args` come after those that every guest has. */
  constructor([program, ...first]: readonly string[], memory: string, args: readonly string[]) {
    this.#folder = mkdtempSync(join(tmpdir(), 'remora-bench-vm-'));
    const ram = `memory-backend-file,id=ram,size=${MEMORY_MIB}M,share=on,mem-path=${memory.replaceAll(',', ',,')}`;
    const all = [
      ...first,
      ...['-machine', 'q35,memory-backend=ram', '-accel', 'tcg', '-cpu', 'max', '-m', `${MEMORY_MIB}M`],
      ...['-object', ram, '-nodefaults', '-display', 'none', '-monitor', 'none', '-no-reboot'],
      ...['-serial', `file:${join(this.#folder, 'console')}`, '-serial', 'stdio', ...args],
    ];
    this.#child = spawn(program!, all, { stdio: 'pipe' });
    this.#child.stdin!.on('error', () => undefined);
    this.#child.stdout!.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
    this.#child.stderr!.on('data', (text: Buffer) => (this.#errors += text.toString()));
    const over = (failure?: Error): void => {
      this.#errors += failure?.message ?? '';
      this.#over = true;
      this.#wake();
    };
    this.#child.once('error', over).once('close', () => over());
  }

  send(bytes: Uint8Array | string): void {
    this.#child.stdin!.write(bytes);
  }

  /** The next `count` bytes that the guest sends. @throws Error if they do not come. */
  async bytes(count: number): Promise<Buffer> {
    await this.until(() => this.#received.length >= count);
    return this.#take(count);
  }

  /** The next line that the guest sends, without its end. @throws Error if it does not come. */
  async line(): Promise<string> {
    await this.until(() => this.#received.includes('\n'));
    return this.#take(this.#received.indexOf('\n') + 1)
      .toString()
      .trim();
  }

  /** Waits for something that depends on what the guest sends, or on nothing of it: asked often. @throws Error if it does not happen. */
  async until(done: () => boolean): Promise<void> {
    for (let looks = 0; !done();) {
      if (this.#over) throw new Error(`QEMU ended: ${this.#errors.trim()}`);
      if (looks > PATIENCE_MS / POLL_MS) throw new Error('the guest does not answer');
      await new Promise<void>(resolve => {
        const timer = setTimeout(() => {
          looks++;
          resolve();
        }, POLL_MS);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#over) {
      const gone = once(this.#child, 'close');
      this.#child.kill('SIGKILL');
      await gone;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #take(count: number): Buffer {
    const taken = this.#received.subarray(0, count);
    this.#received = this.#received.subarray(count);
    return taken;
  }
}

const POLL_MS = 50;
