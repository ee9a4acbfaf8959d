// NVMe 1.4, 6 and 5.23: commands of the NVM command set, and Format NVM.
import test from 'ava';
import { code, pattern, rig } from '../rig.test.helper.js';
import { AdminOpcode, Cns, DNR, FeatureId, IoOpcode, Status } from '../spec/index.js';
import { transfer } from '../driver/index.js';

const BLOCK = 512;
const BLOCKS = 0x40_0000 / BLOCK;
const ON_BLOCKS = [IoOpcode.READ, IoOpcode.WRITE, IoOpcode.COMPARE, IoOpcode.WRITE_ZEROES, IoOpcode.VERIFY];

test('what was written is read, to the last block; what was not is zero', t => {
  const { driver } = rig();
  const [first, last] = [pattern(BLOCK, 1), pattern(BLOCK, 2)];
  driver.write(0, first);
  driver.write(BLOCKS - 1, last);
  t.deepEqual(driver.read(0, 2), Uint8Array.of(...first, ...new Uint8Array(BLOCK)));
  t.deepEqual(driver.read(BLOCKS - 2, 2), Uint8Array.of(...new Uint8Array(BLOCK), ...last));
  driver.write(3, first);
  t.deepEqual(driver.read(2, 3), Uint8Array.of(...new Uint8Array(BLOCK), ...first, ...new Uint8Array(BLOCK)));
});

test('blocks of 4096 bytes', t => {
  const { driver } = rig({ logical_block_size: 4096 });
  const data = pattern(3 * 4096);
  driver.write(7, data, 4096);
  t.deepEqual(driver.read(7, 3, 4096), data);
  t.deepEqual(driver.read(8, 1, 4096), data.subarray(4096, 8192));
  const { status } = driver.run(1, { ...transfer(IoOpcode.READ, 1024, 1), prp1: 0x8000 });
  t.is(code({ status }), Status.LBA_OUT_OF_RANGE);
});

test('LBA Out of Range: every command on blocks, at the end and far beyond it', t => {
  const { driver } = rig();
  for (const opcode of ON_BLOCKS) {
    for (const [start, blocks] of [
      [BLOCKS, 1],
      [BLOCKS - 1, 2],
      [2 ** 40, 1],
      [2 ** 53, 8],
    ] as const) {
      const { status } = driver.run(1, { ...transfer(opcode, start, blocks), prp1: 0x8000 });
      t.is(status & 0x47ff, DNR | Status.LBA_OUT_OF_RANGE, `opcode ${opcode} from ${start} on`);
    }
    const { status } = driver.run(1, { opcode, nsid: 1, cdw10: 0xffff_ffff, cdw11: 0xffff_ffff, prp1: 0x8000 });
    t.is(status & 0x47ff, DNR | Status.LBA_OUT_OF_RANGE);
  }
});

test('a transfer longer than MDTS is refused, and so is what moves nothing and would take as long', t => {
  const { driver } = rig({ mdts: 1 });
  for (const opcode of ON_BLOCKS) {
    t.is(code(driver.run(1, { ...transfer(opcode, 0, 16), prp1: 0x8000, prp2: 0x9000 })), 0);
    t.is(code(driver.run(1, { ...transfer(opcode, 0, 17), prp1: 0x8000, prp2: 0x9000 })), Status.INVALID_FIELD);
  }
});

test('namespaces that are not there; Flush alone may mean all of them', t => {
  const { driver } = rig();
  for (const opcode of [...ON_BLOCKS, IoOpcode.FLUSH, IoOpcode.DATASET_MANAGEMENT])
    for (const nsid of [0, 2, 0xffff_ffff, 0xffff_fffe]) {
      const expected = opcode === IoOpcode.FLUSH && nsid === 0xffff_ffff ? 0 : Status.INVALID_NAMESPACE_OR_FORMAT;
      t.is(code(driver.run(1, { opcode, nsid, prp1: 0x8000 })), expected, `opcode ${opcode} of ${nsid}`);
    }
});

test('commands that do not exist', t => {
  const { driver } = rig();
  for (const opcode of [0x04, 0x0d, 0x0e, 0x11, 0x15, 0x19, 0x7d, 0x80, 0xff])
    t.is(driver.run(1, { opcode, nsid: 1 }).status & 0x47ff, DNR | Status.INVALID_OPCODE);
  for (const opcode of [0x03, 0x0d, 0x10, 0x11, 0x14, 0x18, 0x7c, 0x81, 0xff])
    t.is(driver.run(0, { opcode, nsid: 1 }).status & 0x47ff, DNR | Status.INVALID_OPCODE);
});

test('Compare: equal or not, and nothing changes', t => {
  const { driver, allocate } = rig();
  const data = pattern(4 * 4096);
  driver.write(2, data);
  const page = allocate(4);
  const compare = (bytes: Uint8Array): number => {
    driver.poke(page.cpu, bytes);
    return driver.run(1, { ...transfer(IoOpcode.COMPARE, 2, 32), ...driver.prps(page, data.length) }).status & 0x47ff;
  };
  t.is(compare(data), 0);
  for (const at of [0, 4095, 4096, data.length - 1]) {
    const other = data.slice();
    other[at]! ^= 1;
    t.is(compare(other), DNR | Status.COMPARE_FAILURE, `byte ${at}`);
  }
  t.deepEqual(driver.read(2, 32), data);
});

