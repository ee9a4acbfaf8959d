// Memory by messages: what reaches a client's memory, what is refused as somebody waits, and what comes meanwhile.
import { PassThrough } from 'node:stream';
import test from 'ava';
import { ConfigError, MemTx } from '@remora/core';
import { VfioPciRegion } from '@remora/uapi';
import { Command, Config } from '@remora/pci';
import { encodeCommand } from './message.js';
import { DeviceServer } from './device-server.js';
import { GuestMemory } from './guest-memory.js';
import { DmaMapFlag, HeaderFlag, RegionAccess, VfioUserCommand } from './protocol.js';
import { listen } from './listen.js';
import { type MessageRig, messageRig } from './message-rig.test.helper.js';
import type { RemoteClient } from './remote-client.test.helper.js';
import { servedFunction } from './served-function.js';
import { BUFFER, Copier, Doorbell, ID, Reg, Rig, same, word } from './rig.test.helper.js';

const BASE = 0x10_0000;
const BYTES = 0x4000;
const MAPPED = 0x3000;
const WAITED =
  /^copier: DMA by message is refused during a request that is waited for: .*memory-backend-file, share=on.*--fds/;

async function start(capabilities?: object): Promise<MessageRig & AsyncDisposable> {
  const started = await messageRig(true, BASE, BYTES, at => at * 7 + (at >> 8));
  const { rig, client } = started;
  await client.connect(rig.socket, capabilities);
  await client.do('write', VfioPciRegion.CONFIG, Config.COMMAND, Uint8Array.of(Command.MEMORY | Command.MASTER, 0));
  await client.do('dmaMap', { address: BASE, size: MAPPED });
  return started;
}

function posted(offset: number, data: Uint8Array): Uint8Array {
  const access = RegionAccess.encode({ region: 0, offset, count: data.length });
  return encodeCommand(0, VfioUserCommand.REGION_WRITE, HeaderFlag.NO_REPLY, access, data);
}

/** By posted writes, then what the device has as its result when it is done. */
async function transfer(
  client: RemoteClient,
  doorbell: number,
  address: number,
  length: number,
  messages = 1,
): Promise<number> {
  await setUp(client, address, length);
  return rung(client, doorbell, messages);
}

async function setUp(client: RemoteClient, address: number, length: number): Promise<void> {
  await client.do('write', 0, Reg.ADDRESS, new Uint8Array(BigUint64Array.of(BigInt(address)).buffer));
  await client.do('write', 0, Reg.LENGTH, word(length));
  await client.do('write', 0, Reg.RESULT, word(0xfe));
}

async function buffer(client: RemoteClient, length: number): Promise<Uint8Array> {
  return (await client.do('read', 0, BUFFER, (length + 3) & ~3)).slice(0, length);
}

/** What asks for an answer while the device is at work would have its transfer refused: so this waits first. */
async function rung(client: RemoteClient, doorbell: number, messages = 1): Promise<number> {
  const before = (await client.asked()).length;
  await client.do('postWrite', 0, Reg.DOORBELL, word(doorbell));
  while ((await client.asked()).length < before + messages) await new Promise(resolve => setImmediate(resolve));
  return client.do('readNumber', 0, Reg.RESULT, 4);
}

test('a posted write has the device read and write memory, at any address, over pages', async t => {
  await using given = await start();
  const { client, rig } = given;
  for (const [address, length] of [
    [BASE, 1],
    [BASE + 3, 4],
    [BASE + 0xff9, 64],
    [BASE + 0xfff, 0x800],
    [BASE + MAPPED - 7, 7],
  ] as const) {
    t.is(await transfer(client, Doorbell.FROM_MEMORY, address, length), MemTx.OK);
    const at = address - BASE;
    t.true(same(await buffer(client, length), client.memory.slice(at, at + length)), `${length} bytes at ${at}`);
    const expected = Uint8Array.from(client.memory);
    expected.copyWithin(0x1805, at, at + length);
    if (length < 0x700) {
      t.is(await transfer(client, Doorbell.TO_MEMORY, BASE + 0x1805, length), MemTx.OK);
      t.true(same(Uint8Array.from(client.memory), expected), 'these bytes and no other');
    }
  }
  t.deepEqual(rig.reports, []);
});

