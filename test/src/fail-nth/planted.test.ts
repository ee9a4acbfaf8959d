/** What is planted in a VMM, the sweep of a whole scenario finds. */
import test from 'ava';
import { Errno } from '@remora/core';
import { ForwardingSyscalls, type HostSyscalls, type IoctlArgument } from '@remora/host';
import { backEnds, hostOf, scenarios } from '@remora/machines';
import { failNth, type FailurePorts, type ObservedScenario } from '@remora/testing';
import { VFIO_IOMMU_MAP_DMA } from '@remora/uapi';

/** After a MAP_DMA that failed, one descriptor is not closed. */
class LeakyVmm extends ForwardingSyscalls {
  #forgets = false;

  constructor(next: HostSyscalls) {
    super(next);
  }

  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    const result = super.ioctl(fd, request, argument);
    if (request === VFIO_IOMMU_MAP_DMA && result < 0) this.#forgets = true;
    return result;
  }

  override close(fd: number): number {
    if (!this.#forgets) return super.close(fd);
    this.#forgets = false;
    return 0;
  }
}

function lendOver(interpose: (syscalls: HostSyscalls) => HostSyscalls): ObservedScenario {
  const [backEnd] = backEnds;
  return {
    name: 'lend',
    createWorld(ports: FailurePorts) {
      const host = hostOf(backEnd!, 1, { failures: ports.inject });
      return {
        begin: () =>
          scenarios.get('lend')!.begin(host, backEnd!, { interpose: syscalls => interpose(ports.syscalls(syscalls)) }),
        dump: () => host.platform.dump(),
        [Symbol.dispose]: () => host[Symbol.dispose](),
      };
    },
  };
}

/** What is violated where a MAP_DMA fails. */
function violated(interpose: (syscalls: HostSyscalls) => HostSyscalls): readonly string[] {
  const { outcomes } = failNth(lendOver(interpose), { only: 'VFIO_IOMMU_MAP_DMA', errno: Errno.ENOMEM });
  return outcomes.flatMap(({ step, violations }) => violations.map(each => `${step}: ${each}`));
}

test('a descriptor that is not closed after a failure is found', t => {
  t.deepEqual(
    violated(syscalls => syscalls),
    [],
  );
  const found = violated(syscalls => new LeakyVmm(syscalls));
  t.deepEqual(found.length, 1);
  t.regex(found[0]!, /^plug again: plug again, refused: the host holds \.processes\[0\]\.files\[0\]/);
});
