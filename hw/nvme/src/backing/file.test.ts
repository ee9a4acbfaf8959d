// A namespace in a file: what is written is there, and what the file refuses the host is told.
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError } from '@remora/core';
import test, { type ExecutionContext } from 'ava';
import { code, pattern, rig } from '../rig.test.helper.js';
import { AdminOpcode, Cns, IoOpcode, LogPage, Status } from '../spec/index.js';
import { transfer } from '../driver/index.js';

const BLOCK = 512;

function disk(t: ExecutionContext, bytes: Uint8Array | number): string {
  const folder = mkdtempSync(join(tmpdir(), 'remora-nvme-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'disk.img');
  writeFileSync(file, typeof bytes === 'number' ? new Uint8Array(bytes) : bytes);
  return file;
}

test('the file’s contents are read, and writes reach it at once', t => {
  const contents = pattern(100 * BLOCK);
  const file = disk(t, contents);
  const { driver, device } = rig({ file });
  t.is(new DataView(driver.identify(Cns.NAMESPACE, 1).buffer).getBigUint64(0, true), 100n);
  t.deepEqual(driver.read(0, 100), contents);
  driver.write(40, pattern(20 * BLOCK, 5));
  contents.set(pattern(20 * BLOCK, 5), 40 * BLOCK);
  t.is(Buffer.compare(readFileSync(file), contents), 0);
  driver.expect(1, transfer(IoOpcode.WRITE_ZEROES, 50, 30));
  driver.expect(1, { opcode: IoOpcode.FLUSH, nsid: 1 });
  contents.fill(0, 50 * BLOCK, 80 * BLOCK);
  driver.poke(0x8000, new Uint8Array(BigUint64Array.of(10n << 32n, 0n).buffer));
  driver.expect(1, { opcode: IoOpcode.DATASET_MANAGEMENT, nsid: 1, prp1: 0x8000, cdw11: 4 });
  t.is(Buffer.compare(readFileSync(file), contents), 0, 'a file keeps what was deallocated');
  t.is(driver.identify(Cns.NAMESPACE, 1)[33], 0, 'and promises no zeroes');
  device[Symbol.dispose]();
  device[Symbol.dispose]();
});

test('Format NVM and long Write Zeroes on a file', t => {
  const file = disk(t, pattern(0x30_0000));
  const { driver } = rig({ file, mdts: 13 });
  driver.expect(1, transfer(IoOpcode.WRITE_ZEROES, 1, 0x1700));
  const contents = pattern(0x30_0000);
  contents.fill(0, BLOCK, 0x1701 * BLOCK);
  t.is(Buffer.compare(readFileSync(file), contents), 0);
  driver.expect(0, { opcode: AdminOpcode.FORMAT_NVM, nsid: 1, cdw10: 1 });
  t.is(Buffer.compare(readFileSync(file), new Uint8Array(0x30_0000)), 0);
  t.is(statSync(file).blocks, 0, 'it has no blocks of its own any more');
});

test('a size makes the namespace smaller than its file', t => {
  const file = disk(t, pattern(0x2000));
  const { driver } = rig({ file, size: 0x1000 });
  t.is(new DataView(driver.identify(Cns.NAMESPACE, 1).buffer).getBigUint64(0, true), 8n);
  driver.expect(0, { opcode: AdminOpcode.FORMAT_NVM, nsid: 1 });
  const rest = pattern(0x2000).fill(0, 0, 0x1000);
  t.is(Buffer.compare(readFileSync(file), rest), 0, 'what is behind it stays');
});

test('a read-only file is not written', t => {
  const file = disk(t, pattern(0x2000));
  const { driver } = rig({ file, readonly: true });
  t.deepEqual(driver.read(0, 16), pattern(0x2000));
  t.is(code(driver.run(1, { ...transfer(IoOpcode.WRITE, 0, 1), prp1: 0x8000 })), Status.NAMESPACE_WRITE_PROTECTED);
  t.is(Buffer.compare(readFileSync(file), pattern(0x2000)), 0);
});

test('a file that has become shorter: Unrecovered Read Error, counted; writes make it longer again', t => {
  const file = disk(t, 0x4000);
  const { driver } = rig({ file });
  truncateSync(file, 0x1000);
  const read = (opcode: number): number => code(driver.run(1, { ...transfer(opcode, 8, 8), prp1: 0x8000 }));
  t.deepEqual(
    [IoOpcode.READ, IoOpcode.COMPARE, IoOpcode.VERIFY].map(read),
    Array(3).fill(Status.UNRECOVERED_READ_ERROR),
  );
  t.is(new DataView(driver.logPage(LogPage.SMART, 512).buffer).getBigUint64(160, true), 3n);
  driver.write(8, pattern(8 * BLOCK));
  t.deepEqual(driver.read(8, 8), pattern(8 * BLOCK));
  t.is(statSync(file).size, 0x2000);
});

const DEVICE_FULL = '/dev/full';

test('paths and sizes that cannot be', t => {
  const file = disk(t, 1000);
  const even = disk(t, 0x2000);
  const folder = join(file, '..');
  const wrong = (options: Parameters<typeof rig>[0], expected: RegExp): void => {
    t.throws(() => rig(options), { instanceOf: ConfigError, message: expected });
  };
  wrong({ file: join(folder, 'nothing') }, /^file: ENOENT.*nothing/);
  wrong({ file: folder }, /^file: EISDIR/);
  wrong({ file: folder, readonly: true }, /^file: ".*" is not a regular file/);
  wrong({ file: DEVICE_FULL }, /^file: ".*" is not a regular file/);
  wrong({ file }, /^file: ".*" has 1000 bytes, which is no number of blocks of 512/);
  wrong({ file: disk(t, 0) }, /^file: ".*" has 0 bytes/);
  wrong({ file: even, size: 0x4000 }, /^size: ".*" has 8192 bytes, which is less than 16384/);
  wrong({ size: 1000 }, /^size: 1000 is not a multiple of logical_block_size, which is 512/);
  wrong({ size: 4096 + 512, logical_block_size: 4096 }, /^size: 4608 is not a multiple/);
});
