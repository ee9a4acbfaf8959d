// NVMe 1.4, 4.3: physical region pages.
import test from 'ava';
import { code, pattern, RAM_BYTES, type Rig, rig } from '../rig.test.helper.js';
import { IoOpcode, Reg, Status } from '../spec/index.js';
import { type Page, prpsFor, transfer } from '../driver/index.js';

const PAGE = 4096;
const BLOCK = 512;

/** `count` pages, none beside another, last first. */
function scattered({ allocate }: Rig, count: number): Page[] {
  return Array.from({ length: count }, () => allocate(2)).reverse();
}

function gathered({ driver }: Rig, pages: readonly Page[], offset: number, bytes: number): Uint8Array {
  return Buffer.concat(pages.map(({ cpu }) => driver.peek(cpu, PAGE))).subarray(offset, offset + bytes);
}

/** Writes with one shape of PRPs and reads with it; returns whether the bytes came back to where they should. */
function roundTrip(each: Rig, offset: number, blocks: number, listOffset = 0): boolean {
  const { driver, addressSpace: memory, allocate } = each;
  const bytes = blocks * BLOCK;
  const count = Math.ceil((offset + bytes) / PAGE);
  const data = pattern(bytes, offset + blocks);
  const page = (): Page => allocate(1);
  const source = scattered(each, count);
  const target = scattered(each, count);
  let rest = data;
  for (const [index, { cpu }] of source.entries()) {
    const from = index === 0 ? offset : 0;
    driver.poke(cpu + from, rest.subarray(0, PAGE - from));
    rest = rest.subarray(PAGE - from);
  }
  const prps = (pages: readonly Page[]) => prpsFor({ pages, offset, bytes, memory, page, listOffset });
  driver.expect(1, { ...transfer(IoOpcode.WRITE, 3, blocks), ...prps(source) });
  driver.expect(1, { ...transfer(IoOpcode.READ, 3, blocks), ...prps(target) });
  const around = Buffer.concat(target.map(({ cpu }) => driver.peek(cpu, PAGE)));
  const outside = [around.subarray(0, offset), around.subarray(offset + bytes)];
  return (
    Buffer.compare(gathered(each, target, offset, bytes), data) === 0 &&
    outside.every(part => part.every(byte => byte === 0))
  );
}

const SHAPES: readonly (readonly [name: string, offset: number, blocks: number, listOffset?: number])[] = [
  ['one block at the beginning of a page', 0, 1],
  ['one block anywhere in a page', 0x7a4, 1],
  ['a block that crosses pages', 0xf00, 1],
  ['a page', 0, 8],
  ['a page, not from its beginning on: PRP2 is the rest', 0x204, 8],
  ['two pages', 0, 16],
  ['three pages: a list', 0, 24],
  ['three pages and a bit', 0xffc, 24],
  ['a list that begins late in its page', 0x10, 96, 0xf00],
  ['a list that ends with its page', 0, 264, 0xf00],
  ['a list of two pages', 0, 272, 0xf00],
  ['a list whose first page has the pointer only', 0, 40, 0xff8],
  ['the largest transfer', 0, 1024],
  ['the largest transfer, from the last dword of a page on', 0xffc, 1024],
  ['the largest transfer, with a list of two pages', 0x800, 1024, 0xe08],
];

for (const [name, offset, blocks, listOffset] of SHAPES) {
  test(`4.3: ${name}`, t => {
    t.true(roundTrip(rig(), offset, blocks, listOffset));
  });
}

test('4.3: lists of several whole pages: 32 MiB', t => {
  const each = rig({ mdts: 13, size: '64M' });
  const { driver, addressSpace: memory } = each;
  const bytes = 32 * 2 ** 20;
  const one = { cpu: 0x8000, device: 0x8000 };
  const two = { cpu: 0xa000, device: 0xa000 };
  driver.poke(one.cpu, pattern(PAGE, 1));
  driver.poke(two.cpu, pattern(PAGE, 2));
  // The same two pages over and over.
  const pages = Array.from({ length: bytes / PAGE }, (_, index) => (index % 2 === 0 ? one : two));
  const prps = prpsFor({ pages, offset: 0, bytes, memory, page: () => each.allocate(1) });
  driver.expect(1, { ...transfer(IoOpcode.WRITE, 0, bytes / BLOCK), ...prps });
  for (const index of [0, 1, 1023, 4095, 8190, 8191])
    t.deepEqual(driver.read(index * 8, 8), pattern(PAGE, 1 + (index % 2)), `page ${index}`);
});

