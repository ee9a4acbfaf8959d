/** No error of the host is dropped: whichever of a machine's calls fails, and whatever the guest is told of it, the ledger has it. */
import test from 'ava';
import { Errno, type Ledger } from '@remora/core';
import type { HostSyscalls } from '@remora/host';
import { lendingHost } from '@remora/machines';
import { FaultPlan, type SyscallName } from '@remora/testing';
import { LentEngine } from '../iommufd/lent-engine.js';
import { Rig } from '../rig/rig.js';
import { SharedSpace } from './shared-space.js';

const AT = 0x1_0000_0000;
/** What no call fails with by itself. */
const UNUSUAL = -Errno.ETIMEDOUT;
const CALLS: readonly SyscallName[] = [
  ...(['open', 'readlink', 'readdir', 'close', 'ioctl', 'pread', 'pwrite'] as const),
  ...(['read', 'write', 'mmap', 'munmap', 'eventfd'] as const),
];

/** Makes one of a machine's calls fail, by its number. */
class Failing {
  /** Name of the call that failed. */
  failed: SyscallName | undefined;
  readonly #number: number;
  #calls = 0;

  constructor(number: number) {
    this.#number = number;
  }

  readonly interpose = (syscalls: HostSyscalls): HostSyscalls => {
    const plan = new FaultPlan(syscalls);
    for (const op of CALLS) plan.arm({ op, when: () => this.#strikes(op), result: UNUSUAL });
    return plan;
  };

  #strikes(op: SyscallName): boolean {
    if (this.#calls++ !== this.#number) return false;
    this.failed = op;
    return true;
  }
}

/** What a machine does with its host, from its first call to its last. Whoever is told of the failure may throw. */
type Life = (failing: Failing) => Ledger;

function whatever(failing: Failing, act: () => void): void {
  try {
    act();
  } catch (error) {
    // The ledger is judged here; what the failure leads to is judged elsewhere.
    if (failing.failed === undefined) throw error;
  }
}

function use(rig: Rig): void {
  const space = new SharedSpace(rig).bind();
  space.page(AT);
  space.deviceReads(AT, 4);
  space.flushPages(AT);
  space.unbind();
  rig.machine.reset();
  rig.machine.unplug(rig.deviceId());
}

const lives: Record<string, { readonly points: number; readonly life: Life }> = {
  VFIO: {
    points: 55,
    life: failing => {
      using host = lendingHost();
      host.ledger.on = true;
      whatever(failing, () => {
        using rig = new Rig({ host, interpose: failing.interpose });
        use(rig);
      });
      return host.ledger;
    },
  },
  iommufd: {
    points: 80,
    life: failing => {
      let ledger: Ledger | undefined;
      whatever(failing, () => {
        using at = new LentEngine({
          interpose: failing.interpose,
          prepare: host => ((ledger = host.ledger).on = true),
        });
        const { space } = at;
        space.engine.fill({ pasid: space.pasid, to: AT * 4096, length: 4, pattern: 1 });
        at.handle();
        space.page(AT);
        at.answer();
        use(at.rig);
      });
      return ledger!;
    },
  },
};

for (const [name, { points, life }] of Object.entries(lives)) {
  test(`${name}: each call of a machine’s life fails once, and is in the ledger`, t => {
    let number = 0;
    for (; ; number++) {
      const failing = new Failing(number);
      const ledger = life(failing);
      if (failing.failed === undefined) break;
      const known = ledger.events.filter(({ data }) => data['result'] === UNUSUAL && data['action'] === undefined);
      const calls = known.map(({ kind, data }) => (kind === 'ioctl' ? kind : data['name']));
      t.deepEqual(calls, [failing.failed], `call ${number}`);
    }
    t.true(number >= points, `${number} calls`);
    t.log(`${number} calls`);
  });
}
