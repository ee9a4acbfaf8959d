/** One live run of our own clients on a real kernel: its VFIO, its iommufd, and a device behind a VT-d unit. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { folderWithUs } from '../../leftovers/index.js';
import { bootReports } from '../console.js';
import { buildInitramfs } from '../initramfs.js';
import type { LiveResult, Stage } from '../live-run.js';
import { LiveError } from '../peers/live-error.js';
import type { Peers } from '../peers/peers.js';
import { QemuProcess, SILENT_MS } from '../qemu-process.js';
import { guestProgram } from './guest-program.js';
import { type HostFiles, type HostHardware, hostQemu } from './host-qemu.js';
import { hostVerdict } from './host-verdict.js';
import { keptText } from './kept-answers.js';
import { NESTING_UNIT, NestingModel } from './nesting-model.js';
import { EDU, ENGINE, SECOND_EDU } from './rig.js';
import type { Answer } from './script.js';
import { simulatedRig } from './simulated.js';
import { scriptsOf, transcript } from './transcript.js';

const INIT = fileURLToPath(new URL('../../../live/host.sh', import.meta.url));
/** Of QEMU's intel-iommu. */
const QEMU_UNIT = 'scalable-mode=on';
const SHARED_MEMORY = '/dev/shm';
/** Of those that a kernel may have built in. */
const MODULES = [
  'virt/lib/irqbypass',
  'drivers/vfio/vfio',
  'drivers/vfio/vfio_virqfd',
  'drivers/vfio/vfio_iommu_type1',
  'drivers/vfio/pci/vfio-pci-core',
  'drivers/vfio/pci/vfio-pci',
];

export interface HostRun extends LiveResult {
  /** Empty if none came. */
  readonly answers: readonly Answer[];
}

/** Behind QEMU's own unit. Debian's kernels have no iommufd; one of the user's may have. @throws LiveError if it comes to no boot at all. */
export async function hostRun(peers: Peers, stage: Stage): Promise<HostRun> {
  using work = folderWithUs('remora-host-');
  const devices = ['-device', `intel-iommu,intremap=on,${QEMU_UNIT}`, '-device', 'edu,addr=4', '-device', 'edu,addr=5'];
  const hardware = { devices, shared: false, parameters: [`DEVICES=${EDU},${SECOND_EDU}`] };
  return await booted(peers, stage, work.path, filesIn(work.path), hardware);
}

/** Behind our unit, which nests: only the kernel's iommufd is asked. @throws LiveError if it comes to no boot at all. */
export async function nestingRun(peers: Peers, stage: Stage, complain: Stage): Promise<HostRun> {
  using work = folderWithUs('remora-host-');
  using fast = folderWithUs('remora-host-', existsSync(SHARED_MEMORY) ? SHARED_MEMORY : tmpdir());
  const files = { ...filesIn(work.path), memory: join(fast.path, 'memory') };
  // That a QEMU goes when it is told to go is no news.
  let going = true;
  using model = new NestingModel(work.path, files.memory, text => {
    if (!going) complain(text);
  });
  await model.listen();
  const hardware: HostHardware = {
    devices: model.devices,
    shared: true,
    parameters: [...UNREMAPPED, `DEVICES=${EDU},${SECOND_EDU},${ENGINE}`, 'SCRIPTS=nesting'],
  };
  stage('firmware');
  const dmar = join(work.path, 'dmar');
  const firmware = new QemuProcess(peers.qemu, hostQemu(peers, files, hardware), files.console);
  writeFileSync(dmar, model.dmar(await model.placedBy(firmware)));
  rmSync(files.console, { force: true });
  const result = await booted(peers, stage, work.path, files, hardware, dmar);
  going = false;
  return result;
}

/** Interrupts that no unit remaps are a way out for a device: Linux lends none, unless it is told to. */
const UNREMAPPED = ['intremap=off', 'vfio_iommu_type1.allow_unsafe_interrupts=1', 'iommufd.allow_unsafe_interrupts=1'];

function filesIn(folder: string): HostFiles {
  return { memory: '', console: join(folder, 'console'), answers: join(folder, 'answers') };
}

/** `dmar`: the file of a DMAR table, for our unit. */
async function booted(
  peers: Peers,
  stage: Stage,
  folder: string,
  files: HostFiles,
  hardware: HostHardware,
  dmar?: string,
): Promise<HostRun> {
  const start = performance.now();
  const nesting = dmar !== undefined;
  stage('packing Node');
  const initramfs = join(folder, 'initramfs');
  const program = guestProgram(join(folder, 'main.mjs'));
  // A guest unpacks more slowly than QEMU reads.
  writeFileSync(initramfs, buildInitramfs(peers.busybox, { init: INIT, ...program, ...modules(peers) }, 'plain'));
  stage('Linux');
  const boot = { initramfs, ...(dmar === undefined ? {} : { dmar }) };
  await using qemu = new QemuProcess(peers.qemu, hostQemu(peers, files, hardware, boot), files.console);
  await qemu.until(lines => bootReports(lines)[0]?.said.has('done') === true, SILENT_MS);
  const console = qemu.lines;
  const [report] = bootReports(console);
  if (report === undefined) throw new LiveError(`Linux has said nothing: ${qemu.complaint}`);
  const iommufd = report.said.get('files')?.[0]?.startsWith('iommu ') === true;
  if (nesting && !iommufd) throw new LiveError('this kernel has no iommufd: --kernel names one that has');
  const text = existsSync(files.answers) ? readFileSync(files.answers, 'utf8') : '';
  const answers = text.endsWith('\n') ? (JSON.parse(text) as Answer[]) : [];
  const linux = report.said.get('kernel')?.[0] ?? '';
  using rig = simulatedRig({ linux, nesting });
  const simulated = await transcript(rig, scriptsOf({ iommufd, nesting }));
  const checks = hostVerdict(report, console, answers, simulated);
  const boots = [{ checks, report, account: undefined }];
  const name = nesting ? 'host-nesting' : 'host';
  const unit = nesting ? `Remora's, ${JSON.stringify(NESTING_UNIT)}` : `QEMU's, ${QEMU_UNIT}`;
  const kept = { [`${name}.answers.json`]: keptText({ linux, qemu: peers.qemuVersion, unit, nesting, answers }) };
  return { mode: { name }, seconds: (performance.now() - start) / 1000, boots, console, answers, kept };
}

function modules({ kernel }: Peers): Record<string, string> {
  const files: Record<string, string> = {};
  for (const module of kernel.modules === undefined ? [] : MODULES) {
    for (const end of ['.ko', '.ko.xz']) {
      const path = join(kernel.modules!, 'kernel', `${module}${end}`);
      if (existsSync(path)) files[path.split('/').at(-1)!] = path;
    }
  }
  return files;
}
