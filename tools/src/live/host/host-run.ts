/** One live run of our own clients on a real kernel: its VFIO, its iommufd, and a device behind QEMU's VT-d unit. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { folderWithUs } from '../../leftovers/index.js';
import { bootReports } from '../console.js';
import { buildInitramfs } from '../initramfs.js';
import type { LiveResult, Stage } from '../live-run.js';
import { LiveError } from '../peers/live-error.js';
import type { Peers } from '../peers/peers.js';
import { QemuProcess } from '../qemu-process.js';
import { guestProgram } from './guest-program.js';
import { hostQemu } from './host-qemu.js';
import { hostVerdict } from './host-verdict.js';
import { EDU, SECOND_EDU } from './rig.js';
import type { Answer } from './script.js';
import { keptText } from './kept-answers.js';
import { simulatedRig } from './simulated.js';
import { scriptsOf, transcript } from './transcript.js';

const INIT = fileURLToPath(new URL('../../../live/host.sh', import.meta.url));
/** Of QEMU's intel-iommu. */
const UNIT = 'scalable-mode=on';
const SILENT_MS = 60_000;
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

/** Debian's kernels have no iommufd; one of the user's may have. @throws LiveError if it comes to no boot at all. */
export async function hostRun(peers: Peers, stage: Stage): Promise<HostRun> {
  const start = performance.now();
  using work = folderWithUs('remora-host-');
  const at = (name: string): string => join(work.path, name);
  const files = { memory: '', console: at('console'), answers: at('answers'), initramfs: at('initramfs') };
  stage('packing Node');
  const program = guestProgram(at('main.mjs'));
  // A guest unpacks more slowly than QEMU reads.
  writeFileSync(files.initramfs, buildInitramfs(peers.busybox, { init: INIT, ...program, ...modules(peers) }, 'plain'));
  stage('Linux');
  const words = [`DEVICES=${EDU},${SECOND_EDU}`];
  await using qemu = new QemuProcess(peers.qemu, hostQemu(peers, files, UNIT, words), files.console);
  await qemu.until(lines => bootReports(lines)[0]?.said.has('done') === true, SILENT_MS);
  const console = qemu.lines;
  const [report] = bootReports(console);
  if (report === undefined) throw new LiveError(`Linux has said nothing: ${qemu.complaint}`);
  const text = existsSync(files.answers) ? readFileSync(files.answers, 'utf8') : '';
  const answers = text.endsWith('\n') ? (JSON.parse(text) as Answer[]) : [];
  using rig = simulatedRig();
  const simulated = await transcript(rig, scriptsOf(report.said.get('files')?.[0]?.startsWith('iommu ') === true));
  const checks = hostVerdict(report, console, answers, simulated);
  const boots = [{ checks, report, account: undefined }];
  const kept = {
    'host.answers.json': keptText({
      linux: report.said.get('kernel')?.[0] ?? '',
      qemu: peers.qemuVersion,
      unit: UNIT,
      answers,
    }),
  };
  return { mode: { name: 'host' }, seconds: (performance.now() - start) / 1000, boots, console, answers, kept };
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
