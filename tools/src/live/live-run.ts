/** One live run: firmware finds a place for the unit, Linux boots, both sides are asked. */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BootReport, bootReports } from './console.js';
import { buildInitramfs } from './initramfs.js';
import { LiveModel } from './live-model.js';
import { LiveQemu } from './live-qemu.js';
import type { LiveMode } from './modes.js';
import type { UnitAccount } from './observed-unit.js';
import { LiveError } from './peers/live-error.js';
import type { Peers } from './peers/peers.js';
import { type Check, verdict } from './verdict.js';

export interface LiveResult {
  readonly mode: LiveMode;
  readonly seconds: number;
  /** One a boot. */
  readonly boots: readonly LiveBootResult[];
  readonly console: readonly string[];
}

export interface LiveBootResult {
  readonly checks: readonly Check[];
  readonly report: BootReport | undefined;
  readonly account: UnitAccount | undefined;
}

const FIRMWARE_MS = 20_000;
/** The longest that a guest which gets on says nothing, on a busy computer. */
const SILENT_MS = 30_000;
const MIB = 2 ** 20;
const GIVEN_MIB = 16;
const WRITTEN_MIB = 4;
/** Memory of the guest is here, if it can be: a file system in memory. */
const SHARED_MEMORY = '/dev/shm';

/** Tells what is under way, in a few words. */
export type Stage = (text: string) => void;

/** @throws LiveError if it comes to no boot at all. */
export async function liveRun(peers: Peers, mode: LiveMode, stage: Stage, report: Stage): Promise<LiveResult> {
  const start = performance.now();
  const folder = mkdtempSync(join(tmpdir(), 'remora-live-'));
  const fast = mkdtempSync(join(existsSync(SHARED_MEMORY) ? SHARED_MEMORY : tmpdir(), 'remora-live-'));
  const memory = join(fast, 'memory');
  try {
    // That QEMU goes when it is told to go is no news.
    let going = false;
    using model = new LiveModel(mode, folder, memory, text => {
      if (!going) report(text);
    });
    await model.listen();
    const boot = { dmar: join(folder, 'dmar'), initramfs: join(folder, 'initramfs') };
    stage('firmware');
    going = true;
    writeFileSync(boot.dmar, model.dmar(await placeOfRegisters(peers, mode, model, memory)));
    going = false;
    writeFileSync(boot.initramfs, buildInitramfs(peers.busybox));
    const given = sumOf(model.disk, 0, GIVEN_MIB);
    stage('Linux');
    await using qemu = new LiveQemu(peers, mode, model, memory, boot);
    const reports = (): BootReport[] => bootReports(qemu.lines);
    // What each guest wrote, before the next one does.
    const written: string[] = [];
    const looked = (): boolean => {
      const finished = reports().filter(({ said }) => said.has('done')).length;
      while (written.length < finished) written.push(sumOf(model.disk, GIVEN_MIB, WRITTEN_MIB));
      return finished >= mode.boots;
    };
    await qemu.until(looked, SILENT_MS).catch((failure: unknown) => {
      if (!(failure instanceof LiveError) || reports().length === 0) throw failure;
    });
    looked();
    going = true;
    const boots = Array.from({ length: mode.boots }, (_, index): LiveBootResult => {
      const account = model.accounts[index];
      const found = reports()[index];
      const disk = { given, written: written[index] ?? sumOf(model.disk, GIVEN_MIB, WRITTEN_MIB) };
      return { report: found, account, checks: verdict(mode, model.addresses, found, account, disk) };
    });
    return { mode, seconds: (performance.now() - start) / 1000, boots, console: qemu.lines };
  } finally {
    rmSync(folder, { recursive: true, force: true });
    rmSync(fast, { recursive: true, force: true });
  }
}

/** A start without a kernel: the firmware gives the unit's BAR the place that it will have again. */
async function placeOfRegisters(peers: Peers, mode: LiveMode, model: LiveModel, memory: string): Promise<number> {
  await using qemu = new LiveQemu(peers, mode, model, memory, undefined);
  if (await qemu.until(() => model.registerBase !== undefined, FIRMWARE_MS)) return model.registerBase!;
  throw new LiveError("the guest's firmware gave the unit's registers no place");
}

/** MD5 of a part of a file, both counted in MiB. */
function sumOf(file: string, from: number, count: number): string {
  const bytes = new Uint8Array(count * MIB);
  const fd = openSync(file, 'r');
  try {
    readSync(fd, bytes, 0, bytes.length, from * MIB);
  } finally {
    closeSync(fd);
  }
  return createHash('md5').update(bytes).digest('hex');
}