test('transfers longer than the client takes are split; over the border of two maps as well', async t => {
  await using given = await start({ max_data_xfer_size: 0x300 });
  const { client, rig } = given;
  await client.do('dmaMap', { address: BASE + MAPPED, size: 0x1000 });
  await client.behave({});
  t.is(await transfer(client, Doorbell.FROM_MEMORY, BASE + MAPPED - 0x401, 0x800, 4), MemTx.OK);
  t.deepEqual(
    await client.asked(),
    [0, 0, 0, 0].map(() => ({ command: VfioUserCommand.DMA_READ, count: 16 })),
  );
  t.true(same(await buffer(client, 0x800), client.memory.slice(MAPPED - 0x401, MAPPED + 0x3ff)));
  await client.behave({});
  t.is(await transfer(client, Doorbell.TO_MEMORY, BASE + 3, 0x601, 3), MemTx.OK);
  t.deepEqual(
    (await client.asked()).map(({ count }) => count - 16),
    [0x300, 0x300, 1],
  );
  t.true(same(client.memory.slice(3, 0x604), await buffer(client, 0x601)));
  t.deepEqual(rig.reports, []);
});

test('DMA within a request that waits for its answer is refused at once, told once, and all else works on', async t => {
  await using given = await start();
  const { client, rig } = given;
  const before = Uint8Array.from(client.memory);
  for (const doorbell of [Doorbell.FROM_MEMORY, Doorbell.TO_MEMORY]) {
    await setUp(client, BASE, 16);
    await client.do('write', 0, Reg.DOORBELL, word(doorbell));
    t.is(await client.do('readNumber', 0, Reg.RESULT, 4), MemTx.ERROR);
  }
  t.deepEqual(await client.asked(), [], 'no message was sent');
  t.true(same(client.memory, before));
  t.is(rig.reports.length, 1);
  t.regex(rig.reports[0]!, WAITED);
  t.is(await client.do('readNumber', 0, Reg.ID, 4), ID);
  t.is(await transfer(client, Doorbell.FROM_MEMORY, BASE + 4, 16), MemTx.OK);
  t.true(same(await buffer(client, 16), client.memory.slice(4, 20)));
});

test('posted writes that come while a transfer waits are carried out after it, in their order', async t => {
  await using given = await start();
  const { client, rig } = given;
  await setUp(client, BASE + 0x10, 16);
  // Each would change what the transfer does, or what the next one does.
  const writes = [
    posted(Reg.LENGTH, word(8)),
    posted(Reg.ADDRESS, word(BASE + 0x1000)),
    posted(Reg.DOORBELL, word(Doorbell.TO_MEMORY)),
    posted(BUFFER, word(0x1111_1111)),
    posted(BUFFER, word(0x2222_2222)),
  ];
  const original = client.memory.slice(0x10, 0x20);
  const following = client.memory.slice(0x1008, 0x1010);
  await client.behave({ before: Buffer.concat(writes) });
  await client.do('postWrite', 0, Reg.DOORBELL, word(Doorbell.FROM_MEMORY));
  while ((await client.asked()).length < 2) await new Promise(resolve => setImmediate(resolve));
  t.deepEqual(await client.asked(), [
    { command: VfioUserCommand.DMA_READ, count: 16 },
    { command: VfioUserCommand.DMA_WRITE, count: 24 },
  ]);
  t.true(same(client.memory.slice(0x1000, 0x1008), original.slice(0, 8)), 'what was read, before the buffer changed');
  t.true(same(client.memory.slice(0x1008, 0x1010), following));
  t.deepEqual(rig.reports, []);
});

test('errors of the client are those of the device: the rest of a transfer is not asked for', async t => {
  await using given = await start({ max_data_xfer_size: 0x100 });
  const { client, rig } = given;
  await client.do('dmaMap', { address: BASE + BYTES, size: 0x1000 });
  t.not(await transfer(client, Doorbell.FROM_MEMORY, BASE + BYTES, 0x200), MemTx.OK, 'a hole at the client');
  t.is((await client.asked()).length, 1);
  t.not(await transfer(client, Doorbell.TO_MEMORY, BASE + BYTES, 4), MemTx.OK);
  const quiet = (await client.asked()).length;
  await setUp(client, BASE + BYTES + 0x1000, 4);
  await client.do('postWrite', 0, Reg.DOORBELL, word(Doorbell.FROM_MEMORY));
  t.not(await client.do('readNumber', 0, Reg.RESULT, 4), MemTx.OK, 'nothing is mapped');
  t.is((await client.asked()).length, quiet);
  t.is(await transfer(client, Doorbell.FROM_MEMORY, BASE, 4), MemTx.OK);
  t.deepEqual(rig.reports, []);
});

