/** QEMU with a Data Streaming Accelerator. */
import type { LiveBoot, LiveFiles } from '../live-qemu.js';
import type { Peers } from '../peers/peers.js';
import { comma, served, UNHURRIED } from '../qemu-process.js';
import { GUEST_BYTES } from './dsa-host.js';
import { DSA_FUNCTION, DSA_SLOTS, type DsaModel } from './dsa-model.js';

/**
 * idxd does not load on a processor without MOVDIR64B, and this one does not have it: it says that it has. Whoever executes it in a guest
 * gets an invalid opcode; our program stores eight times 8 bytes instead.
 */
const PROCESSOR = 'max,+movdir64b,x-force-features=on';

export interface DsaFiles extends LiveFiles {
  /** Where in the file the guest's memory begins. */
  readonly offset: number;
}

/** Arguments; without `boot` the firmware runs, and nothing else. */
export function dsaQemu({ kernel }: Peers, model: DsaModel, files: DsaFiles, boot?: LiveBoot): string[] {
  const place = `mem-path=${comma(files.memory)},offset=${files.offset}`;
  const memory = `memory-backend-file,id=ram,size=${GUEST_BYTES},share=on,${place}`;
  return [
    ...[
      '-machine',
      'q35,memory-backend=ram',
      '-accel',
      'tcg',
      '-cpu',
      PROCESSOR,
      '-m',
      `${GUEST_BYTES}B`,
      '-object',
      memory,
    ],
    ...['-nodefaults', '-display', 'none', '-monitor', 'none', '-no-reboot', '-serial', 'chardev:console'],
    ...['-chardev', `file,id=console,path=${comma(files.console)}`],
    ...served(model.sockets.unit, DSA_SLOTS.unit),
    ...served(model.sockets.dsa, DSA_SLOTS.dsa),
    ...(boot === undefined ? [] : ['-acpitable', `file=${comma(boot.dmar)}`, '-kernel', kernel.image]),
    ...(boot === undefined ? [] : ['-initrd', boot.initramfs, '-append', PARAMETERS.join(' ')]),
  ];
}

/**
 * A unit whose first stage has four levels shares no address space of five. Each unmapped address is flushed at once, and used again at once:
 * who keeps a translation is found out.
 */
const PARAMETERS = [
  ...['console=ttyS0', 'intel_iommu=on,sm_on', 'iommu.strict=1', 'intremap=off', 'no5lvl', 'panic=-1'],
  ...UNHURRIED,
  'printk.devkmsg=on',
  `DSA=${DSA_FUNCTION}`,
];
