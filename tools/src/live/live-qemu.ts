/** QEMU's half of a live machine: processors, memory, firmware, and a console. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { LiveModel } from './live-model.js';
import { SLOTS } from './live-model.js';
import type { LiveMode } from './modes.js';
import { LiveError } from './peers/live-error.js';
import type { Peers } from './peers/peers.js';

const MEMORY = '256M';

/** What a guest boots; without it the firmware runs, and nothing else. */
export interface LiveBoot {
  /** File of the DMAR table. */
  readonly dmar: string;
  readonly initramfs: string;
}

export class LiveQemu implements AsyncDisposable {
  /** What the console said so far. */
  readonly lines: string[] = [];
  readonly #child: ChildProcess;
  /** Resolves when QEMU has ended. */
  readonly ended: Promise<void>;
  #errors = '';

  /** `memory` is the file that the guest's memory is in. */
  constructor({ qemu, kernel }: Peers, mode: LiveMode, model: LiveModel, memory: string, boot: LiveBoot | undefined) {
    const [program, ...first] = qemu;
    const args = [
      ...first,
      ...['-machine', 'q35,memory-backend=ram', '-accel', 'tcg', '-cpu', 'max', '-smp', String(mode.cpus)],
      ...['-m', MEMORY, '-object', `memory-backend-file,id=ram,size=${MEMORY},share=on,mem-path=${comma(memory)}`],
      ...['-nodefaults', '-display', 'none', '-serial', 'stdio', '-monitor', 'none'],
      ...(mode.boots > 1 ? [] : ['-no-reboot']),
      ...served(model.sockets.unit, SLOTS.unit),
      ...(mode.rootPort ? ['-device', `pcie-root-port,id=root-port,addr=${SLOTS.disk}`] : []),
      ...served(model.sockets.disk, mode.rootPort ? 0 : SLOTS.disk, mode.rootPort ? 'root-port' : undefined),
      ...served(model.sockets.edu, SLOTS.edu),
      ...(boot === undefined ? [] : ['-acpitable', `file=${comma(boot.dmar)}`, '-kernel', kernel.image]),
      ...(boot === undefined ? [] : ['-initrd', boot.initramfs, '-append', parameters(mode, model)]),
    ];
    this.#child = spawn(program!, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    createInterface(this.#child.stdout!).on('line', line => this.lines.push(line));
    this.#child.stderr!.on('data', (text: Buffer) => (this.#errors += text.toString()));
    this.ended = new Promise(resolve => {
      this.#child.once('error', failure => {
        this.#errors += `${failure.message}\n`;
        resolve();
      });
      this.#child.once('close', () => resolve());
    });
  }

  /**
   * Waits until `done`, asked often. False when the console has been silent for `ms`: how long a boot takes depends on what else the
   * computer does. @throws LiveError if QEMU ends before.
   */
  async until(done: () => boolean, ms: number): Promise<boolean> {
    let ended = false;
    void this.ended.then(() => (ended = true));
    let heard = this.lines.length;
    for (let since = performance.now(); performance.now() - since < ms;) {
      if (done()) return true;
      if (ended) throw new LiveError(`QEMU ended: ${this.#errors.trim().split('\n').at(-1) ?? 'it said nothing'}`);
      if (this.lines.length > heard) [heard, since] = [this.lines.length, performance.now()];
      await new Promise(resolve => setTimeout(resolve, POLL_MS));
    }
    return false;
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
