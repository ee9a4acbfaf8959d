/** A host that really runs out of something: what the guest sees, and what is in force. Nothing is made to fail here. */
import test from 'ava';
import { ConfigError, Errno } from '@remora/core';
import { ForwardingSyscalls, type HostSyscalls, type IoctlArgument } from '@remora/host';
import type { HostProcess, SimulatedHost } from '@remora/host-sim';
import { createHost, type Host } from '@remora/machine';
import { ENGINE, lendingHost, physicalVtd } from '@remora/machines';
import { owner } from '@remora/testing';
import { VFIO_IOMMU_MAP_DMA, VFIO_SET_IOMMU } from '@remora/uapi';
import { dmaEngine } from '@hw/dma-engine/config';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import { PASID_REQUEST, BIND } from '../behaviours/host-bytes.js';
import { Rig } from '../rig/rig.js';
import { pattern, SharedSpace } from './shared-space.js';

const MIB = 0x10_0000;
const PAGE = 4096;
/** MiB of a small guest. */
const GUEST = 4;
const AT = 0x1_0000_0000;

/** Takes what is left of the host's memory, down to the last page. */
function greedy({ platform }: Host<SimulatedHost>): HostProcess {
  const process = platform.process('greedy');
  for (let pages = 0x1000; pages >= 1; pages /= 2) while (typeof process.mmap(pages * PAGE) !== 'number');
  return process;
}

/** Leaves the host `spare` pages when a machine makes the call `request`. */
class Drained extends ForwardingSyscalls {
  greedy: HostProcess | undefined;
  readonly #host: Host<SimulatedHost>;
  readonly #request: number;
  readonly #spare: number;

