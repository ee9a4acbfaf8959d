/** How the unit's messages find functions: by requester id, through live bus numbers (vtd.md 5.5, 5.9). */
import { Access, AddressSpace, Ledger, NO_PASID, Region, WHOLE_SPACE } from '@remora/core';
import { AtsCompletion, AtsStatus, type HostIOMMUContext } from '@remora/iommu';
import {
  Config,
  functionByRequesterId,
  MsiLog,
  PciBridge,
  PciBus,
  PciFunction,
  pciDeviceSetupIommu,
} from '@remora/pci';
import test from 'ava';
import { ATS, ENABLED, FakeFunction, pageRequest } from './ats-bench.test.helper.js';
import { RID, scalableBench } from './bench.test.helper.js';
import { VtdAddressSpaces } from './pci-adapter.js';

const IOVA = 0x1234_5000n;
const IDENTITY = { vendor: 0x1234, device: 0x5678, classCode: 0x08_80_00, pcie: true };

/** A root bus with a root port at 00:01.0, whose link is bus 1, and a function with a device TLB below it at devfn 3. */
function machine() {
  const memory = Region.container('system', WHOLE_SPACE);
  const ports = Region.container('io', 0x1_0000);
  const addressSpace = new AddressSpace('memory', memory);
  const root = PciBus.root('pcie.0', { memory, ports, addressSpace, msi: new MsiLog().deliver });
  const bridge = new PciBridge('port', 'root-port', { vendor: 0x1b36, device: 0x000c });
  root.plug(bridge.fn, 8);
  const fn = new PciFunction('function', IDENTITY);
  const ats = new FakeFunction();
  fn.ats = ats;
  bridge.secondary.plug(fn, RID & 0xff & 7);
  const number = (bus: number): void => bridge.fn.config.write(Config.SECONDARY_BUS, bus, 1);
  bridge.fn.config.write(Config.SUBORDINATE_BUS, 0xff, 1);
  number(1);
  const tables = scalableBench(ATS, {}, ENABLED);
  const ledger = new Ledger();
  ledger.on = true;
  const functionAt = (requesterId: number): PciFunction | undefined => functionByRequesterId(root, requesterId);
  const spaces = new VtdAddressSpaces(tables.bench.unit, addressSpace, { name: 'vtd', ledger, functionAt });
  return { root, bridge, fn, ats, number, spaces, ledger, ...tables };
}

test('a function is found under the bus number that it has at the moment, and not once it is unplugged', t => {
  const { spaces, ats, number, bridge, fn } = machine();
  t.is(spaces.endpoint(0x0103), ats);
  number(7);
  t.is(spaces.endpoint(0x0103), undefined);
  t.is(spaces.endpoint(0x0703), ats);
  t.is(spaces.endpoint(0x0702), undefined);
  bridge.secondary.unplug(fn);
  t.is(spaces.endpoint(0x0703), undefined);
});

test('functions without a device TLB take no messages; one that a host lends is done at once', t => {
  const { spaces, root } = machine();
  t.is(spaces.endpoint(0x0008), undefined, 'the root port');
  const lent = new PciFunction('lent', IDENTITY);
  root.plug(lent, 0x10);
  t.is(spaces.endpoint(0x0010), undefined);
  pciDeviceSetupIommu(lent, () => ({}) as HostIOMMUContext);
  const endpoint = spaces.endpoint(0x0010);
  t.true(endpoint?.invalidate(NO_PASID, false, 0, 0, 64, () => t.fail()));
});

test('requests of functions reach the unit through the bus, and translations are in the ledger', t => {
  const { spaces, bench, second, ledger } = machine();
  bench.mapAt(second, 4, IOVA, 0x9003n, 3n);
  bench.write64(0xd0, bench.page() * 4096);
  const out = new AtsCompletion();
  const lo = Number(IOVA);
  t.is(spaces.translationRequest(RID, NO_PASID, 0, lo, Access.READ, out), AtsStatus.OK);
  t.deepEqual([out.hi, out.lo, out.access], [0, 0x9000, Access.READ_WRITE]);
  t.is(spaces.translationRequest(0x0200, NO_PASID, 0, lo, Access.READ, out), AtsStatus.ABORT);
  t.is(spaces.translatedRequest(RID, NO_PASID, 0, 0x9000, Access.WRITE), AtsStatus.OK);
  t.is(spaces.translatedRequest(RID, NO_PASID, 0, 0xfee0_0000 | 0, Access.WRITE), AtsStatus.ABORT);
  t.true(spaces.pageRequest(pageRequest(IOVA)));
  t.is(bench.read32(0xc8), 0x20);
  const told = ledger.events.filter(({ kind }) => kind === 'translation-request').map(({ data }) => data);
  t.like(told[0], { requesterId: RID, hi: 0, lo, status: AtsStatus.OK, toLo: 0x9000, shift: 12, granted: 3 });
  t.like(told[1], { requesterId: 0x0200, status: AtsStatus.ABORT });
});
