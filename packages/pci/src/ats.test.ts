import test from 'ava';
import { Access, AddressSpace, Ledger, MemTx, NO_PASID, Region, WHOLE_SPACE } from '@remora/core';
import { AtsCompletion, AtsStatus } from '@remora/iommu';
import { PciBridge } from './bridge.js';
import { PciBus } from './bus.js';
import { functionByRequesterId } from './config-access.js';
import { pciSetupIommu } from './iommu.js';
import { Command, ExtendedCapability } from './registers.js';
import { enableAts, enablePri, FakeIommu, priState } from './ats.test.helper.js';
import { enable, endpoint, number, platform } from './platform.test.helper.js';

function capable(name = 'endpoint') {
  const fn = endpoint(name, { pcie: true });
  fn.enablePasid(20);
  fn.enableAts({ queueDepth: 32 });
  fn.enablePri({ capacity: 64 });
  return fn;
}

test('ATS: depth 32 is written 0, page aligned, global invalidations; control is smallest unit and enable', t => {
  const fn = capable();
  const at = fn.capabilities.findExtended(ExtendedCapability.ATS)!;
  t.is(fn.config.get32(at) & 0xf_ffff, 0x1_000f);
  t.is(fn.config.get16(at + 4), 0x0060);
  t.is(fn.config.get16(at + 6), 0);
  t.false(fn.atsEnabled);
  fn.config.write(at + 4, 0xffff, 2);
  t.is(fn.config.get16(at + 4), 0x0060);
  fn.config.write(at + 6, 0xffff, 2);
  t.is(fn.config.get16(at + 6), 0x801f);
  t.true(fn.atsEnabled);
  t.is(fn.atsCapability!.smallestShift, 12 + 31);
  const few = endpoint('few', { pcie: true });
  few.enableAts({ queueDepth: 5, globalInvalidate: false });
  t.is(few.config.get16(few.atsCapability!.offset + 4), 0x0025);
});

test('PRI: capacity is fixed, allocation is software’s and at most that; stopped while disabled', t => {
  const fn = capable();
  const at = fn.capabilities.findExtended(ExtendedCapability.PRI)!;
  t.is(fn.config.get32(at) & 0xf_ffff, 0x1_0013);
  t.deepEqual([fn.config.get16(at + 4), fn.config.get16(at + 6)], [0, 0x8100], 'stopped; responses carry PASIDs');
  t.is(fn.config.get32(at + 8), 64);
  fn.config.write(at + 8, 1, 4);
  t.is(fn.config.get32(at + 8), 64);
  fn.config.write(at + 12, 32, 4);
  t.is(fn.priCapability!.allocation, 32);
  fn.config.write(at + 12, 0xffff_ffff, 4);
  t.is(fn.priCapability!.allocation, 64);
  fn.config.write(at + 4, 3, 2);
  t.deepEqual([fn.config.get16(at + 4), fn.config.get16(at + 6)], [1, 0x8000], 'reset reads 0');
  t.true(fn.priEnabled);
  fn.config.write(at + 4, 0, 2);
  t.is(fn.config.get16(at + 6), 0x8100);
  const plain = endpoint('plain', { pcie: true });
  plain.enablePri();
  t.is(plain.config.get16(plain.priCapability!.offset + 6), 0x0100, 'no PASIDs, none in responses');
  t.is(plain.config.get32(plain.priCapability!.offset + 8), 512);
  for (const capacity of [0, 513, 1.5]) {
    t.throws(() => endpoint('bad', { pcie: true }).enablePri({ capacity }), { instanceOf: RangeError });
  }
});

test('PRI status bits are cleared by writing 1, and a failure by enabling anew', t => {
  const fn = capable();
  const pri = fn.priCapability!;
  enablePri(fn);
  pri.unexpected();
  pri.fail();
  t.deepEqual(priState(fn), { enable: 1, failure: 1, unexpected: 1, stopped: 0 });
  t.false(fn.priEnabled);
  fn.config.write(pri.offset + 6, 2, 2);
  t.deepEqual(priState(fn), { enable: 1, failure: 1, unexpected: 0, stopped: 0 });
  fn.config.write(pri.offset + 6, 1, 2);
  t.deepEqual(priState(fn), { enable: 1, failure: 0, unexpected: 0, stopped: 0 });
  t.false(fn.priEnabled, 'the interface stays off');
  fn.config.write(pri.offset + 4, 1, 2);
  t.false(fn.priEnabled, 'it was enabled already');
  fn.config.write(pri.offset + 4, 0, 2);
  fn.config.write(pri.offset + 4, 1, 2);
  t.true(fn.priEnabled);
});

