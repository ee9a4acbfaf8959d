/** A QEMU that runs, and its console. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { spawnWithUs } from '../leftovers/index.js';

const POLL_MS = 20;
/** The longest that a guest which gets on says nothing, on a busy computer. */
export const SILENT_MS = 60_000;

/** How waiting ended: it came, the console fell silent, QEMU ended. */
export type Waited = 'came' | 'silent' | 'ended';

export class QemuProcess implements AsyncDisposable {
  readonly #console: string;
  readonly #child: ChildProcess;
  /** Resolves when QEMU has ended. */
  readonly ended: Promise<void>;
  #errors = '';

  /** `console` is the file that `args` name for what the guest says. */
  constructor([program, ...first]: readonly string[], args: readonly string[], console: string) {
    this.#console = console;
    this.#child = spawnWithUs(program!, [...first, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child.stderr!.on('data', (text: Buffer) => (this.#errors += text.toString()));
    this.ended = new Promise(resolve => {
      this.#child.once('error', failure => {
        this.#errors += `${failure.message}\n`;
        resolve();
      });
      this.#child.once('close', () => resolve());
    });
  }

  /** What the console said so far, in whole lines. */
  get lines(): string[] {
    return existsSync(this.#console) ? readFileSync(this.#console, 'latin1').split('\n').slice(0, -1) : [];
  }

  /** It ended, and not in order. */
  get failed(): boolean {
    return this.#child.signalCode !== null || (this.#child.exitCode ?? 0) !== 0;
  }

  /** How QEMU ended, or what it said last. */
  get complaint(): string {
    const { signalCode } = this.#child;
    if (signalCode !== null) return `by ${signalCode}`;
    const lines = this.#errors.trim().split('\n');
    return lines.filter(line => !line.includes('warning: ')).at(-1) || 'it said nothing';
  }

  /**
   * Waits until `done`, asked often, or until the console has been silent for `ms`: how long a boot takes depends on what else the
   * computer does. While all of it stands still, and QEMU with it, nobody is silent: it is counted how often the console was looked at.
   */
  async until(done: (lines: readonly string[]) => boolean, ms: number): Promise<Waited> {
    let ended = false;
    void this.ended.then(() => (ended = true));
    let heard = 0;
    for (let looks = 0; looks < ms / POLL_MS; looks++) {
      const last = ended;
      const { lines } = this;
      if (done(lines)) return 'came';
      if (last) return 'ended';
      if (lines.length > heard) [heard, looks] = [lines.length, 0];
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

/** So long QEMU waits for an answer, and takes none that comes later: on a computer that is busy, or stops us for a while, its own 5 s are not much. */
const ANSWER_MS = 300_000;

/**
 * Of Linux's command line. On a busy computer the timer is late when Linux tries it, which would be the end. While the computer stands still,
 * the guest's clock goes on: Linux takes that for a processor that is stuck. One that is falls silent, which is found out in any case.
 */
export const UNHURRIED: readonly string[] = ['no_timer_check', 'nosoftlockup', 'rcupdate.rcu_cpu_stall_suppress=1'];

/** Arguments for a device that is served at `socket`, with `more` properties. */
export function served(socket: string, device: number, more: object = {}): string[] {
  const where = { addr: device.toString(16), 'x-msg-timeout': ANSWER_MS, ...more };
  return ['-device', JSON.stringify({ driver: 'vfio-user-pci', ...where, socket: { type: 'unix', path: socket } })];
}

/** In an option of QEMU's, a comma is written twice. */
export function comma(path: string): string {
  return path.replaceAll(',', ',,');
}
