/** A simulated host like the guest of a live run: the same devices behind a VT-d unit, and a kernel of today. */
import type { KernelKnobs } from '@remora/host-sim';
import { createHost } from '@remora/machine';
import { physicalVtd } from '@remora/machines';
import eduPlugin from '@hw/edu/plugin';
import { EDU, type HostRig, SECOND_EDU } from './rig.js';

const MIB = 2 ** 20;
const STEP_NS = 10_000_000;

/** A kernel as those that were asked. */
export const LINUX_OF_TODAY: Partial<KernelKnobs> = { release: '7.2' };

/** @throws ConfigError never, but for a mistake here. */
export function simulatedRig(): HostRig & Disposable {
  const host = createHost({
    memory: 64 * MIB,
    plugins: [eduPlugin],
    devices: [`edu,addr=${EDU},resettable=off`, `edu,addr=${SECOND_EDU},resettable=off`],
    iommu: physicalVtd(),
    kernel: LINUX_OF_TODAY,
  });
  return {
    syscalls: host.platform.process('scripts'),
    devices: [EDU, SECOND_EDU],
    wait: () => host.clock.step(STEP_NS),
    [Symbol.dispose]: () => host[Symbol.dispose](),
  };
}
