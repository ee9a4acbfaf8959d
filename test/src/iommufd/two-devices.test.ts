/** Two devices of one machine behind one iommufd: they share what is mapped, and nothing of what is bound. */
import test, { type ExecutionContext } from 'ava';
import { frameHi, frameLo } from '@remora/bits';
import { Access } from '@remora/core';
import { ENGINE, Guest, lendingHost, SECOND_ENGINE, vsvaIommufdMachine } from '@remora/machines';
import { owner } from '@remora/testing';
import { PasidIotlbGranularity } from '@hw/intel-iommu';
import { firstStagePasid, type PageTable, passThroughPasid } from '@hw/intel-iommu/driver';
import type { VfioPci } from '@hw/vfio-pci';

const DEVICES = [
  { id: 'first', bdf: '00:03.0', requester: 0x18 },
  { id: 'second', bdf: '00:04.0', requester: 0x20 },
] as const;
const DOMAIN = 5;
const AT = 0x7_6543_2100;
const PASID_SELECTIVE = 1;

function bench(t: ExecutionContext) {
  const host = owner(t)(lendingHost());
  const machine = vsvaIommufdMachine(host, {
    devices: [
      'intel-iommu,x-scalable-mode=modern',
      `vfio-pci,id=first,host=${ENGINE},addr=03.0,iommufd=iommufd0`,
      `vfio-pci,id=second,host=${SECOND_ENGINE},addr=04.0,iommufd=iommufd0`,
    ],
  });
  machine.start();
  const guest = new Guest(machine);
  const engines = DEVICES.map(({ bdf }) => guest.engine(bdf));
  const { iommu } = guest;
  iommu.start(undefined, () => {
    for (const { requester } of DEVICES) {
      iommu.contextEntry(requester, {});
      iommu.pasidEntry(requester, 0, passThroughPasid(1));
    }
  });
  const pasid = iommu.allocPasid();
  const space = (): { readonly table: PageTable; readonly behind: number } => {
    const table = guest.firstStage();
    const behind = guest.page();
    t.is(table.map(AT, behind, 1, Access.READ_WRITE), 0);
    return { table, behind };
  };
  const bind = (index: 0 | 1, table: PageTable): number => {
    iommu.pasidEntry(DEVICES[index].requester, pasid, firstStagePasid(table, DOMAIN));
    return iommu.pasidCacheInvalidate(PASID_SELECTIVE, DOMAIN, pasid);
  };
  const unbind = (index: 0 | 1): number => {
    iommu.clearPasidEntry(DEVICES[index].requester, pasid);
    return iommu.pasidCacheInvalidate(PASID_SELECTIVE, DOMAIN, pasid);
  };
  const writes = (index: 0 | 1, value: number): boolean =>
    engines[index]!.fill({ pasid, to: AT * 4096, length: 4, pattern: value * 0x0101_0101 }).ok;
  const byte = (frame: number): number => guest.read(frame, 1)[0]!;
  const flush = (): number => {
    const page = { hi: frameHi(AT), lo: frameLo(AT), addressMask: 0, leaf: true };
    return iommu.pasidIotlbInvalidate(PasidIotlbGranularity.PAGE, DOMAIN, pasid, page);
  };
  const connection = (index: 0 | 1) => {
    const found = machine.device<VfioPci>(DEVICES[index].id).connection;
    return found !== undefined && 'ioas' in found ? found : undefined;
  };
  return { host, machine, guest, iommu, pasid, space, bind, unbind, writes, byte, flush, connection };
}

test('one address space, one nesting parent, a context each', t => {
  const { host, connection } = bench(t);
  t.is(connection(0)!.ioas, connection(1)!.ioas);
  t.not(connection(0)!.context, connection(1)!.context);
  const { user } = host.platform.dump()['iommu'] as { user: { domains: unknown[] } };
  t.is(user.domains.length, 1);
});

test('one PASID with a table of its own for each device, which a container could not have', t => {
  const { space, bind, writes, byte, unbind } = bench(t);
  const spaces = [space(), space()] as const;
  t.is(bind(0, spaces[0].table), 0);
  t.is(bind(1, spaces[1].table), 0);
  t.true(writes(0, 1));
  t.true(writes(1, 2));
  t.deepEqual(
    spaces.map(({ behind }) => byte(behind)),
    [1, 2],
  );
  t.is(unbind(0), 0);
  t.deepEqual([writes(0, 3), writes(1, 4)], [false, true]);
  t.deepEqual(
    spaces.map(({ behind }) => byte(behind)),
    [1, 4],
  );
});

test('one table for both: one flush of the guest reaches each', t => {
  const { guest, space, bind, writes, byte, flush } = bench(t);
  const { table, behind } = space();
  t.is(bind(0, table), 0);
  t.is(bind(1, table), 0);
  t.deepEqual([writes(0, 1), byte(behind), writes(1, 2), byte(behind)], [true, 1, true, 2]);
  const next = guest.page();
  t.is(table.unmap(AT, 1), 0);
  t.is(table.map(AT, next, 1, Access.READ_WRITE), 0);
  t.is(flush(), 0);
  t.deepEqual([writes(0, 3), byte(next), writes(1, 4), byte(next), byte(behind)], [true, 3, true, 4, 2]);
});

test('the first device leaves: its PASID stays the guest’s, who uses it with the second', t => {
  const { machine, iommu, pasid, space, bind, writes, byte, unbind } = bench(t);
  const { table, behind } = space();
  machine.unplug('first');
  t.not(iommu.allocPasid(), pasid, 'not given twice');
  t.is(bind(1, table), 0);
  t.true(writes(1, 7));
  t.is(byte(behind), 7);
  t.not(iommu.freePasid(pasid), 0, 'not while it is bound');
  t.is(unbind(1), 0);
  t.is(iommu.freePasid(pasid), 0);
  t.is(iommu.allocPasid(), pasid);
});

test('the last device leaves: all PASIDs are free', t => {
  const { machine, iommu, pasid } = bench(t);
  machine.unplug('first');
  machine.unplug('second');
  machine.plug(`vfio-pci,host=${ENGINE},addr=03.0,iommufd=iommufd0`);
  t.is(iommu.allocPasid(), pasid);
});
