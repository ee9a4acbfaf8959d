/** DMA to memory whose file the client passes. */
import { constants, ftruncateSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { Errno, MemTx } from '@remora/core';
import { VfioUserClient } from '../client.js';
import { DeviceServer } from '../device-server.js';
import { DmaMap, DmaUnmapFlag, VfioUserCommand } from '../protocol.js';
import { BUFFER, Copier, Doorbell, enable, errno, FILE_BYTES, pattern, same, transfer } from '../rig.test.helper.js';
import { servedFunction } from '../served-function.js';
import { opened, start, timesOpen, withDescriptors } from './descriptors.test.helper.js';

const GPA = 0x10_0000;
const O_PATH = 0o10000000;

/** Bytes that the device got from `address`. */
async function fetched(client: VfioUserClient, address: number, length: number): Promise<Uint8Array> {
  const result = await transfer(client, Doorbell.FROM_MEMORY, address, length);
  return result === MemTx.OK ? client.read(0, BUFFER, length) : new Uint8Array(0);
}

function folder(t: ExecutionContext): string {
  const made = mkdtempSync(join(tmpdir(), 'remora-memory-'));
  t.teardown(() => rmSync(made, { recursive: true }));
  return made;
}

withDescriptors('the device reaches what is mapped, by offset and size, and nothing beside it', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  const fd = opened(t, rig.file);
  await client.dmaMap({ address: GPA, size: 0x2000, offset: 0x3000, fd });
  t.true(same(await fetched(client, GPA + 0x123, 64), pattern().subarray(0x3123, 0x3163)));
  t.is(await transfer(client, Doorbell.TO_MEMORY, GPA + 0x1fc0, 64), MemTx.OK);
  t.true(same(rig.bytes(0x4fc0, 64), pattern().subarray(0x3123, 0x3163)));
  t.not(await transfer(client, Doorbell.TO_MEMORY, GPA + 0x1fe0, 64), MemTx.OK);
  t.not(await transfer(client, Doorbell.FROM_MEMORY, GPA - 4, 4), MemTx.OK);
  t.true(same(rig.bytes(0x5000, 64), pattern().subarray(0x5000, 0x5040)));
});

withDescriptors('two files, one of them mapped twice, each is kept once; unmapped, it is closed', async (t, system) => {
  await using rig = await start(system);
  const other = join(folder(t), 'other');
  writeFileSync(other, new Uint8Array(0x2000).fill(7));
  using client = await rig.connect();
  await enable(client);
  const fd = opened(t, rig.file);
  await client.dmaMap({ address: GPA, size: 0x1000, offset: 0, fd });
  await client.dmaMap({ address: 2 * GPA, size: 0x1000, offset: 0x1000, fd });
  await client.dmaMap({ address: GPA + 0x1000, size: 0x1000, offset: 0x1000, fd: opened(t, other) });
  t.is(timesOpen(rig.file), 2, 'that of the test, and one');
  const crossing = await fetched(client, GPA + 0xff0, 32);
  t.true(same(crossing.subarray(0, 16), pattern().subarray(0xff0, 0x1000)));
  t.deepEqual([...crossing.subarray(16)], new Array(16).fill(7));
  await client.dmaUnmap(GPA, 0x1000);
  t.is(timesOpen(rig.file), 2);
  t.true(same(await fetched(client, 2 * GPA, 16), pattern().subarray(0x1000, 0x1010)));
  await client.dmaUnmap(2 * GPA, 0x1000);
  t.deepEqual([timesOpen(rig.file), timesOpen(other)], [1, 2]);
  await client.dmaUnmap(0, 0, DmaUnmapFlag.ALL);
  t.is(timesOpen(other), 1);
});

withDescriptors('memory without a descriptor cannot be reached', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  await client.dmaMap({ address: GPA, size: 0x1000, offset: 0x1000 });
  t.not(await transfer(client, Doorbell.FROM_MEMORY, GPA, 4), MemTx.OK);
});

withDescriptors('a map that is only read, or only written', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  await client.dmaMap({ address: GPA, size: 0x1000, offset: 0, flags: 1, fd: opened(t, rig.file, 'r') });
  t.true(same(await fetched(client, GPA, 16), pattern().subarray(0, 16)));
  t.not(await transfer(client, Doorbell.TO_MEMORY, GPA, 16), MemTx.OK);
  const writable = opened(t, rig.file, constants.O_WRONLY);
  await client.dmaMap({ address: 2 * GPA, size: 0x1000, offset: 0x1000, flags: 2, fd: writable });
  t.is(await transfer(client, Doorbell.TO_MEMORY, 2 * GPA, 16), MemTx.OK);
  t.not(await transfer(client, Doorbell.FROM_MEMORY, 2 * GPA, 16), MemTx.OK);
  t.true(same(rig.bytes(0x1000, 16), pattern().subarray(0, 16)));
});

