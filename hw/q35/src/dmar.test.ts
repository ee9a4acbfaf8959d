import test from 'ava';
import { Ledger, Ram, VirtualClock } from '@remora/core';
import { type IommuFacts, PciBridge, PciFunction, pciSetupIommu } from '@remora/pci';
import { Q35 } from './board.js';
import { q35Kind } from './plugin.js';

const FACTS: IommuFacts = {
  registerBase: 0xfed9_0000,
  hostAddressWidth: 48,
  interruptRemapping: false,
  deviceTlb: false,
};

function board(): Q35 {
  const services = { name: 'vm', ram: Ram.allocate(0x100_0000), clock: new VirtualClock(), ledger: new Ledger() };
  return new Q35(services, q35Kind.properties.parse('q35', { memory: 0x100_0000 }));
}

function table(at: Q35, facts: Partial<IommuFacts>): Uint8Array {
  const registration = pciSetupIommu(at.rootBus, {
    wantsNesting: false,
    addressSpaceFor: () => at.addressSpace,
    facts: { ...FACTS, ...facts },
  });
  const tables = at.firmwareTables();
  registration[Symbol.dispose]();
  return tables.find(({ signature }) => signature === 'DMAR')!.bytes;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('without an IOMMU there is no DMAR table', t => {
  t.deepEqual(board().firmwareTables(), []);
});

test('header: signature, length, revision 1, a checksum that adds up, address width - 1, no flags', t => {
  const bytes = table(board(), {});
  t.is(Buffer.from(bytes).toString('latin1', 0, 4), 'DMAR');
  t.is(new DataView(bytes.buffer).getUint32(4, true), bytes.length);
  t.is(bytes[8], 1);
  t.is(bytes.reduce((sum, byte) => sum + byte, 0) % 256, 0);
  t.is(bytes[36], 47);
  t.is(hex(bytes.subarray(37, 48)), '00'.repeat(11));
});

test('one unit without INCLUDE_PCI_ALL at 0xFED90000: the I/O APIC, then each function of the root bus', t => {
  const at = board();
  const port = new PciBridge('port', 'root-port', { vendor: 1, device: 1 });
  const below = new PciFunction('below', { vendor: 1, device: 2, classCode: 0 });
  const beside = new PciFunction('beside', { vendor: 1, device: 2, classCode: 0 });
  at.rootBus.plug(port.fn, 0x08);
  port.secondary.plug(below, 0);
  at.rootBus.plug(beside, 0x1b);
  t.is(
    hex(table(at, {}).subarray(48)),
    [
      '0000' + '3000' + '00' + '00' + '0000' + '0000d9fe00000000',
      '03080000' + '00ff' + '0000',
      '01080000' + '0000' + '0000',
      '02080000' + '0000' + '0100',
      '01080000' + '0000' + '0303',
    ].join(''),
  );
});

test('interrupt remapping sets a flag, device TLBs add an ATSR for all ports', t => {
  const bytes = table(board(), { interruptRemapping: true, deviceTlb: true, hostAddressWidth: 39 });
  t.is(bytes[36], 38);
  t.is(bytes[37], 1);
  t.is(hex(bytes.subarray(-8)), '0200' + '0800' + '01' + '00' + '0000');
  t.is(bytes.reduce((sum, byte) => sum + byte, 0) % 256, 0);
});
