// A file that is mapped: both sides see one copy of every byte.
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MemTx } from '@remora/core';
import test from 'ava';
import { FileMemory } from './file-memory.js';
import { loadKoffi } from './koffi.js';

const PAGE = 0x1000;

function missing(): string | undefined {
  try {
    loadKoffi('memory', 'a file that is mapped');
    return undefined;
  } catch (failure) {
    return (failure as Error).message;
  }
}
const why = missing();
const withKoffi = why === undefined ? test : test.skip;
const note = why === undefined ? '' : ` (skipped: ${why})`;

withKoffi(`what is written to the file is in memory, and the other way round${note}`, t => {
  const folder = mkdtempSync(join(tmpdir(), 'remora-memory-'));
  try {
    const path = join(folder, 'memory');
    writeFileSync(path, new Uint8Array(4 * PAGE).fill(0xa5, PAGE, PAGE + 4));
    using memory = new FileMemory(path, 4 * PAGE);
    const { ram } = memory;
    t.is(ram.size, 4 * PAGE);
    const word = new Int32Array(1);
    t.is(ram.load(0, PAGE, word, 0, 1), MemTx.OK);
    t.is(word[0]! >>> 0, 0xa5a5_a5a5);
    t.is(ram.view(Int32Array.of(3)).write(0, 8, Uint8Array.of(1, 2, 3)), MemTx.OK);
    t.deepEqual([...readFileSync(path).subarray(3 * PAGE + 8, 3 * PAGE + 11)], [1, 2, 3]);
    memory[Symbol.dispose]();
    ram.write(0, 0, Uint8Array.of(0xff));
    t.is(readFileSync(path)[0], 0, 'it is nobody else’s any more');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

withKoffi(`what cannot be mapped is said${note}`, t => {
  t.throws(() => new FileMemory('/nowhere/memory', PAGE), { message: 'open of /nowhere/memory failed with errno 2' });
  for (const bytes of [0, -PAGE, 100, NaN])
    t.throws(() => new FileMemory('/dev/null', bytes), { instanceOf: RangeError });
});

withKoffi(`a file that can be opened and not mapped does not stay open${note}`, t => {
  t.throws(() => new FileMemory(UNMAPPABLE, PAGE), { message: `mmap of ${UNMAPPABLE} failed with errno 19` });
  t.is(timesOpen(UNMAPPABLE), 0);
  const fd = openSync(UNMAPPABLE, 'r');
  t.is(timesOpen(UNMAPPABLE), 1);
  closeSync(fd);
});

/** A file of this process that nobody else opens: other tests run in it, too. */
const UNMAPPABLE = `/proc/${process.pid}/coredump_filter`;

function timesOpen(path: string): number {
  return readdirSync('/proc/self/fd').filter(fd => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      // Closed meanwhile.
      return false;
    }
  }).length;
}
