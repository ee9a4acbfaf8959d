/**
 * What a register of a served device costs a guest: a bare-metal guest reads it, or writes it, many times, by turns for edu as
 * it is served here, as a server in C serves its first registers, and as QEMU has it.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from '@remora/core';
import eduPlugin from '@hw/edu/plugin';
import { cacheFolder } from '../../live/peers/cache-folder.js';
import { cachedQemu } from '../../live/peers/peers.js';
import { served } from '../../live/qemu-process.js';
import { ServedMachine } from '../../serve/index.js';
import type { Comparison, Row } from '../compare.js';
import { compilePeer } from '../compile.js';
import { Peer } from '../peer.js';
import { ratioRow, timesNote } from '../times.js';
import { byTurns } from './by-turns.js';
import { loopImage, WRITES } from './loop-image.js';
import { BenchVm, memoryFolder, Opened } from './vm.js';

const TITLE = 'live: registers';
const ROUNDS = 7;

export const LIVE_REGISTERS = { title: TITLE, compare: compareRegisters };

/** Device numbers on the root bus. */
const SLOTS = { ours: 4, waiting: 5, c: 6, cWaiting: 7, qemu: 8, passed: 9 } as const;
type Device = keyof typeof SLOTS;
/** For QEMU: each write is answered before the guest goes on. */
const WAITS = { 'x-no-posted-writes': true };

interface Loop {
  readonly title: string;
  /** First byte of the request, besides the device. */
  readonly direction: number;
  /** log2 of accesses in a run. */
  readonly shift: number;
  readonly device: Device;
  readonly peers: readonly { readonly device: Device; readonly name: string; readonly target: number }[];
}

const LOOPS: readonly Loop[] = [
  {
    title: 'live: read of a register',
    direction: 0,
    shift: 13,
    device: 'ours',
    peers: [
      { device: 'passed', name: 'Remora, koffi', target: 2 },
      { device: 'c', name: 'C server', target: 2 },
      { device: 'qemu', name: 'QEMU', target: 200 },
    ],
  },
  {
    title: 'live: posted write',
    direction: WRITES,
    shift: 16,
    device: 'ours',
    peers: [
      { device: 'passed', name: 'Remora, koffi', target: 2 },
      { device: 'c', name: 'C server', target: 2 },
      { device: 'qemu', name: 'QEMU', target: 10 },
    ],
  },
  {
    title: 'live: write that is waited for',
    direction: WRITES,
    shift: 13,
    device: 'waiting',
    peers: [
      { device: 'cWaiting', name: 'C server', target: 2 },
      { device: 'qemu', name: 'QEMU', target: 200 },
    ],
  },
];

async function compareRegisters(rounds = ROUNDS): Promise<Comparison> {
  const qemu = cachedQemu(cacheFolder());
  if (qemu === undefined) {
    const missing = `no QEMU in ${cacheFolder()}: "remora live --fetch" gets it`;
    return { rows: [], skipped: [`${TITLE}: ${missing}`] };
  }
  const folder = memoryFolder();
  try {
    return await measure(qemu, folder, rounds);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measure(qemu: readonly string[], folder: string, rounds: number): Promise<Comparison> {
  const memory = join(folder, 'memory');
  const image = join(folder, 'image');
  const socket = (device: Device): string => join(folder, device);
  writeFileSync(image, loopImage());
  using open = new Opened();
  const skipped: string[] = [];
  const plugged: Device[] = [];
  const serve = async (ids: readonly Device[], how: { memory: string } | { descriptors: true }): Promise<void> => {
    const devices = ids.map(id => `edu,id=${id},addr=${SLOTS[id]}`);
    const machine = new ServedMachine({ plugins: [eduPlugin], devices, ...how });
    open.add(machine);
    for (const id of ids) open.add(await machine.listen(id, socket(id)));
    plugged.push(...ids);
  };
  await serve(['ours', 'waiting'], { memory });
  try {
    await serve(['passed'], { descriptors: true });
  } catch (failure) {
    if (!(failure instanceof ConfigError)) throw failure;
    skipped.push(`${TITLE}: Remora with descriptors: ${failure.message}`);
  }
  const program = compilePeer('vfio-user', folder);
  if ('missing' in program) skipped.push(`${TITLE}: C server: ${program.missing}`);
  else {
    for (const id of ['c', 'cWaiting'] as const) {
      open.add(await Peer.start('C server', program.path, [socket(id)]));
      plugged.push(id);
    }
  }
  await using vm = new BenchVm(qemu, memory, [
    ...['-kernel', image, '-device', `edu,addr=${SLOTS.qemu}`],
    ...plugged.flatMap(id => served(socket(id), SLOTS[id], /aiting/.test(id) ? WAITS : {})),
  ]);
  await vm.bytes(1);
  const rows: Row[] = [];
  const notes: string[] = [];
  for (const { title, device, direction, shift, peers } of LOOPS) {
    const there = peers.filter(peer => peer.device === 'qemu' || plugged.includes(peer.device));
    const times = await byTurns(rounds, [device, ...there.map(peer => peer.device)], async each => {
      const start = performance.now();
      vm.send(Uint8Array.of(SLOTS[each] | direction, shift));
      const checksum = (await vm.bytes(4)).readUInt32LE();
      return { time: ((performance.now() - start) * 1000) / 2 ** shift, checksum };
    });
    for (const [index, { name, target }] of there.entries())
      rows.push(ratioRow(title, name, target, times[0]!, times[index + 1]!));
    notes.push(timesNote(title, 'us', ['Remora', ...there.map(({ name }) => name)], times));
  }
  return { rows, skipped, notes };
}