test('Write Zeroes: those blocks, and nothing else', t => {
  const { driver } = rig({ size: '64M', mdts: 13 });
  const data = pattern(512 * BLOCK);
  for (const start of [0, 200, 100_000]) driver.write(start, data);
  driver.expect(1, transfer(IoOpcode.WRITE_ZEROES, 100, 65536));
  const expected = Buffer.concat([data.subarray(0, 100 * BLOCK), new Uint8Array(412 * BLOCK)]);
  t.is(Buffer.compare(driver.read(0, 512), expected), 0);
  t.is(Buffer.compare(driver.read(100_000, 512), data), 0);
  driver.expect(1, transfer(IoOpcode.WRITE_ZEROES, 100_001, 1));
  const after = data.slice();
  after.fill(0, BLOCK, 2 * BLOCK);
  t.is(Buffer.compare(driver.read(100_000, 512), after), 0);
});

test('Verify reads, and moves nothing', t => {
  const { driver } = rig({ size: '64M', mdts: 13 });
  t.is(driver.run(1, transfer(IoOpcode.VERIFY, 3, 65536)).status, 0);
});

const range = (start: number, blocks: number): BigUint64Array =>
  BigUint64Array.of(BigInt(blocks) * 2n ** 32n, BigInt(start));

test('Dataset Management: deallocated blocks read as zeroes; ranges are checked first', t => {
  const { driver, allocate } = rig();
  const page = allocate(1);
  const data = pattern(1024 * BLOCK);
  const manage = (ranges: readonly BigUint64Array[], cdw11: number, nr = ranges.length - 1): number => {
    driver.poke(page.cpu, Buffer.concat(ranges.map(each => new Uint8Array(each.buffer))));
    const command = { opcode: IoOpcode.DATASET_MANAGEMENT, nsid: 1, prp1: page.device, cdw10: nr, cdw11 };
    return driver.run(1, command).status & 0x47ff;
  };
  driver.write(0, data);
  t.is(manage([range(0, 1024)], 3), 0);
  t.is(Buffer.compare(driver.read(0, 1024), data), 0, 'hints only');
  t.is(manage([range(0, 8), range(BLOCKS, 1)], 4), DNR | Status.LBA_OUT_OF_RANGE);
  t.is(manage([range(0, 8), range(BLOCKS - 1, 2)], 4), DNR | Status.LBA_OUT_OF_RANGE);
  t.is(Buffer.compare(driver.read(0, 1024), data), 0);
  t.is(manage([range(1, 2), range(130, 260), range(BLOCKS - 1, 1), range(5, 0)], 4), 0);
  data.fill(0, BLOCK, 3 * BLOCK);
  data.fill(0, 130 * BLOCK, 390 * BLOCK);
  t.is(Buffer.compare(driver.read(0, 1024), data), 0);
  t.is(
    manage(
      Array.from({ length: 256 }, (_, index) => range(index, 1)),
      4,
    ),
    0,
  );
  data.fill(0, 0, 256 * BLOCK);
  t.is(Buffer.compare(driver.read(0, 1024), data), 0);
});

test('a write protected namespace: nothing that writes succeeds, and reading does', t => {
  const { driver } = rig({ readonly: true });
  const status = (opcode: number, cdw11 = 0): number =>
    driver.run(1, { opcode, nsid: 1, prp1: 0x8000, cdw11 }).status & 0x47ff;
  for (const opcode of [IoOpcode.WRITE, IoOpcode.WRITE_ZEROES])
    t.is(status(opcode), DNR | Status.NAMESPACE_WRITE_PROTECTED);
  t.is(status(IoOpcode.DATASET_MANAGEMENT, 4), DNR | Status.NAMESPACE_WRITE_PROTECTED);
  for (const opcode of [IoOpcode.READ, IoOpcode.FLUSH, IoOpcode.VERIFY]) t.is(status(opcode), 0);
  const format = driver.run(0, { opcode: AdminOpcode.FORMAT_NVM, nsid: 1 }).status & 0x47ff;
  t.is(format, DNR | Status.NAMESPACE_WRITE_PROTECTED);
});

test('Format NVM: everything is zero, and blocks have the new size', t => {
  const { driver } = rig();
  driver.write(0, pattern(64 * BLOCK));
  const format = (cdw10: number, nsid = 1): number =>
    driver.run(0, { opcode: AdminOpcode.FORMAT_NVM, nsid, cdw10 }).status & 0x47ff;
  t.is(format(2), DNR | Status.INVALID_FORMAT);
  t.is(format(1 << 5), DNR | Status.INVALID_FORMAT, 'protection information');
  t.is(format(2 << 9), DNR | Status.INVALID_FIELD, 'cryptographic erase');
  t.is(format(0, 2), DNR | Status.INVALID_NAMESPACE_OR_FORMAT);
  t.deepEqual(driver.read(0, 64), pattern(64 * BLOCK));
  t.is(format(1), 0);
  const view = new DataView(driver.identify(Cns.NAMESPACE, 1).buffer);
  t.deepEqual([view.getBigUint64(0, true), view.getUint8(26)], [1024n, 1]);
  t.deepEqual(driver.read(0, 8, 4096), new Uint8Array(8 * 4096));
  driver.write(1023, pattern(4096), 4096);
  t.is(format(1 << 9, 0xffff_ffff), 0);
  t.deepEqual(driver.read(BLOCKS - 8, 8), new Uint8Array(4096));
});

test('with the write cache off, and with Force Unit Access, commands succeed as ever', t => {
  const { driver } = rig();
  driver.expect(0, { opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.VOLATILE_WRITE_CACHE, cdw11: 0 });
  driver.write(0, pattern(BLOCK));
  const write = transfer(IoOpcode.WRITE, 1, 1);
  driver.poke(0x8000, pattern(BLOCK, 9));
  driver.expect(1, { ...write, cdw12: 0x4000_0000, prp1: 0x8000 });
  t.deepEqual(driver.read(0, 2), Uint8Array.of(...pattern(BLOCK), ...pattern(BLOCK, 9)));
});
