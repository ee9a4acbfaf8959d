/** QEMU's half of a live machine: processors, memory, firmware, and a console. */
import type { LiveModel } from './live-model.js';
import { SLOTS } from './live-model.js';
import type { LiveMode } from './modes.js';
import type { Peers } from './peers/peers.js';
import { comma, QemuProcess, served, UNHURRIED } from './qemu-process.js';

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

export class LiveQemu extends QemuProcess {
  constructor({ qemu, kernel }: Peers, mode: LiveMode, model: LiveModel, files: LiveFiles, boot: LiveBoot | undefined) {
    const args = [
      ...['-machine', 'q35,memory-backend=ram', '-accel', 'tcg', '-cpu', 'max', '-smp', String(mode.cpus)],
      ...['-m', `${MEMORY_BYTES / MIB}M`, '-object'],
      `memory-backend-file,id=ram,size=${MEMORY_BYTES},share=on,mem-path=${comma(files.memory)}`,
      ...['-nodefaults', '-display', 'none', '-monitor', 'none', '-serial', 'chardev:console'],
      ...['-chardev', `file,id=console,path=${comma(files.console)}`],
      ...(mode.boots > 1 ? [] : ['-no-reboot']),
      ...served(model.sockets.unit, SLOTS.unit),
      ...(mode.rootPort ? ['-device', `pcie-root-port,id=root-port,addr=${SLOTS.disk}`] : []),
      ...served(model.sockets.disk, mode.rootPort ? 0 : SLOTS.disk, mode.rootPort ? { bus: 'root-port' } : {}),
      ...served(model.sockets.edu, SLOTS.edu),
      ...(boot === undefined ? [] : ['-acpitable', `file=${comma(boot.dmar)}`, '-kernel', kernel.image]),
      ...(boot === undefined ? [] : ['-initrd', boot.initramfs, '-append', parameters(mode, model)]),
    ];
    super(qemu, args, files.console);
  }
}

function parameters(mode: LiveMode, { addresses }: LiveModel): string {
  const { disk, edu, fault } = addresses;
  return [
    ...['console=ttyS0', 'intel_iommu=on', 'panic=-1', 'printk.devkmsg=on', ...UNHURRIED],
    // The driver complains of a disk that does not answer before the console counts as silent.
    ...['nvme_core.admin_timeout=15', 'nvme_core.io_timeout=20', ...mode.parameters],
    ...[`DISK=${disk}`, `EDU=${edu}`, ...(mode.fault === undefined ? [] : [`FAULT=0x${fault.toString(16)}`])],
  ].join(' ');
}