test('what is mapped for one direction is not reached in the other', async t => {
  await using given = await start();
  const { client } = given;
  await client.do('dmaMap', { address: BASE + MAPPED, size: 0x1000, flags: DmaMapFlag.READABLE });
  t.is(await transfer(client, Doorbell.FROM_MEMORY, BASE + MAPPED, 4), MemTx.OK);
  const before = Uint8Array.from(client.memory);
  await setUp(client, BASE + MAPPED - 4, 8);
  await client.do('postWrite', 0, Reg.DOORBELL, word(Doorbell.TO_MEMORY));
  t.not(await client.do('readNumber', 0, Reg.RESULT, 4), MemTx.OK);
  t.true(same(client.memory, before));
});

test('a client that answers only after its own read: configuration space is read in between, and the transfer goes on', async t => {
  await using given = await start();
  const { client, rig } = given;
  await setUp(client, BASE + 8, 16);
  await client.behave({ reads: [VfioPciRegion.CONFIG, 0, 4] });
  t.is(await rung(client, Doorbell.FROM_MEMORY), MemTx.OK);
  t.deepEqual([...(await client.found())], [0xf4, 0x1a, 0x10, 0]);
  t.true(same(await buffer(client, 16), client.memory.slice(8, 24)));
  t.deepEqual(rig.reports, []);
});

test('one whose read is of registers that cannot answer now: the transfer is given up, the late answer is known as such', async t => {
  await using given = await start();
  const { client, rig } = given;
  await setUp(client, BASE + 8, 16);
  await client.behave({ reads: [0, Reg.ID, 4] });
  t.is(await rung(client, Doorbell.FROM_MEMORY), MemTx.ERROR);
  t.deepEqual([...(await client.found())], [...word(ID)]);
  t.is(rig.reports.length, 1);
  t.regex(rig.reports[0]!, /^copier: DMA by message is refused as a request that is waited for came meanwhile: /);
  await client.behave({});
  for (let round = 0; round < 3; round++) t.is(await rung(client, Doorbell.FROM_MEMORY), MemTx.OK);
  t.true(same(await buffer(client, 16), client.memory.slice(8, 24)));
});

test('a read from beyond posted writes is not answered before them', async t => {
  await using given = await start();
  const { client } = given;
  await setUp(client, BASE, 4);
  const write = posted(Reg.ADDRESS, word(BASE + 0x40));
  await client.behave({ before: write, reads: [0, Reg.ADDRESS, 4] });
  t.is(await rung(client, Doorbell.FROM_MEMORY), MemTx.ERROR);
  t.deepEqual([...(await client.found())], [...word(BASE + 0x40)]);
});

test('interrupts go out between transfers', async t => {
  await using given = await start();
  const { client, rig } = given;
  t.true(rig.server.message(0, 0xfee0_1000, 0x41));
  t.is(await transfer(client, Doorbell.FROM_MEMORY, BASE, 4), MemTx.OK);
  t.true(rig.server.message(0, 0xfee0_2000, 0x41));
  while ((await client.interrupts()).length < 2) await new Promise(resolve => setImmediate(resolve));
  t.deepEqual(await client.interrupts(), [0xfee0_1000n, 0xfee0_2000n]);
});

test('a read at another device of the guest is answered while this one waits', async t => {
  await using given = await start();
  const { client, rig } = given;
  const other = new Copier();
  const server = new DeviceServer(servedFunction('other', other.fn, other), { memory: rig.memory });
  const path = `${rig.socket}2`;
  const listening = await listen(path, stream => server.accept(stream));
  await client.connectSecond(path);
  await setUp(client, BASE + 8, 16);
  await client.behave({ reads: [0, Reg.ID, 4] });
  t.is(await rung(client, Doorbell.FROM_MEMORY), MemTx.OK);
  t.deepEqual([...(await client.found())], [...word(ID)]);
  t.true(same(await buffer(client, 16), client.memory.slice(8, 24)));
  t.deepEqual(rig.reports, []);
  listening[Symbol.dispose]();
  server[Symbol.dispose]();
});

test('a stream that cannot be read at once is turned away', async t => {
  await using rig = await Rig.start({ messages: true });
  const stream = new PassThrough();
  rig.server.accept(stream);
  t.true(stream.destroyed);
  t.false(rig.server.busy);
  t.deepEqual(rig.reports, ["copier: a client is turned away: memory by message takes a socket of Node's"]);
});

test('memory is in a file, or by message', t => {
  t.throws(() => new GuestMemory({ file: '/a', messages: true }), {
    instanceOf: ConfigError,
    message: /^memory: \/a and by message: expected one of the two/,
  });
});
