/** One live run with a Data Streaming Accelerator, which Linux's own driver idxd drives. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { folderWithUs } from '../../leftovers/index.js';
import { bootReports } from '../console.js';
import { buildInitramfs } from '../initramfs.js';
import type { LiveResult, Stage } from '../live-run.js';
import { memoryFolder } from '../memory-folder.js';
import { LiveError } from '../peers/live-error.js';
import type { Peers } from '../peers/peers.js';
import { QemuProcess, SILENT_MS } from '../qemu-process.js';
import type { UnitsAround } from '../served-unit.js';
import { guestFiles } from './dsa-guest.js';
import { DsaHost, HOST_BYTES } from './dsa-host.js';
import { DsaModel } from './dsa-model.js';
import { type DsaMode, fits } from './dsa-modes.js';
import { dsaQemu } from './dsa-qemu.js';
import { dsaVerdict } from './dsa-verdict.js';
import { faultsVerdict } from './faults-verdict.js';
import { pasidsVerdict } from './pasids-verdict.js';

const PAGE = 0x1000;
/** What it needs: other flavours have no idxd, and modules of our own are compiled. */
export const DSA_PEERS = { flavour: 'generic', headers: true } as const;

/** `peers` are those of DSA_PEERS; `around` is put around the machine's unit. @throws LiveError if it comes to no boot at all. */
export async function dsaRun(
  mode: DsaMode,
  peers: Peers,
  stage: Stage,
  report: Stage,
  around?: UnitsAround,
): Promise<LiveResult> {
  const start = performance.now();
  const { version } = peers.kernel;
  if (!fits(mode, version)) throw new LiveError(`--mode ${mode.name} takes ${mode.kernels!.why} (--kernel)`);
  using work = folderWithUs('remora-dsa-');
  using fast = memoryFolder(HOST_BYTES);
  const memory = join(fast.path, 'memory');
  using host = mode.lending === undefined ? undefined : new DsaHost(memory, mode.lending, mode.guest);
  // That a QEMU goes when it is told to go is no news.
  let going = true;
  const heard = (text: string): void => {
    if (!going) report(text);
  };
  using model = new DsaModel(work.path, memory, heard, host, around);
  const offset = host === undefined ? 0 : model.ram.backing(0) * PAGE;
  const files = { memory, offset, console: join(work.path, 'console') };
  await model.listen();
  stage('firmware');
  const boot = { dmar: join(work.path, 'dmar'), initramfs: join(work.path, 'initramfs') };
  const firmware = new QemuProcess(peers.qemu, dsaQemu(peers, model, files), files.console);
  writeFileSync(boot.dmar, model.dmar(await model.placedBy(firmware)));
  rmSync(files.console, { force: true });
  writeFileSync(boot.initramfs, buildInitramfs(peers.busybox, guestFiles(mode, peers.kernel, work.path)));
  stage('Linux');
  await using qemu = new QemuProcess(peers.qemu, dsaQemu(peers, model, files, boot), files.console);
  const waited = await qemu.until(lines => {
    const boots = bootReports(lines);
    if (boots.length > 0) going = false;
    return boots[0]?.said.has('done') === true;
  }, SILENT_MS);
  going = true;
  const console = qemu.lines;
  const [first] = bootReports(console);
  if (first === undefined)
    throw new LiveError(waited === 'ended' ? `QEMU ended: ${qemu.complaint}` : 'Linux has said nothing');
  const account = model.accounts[0];
  const lent = host?.account;
  const checks = {
    copies: () => dsaVerdict(first, console, account, lent),
    faults: () => faultsVerdict(first, console, account, lent!),
    pasids: () => pasidsVerdict(first, lent!),
  }[mode.guest]();
  const seconds = (performance.now() - start) / 1000;
  const boots = [{ checks, report: first, account, ...(lent === undefined ? {} : { host: lent }) }];
  return { mode, seconds, boots, console };
}
