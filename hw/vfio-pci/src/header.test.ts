import test from 'ava';
import { Capability, ExpressType, PciFunction } from '@remora/pci';
import fc from 'fast-check';
import { HostHeader } from './header.js';

const IDENTITY = {
  vendor: 0x8086,
  device: 0x0b25,
  revision: 0x11,
  classCode: 0x088001,
  subsystemVendor: 0x1028,
  subsystem: 0x0a5b,
};

/** Configuration space by hand, after PCI 3.0 6.1: power management at 0x40, MSI at 0x50, a vendor capability at 0x90. */
function handmade(): Uint8Array {
  const bytes = new Uint8Array(256);
  const put = (offset: number, ...values: number[]): void => bytes.set(values, offset);
  put(0x00, 0x86, 0x80, 0x25, 0x0b, 0x06, 0x00, 0x10, 0x00, 0x11, 0x01, 0x80, 0x08);
  put(0x10, 0x0c, 0x00, 0x00, 0xfe, 0x01, 0x00, 0x00, 0x00, 0x01, 0xe0, 0x00, 0x00);
  put(0x2c, 0x28, 0x10, 0x5b, 0x0a);
  put(0x34, 0x40);
  put(0x40, 0x01, 0x90, 0x03, 0x00);
  put(0x90, 0x09, 0x50, 0x0c);
  put(0x50, 0x05, 0x00, 0x86, 0x01);
  return bytes;
}

test('identity, BARs and capabilities come from where PCI 3.0 has them', t => {
  const header = new HostHeader(handmade());
  t.deepEqual(header.identity, IDENTITY);
  t.deepEqual([header.bar(0), header.bar(1), header.bar(2)], [0xfe00_000c, 1, 0xe001]);
  t.deepEqual(header.emulated, { express: undefined, msi: 8, msix: undefined, pasid: undefined });
  t.deepEqual(header.forwarded, [
    { id: 0x01, offset: 0x40, bytes: 0x10 },
    { id: 0x09, offset: 0x90, bytes: 0x70 },
  ]);
});

test('what a function of our own has is found again', t => {
  const fn = new PciFunction('engine', { ...IDENTITY, pcie: true });
  fn.enableExpress(ExpressType.ENDPOINT, { endToEndPrefixes: true });
  fn.enableMsi(4);
  fn.enableMsix(65, 3);
  fn.addCapability(Capability.VENDOR, new Uint8Array(6));
  fn.addExtendedCapability(0x000b, 1, new Uint8Array(12));
  fn.enablePasid(20, { execute: true });
  const header = new HostHeader(fn.config.bytes.slice());
  t.deepEqual(header.identity, IDENTITY);
  t.deepEqual(header.emulated, {
    express: { type: ExpressType.ENDPOINT, endToEndPrefixes: true },
    msi: 4,
    msix: { vectors: 65, bar: 3, tableOffset: 0 },
    pasid: { width: 20, execute: true, privileged: false },
  });
  t.deepEqual(
    header.forwarded.map(({ id }) => id),
    [Capability.VENDOR],
  );
});

test('device TLBs and page requests are the host’s own: the guest’s function has neither', t => {
  const fn = new PciFunction('engine', { ...IDENTITY, pcie: true });
  fn.enableExpress(ExpressType.ENDPOINT);
  fn.enableAts();
  fn.enablePri();
  fn.enablePasid(20);
  const { emulated, forwarded } = new HostHeader(fn.config.bytes.slice());
  t.deepEqual(Object.keys(emulated).sort(), ['express', 'msi', 'msix', 'pasid']);
  t.is(emulated.pasid?.width, 20, 'what comes after them is found');
  t.deepEqual(forwarded, []);
});

test('whatever a host shows, reading it comes to an end', t => {
  fc.assert(
    fc.property(
      fc.constantFrom(256, 4096).chain(size => fc.uint8Array({ minLength: size, maxLength: size })),
      bytes => {
        const header = new HostHeader(bytes);
        const offsets = header.forwarded.map(({ offset }) => offset);
        t.is(new Set(offsets).size, offsets.length);
        t.true(header.forwarded.every(each => each.offset >= 0x40 && each.offset + each.bytes <= 0x100));
        t.true((header.emulated.pasid?.width ?? 0) < 32);
      },
    ),
    { seed: 1 },
  );
});

test('a chain that runs in a circle ends where it began', t => {
  const bytes = handmade();
  bytes[0x51] = 0x40;
  t.is(new HostHeader(bytes).forwarded.length, 2);
});

test('ATS and PRI of a function are found, each by itself', t => {
  const fn = new PciFunction('engine', { ...IDENTITY, pcie: true });
  const header = (): HostHeader => new HostHeader(fn.config.bytes.slice());
  fn.enablePasid(20);
  t.is(header().ats, undefined);
  fn.enableAts({ queueDepth: 7, globalInvalidate: false });
  t.deepEqual(header().ats, { queueDepth: 7, globalInvalidate: false });
  t.is(header().pri, undefined);
  fn.enablePri({ capacity: 48 });
  t.deepEqual(header().pri, { capacity: 48, responsePasidRequired: true });
  t.is(new HostHeader(handmade()).ats, undefined, 'it has no extended capabilities');
});
