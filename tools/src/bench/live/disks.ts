/**
 * Reads of a disk by Linux, past its page cache: of the controller as it is served here, without translation and behind the served unit, and of
 * QEMU's own controller, without translation and behind QEMU's own unit. All have the same file. Two guests stand by, and one of them
 * reads: QEMU's unit would have all devices of its guest behind it.
 */
import { createHash, randomFillSync } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import nvmePlugin from '@hw/nvme/plugin';
import { dmarTable } from '@hw/q35';
import q35Plugin from '@hw/q35/plugin';
import { buildInitramfs } from '../../live/initramfs.js';
import { cacheFolder } from '../../live/peers/cache-folder.js';
import { cachedPeers, type Peers } from '../../live/peers/peers.js';
import { placeOfBar } from '../../live/place-of-bar.js';
import { served } from '../../live/qemu-process.js';
import { REGISTER_FUNCTION } from '../../live/served-unit.js';
import { ServedMachine } from '../../serve/index.js';
import { type Comparison, DifferentResults, type Row } from '../compare.js';
import { ratioRow, timesNote } from '../times.js';
import { byTurns, type TurnResult } from './by-turns.js';
import { BenchVm, memoryFolder, Opened } from './vm.js';

const TITLE = 'live: disks';
const KERNEL = '6.1';
const ROUNDS = 5;

export const LIVE_DISKS = { title: TITLE, compare: compareDisks };

const SCRIPT = fileURLToPath(new URL('../../../live/bench.sh', import.meta.url));
const DISK_BYTES = 2 ** 26;
const CHECKED_BYTES = 2 ** 22;
const CHECKED_BLOCKS = 32;
/** What Linux calls the IOMMU domain of a function whose transfers are translated. */
const TRANSLATED = 'DMA-FQ';
const MIB = 2 ** 20;

/** Device numbers, in the guest that has a served unit. */
const SLOTS = { unit: 3, behind: 4, ours: 5, qemu: 6 } as const;
type Disk = 'ours' | 'behind' | 'qemu' | 'qemuBehind';

interface Reading {
  readonly title: string;
  readonly blockBytes: number;
  readonly blocks: number;
  /** At most, ours by QEMU's. */
  readonly target: number;
}

const READINGS: readonly Reading[] = [
  { title: 'live: NVMe, reads of 128 KiB', blockBytes: 2 ** 17, blocks: 512, target: 2.5 },
  { title: 'live: NVMe, reads of 4 KiB', blockBytes: 2 ** 12, blocks: 3000, target: 3 },
];

