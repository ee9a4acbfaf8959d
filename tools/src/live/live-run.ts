/** One live run: firmware finds a place for the unit, Linux boots, both sides are asked. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { folderWithUs } from '../leftovers/index.js';
import { type BootReport, bootReports } from './console.js';
import { buildInitramfs } from './initramfs.js';
import { DISK_BYTES, type DiskReport, diskReport } from './live-disk.js';
import { LiveModel } from './live-model.js';
import { LiveQemu, MEMORY_BYTES } from './live-qemu.js';
import { memoryFolder } from './memory-folder.js';
import type { LiveMode } from './modes.js';
import type { UnitAccount, UnitCounts } from './observed-unit.js';
import { LiveError } from './peers/live-error.js';
import type { Peers } from './peers/peers.js';
import { SILENT_MS } from './qemu-process.js';
import type { UnitsAround } from './served-unit.js';
import { type Check, verdict } from './verdict.js';

export interface LiveResult {
  readonly mode: Pick<LiveMode, 'name'>;
  readonly seconds: number;
  /** One a boot. */
  readonly boots: readonly LiveBootResult[];
  readonly console: readonly string[];
  /** What else is kept with the console: texts by the names of their files. */
  readonly kept?: Readonly<Record<string, string>>;
}

export interface LiveBootResult {
  readonly checks: readonly Check[];
  readonly report: BootReport | undefined;
  readonly account: UnitAccount | undefined;
  /** Of a host below the machine. */
  readonly host?: HostAccount;
}

/** What came down to a host: its own unit's account, and what the machine asked of its kernel. */
export interface HostAccount {
  readonly unit: UnitCounts;
  readonly calls: ReadonlyMap<string, { readonly made: number; readonly refused: number }>;
}

/** Tells what is under way, in a few words. */
export type Stage = (text: string) => void;

/** `around` is put around the machine's unit. @throws LiveError if it comes to no boot at all. */
export async function liveRun(
  peers: Peers,
  mode: LiveMode,
  stage: Stage,
  report: Stage,
  around?: UnitsAround,
): Promise<LiveResult> {
  const start = performance.now();
  using work = folderWithUs('remora-live-');
  using fast = memoryFolder(MEMORY_BYTES + DISK_BYTES);
  const folder = work.path;
  const files = { memory: join(fast.path, 'memory'), console: join(folder, 'console') };
  // That a QEMU goes when it is told to go is no news.
  let going = true;
  const tell: Stage = text => {
    if (!going) report(text);
  };
  using model = new LiveModel(mode, folder, files.memory, tell, around);
  await model.listen();
  const boot = { dmar: join(folder, 'dmar'), initramfs: join(folder, 'initramfs') };
  stage('firmware');
  writeFileSync(boot.dmar, model.dmar(await model.placedBy(new LiveQemu(peers, mode, model, files, undefined))));
  rmSync(files.console, { force: true });
  writeFileSync(boot.initramfs, buildInitramfs(peers.busybox));
  const before = diskReport(model.disk);
  stage('Linux');
  await using qemu = new LiveQemu(peers, mode, model, files, boot);
  // The disk as each guest left it, before the next one writes.
  const disks: DiskReport[] = [];
  const waited = await qemu.until(lines => {
    const reports = bootReports(lines);
    if (reports.length > 0) going = false;
    const finished = reports.filter(({ said }) => said.has('done')).length;
    while (disks.length < finished) disks.push(diskReport(model.disk));
    return finished >= mode.boots;
  }, SILENT_MS);
  going = true;
  const console = qemu.lines;
  const reports = bootReports(console);
  // One that ends in order does so because Linux told it to.
  if (waited === 'ended' && (reports.length === 0 || qemu.failed)) throw new LiveError(`QEMU ended: ${qemu.complaint}`);
  if (reports.length === 0) throw new LiveError(`Linux has said nothing for ${SILENT_MS / 1000} s`);
  const boots = Array.from({ length: Math.max(mode.boots, reports.length) }, (_, index): LiveBootResult => {
    const account = model.accounts[index];
    const found = reports[index];
    const disk = { before, after: disks[index] ?? diskReport(model.disk) };
    const silent = waited === 'silent' && index === reports.length - 1;
    return { report: found, account, checks: verdict(mode, model.addresses, found, account, disk, silent) };
  });
  return { mode, seconds: (performance.now() - start) / 1000, boots, console };
}