test('a reset of the function takes both enables, the allocation and the status away', t => {
  const fn = capable();
  enableAts(fn);
  enablePri(fn);
  fn.priCapability!.fail();
  fn.reset();
  t.deepEqual([fn.atsEnabled, fn.priEnabled, fn.priCapability!.allocation], [false, false, 0]);
  t.deepEqual(priState(fn), { enable: 0, failure: 0, unexpected: 0, stopped: 1 });
  enablePri(fn);
  t.true(fn.priEnabled, 'the failure is forgotten');
});

/** A function below a port, and what it may do. */
function belowPort(kind: 'root-port' | 'pcie-to-pci' = 'root-port') {
  const { root, addressSpace } = platform();
  const iommu = new FakeIommu();
  const port = new PciBridge('port', kind, { vendor: 1, device: 1 });
  const fn = capable();
  root.plug(port.fn, 0x08);
  port.secondary.plug(fn, 0);
  number(port.fn, 5, 5);
  for (const each of [port.fn, fn]) enable(each);
  enableAts(fn);
  enablePri(fn);
  const registration = pciSetupIommu(root, iommu);
  const out = new AtsCompletion();
  /** Each kind of request: status of a translation request, results of a translated read and write, whether a page request was taken. */
  const tried = (): (number | boolean)[] => [
    fn.dma.translationRequest(0, 0x1234, Access.READ, out, 9),
    fn.dma.readTranslated(0, 0x2000, new Uint8Array(4), 9),
    fn.dma.writeTranslated(0, 0x2000, Uint8Array.of(7), 9),
    fn.dma.pageRequest(0, 0x1234, Access.READ, 3, true, 9),
  ];
  return { root, port, fn, iommu, registration, out, tried, addressSpace };
}

const REFUSED = [AtsStatus.UNSUPPORTED, MemTx.ACCESS_ERROR, MemTx.ACCESS_ERROR, false];
const SERVED = [AtsStatus.OK, MemTx.OK, MemTx.OK, true];

test('requests reach the IOMMU for the page, by live requester id', t => {
  const { port, iommu, tried, out, addressSpace } = belowPort();
  iommu.map(9, 0x1000, { to: 0x20_0000, shift: 21, access: Access.READ });
  t.deepEqual(tried(), SERVED);
  t.like(out, { hi: 0, lo: 0x20_0000, shift: 21, access: Access.READ });
  number(port.fn, 6, 6);
  t.deepEqual(tried(), SERVED);
  const both = (make: (id: number) => number[]): number[][] => [make(0x500), make(0x600)];
  t.deepEqual(
    iommu.asked,
    both(id => [id, 9, 0, 0x1000, Access.READ]),
  );
  t.deepEqual(iommu.translated, [
    [0x500, 9, 0, 0x2000, Access.READ],
    [0x500, 9, 0, 0x2000, Access.WRITE],
    [0x600, 9, 0, 0x2000, Access.READ],
    [0x600, 9, 0, 0x2000, Access.WRITE],
  ]);
  t.deepEqual(
    iommu.requests,
    [0x500, 0x600].map(requesterId => {
      return { requesterId, pasid: 9, hi: 0, lo: 0x1000, access: Access.READ, group: 3, last: true };
    }),
  );
  const written = new Uint8Array(1);
  addressSpace.read(0, 0x2000, written);
  t.is(written[0], 7, 'a translated address is one of system memory');
});

