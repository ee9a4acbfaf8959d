/** The bytes, against vsva.md section 3 written out by hand. */
import test from 'ava';
import { type Stage1Config, Stage1Flush } from '@remora/iommu';
import type { VfioQuirks } from './options.js';
import { bindBytes, FlushBytes, pasidAllocBytes, pasidFreeBytes, unbindBytes } from './stage1-bytes.js';

function flushBytes(flush: Stage1Flush, quirks: VfioQuirks): Uint8Array {
  return new FlushBytes(quirks).encode(flush);
}

test('the buffer of a flush keeps nothing of the one before', t => {
  const bytes = new FlushBytes({});
  const whole = bytes.encode(Object.assign(new Stage1Flush(), { pasid: 5 })).slice();
  bytes.encode(Object.assign(new Stage1Flush(), { granularity: 'address', pasid: 6, hi: -1, lo: -4096, leaf: true }));
  t.deepEqual(bytes.encode(Object.assign(new Stage1Flush(), { pasid: 5 })), whole);
});

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const ATTRIBUTES = { format: 1 as const, sre: 0, eafe: 0, pcd: 0, pwt: 0, emte: 0, cd: 0, pat: 0, emt: 0 };

function config(changes: Partial<Stage1Config> = {}): Stage1Config {
  return { rootHi: 0x12, rootLo: 0x3456_7000 | 0, addressWidth: 48, attributes: ATTRIBUTES, ...changes };
}

function pages(changes: Partial<Stage1Flush>): Stage1Flush {
  return Object.assign(new Stage1Flush(), { granularity: 'address', pasid: 5 }, changes);
}

test('PASID_REQUEST: 20 bytes, what is not asked is zero', t => {
  t.is(hex(pasidAllocBytes(1, 0xfffff)), '14000000' + '01000000' + '01000000' + 'ffff0f00' + '00000000');
  t.is(hex(pasidFreeBytes(0xabcde)), '14000000' + '02000000' + 'debc0a00' + '00000000' + '00000000');
});

test('BIND: 8 + 72 bytes', t => {
  t.is(
    hex(bindBytes(5, config(), {})),
    '50000000' +
      '01000000' + // argsz, flags
      '01000000' +
      '01000000' +
      '0100000000000000' + // version, format, flags
      '0070563412000000' + // gpgd
      '0500000000000000' +
      '0500000000000000' + // hpasid, gpasid
      '30000000' +
      '00'.repeat(12) + // addr_width, padding
      '00'.repeat(16), // vtd
  );
});

test('attributes: each has its own bit, PAT and EMT their places', t => {
  const attributes = (changes: object): string =>
    hex(bindBytes(5, config({ attributes: { ...ATTRIBUTES, ...changes } }), {})).slice(-32);
  const names = ['sre', 'eafe', 'pcd', 'pwt', 'emte', 'cd'];
  t.deepEqual(
    names.map(name => attributes({ [name]: 1 })),
    ['01', '02', '04', '08', '10', '20'].map(flags => `${flags}${'00'.repeat(15)}`),
  );
  t.is(attributes({ pat: 0x8765_4321 | 0, emt: 6 }), '00'.repeat(8) + '21436587' + '06000000');
});

test('quirk Q1: any attribute makes the flags 1', t => {
  const flags = (changes: object): string =>
    hex(bindBytes(5, config({ attributes: { ...ATTRIBUTES, ...changes } }), { attributeFlags: true })).slice(-32, -16);
  t.is(flags({ cd: 1, pwt: 1 }), '0100000000000000');
  t.is(flags({ pcd: 1 }), '0100000000000000');
  t.is(flags({ pat: 7 }), '0000000000000000');
});

test('a 57-bit root', t => {
  const bytes = bindBytes(0xfffff, config({ rootHi: -1, rootLo: 0xffff_f000 | 0, addressWidth: 57 }), {});
  t.is(hex(bytes.subarray(24, 52)), '00f0ffffffffffff' + 'ffff0f0000000000' + 'ffff0f0000000000' + '39000000');
});

test('UNBIND: the PASID, and neither root nor width nor attributes', t => {
  t.is(
    hex(unbindBytes(5)),
    '50000000' +
      '02000000' +
      '01000000' +
      '01000000' +
      '0100000000000000' +
      '00'.repeat(8) +
      '0500000000000000' +
      '0500000000000000' +
      '00'.repeat(32),
  );
});

test('CACHE_INVALIDATE of a PASID: 8 + 48 bytes', t => {
  t.is(
    hex(flushBytes(Object.assign(new Stage1Flush(), { pasid: 5 }), {})),
    '38000000' +
      '00000000' + // argsz, flags
      '01000000' +
      '01' +
      '01' +
      '0000' + // version, IOTLB, PASID, padding
      '01000000' +
      '00000000' +
      '0500000000000000' + // flags, archid, pasid
      '00'.repeat(24),
  );
});

test('CACHE_INVALIDATE of pages', t => {
  t.is(
    hex(flushBytes(pages({ hi: 0x7fff, lo: 0x7000 }), {})),
    '38000000' +
      '00000000' +
      '01000000' +
      '01' +
      '02' +
      '0000' +
      '01000000' +
      '00000000' +
      '0500000000000000' + // flags, archid, pasid
      '00700000ff7f0000' +
      '0010000000000000' +
      '0100000000000000', // addr, granule_size, nb_granules
  );
  const tail = (changes: Partial<Stage1Flush>): string => hex(flushBytes(pages(changes), {})).slice(2 * 32);
  t.is(hex(flushBytes(pages({ leaf: true, granuleShift: 21 }), {})).slice(32, 40), '05000000');
  t.is(tail({ granuleShift: 21 }), '0000000000000000' + '0000200000000000' + '0100000000000000');
  t.is(tail({ granuleShift: 31 }), '0000000000000000' + '0000008000000000' + '0100000000000000');
  t.is(tail({ granuleShift: 32 }), '0000000000000000' + '0000000001000000' + '0100000000000000');
  t.is(tail({ granuleShift: 63, hi: 0x8000_0000 | 0 }), '0000000000000080' + '0000000000000080' + '0100000000000000');
  t.is(tail({ granules: 512 }), '0000000000000000' + '0010000000000000' + '0002000000000000');
});

test('quirk Q7: argsz counts the information twice, the tail is zero', t => {
  const bytes = flushBytes(pages({ lo: 0x7000 }), { flushArgsz: true });
  t.is(bytes.length, 104);
  t.is(hex(bytes).slice(0, 8), '68000000');
  t.is(hex(bytes.subarray(8, 56)), hex(flushBytes(pages({ lo: 0x7000 }), {}).subarray(8)));
  t.is(hex(bytes.subarray(56)), '00'.repeat(48));
});
