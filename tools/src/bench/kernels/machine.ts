/** The whole way down: a guest's descriptors through to the physical unit, and what it takes to get there. */
import { Access } from '@remora/core';
import type { Host, Machine } from '@remora/machine';
import { Guest, lendingHost, vsvaMachine } from '@remora/machines';
import { firstStagePasid, pasidIotlbDescriptor } from '@hw/intel-iommu/driver';
import { mix, type MakeKernel } from './kernel.js';

const REQUESTER = 0x18;
const DOMAIN = 7;
const PAGES = 64;
const FIRST_PAGE = 0x7f000;
const PAGE_SELECTIVE = 3;
/** Descriptors of a batch; a wait closes it. */
const BATCH = 64;
const BATCHES = 32;

interface Bound extends Disposable {
  readonly host: Host;
  readonly machine: Machine;
  readonly guest: Guest;
  readonly pasid: number;
}

/** A host, a VM on it, and a guest that has bound a first stage. */
function bound(): Bound {
  const host = lendingHost({ seed: 1 });
  const machine = vsvaMachine(host);
  machine.start();
  const guest = new Guest(machine);
  guest.iommu.start(undefined, () => guest.iommu.contextEntry(REQUESTER, {}));
  const pasid = guest.iommu.allocPasid();
  const table = guest.firstStage();
  for (let page = 0; page < PAGES; page++) table.map(FIRST_PAGE + page, guest.page(), 1, Access.READ_WRITE);
  guest.iommu.pasidEntry(REQUESTER, pasid, firstStagePasid(table, DOMAIN));
  if (guest.iommu.pasidCacheInvalidate(1, DOMAIN, pasid) !== 0) throw new Error('the bind failed');
  return { host, machine, guest, pasid, [Symbol.dispose]: () => host[Symbol.dispose]() };
}

/** Page-selective PASID-IOTLB invalidations, from the guest's queue to the host's and back to the status word, ledger off. */
export const descriptors: MakeKernel = () => {
  const { guest, pasid, machine } = bound();
  if (machine.ledger.on) throw new Error('the ledger is on');
  const batch = Array.from({ length: BATCH }, (_, page) =>
    pasidIotlbDescriptor(PAGE_SELECTIVE, DOMAIN, pasid, {
      hi: 0,
      lo: (FIRST_PAGE + page) * 4096,
      addressMask: 0,
      leaf: true,
    }),
  );
  let sum = 0;
  return {
    run() {
      sum = 0;
      for (let i = 0; i < BATCHES; i++) sum = mix(sum, guest.iommu.queue.submit(...batch));
      return BATCH * BATCHES;
    },
    checksum: () => sum,
  };
};

/** Assembling host and VM, the guest's driver starting, one bind. */
export const assemble: MakeKernel = () => {
  let last: Bound | undefined;
  let sum = 0;
  return {
    before: () => last?.[Symbol.dispose](),
    run() {
      last = bound();
      sum = last.pasid;
      return 1;
    },
    checksum: () => sum,
  };
};
