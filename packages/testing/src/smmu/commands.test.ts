/** smmuv3.md 12.1 has worked encodings; peers.md 3.4 and smmuv3.md 10.4 say what a guest's command may be. */
import test from 'ava';
import { Errno } from '@remora/core';
import { convertSmmuCommand, decodeSmmuFlush, smmuCommand, SmmuOpcode } from './commands.js';

const words = (bytes: Uint8Array): Int32Array => new Int32Array(bytes.slice().buffer);
const hexOf = (bytes: Uint8Array): string[] =>
  [...new BigUint64Array(bytes.slice().buffer)].map(word => `0x${word.toString(16)}`);
const noStreams = (): undefined => undefined;

test('commands have the encodings of the reference', t => {
  t.deepEqual(hexOf(smmuCommand({ opcode: SmmuOpcode.TLBI_NH_ASID, vmid: 5, asid: 7 })), ['0x7000500000011', '0x0']);
  t.deepEqual(hexOf(smmuCommand({ opcode: SmmuOpcode.TLBI_NH_VA, asid: 7, address: 0x1234_5000, leaf: true })), [
    '0x7000000000012',
    '0x12345001',
  ]);
  t.deepEqual(hexOf(smmuCommand({ opcode: SmmuOpcode.CFGI_CD, sid: 0x108, ssid: 5, leaf: true })), [
    '0x10800005005',
    '0x1',
  ]);
});

test('ranges: 512 pages, 5 pages, one page, and those of a device', t => {
  const flush = (lo: number, hi: number, addressLo: number) => {
    const { first, pages } = decodeSmmuFlush(Int32Array.of(lo, hi, addressLo, 0));
    return { first, pages };
  };
  t.deepEqual(flush(0x0090_0012, 0x7_0000, 0x4000_0701), { first: 0x4_0000, pages: 512 });
  t.deepEqual(flush(0x4012, 0x7_0000, 0x1234_5701), { first: 0x1_2345, pages: 5 });
  t.deepEqual(flush(0x12, 0x7_0000, 0x1234_5001), { first: 0x1_2345, pages: 1 });
  t.deepEqual(flush(0x5840, 0x108, 0x1_0004), { first: 0x10, pages: 16 });
  t.deepEqual(flush(0x40, 0x108, 0x34), { first: 0, pages: Infinity });
});

test('the VMID of a guest’s command is the VM’s, whatever the guest wrote; everything is everything of the VM', t => {
  const asid = words(smmuCommand({ opcode: SmmuOpcode.TLBI_NH_ASID, vmid: 99, asid: 7 }));
  t.is(convertSmmuCommand(asid, 5, noStreams), 0);
  t.like(decodeSmmuFlush(asid), { vmid: 5, asid: 7 });
  const all = words(smmuCommand({ opcode: SmmuOpcode.TLBI_NSNH_ALL }));
  t.is(convertSmmuCommand(all, 5, noStreams), 0);
  t.deepEqual([...all], [SmmuOpcode.TLBI_NH_ALL, 5, 0, 0]);
});

test('a guest’s StreamID becomes the unit’s; without a virtual device, -EIO', t => {
  for (const opcode of [SmmuOpcode.CFGI_CD, SmmuOpcode.CFGI_CD_ALL, SmmuOpcode.ATC_INV]) {
    const command = words(smmuCommand({ opcode, sid: 0x10 }));
    t.is(convertSmmuCommand(command, 5, noStreams), -Errno.EIO);
    t.is(
      convertSmmuCommand(command, 5, virtual => (virtual === 0x10 ? 0x3f00 : undefined)),
      0,
    );
    t.is(decodeSmmuFlush(command).sid, 0x3f00);
  }
});

test('every opcode but those of the list, and every bit that an opcode does not have: -EIO', t => {
  const listed: readonly number[] = Object.values(SmmuOpcode);
  const streams = (): number => 1;
  for (let opcode = 0; opcode < 256; opcode++) {
    const result = convertSmmuCommand(Int32Array.of(opcode, 0, 0, 0), 5, streams);
    t.is(result, listed.includes(opcode) ? 0 : -Errno.EIO, `opcode ${opcode}`);
  }
  const refused = (opcode: number): number => {
    let count = 0;
    for (let bit = 8; bit < 128; bit++) {
      const command = Int32Array.of(opcode, 0, 0, 0);
      command[bit >> 5] = command[bit >> 5]! | (1 << (bit & 31));
      if (convertSmmuCommand(command, 5, streams) === -Errno.EIO) count++;
    }
    return count;
  };
  // 120 bits less those of the fields: VMID 16, ASID 16, NUM 5, SCALE 6, Leaf 1, TTL 2, TG 2, address 52; SSV 1, SSID 20, SID 32; G 1, Size 6.
  t.is(refused(SmmuOpcode.TLBI_NSNH_ALL), 120);
  t.is(refused(SmmuOpcode.TLBI_NH_ALL), 120 - 16);
  t.is(refused(SmmuOpcode.TLBI_NH_ASID), 120 - 32);
  t.is(refused(SmmuOpcode.TLBI_NH_VA), 120 - 32 - 11 - 5 - 52);
  t.is(refused(SmmuOpcode.TLBI_NH_VAA), 120 - 16 - 11 - 5 - 52);
  t.is(refused(SmmuOpcode.CFGI_CD), 120 - 21 - 32 - 1);
  t.is(refused(SmmuOpcode.CFGI_CD_ALL), 120 - 32);
  t.is(refused(SmmuOpcode.ATC_INV), 120 - 1 - 21 - 32 - 6 - 52);
});
