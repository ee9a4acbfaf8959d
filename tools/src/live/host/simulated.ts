/** A simulated host like the guest of a live run: the same devices behind a VT-d unit, and a kernel of today. */
import { createHost, type HostOptions } from '@remora/machine';
import { physicalVtd } from '@remora/machines';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import eduPlugin from '@hw/edu/plugin';
import { NESTING_UNIT } from './nesting-model.js';
import { EDU, ENGINE, type HostRig, SECOND_EDU } from './rig.js';

const MIB = 2 ** 20;
const STEP_NS = 10_000_000;

/** A kernel as those that were asked. */
export const LINUX_OF_TODAY: NonNullable<HostOptions['kernel']> = { release: '7.2' };

/** `nesting`: whether the unit has it; QEMU's has not. */
export function simulatedRig(nesting = false): HostRig & Disposable {
  const host = createHost({
    memory: 256 * MIB,
    plugins: [eduPlugin, dmaEnginePlugin],
    devices: [
      ...[EDU, SECOND_EDU].map(addr => `edu,addr=${addr},resettable=off`),
      ...(nesting ? [`dma-engine,addr=${ENGINE},ats=on,pri=on,resettable=off`] : []),
    ],
    iommu: physicalVtd(nesting ? NESTING_UNIT : { nesting, 'x-scalable-mode': 'on' }),
    kernel: LINUX_OF_TODAY,
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