  constructor(next: HostSyscalls, host: Host<SimulatedHost>, request: number, spare: number) {
    super(next);
    this.#host = host;
    this.#request = request;
    this.#spare = spare;
  }

  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    if (request === this.#request && this.greedy === undefined) {
      const laidBy = this.#host.platform.process('spare');
      if (this.#spare > 0) laidBy.mmap(this.#spare * PAGE);
      this.greedy = greedy(this.#host);
      laidBy[Symbol.dispose]();
    }
    return super.ioctl(fd, request, argument);
  }
}

test('no page left for a table of PASIDs: a queue error, nothing lost; with memory again the same descriptor succeeds', t => {
  const own = owner(t);
  const host = own(lendingHost({ memory: 64 * MIB }));
  const rig = own(new Rig({ host }));
  const working = new SharedSpace(rig).bind();
  working.page(AT);
  t.true(working.deviceWrites(AT, pattern(16)).ok);
  // The next table of 64 entries.
  let pasid = rig.allocate();
  while (Math.floor(pasid / 64) === Math.floor(working.pasid / 64)) pasid = rig.allocate();
  const space = new SharedSpace(rig, { pasid, engine: working.engine });
  space.page(AT);
  space.enter();

  const process = greedy(host);
  const before = rig.host.dump();
  rig.refused(rig.descriptor.pasidCache(1, 7, pasid));
  t.deepEqual([rig.log.calls.at(-1)!.request, rig.log.calls.at(-1)!.result], [BIND, -Errno.ENOMEM]);
  t.deepEqual(rig.host.dump(), before);
  t.deepEqual(working.deviceReads(AT, 16), pattern(16));
  t.is(space.deviceReads(AT, 16), undefined);
  process[Symbol.dispose]();
  rig.clearError();
  t.true(space.deviceWrites(AT, pattern(16, 2)).ok);
});

test('no memory for a machine, or for its mappings: refused by name, and nothing is left', t => {
  const own = owner(t);
  const host = own(lendingHost({ memory: 64 * MIB }));
  const before = host.platform.dump();
  const tooLarge = t.throws(() => new Rig({ host, memory: 80 }), { instanceOf: ConfigError });
  t.regex(tooLarge.message, /no 83886080 bytes of memory left/);
  t.deepEqual(host.platform.dump(), before);

  // The guest's memory fits. Of the tables that would map it, more and more do.
  const attempt = (request: number, spare: number): string => {
    let drained: Drained | undefined;
    const interpose = (syscalls: HostSyscalls): HostSyscalls => (drained = new Drained(syscalls, host, request, spare));
    try {
      new Rig({ host, memory: GUEST, interpose })[Symbol.dispose]();
      return 'it starts';
    } catch (error) {
      t.true(error instanceof ConfigError, String(error));
      return (error as Error).message;
    } finally {
      drained!.greedy![Symbol.dispose]();
      t.deepEqual(host.platform.dump(), before, `${spare} pages left`);
    }
  };
  for (let spare = 0; spare < 3; spare++) t.regex(attempt(VFIO_SET_IOMMU, spare), /VFIO_SET_IOMMU.*ENOMEM/);
  let spare = 0;
  for (; ; spare++) {
    const outcome = attempt(VFIO_IOMMU_MAP_DMA, spare);
    if (outcome === 'it starts') break;
    t.regex(outcome, /MAP_DMA.*ENOMEM/);
  }
  t.true(spare > 3, `${spare} pages suffice`);
});

test('no domain left in the unit: the second machine is refused, the first goes on', t => {
  const own = owner(t);
  const host = own(
    createHost({
      plugins: [dmaEnginePlugin],
      iommu: platform => {
        const { driver, ...rest } = physicalVtd()(platform);
        let left = 1;
        const createDomain = (): ReturnType<typeof driver.createDomain> =>
          left-- > 0 ? driver.createDomain() : -Errno.ENOSPC;
        return {
          ...rest,
          driver: new Proxy(driver, { get: (of, name) => (name === 'createDomain' ? createDomain : bound(of, name)) }),
        };
      },
      devices: [dmaEngine({ addr: ENGINE }), dmaEngine({ addr: '3f:01.0' })],
    }),
  );
  const rig = own(new Rig({ host }));
  const space = new SharedSpace(rig).bind();
  space.page(AT);
  const before = rig.host.dump();
  const functions = [{ addr: '03.0', host: '3f:01.0' }];
  const refused = t.throws(() => new Rig({ host, functions }), { instanceOf: ConfigError });
  t.regex(refused.message, /VFIO_SET_IOMMU VFIO_TYPE1_NESTING_IOMMU: ENOSPC/);
  t.deepEqual(rig.host.dump(), before);
  t.true(space.deviceWrites(AT, pattern(16)).ok);
});

function bound<T extends object>(of: T, name: string | symbol): unknown {
  const value: unknown = Reflect.get(of, name);
  return typeof value === 'function' ? (value as () => unknown).bind(of) : value;
}

test('the quota of PASIDs is used up: the command fails, and one that is given back can be had again', t => {
  const own = owner(t);
  const rig = own(new Rig({ knobs: { pasidQuota: 2 } }));
  const spaces = [new SharedSpace(rig).bind()];
  spaces.push(new SharedSpace(rig, { engine: spaces[0]!.engine }).bind());
  for (const space of spaces) space.page(AT);
  const before = rig.host.dump();
  t.true(rig.guest.iommu.allocPasid() < 0);
  t.deepEqual([rig.log.calls.at(-1)!.request, rig.log.calls.at(-1)!.result], [PASID_REQUEST, -Errno.ENOSPC]);
  t.deepEqual(rig.host.dump(), before);
  for (const space of spaces) t.true(space.deviceWrites(AT, pattern(16, space.pasid)).ok);

  t.true(rig.guest.iommu.freePasid(spaces[0]!.pasid) < 0, 'not while it is bound');
  t.is(rig.log.calls.at(-1)!.result, -Errno.EBUSY);
  t.deepEqual(rig.host.dump(), before);
  t.deepEqual(spaces[0]!.deviceReads(AT, 16), pattern(16, spaces[0]!.pasid));
  spaces[0]!.unbind();
  t.is(rig.guest.iommu.freePasid(spaces[0]!.pasid), 0);
  t.true(rig.allocate() > 0);
});
