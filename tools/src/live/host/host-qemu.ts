/** QEMU with its own VT-d unit, and two devices for vfio-pci. */
import type { LiveFiles } from '../live-qemu.js';
import type { Peers } from '../peers/peers.js';
import { comma } from '../qemu-process.js';

/** Node and its libraries are unpacked into it. */
const MEMORY = '768M';

export interface HostFiles extends LiveFiles {
  /** Where the answers go. */
  readonly answers: string;
  readonly initramfs: string;
}

/** Arguments. `unit`: options of intel-iommu. */
export function hostQemu({ kernel }: Peers, files: HostFiles, unit: string, words: readonly string[]): string[] {
  return [
    ...['-machine', 'q35,kernel-irqchip=split', '-accel', 'tcg', '-cpu', 'max', '-m', MEMORY, '-nodefaults'],
    ...['-display', 'none', '-monitor', 'none', '-no-reboot'],
    ...['-chardev', `file,id=console,path=${comma(files.console)}`, '-serial', 'chardev:console'],
    ...['-chardev', `file,id=answers,path=${comma(files.answers)}`, '-serial', 'chardev:answers'],
    ...['-device', `intel-iommu,intremap=on,${unit}`],
    ...['-device', 'edu,addr=4', '-device', 'edu,addr=5'],
    ...['-kernel', kernel.image, '-initrd', files.initramfs, '-append', [...PARAMETERS, ...words].join(' ')],
  ];
}

/** On a busy computer the timer is late when Linux tries it, which would be the end. */
const PARAMETERS = ['console=ttyS0', 'intel_iommu=on', 'no_timer_check', 'panic=-1', 'printk.devkmsg=on'];
