/** Memory that is mapped: only where nobody can cut it short. */
import { ftruncateSync, readFileSync, readSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { ExecutionContext } from 'ava';
import { MemTx } from '@remora/core';
import type { Koffi } from '@remora/host-linux';
import { BUFFER, Doorbell, enable, pattern, same, transfer, word } from '../rig.test.helper.js';
import { start, withDescriptors } from './descriptors.test.helper.js';

const GPA = 0x10_0000;
const BYTES = 0x4_0000;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const SEAL = { SHRINK: 2, GROW: 4, WRITE: 8 } as const;
let made = 0;

/** A file in memory that has the pattern, and its name in /proc. */
function memory(t: ExecutionContext, seals: number): { readonly fd: number; readonly name: string } {
  const koffi = createRequire(import.meta.url)('koffi') as Koffi;
  const libc = koffi.load('libc.so.6');
  const name = `remora-${process.pid}-${made++}`;
  const close = libc.func('int close(int)');
  const create = libc.func('int memfd_create(const char *, unsigned int)');
  const fd = create(new TextEncoder().encode(`${name}\0`), MFD_ALLOW_SEALING);
  t.teardown(() => close(fd));
  writeSync(fd, pattern());
  libc.func('int fcntl(int, int, long)')(fd, F_ADD_SEALS, seals);
  return { fd, name };
}

function timesMapped(name: string): number {
  const maps = readFileSync('/proc/self/maps', 'latin1').split('\n');
  return maps.filter(line => line.includes(`memfd:${name} `)).length;
}

function bytesOf(fd: number, at: number, length: number): Uint8Array {
  const out = new Uint8Array(length);
  readSync(fd, out, 0, length, at);
  return out;
}

withDescriptors('a memfd that cannot become shorter is mapped, once, until it is unmapped', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  const { fd, name } = memory(t, SEAL.SHRINK | SEAL.GROW);
  await client.dmaMap({ address: GPA, size: 0x2000, offset: 0x1000, fd });
  await client.dmaMap({ address: 2 * GPA, size: 0x1000, offset: BYTES - 0x1000, fd });
  t.is(timesMapped(name), 1);
  for (const length of [4, 8, 16, 1024]) {
    for (const at of [0x10, 0x11]) {
      t.is(await transfer(client, Doorbell.FROM_MEMORY, GPA + at, length), MemTx.OK);
      t.true(same(await client.read(0, BUFFER, length), pattern().subarray(0x1000 + at, 0x1000 + at + length)));
      t.is(await transfer(client, Doorbell.TO_MEMORY, 2 * GPA + at, length), MemTx.OK);
      t.true(same(bytesOf(fd, BYTES - 0x1000 + at, length), pattern().subarray(0x1000 + at, 0x1000 + at + length)));
    }
  }
  writeSync(fd, word(0xfeed), 0, 4, 0x1000);
  t.is(await transfer(client, Doorbell.FROM_MEMORY, GPA, 4), MemTx.OK);
  t.is(await client.readNumber(0, BUFFER, 4), 0xfeed, 'what the guest has written is seen');
  t.not(await transfer(client, Doorbell.TO_MEMORY, 2 * GPA + 0xffc, 8), MemTx.OK);
  await client.dmaUnmap(GPA, 0x2000);
  t.is(timesMapped(name), 1);
  await client.dmaUnmap(2 * GPA, 0x1000);
  t.is(timesMapped(name), 0);
  t.not(await transfer(client, Doorbell.FROM_MEMORY, 2 * GPA, 4), MemTx.OK);
});

withDescriptors('a memfd that may become shorter is not mapped', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  const { fd, name } = memory(t, SEAL.GROW);
  await client.dmaMap({ address: GPA, size: BYTES, offset: 0, fd });
  t.is(timesMapped(name), 0);
  t.is(await transfer(client, Doorbell.FROM_MEMORY, GPA + 0x3000, 8), MemTx.OK);
  ftruncateSync(fd, 0x1000);
  t.not(await transfer(client, Doorbell.FROM_MEMORY, GPA + 0x3000, 8), MemTx.OK);
});

withDescriptors('one that grows is reached where it was mapped when it was longer', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  const { fd, name } = memory(t, SEAL.SHRINK);
  await client.dmaMap({ address: GPA, size: BYTES, offset: 0, fd });
  writeSync(fd, new Uint8Array(0x1000).fill(3), 0, 0x1000, BYTES);
  await client.dmaMap({ address: 2 * GPA, size: 0x1000, offset: BYTES, fd });
  t.is(timesMapped(name), 2);
  t.is(await transfer(client, Doorbell.FROM_MEMORY, 2 * GPA + 0xff0, 16), MemTx.OK);
  t.deepEqual([...(await client.read(0, BUFFER, 16))], new Array(16).fill(3));
});

withDescriptors('one that nobody may write is an error to write', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  const { fd } = memory(t, SEAL.SHRINK | SEAL.WRITE);
  await client.dmaMap({ address: GPA, size: 0x1000, offset: 0, fd });
  t.is(await transfer(client, Doorbell.FROM_MEMORY, GPA, 16), MemTx.OK);
  t.not(await transfer(client, Doorbell.TO_MEMORY, GPA + 0x100, 16), MemTx.OK);
  t.true(same(bytesOf(fd, 0, 0x1000), pattern().subarray(0, 0x1000)));
});

withDescriptors('a client that leaves leaves nothing mapped', async (t, system) => {
  await using rig = await start(system);
  const client = await rig.connect();
  const { fd, name } = memory(t, SEAL.SHRINK);
  await client.dmaMap({ address: GPA, size: BYTES, offset: 0, fd });
  t.is(timesMapped(name), 1);
  client[Symbol.dispose]();
  while (rig.server.busy) await new Promise(resolve => setImmediate(resolve));
  t.is(timesMapped(name), 0);
});
