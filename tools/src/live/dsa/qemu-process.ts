/** A QEMU that runs, and its console. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { spawnWithUs } from '../../leftovers/index.js';
import type { Waited } from '../live-qemu.js';

const POLL_MS = 20;

export class QemuProcess implements AsyncDisposable {
  readonly #console: string;
  readonly #child: ChildProcess;
  #errors = '';
  #ended = false;

  /** `console` is the file of its console, which `args` name. */
  constructor([program, ...first]: readonly string[], args: readonly string[], console: string) {
    this.#console = console;
    this.#child = spawnWithUs(program!, [...first, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child.stderr!.on('data', (text: Buffer) => (this.#errors += text.toString()));
    this.#child.once('error', failure => {
      this.#errors += `${failure.message}\n`;
      this.#ended = true;
    });
    this.#child.once('close', () => (this.#ended = true));
  }

  /** What the console said so far, in whole lines. */
  get lines(): string[] {
    return existsSync(this.#console) ? readFileSync(this.#console, 'latin1').split('\n').slice(0, -1) : [];
  }

  /** What QEMU itself said last. */
  get complaint(): string {
    return this.#errors.trim().split('\n').at(-1) || 'it said nothing';
  }

  /** Waits until `done`, asked often, or until the console has been silent for `ms`. */
  async until(done: (lines: readonly string[]) => boolean, ms: number): Promise<Waited> {
    let heard = 0;
    for (let since = performance.now(); performance.now() - since < ms;) {
      const last = this.#ended;
      const { lines } = this;
      if (done(lines)) return 'came';
      if (last) return 'ended';
      if (lines.length > heard) [heard, since] = [lines.length, performance.now()];
      await new Promise(resolve => setTimeout(resolve, POLL_MS));
    }
    return 'silent';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    if (this.#child.pid !== undefined) await once(this.#child, 'close');
  }
}
