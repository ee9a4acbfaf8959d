/** Whatever a guest writes to configuration space, nothing throws, and what is mapped afterwards is what the registers say. */
import test from 'ava';
import fc from 'fast-check';
import { PciBridge } from './bridge.js';
import { configRead, configWrite } from './config-access.js';
import { Command, Config, ExpressType } from './registers.js';
import { enableAts, enablePri, FakeIommu } from './ats.test.helper.js';
import { DeviceTlb } from './device-tlb.js';
import { DeviceTlbChannel, TlbAccess } from './device-tlb-channel.js';
import { pciSetupIommu } from './iommu.js';
import { enable, endpoint, platform, registers } from './platform.test.helper.js';

function tree() {
  const at = platform();
  const port = new PciBridge('port', 'root-port', { vendor: 1, device: 1 });
  const inner = new PciBridge('inner', 'pcie-to-pci', { vendor: 1, device: 2 });
  const wide = endpoint('wide', { pcie: true });
  wide.enableExpress(ExpressType.ENDPOINT);
  wide.enableMsi(32);
  wide.enableMsix(64, 5);
  wide.enablePasid(20);
  wide.enableAts();
  wide.enablePri();
  const tlb = new DeviceTlb(wide);
  const channel = new DeviceTlbChannel(wide, tlb, () => undefined);
  const iommu = new FakeIommu();
  iommu.map(1, 0x1000, { to: 0x2000 });
  wide.addBar(0, registers('a', 0x1000).region, { type: 'mem32' });
  wide.addBar(1, registers('b', 0x10).region, { type: 'io' });
  wide.addBar(2, registers('c', 2 ** 34).region, { type: 'mem64', prefetchable: true });
  const plain = endpoint('plain');
  plain.addBar(0, registers('d', 0x8000).region, { type: 'mem32' });
  at.root.plug(port.fn, 0x08);
  at.root.plug(wide, 0x10);
  port.secondary.plug(inner.fn, 0);
  inner.secondary.plug(plain, 0x18);
  pciSetupIommu(at.root, iommu);
  return { ...at, functions: [port.fn, inner.fn, wide, plain], wide, plain, iommu, channel, tlb };
}

/** Controls of ATS and page requests, behind the PASID capability. */
const ATS_CONTROL = 0x10e;
const PRI_CONTROL = 0x114;
const PRI_ALLOCATION = 0x11c;
const HOT = [
  Config.COMMAND,
  Config.BAR0,
  0x14,
  0x18,
  0x1c,
  Config.MEMORY_BASE,
  Config.PREFETCH_BASE,
  0x28,
  0x2c,
  0x24,
  ATS_CONTROL,
  PRI_CONTROL,
  PRI_ALLOCATION,
];
const offset = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...HOT) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xfff }) },
);
const value = fc.oneof(
  fc.integer({ min: 0, max: 0xffff_ffff }),
  fc.constantFrom(0, 7, 0xffff_ffff, 0xe000_0000, 0x0100),
);
const write = fc.tuple(fc.nat(3), offset, value, fc.constantFrom(1, 2, 4));

test('random configuration writes, to functions and by bus number', t => {
  let mapped = 0;
  let requested = 0;
  let translated = 0;
  const word = new Uint8Array(4);
  const property = fc.property(fc.array(write, { minLength: 10, maxLength: 80, size: 'max' }), writes => {
    const { functions, root, wide, plain, iommu, channel, tlb } = tree();
    t.is(wide.atsCapability!.offset + 6, ATS_CONTROL);
    t.is(wide.priCapability!.offset + 4, PRI_CONTROL);
    for (const fn of functions) enable(fn);
    enableAts(wide);
    enablePri(wide);
    for (const [which, at, data, size] of writes) {
      const aligned = at - (at % size);
      functions[which]!.config.write(aligned, data, size);
      configWrite(root, data & 0xff, (data >>> 8) & 0xff, aligned, data, size);
      configRead(root, data & 0xff, (data >>> 8) & 0xff, aligned, size);
      wide.msi(which);
      const [ats, pri, asked] = [wide.atsEnabled, wide.priEnabled, iommu.asked.length];
      if (channel.read(0, 0x1000 + (data & 0x1000), word, 1) === TlbAccess.WAITING)
        tlb.pageResponse(1, data & 511, which);
      // Neither ATS nor page requests without their enable bits.
      if (!ats && iommu.asked.length !== asked) return false;
      requested += iommu.requests.length;
      if (!pri && iommu.requests.length > 0) return false;
      iommu.requests.length = 0;
      translated += iommu.translated.length;
      iommu.translated.length = 0;
    }
    for (const [fn, index, size] of [
      [wide, 0, 0x1000],
      [plain, 0, 0x8000],
    ] as const) {
      const address = fn.config.get32(Config.BAR0 + 4 * index);
      const decoded =
        (fn.config.get16(Config.COMMAND) & Command.MEMORY) !== 0 && address !== 0 && address + size < 2 ** 32;
      if (fn.bars.address(index) !== (decoded ? address : undefined)) return false;
      if (decoded) mapped++;
    }
    return true;
  });
  t.notThrows(() => fc.assert(property, { numRuns: 150, seed: 1 }));
  for (const [count, what] of [
    [mapped, 'BARs were mapped'],
    [requested, 'pages were requested'],
    [translated, 'requests were translated'],
  ] as const) {
    t.true(count > 20, `only ${count} ${what}: the generator misses its point`);
  }
});