async function compareDisks(rounds = ROUNDS): Promise<Comparison> {
  const peers = cachedPeers({ folder: cacheFolder(), kernel: KERNEL, flavour: 'cloud' });
  if (peers === undefined) {
    const missing = `no QEMU and Linux ${KERNEL} in ${cacheFolder()}: "remora live --fetch" gets them`;
    return { rows: [], skipped: [`${TITLE}: ${missing}`] };
  }
  const folder = memoryFolder();
  try {
    return await measure(peers, folder, rounds);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measure(peers: Peers, folder: string, rounds: number): Promise<Comparison> {
  const file = (name: string): string => join(folder, name);
  const contents = randomFillSync(new Uint8Array(DISK_BYTES));
  writeFileSync(file('disk'), contents);
  writeFileSync(file('initramfs'), buildInitramfs(peers.busybox, { init: SCRIPT }));
  using translated = new ServedMachine({
    plugins: [intelIommuPlugin, nvmePlugin, q35Plugin],
    devices: ['intel-iommu,id=unit', `nvme,id=behind,serial=behind,msix=off,addr=${SLOTS.behind},file=${file('disk')}`],
    memory: file('memory'),
    iommu: REGISTER_FUNCTION,
  });
  using plain = new ServedMachine({
    plugins: [nvmePlugin],
    devices: [`nvme,id=ours,serial=ours,msix=off,addr=${SLOTS.ours},file=${file('disk')}`],
    memory: file('memory'),
  });
  using open = new Opened();
  for (const part of [...translated.parts, ...plain.parts]) open.add(await part.listen(file(part.id)));
  const devices = [
    ...(['unit', 'behind', 'ours'] as const).flatMap(id => served(file(id), SLOTS[id])),
    ...qemuDisk(file('disk'), SLOTS.qemu),
  ];
  {
    const place = (): number | undefined => placeOfBar(translated.server('unit').device);
    await using firmware = new BenchVm(peers.qemu, file('memory'), devices);
    await firmware.until(() => place() !== undefined);
    const { rootBus } = translated.machine.board;
    writeFileSync(file('dmar'), dmarTable({ ...rootBus.iommu!.facts!, registerBase: place()! }, rootBus));
  }
  const linux = [
    ...['-kernel', peers.kernel.image, '-initrd', file('initramfs')],
    ...['-append', 'console=ttyS0 intel_iommu=on intremap=off panic=-1'],
  ];
  await using vm = new BenchVm(peers.qemu, file('memory'), [
    ...devices,
    ...linux,
    '-acpitable',
    `file=${file('dmar')}`,
  ]);
  await vm.line();
  await using other = new BenchVm(peers.qemu, file('memory-2'), [
    ...['-device', 'intel-iommu', ...qemuDisk(file('disk'), SLOTS.qemu), ...linux],
  ]);
  await other.line();
  const result = await readByTurns(rounds, md5(contents.subarray(0, CHECKED_BYTES)), async (disk, command) => {
    const guest = disk === 'qemuBehind' ? other : vm;
    guest.send(`0000:00:0${SLOTS[disk === 'qemuBehind' ? 'qemu' : disk]}.0 ${command}\n`);
    await guest.line();
    const start = performance.now();
    const checksum = await guest.line();
    return { time: (performance.now() - start) / 1000, checksum };
  });
  return { ...result, notes: [...result.notes, `QEMU ${peers.qemuVersion}, Linux ${peers.kernel.version}`] };
}

/** `read` has a guest read a disk: seconds, and what the guest says at the end. `expected`: MD5 of the first CHECKED_BYTES. */
async function readByTurns(
  rounds: number,
  expected: string,
  read: (disk: Disk, command: string) => Promise<TurnResult>,
): Promise<Comparison & { notes: readonly string[] }> {
  const disks = ['ours', 'behind', 'qemu', 'qemuBehind'] as const;
  for (const disk of disks) {
    const { checksum } = await read(disk, `${CHECKED_BYTES / CHECKED_BLOCKS} ${CHECKED_BLOCKS} sum`);
    const right = `${expected} ${disk.endsWith('ehind') ? TRANSLATED : 'none'}`;
    if (checksum !== right)
      throw new DifferentResults(`${disk}: sum of the disk, and IOMMU domain: "${checksum}", not "${right}"`);
  }
  const rows: Row[] = [];
  const notes: string[] = [];
  for (const { title, target, blockBytes, blocks } of READINGS) {
    const times = await byTurns(rounds, disks, disk => read(disk, `${blockBytes} ${blocks}`));
    rows.push(
      ratioRow(title, 'QEMU', target, times[0]!, times[2]!),
      ratioRow(`${title}, translated`, 'QEMU, translated', target, times[1]!, times[3]!),
    );
    const rates = times.map(each => each.map(seconds => (blockBytes * blocks) / seconds / MIB));
    notes.push(timesNote(title, 'MiB/s', ['Remora', 'Remora, translated', 'QEMU', 'QEMU, translated'], rates));
  }
  return { rows, skipped: [], notes };
}

function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex');
}

function qemuDisk(file: string, slot: number): string[] {
  return [
    ...['-drive', `if=none,id=disk,format=raw,readonly=on,file.locking=off,file=${file}`],
    ...['-device', `nvme,drive=disk,serial=qemu,addr=${slot}`],
  ];
}
