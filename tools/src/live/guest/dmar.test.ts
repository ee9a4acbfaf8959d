import test from 'ava';
import { dmarTable } from './dmar.js';

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('one unit, one endpoint: 72 bytes that sum up to zero', t => {
  const table = dmarTable([{ base: 0xfebf_c000, scopes: [{ kind: 'endpoint', path: [[4, 0]] }] }], {
    hostAddressWidth: 48,
    interruptRemapping: false,
  });
  t.is(table.length, 72);
  t.is(table.reduce((sum, byte) => sum + byte, 0) & 0xff, 0);
  t.is(hexOf(table.subarray(0, 9)), '444d4152' + '48000000' + '01');
  t.is(hexOf(table.subarray(36, 48)), '2f00' + '00'.repeat(10));
  t.is(hexOf(table.subarray(48)), '0000' + '1800' + '00' + '00' + '0000' + '00c0bffe00000000' + '0108000000000400');
});

test('scopes: behind a root port, and an I/O APIC with remapped interrupts', t => {
  const table = dmarTable(
    [
      {
        base: 0x1_0000_2000,
        scopes: [
          {
            kind: 'endpoint',
            path: [
              [5, 0],
              [0, 0],
            ],
          },
          { kind: 'ioapic', id: 2, bus: 0xff, path: [[0x1f, 7]] },
        ],
      },
    ],
    { hostAddressWidth: 39, interruptRemapping: true },
  );
  t.is(table.reduce((sum, byte) => sum + byte, 0) & 0xff, 0);
  t.is(hexOf(table.subarray(36, 38)), '2601');
  t.is(hexOf(table.subarray(50, 52)), '2200');
  t.is(hexOf(table.subarray(56, 64)), '0020000001000000');
  t.is(hexOf(table.subarray(64)), '010a0000000005000000' + '0308000002ff1f07');
});