withDescriptors(
  'descriptors without permission, and of what is no memory, are refused and closed',
  async (t, system) => {
    await using rig = await start(system);
    using client = await rig.connect();
    const map = (fd: number, flags = 3, size = 0x1000): Promise<number> =>
      errno(client.dmaMap({ address: GPA, size, offset: 0, flags, fd }));
    t.is(await map(opened(t, rig.file, 'r')), Errno.EACCES);
    t.is(await map(opened(t, rig.file, constants.O_WRONLY)), Errno.EACCES);
    t.is(await map(opened(t, rig.file, constants.O_RDWR | constants.O_APPEND)), Errno.EACCES);
    t.is(await map(opened(t, rig.file, O_PATH), 1), Errno.EACCES);
    t.is(await map(opened(t, rig.folder, 'r'), 1), Errno.EINVAL);
    t.is(await map(opened(t, '/dev/zero')), Errno.EINVAL);
    t.is(await map(opened(t, rig.file), 3, FILE_BYTES + 0x1000), Errno.EINVAL, 'beyond its end');
    t.is(await map(opened(t, rig.file), 0), Errno.EINVAL);
    t.is(timesOpen(rig.file), 6, 'those of the test');
    const fd = opened(t, rig.file);
    t.is(await map(fd), 0);
    t.is(await map(fd), Errno.EEXIST);
    t.is(timesOpen(rig.file), 8);
    t.true(same(rig.bytes(0, FILE_BYTES), pattern()));
  },
);

withDescriptors('a file that its owner cuts short ends the transfer, not the server', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  const fd = opened(t, rig.file);
  await client.dmaMap({ address: GPA, size: FILE_BYTES, offset: 0, fd });
  ftruncateSync(fd, 0x1000);
  t.true(same(await fetched(client, GPA, 16), pattern().subarray(0, 16)));
  t.not(await transfer(client, Doorbell.FROM_MEMORY, GPA + 0x2000, 16), MemTx.OK);
  t.not(await transfer(client, Doorbell.FROM_MEMORY, GPA + 0xff8, 16), MemTx.OK);
});

withDescriptors('more files than a guest has are refused', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  const at = folder(t);
  for (let index = 0; index <= 256; index++) {
    const path = join(at, String(index));
    writeFileSync(path, new Uint8Array(0x1000));
    const map = client.dmaMap({ address: index * 0x1000, size: 0x1000, offset: 0, fd: opened(t, path) });
    const got = await errno(map);
    if (got !== (index < 256 ? 0 : Errno.ENOSPC)) t.fail(`file ${index}: ${got}`);
  }
  t.pass();
});

withDescriptors('a client that leaves takes its memory with it', async (t, system) => {
  await using rig = await start(system);
  const client = await rig.connect();
  await client.dmaMap({ address: GPA, size: 0x1000, offset: 0, fd: opened(t, rig.file) });
  t.is(timesOpen(rig.file), 2);
  client[Symbol.dispose]();
  using next = await rig.connect();
  t.is(timesOpen(rig.file), 1);
  await enable(next);
  t.not(await transfer(next, Doorbell.FROM_MEMORY, GPA, 4), MemTx.OK);
});

withDescriptors(
  'clients of one guest: what one maps, the device of the other reaches, as long as it is there',
  async (t, system) => {
    await using rig = await start(system);
    const device = new Copier();
    const server = new DeviceServer(servedFunction('other', device.fn, device, { descriptors: true }), rig);
    const path = join(folder(t), 'other');
    const listening = await system.listen(path, stream => server.accept(stream));
    t.teardown(() => listening[Symbol.dispose]());
    const other = await VfioUserClient.over(system.connect(path));
    using client = await rig.connect();
    await enable(client);
    await other.dmaMap({ address: GPA, size: 0x1000, offset: 0x2000, fd: opened(t, rig.file) });
    t.true(same(await fetched(client, GPA, 16), pattern().subarray(0x2000, 0x2010)));
    await client.dmaMap({ address: 2 * GPA, size: 0x1000, offset: 0, fd: opened(t, rig.file) });
    t.is(timesOpen(rig.file), 4);
    other[Symbol.dispose]();
    while (server.busy) await new Promise(resolve => setImmediate(resolve));
    t.is(timesOpen(rig.file), 3);
    t.not(await transfer(client, Doorbell.FROM_MEMORY, GPA, 4), MemTx.OK);
    t.true(same(await fetched(client, 2 * GPA, 16), pattern().subarray(0, 16)));
  },
);

withDescriptors('a descriptor belongs to its message, however the bytes arrive', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  const other = join(folder(t), 'other');
  writeFileSync(other, new Uint8Array(0x1000).fill(9));
  const files = [rig.file, other, rig.file].map(path => opened(t, path));
  const map = (address: number): Uint8Array =>
    DmaMap.encode({ argsz: DmaMap.size, flags: 3, offset: 0, address, size: 0x1000 });
  const sent = files.map((fd, index) => client.request(VfioUserCommand.DMA_MAP, map((index + 1) * GPA), 0, [fd]));
  const between = client.readNumber(0, 0, 4);
  for (const each of sent) t.is((await each)?.error, 0);
  await between;
  t.is((await fetched(client, 2 * GPA, 4))[0], 9);
  t.true(same(await fetched(client, 3 * GPA, 16), pattern().subarray(0, 16)));
});

withDescriptors('somebody else listens at the socket, or a file is there', async (t, system) => {
  const path = join(folder(t), 'socket');
  const server = createServer().listen(path);
  t.teardown(() => server.close());
  await t.throwsAsync(
    system.listen(path, () => undefined),
    { message: /is in use: something listens there/ },
  );
  const file = join(folder(t), 'file');
  writeFileSync(file, 'precious');
  await t.throwsAsync(
    system.listen(file, () => undefined),
    { message: /is there already, and no socket/ },
  );
  t.is(readFileSync(file, 'utf8'), 'precious');
});