test('pages of 64 KiB: offsets, second page and lists count by them', t => {
  const each = rig({}, { start: false });
  const { driver, allocate } = each;
  driver.setRegister(Reg.CC, 0);
  const aligned = (): number => {
    const at = allocate(32).cpu;
    return Math.ceil(at / 0x1_0000) * 0x1_0000;
  };
  const [asq, acq, data, second] = [aligned(), aligned(), aligned(), aligned()];
  driver.setRegister(Reg.AQA, 0x0007_0007);
  driver.setRegister(Reg.ASQ, asq);
  driver.setRegister(Reg.ACQ, acq);
  driver.setRegister(Reg.CC, 1 | (4 << 7) | (6 << 16) | (4 << 20));
  t.is(driver.status.rdy, 1);
  const entry = new DataView(new ArrayBuffer(64));
  entry.setUint32(0, 0x06, true);
  entry.setUint32(24, data + 0xf800, true);
  entry.setUint32(32, second, true);
  entry.setUint32(40, 1, true);
  driver.poke(asq, new Uint8Array(entry.buffer));
  driver.setRegister(Reg.DOORBELLS, 1);
  t.is(Buffer.from(driver.peek(data + 0xf800 + 24, 16)).toString(), 'Remora NVMe Ctrl');
  t.deepEqual([...driver.peek(second, 2)], [0xc4, 0x09], 'power state 0 is in the second page');
});

const INVALID: readonly (readonly [
  name: string,
  blocks: number,
  prp1: number,
  prp2: number,
  list?: readonly number[],
])[] = [
  ['PRP1 is no multiple of 4', 1, 0x8001, 0],
  ['PRP2, the second page, has an offset', 16, 0x8000, 0x9200],
  ['PRP2, a list, is no multiple of 8', 24, 0x8000, 0x9004],
  ['an entry of a list has an offset', 24, 0x8000, 0x9000, [0xa000, 0xb004]],
  ['the pointer to the next page of a list has an offset', 32, 0x8000, 0x9ff0, [0xa000, 0xb008]],
];

for (const [name, blocks, prp1, prp2, list = []] of INVALID) {
  test(`PRP Offset Invalid: ${name}; nothing moves`, t => {
    const { driver } = rig();
    driver.poke(prp2 & ~3, new Uint8Array(BigUint64Array.from(list, BigInt).buffer));
    driver.poke(0x8000, new Uint8Array(16).fill(0xee));
    const { status } = driver.run(1, { ...transfer(IoOpcode.READ, 0, blocks), prp1, prp2 });
    t.is(status & 0x47ff, 0x4000 | Status.PRP_OFFSET_INVALID);
    t.deepEqual(driver.peek(0x8000, 16), new Uint8Array(16).fill(0xee));
    t.is(code(driver.run(1, { ...transfer(IoOpcode.WRITE, 0, blocks), prp1, prp2 })), Status.PRP_OFFSET_INVALID);
    t.deepEqual(driver.read(0, 1), new Uint8Array(512));
  });
}

test('memory that does not answer: Data Transfer Error; the controller goes on', t => {
  const { driver } = rig();
  const beyond = RAM_BYTES;
  const list = 0x9000;
  driver.poke(list, new Uint8Array(BigUint64Array.of(0xa000n, BigInt(beyond), 0xb000n).buffer));
  const cases = [
    { blocks: 1, prp1: beyond, prp2: 0 },
    { blocks: 1, prp1: 0xffff_ffff_ffff_f000n, prp2: 0 },
    { blocks: 16, prp1: 0x8000, prp2: beyond },
    { blocks: 24, prp1: 0x8000, prp2: beyond },
    { blocks: 32, prp1: 0x8000, prp2: list },
    { blocks: 8, prp1: beyond - 2048, prp2: beyond },
  ];
  for (const { blocks, prp1, prp2 } of cases) {
    for (const opcode of [IoOpcode.READ, IoOpcode.WRITE, IoOpcode.COMPARE]) {
      const { status } = driver.run(1, { ...transfer(opcode, 0, blocks), prp1, prp2 });
      t.is(status & 0x47ff, 0x4000 | Status.DATA_TRANSFER_ERROR, `opcode ${opcode}, ${blocks} blocks`);
    }
  }
  t.is(driver.status.cfs, 0);
  t.deepEqual(driver.read(0, 32), new Uint8Array(32 * 512), 'nothing was written');
});
