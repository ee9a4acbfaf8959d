/** QEMU with a VT-d unit, its own or ours, and two devices for vfio-pci. */
import type { Peers } from '../peers/peers.js';
import { comma, UNHURRIED } from '../qemu-process.js';

/** Node and its libraries are unpacked into it. */
const MEMORY_BYTES = 768 * 2 ** 20;

export interface HostFiles {
  /** The guest's memory, where others have to reach it. */
  readonly memory: string;
  readonly console: string;
  /** Where the answers go. */
  readonly answers: string;
}

/** The unit, the devices, and what they need besides. */
export interface HostHardware {
  readonly devices: readonly string[];
  /** Guest memory is in its file. */
  readonly shared: boolean;
  /** For Linux. */
  readonly parameters: readonly string[];
}

export interface HostBoot {
  readonly initramfs: string;
  /** File of a DMAR table; absent: QEMU's own. */
  readonly dmar?: string;
}

/** Arguments; without `boot` the firmware runs, and nothing else. */
export function hostQemu({ kernel }: Peers, files: HostFiles, hardware: HostHardware, boot?: HostBoot): string[] {
  const memory = `memory-backend-file,id=ram,size=${MEMORY_BYTES},share=on,mem-path=${comma(files.memory)}`;
  const shared = hardware.shared ? { machine: ',memory-backend=ram', object: ['-object', memory] } : undefined;
  return [
    ...['-machine', `q35,kernel-irqchip=split${shared?.machine ?? ''}`, '-accel', 'tcg', '-cpu', 'max'],
    ...['-m', `${MEMORY_BYTES / 2 ** 20}M`, ...(shared?.object ?? []), '-nodefaults'],
    ...['-display', 'none', '-monitor', 'none', '-no-reboot'],
    ...['-chardev', `file,id=console,path=${comma(files.console)}`, '-serial', 'chardev:console'],
    ...['-chardev', `file,id=answers,path=${comma(files.answers)}`, '-serial', 'chardev:answers'],
    ...hardware.devices,
    ...(boot?.dmar === undefined ? [] : ['-acpitable', `file=${comma(boot.dmar)}`]),
    ...(boot === undefined ? [] : ['-kernel', kernel.image, '-initrd', boot.initramfs]),
    ...(boot === undefined ? [] : ['-append', [...PARAMETERS, ...hardware.parameters].join(' ')]),
  ];
}

const PARAMETERS = ['console=ttyS0', 'intel_iommu=on', 'panic=-1', 'printk.devkmsg=on', ...UNHURRIED];
