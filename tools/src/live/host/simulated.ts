/** A simulated host like the guest of a live run: the same devices behind a VT-d unit, and a kernel of today. */
import { createHost, type HostOptions } from '@remora/machine';
import { physicalVtd } from '@remora/machines';
import eduPlugin from '@hw/edu/plugin';
import { EDU, type HostRig, SECOND_EDU } from './rig.js';

const MIB = 2 ** 20;
const STEP_NS = 10_000_000;

/** A kernel as those that were asked. */
export const LINUX_OF_TODAY: NonNullable<HostOptions['kernel']> = { release: '7.2' };

/** `nesting`: whether the unit has it; QEMU's has not. */
export function simulatedRig(nesting = false): HostRig & Disposable {
  const host = createHost({
    memory: 256 * MIB,
    plugins: [eduPlugin],
    devices: [`edu,addr=${EDU},resettable=off`, `edu,addr=${SECOND_EDU},resettable=off`],
    iommu: physicalVtd({ nesting, 'x-scalable-mode': 'on' }),
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
