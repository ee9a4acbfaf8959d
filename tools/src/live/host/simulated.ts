/** A simulated host like the guest of a live run: the same devices behind a VT-d unit, and a kernel of today. */
import { createHost } from '@remora/machine';
import { physicalVtd } from '@remora/machines';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import eduPlugin from '@hw/edu/plugin';
import { NESTING_UNIT } from './nesting-model.js';
import { EDU, ENGINE, type HostRig, SECOND_EDU } from './rig.js';

const MIB = 2 ** 20;
const STEP_NS = 10_000_000;

/** What it is to be like. */
export interface LikeHost {
  /** As the kernel calls itself: `6.1.0-50-cloud-amd64`. */
  readonly linux: string;
  /** Whether the unit has it; QEMU's has not. */
  readonly nesting: boolean;
}

export function simulatedRig({ linux, nesting }: LikeHost): HostRig & Disposable {
  const host = createHost({
    memory: 256 * MIB,
    plugins: [eduPlugin, dmaEnginePlugin],
    devices: [
      ...[EDU, SECOND_EDU].map(addr => `edu,addr=${addr},resettable=off`),
      ...(nesting ? [`dma-engine,addr=${ENGINE},ats=on,pri=on,resettable=off`] : []),
    ],
    iommu: physicalVtd(nesting ? NESTING_UNIT : { nesting, 'x-scalable-mode': 'on' }),
    kernel: { release: Number.parseInt(linux, 10) < 7 ? '6.1' : '7.2' },
  });
  return {
    host,
    syscalls: host.platform.process('scripts'),
    devices: [EDU, SECOND_EDU],
    wait: () => host.clock.step(STEP_NS),
    pause: async () => {
      host.clock.step(STEP_NS);
      return Promise.resolve();
    },
    [Symbol.dispose]: () => host[Symbol.dispose](),
  };
}
