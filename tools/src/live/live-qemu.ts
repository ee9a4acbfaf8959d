/** QEMU's half of a live machine: processors, memory, firmware, and a console. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { spawnWithUs } from '../leftovers/index.js';
import type { LiveModel } from './live-model.js';
import { SLOTS } from './live-model.js';
import type { LiveMode } from './modes.js';
import type { Peers } from './peers/peers.js';

/** Of the guest, in bytes. */
export const MEMORY_BYTES = 2 ** 28;
const MIB = 2 ** 20;

/** What a guest boots; without it the firmware runs, and nothing else. */
export interface LiveBoot {
  /** File of the DMAR table. */
  readonly dmar: string;
  readonly initramfs: string;
}

/** Files of one QEMU. */
export interface LiveFiles {
  /** The guest's memory. */
  readonly memory: string;
  /** What the guest says goes here: a pipe that is full for a moment would lose some of it. */
  readonly console: string;
}

/** How waiting ended: it came, the console fell silent, QEMU ended. */
export type Waited = 'came' | 'silent' | 'ended';

export class LiveQemu implements AsyncDisposable {
  readonly #console: string;
  readonly #child: ChildProcess;
  /** Resolves when QEMU has ended. */
  readonly ended: Promise<void>;
  #errors = '';

  constructor({ qemu, kernel }: Peers, mode: LiveMode, model: LiveModel, files: LiveFiles, boot: LiveBoot | undefined) {
    const [program, ...first] = qemu;
    this.#console = files.console;
    const args = [
      ...first,
      ...['-machine', 'q35,memory-backend=ram', '-accel', 'tcg', '-cpu', 'max', '-smp', String(mode.cpus)],
      ...['-m', `${MEMORY_BYTES / MIB}M`, '-object'],
      `memory-backend-file,id=ram,size=${MEMORY_BYTES},share=on,mem-path=${comma(files.memory)}`,
      ...['-nodefaults', '-display', 'none', '-monitor', 'none', '-serial', 'chardev:console'],
      ...['-chardev', `file,id=console,path=${comma(files.console)}`],
      ...(mode.boots > 1 ? [] : ['-no-reboot']),
      ...served(model.sockets.unit, SLOTS.unit),
      ...(mode.rootPort ? ['-device', `pcie-root-port,id=root-port,addr=${SLOTS.disk}`] : []),
      ...served(model.sockets.disk, mode.rootPort ? 0 : SLOTS.disk, mode.rootPort ? 'root-port' : undefined),
      ...served(model.sockets.edu, SLOTS.edu),
      ...(boot === undefined ? [] : ['-acpitable', `file=${comma(boot.dmar)}`, '-kernel', kernel.image]),
      ...(boot === undefined ? [] : ['-initrd', boot.initramfs, '-append', parameters(mode, model)]),
    ];
    this.#child = spawnWithUs(program!, args, { stdio: ['ignore', 'ignore', 'pipe'] });
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
   * computer does.
   */
  async until(done: (lines: readonly string[]) => boolean, ms: number): Promise<Waited> {
    let ended = false;
    void this.ended.then(() => (ended = true));
    let heard = 0;
    for (let since = performance.now(); performance.now() - since < ms;) {
      const last = ended;
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

const POLL_MS = 20;

function served(socket: string, device: number, bus?: string): string[] {
  const where = { addr: device.toString(16), ...(bus === undefined ? {} : { bus }) };
  return ['-device', JSON.stringify({ driver: 'vfio-user-pci', ...where, socket: { type: 'unix', path: socket } })];
}

function parameters(mode: LiveMode, { addresses }: LiveModel): string {
  const { disk, edu, fault } = addresses;
  return [
    ...['console=ttyS0', 'intel_iommu=on', 'panic=-1', 'printk.devkmsg=on', ...mode.parameters],
    ...[`DISK=${disk}`, `EDU=${edu}`, ...(mode.fault === undefined ? [] : [`FAULT=0x${fault.toString(16)}`])],
  ].join(' ');
}

/** In an option of QEMU's, a comma is written twice. */
function comma(path: string): string {
  return path.replaceAll(',', ',,');
}