test('each gate refuses every kind of request, and nothing reaches the IOMMU', t => {
  const closings: Record<string, (at: ReturnType<typeof belowPort>) => void> = {
    'ATS disabled': ({ fn }) => enableAts(fn, false),
    'bus mastering off in the function': ({ fn }) => enable(fn, Command.MEMORY),
    'bus mastering off in the port': ({ port }) => enable(port.fn, Command.MEMORY),
    'no IOMMU': ({ registration }) => registration[Symbol.dispose](),
    unplugged: ({ port, fn }) => port.secondary.unplug(fn),
  };
  for (const [name, close] of Object.entries(closings)) {
    const at = belowPort();
    close(at);
    t.deepEqual(at.tried(), REFUSED, name);
    t.deepEqual([at.iommu.asked, at.iommu.translated, at.iommu.requests], [[], [], []], name);
  }
  t.deepEqual(belowPort('pcie-to-pci').tried(), REFUSED, 'a conventional bus carries no ATS');
});

test('an IOMMU without ATS refuses; page requests have an enable of their own', t => {
  const { root, fn, registration, tried } = belowPort();
  enablePri(fn, false);
  t.deepEqual(tried(), [...SERVED.slice(0, 3), false]);
  enablePri(fn);
  registration[Symbol.dispose]();
  const space = new AddressSpace('untranslated', Region.container('untranslated', WHOLE_SPACE));
  pciSetupIommu(root, { wantsNesting: false, addressSpaceFor: () => space });
  t.deepEqual(tried(), REFUSED);
});

test('what the IOMMU says of a request is what the function hears', t => {
  const { iommu, tried } = belowPort();
  iommu.status = AtsStatus.ABORT;
  iommu.translatedStatus = AtsStatus.UNSUPPORTED;
  iommu.onPageRequest = () => false;
  t.deepEqual(tried(), [AtsStatus.ABORT, MemTx.ACCESS_ERROR, MemTx.ACCESS_ERROR, false]);
});

test('a translated request stays in its page', t => {
  const { fn } = belowPort();
  t.is(fn.dma.writeTranslated(0, 0x2ffc, new Uint8Array(4)), MemTx.OK);
  t.throws(() => fn.dma.writeTranslated(0, 0x2ffd, new Uint8Array(4)), { instanceOf: RangeError });
});

test('the ledger tells of translation requests, translated requests and page requests', t => {
  const { addressSpace, messages } = platform();
  const ledger = new Ledger();
  const memory = Region.container('pci', WHOLE_SPACE);
  const root = PciBus.root('pcie.0', { memory, ports: memory, addressSpace, msi: messages.deliver, ledger });
  const iommu = new FakeIommu();
  pciSetupIommu(root, iommu);
  iommu.map(NO_PASID, 0x1000, { to: 0x8000 });
  const fn = capable();
  root.plug(fn, 0x18);
  enable(fn);
  enableAts(fn);
  enablePri(fn);
  ledger.on = true;
  fn.dma.translationRequest(0, 0x1010, Access.WRITE, new AtsCompletion());
  fn.dma.writeTranslated(0, 0x8010, new Uint8Array(4));
  fn.dma.pageRequest(0, 0x1010, Access.WRITE, 2, true);
  const common = { requesterId: 0x18, hi: 0, pasid: NO_PASID };
  t.deepEqual(
    ledger.events.map(event => [event.kind, event.data]),
    [
      [
        'translation-request',
        { ...common, lo: 0x1000, access: 2, status: 0, toHi: 0, toLo: 0x8000, shift: 12, granted: 3 },
      ],
      ['dma', { ...common, lo: 0x8010, write: true, bytes: 4, result: MemTx.OK, translated: true }],
      ['page-request', { ...common, lo: 0x1000, access: 2, group: 2, last: true, taken: true }],
    ],
  );
});

test('a requester id names the function that is there now', t => {
  const { root, port, fn } = belowPort();
  t.is(functionByRequesterId(root, 0x0500), fn);
  t.is(functionByRequesterId(root, 0x0008), port.fn);
  t.is(functionByRequesterId(root, 0x0508), undefined);
  number(port.fn, 6, 6);
  t.is(functionByRequesterId(root, 0x0500), undefined);
  t.is(functionByRequesterId(root, 0x0600), fn);
});
