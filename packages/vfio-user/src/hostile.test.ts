/**
 * Clients that do not behave. Half of the file is never mapped by a valid request: no byte of it may be written, or reach a client. After
 * each case a proper client is served in full.
 */
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { Random } from '@remora/bits';
import { MemTx } from '@remora/core';
import { Command, Config } from '@remora/pci';
import { VfioPciRegion, VfioRegionInfo, viewOf } from '@remora/uapi';
import { encodeCommand } from './message.js';
import { DmaMap, DmaUnmap, Header, RegionAccess, Version, VfioUserCommand, WriteMulti } from './protocol.js';
import {
  BUFFER,
  BUFFER_BYTES,
  Doorbell,
  enable,
  FILE_BYTES,
  ID,
  Reg,
  Rig,
  same,
  transfer,
  word,
} from './rig.test.helper.js';
import { MAX_MESSAGE_BYTES } from './splitter.js';

const HALF = FILE_BYTES / 2;
const SECRET = 0x5e;
const GPA = 0x10_0000;

/** The second half of the file is what nobody may see. */
function contents(): Uint8Array {
  return Uint8Array.from({ length: FILE_BYTES }, (_, at) => (at < HALF ? (at * 7) & 0x3f : SECRET));
}

async function start(): Promise<Rig> {
  return Rig.start({ before: contents() });
}

/** A proper client gets everything; what the others did has left nothing behind in the half that is not theirs. */
async function servesAProperClient(t: ExecutionContext, rig: Rig, what: string): Promise<void> {
  const client = await rig.connect();
  await client.reset();
  await enable(client);
  if ((await client.readNumber(0, Reg.ID, 4)) !== ID) t.fail(`${what}: no register is read`);
  await client.dmaMap({ address: GPA, size: HALF, offset: 0 });
  if ((await transfer(client, Doorbell.FROM_MEMORY, GPA + 0x100, 16)) !== MemTx.OK) t.fail(`${what}: no DMA`);
  const got = await client.read(0, BUFFER, 16);
  if (!same(got, rig.bytes(0x100, 16))) t.fail(`${what}: DMA of something else`);
  if ((await transfer(client, Doorbell.FROM_MEMORY, GPA + HALF, 4)) === MemTx.OK) t.fail(`${what}: DMA outside`);
  client[Symbol.dispose]();
  await client.closed;
  if (rig.bytes(HALF, HALF).some(byte => byte !== SECRET)) t.fail(`${what}: the file was written outside`);
}

const config = (offset: number, data: Uint8Array): Uint8Array => access(VfioPciRegion.CONFIG, offset, data);

function access(region: number, offset: number, data: Uint8Array): Uint8Array {
  return Buffer.concat([RegionAccess.encode({ region, offset, count: data.length }), data]);
}

/** What a proper client says, one message after the other: everything that a mutation may hit. */
function script(): Uint8Array[] {
  const json = new TextEncoder().encode('{"capabilities":{"write_multiple":true,"max_data_xfer_size":1048576}}\0');
  const map = { argsz: DmaMap.size, flags: 3, offset: 0, address: GPA, size: HALF };
  const record = Buffer.concat([RegionAccess.encode({ region: 0, offset: BUFFER, count: 4 }), new Uint8Array(8)]);
  const commands: [number, Uint8Array][] = [
    [VfioUserCommand.VERSION, Buffer.concat([Version.encode({}), json])],
    [VfioUserCommand.DMA_MAP, DmaMap.encode(map)],
    [VfioUserCommand.DEVICE_GET_REGION_INFO, VfioRegionInfo.encode({ argsz: 32, index: 0 })],
    [VfioUserCommand.REGION_WRITE, config(Config.COMMAND, Uint8Array.of(Command.MEMORY | Command.MASTER, 0))],
    [VfioUserCommand.REGION_WRITE, access(0, Reg.ADDRESS, word(GPA))],
    [VfioUserCommand.REGION_WRITE, access(0, Reg.LENGTH, word(64))],
    [VfioUserCommand.REGION_WRITE_MULTI, Buffer.concat([WriteMulti.encode({ wr_cnt: 1 }), record])],
    [VfioUserCommand.REGION_WRITE, access(0, Reg.DOORBELL, word(Doorbell.FROM_MEMORY))],
    [VfioUserCommand.REGION_READ, RegionAccess.encode({ region: 0, offset: BUFFER, count: 64 })],
    [VfioUserCommand.REGION_WRITE, access(0, Reg.DOORBELL, word(Doorbell.TO_MEMORY))],
    [VfioUserCommand.DEVICE_SET_IRQS, new Uint8Array(Uint32Array.of(20, 0x21, 1, 0, 0).buffer)],
    [VfioUserCommand.DMA_UNMAP, DmaUnmap.encode({ argsz: 24, address: GPA, size: HALF })],
    [VfioUserCommand.DEVICE_RESET, new Uint8Array(0)],
  ];
  return commands.map(([command, payload], id) => encodeCommand(id, command, 0, payload));
}

async function connect(rig: Rig): Promise<Socket> {
  while (rig.server.busy) await new Promise(resolve => setImmediate(resolve));
  const socket = createConnection(rig.socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** Sends `bytes`, in pieces, and resolves to everything that came back, once the server has ended or has answered all. */
async function converse(rig: Rig, pieces: readonly Uint8Array[]): Promise<Uint8Array> {
  const socket = await connect(rig);
  const answers: Uint8Array[] = [];
  socket.on('data', (chunk: Uint8Array) => answers.push(chunk));
  for (const piece of pieces) socket.write(piece);
  socket.end();
  if (!socket.destroyed) await once(socket, 'close');
  return Buffer.concat(answers);
}

function leaks(answers: Uint8Array): boolean {
  return Buffer.from(answers).includes(Buffer.alloc(4, SECRET));
}

test('a client that leaves after any byte', async t => {
  await using rig = await start();
  const bytes = Buffer.concat(script());
  for (let length = 0; length <= bytes.length; length++) {
    const socket = await connect(rig);
    if (length > 0) await new Promise(resolve => socket.write(bytes.subarray(0, length), resolve));
    socket.destroy();
    await servesAProperClient(t, rig, `after ${length} bytes`);
  }
  t.pass();
});

/** Changes a message: a field of its header or of its payload gets a value that hurts, or it is cut, or extended. */
function mutate(message: Uint8Array, random: Random): Uint8Array {
  const hurting = [0, 1, 15, 16, 17, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES + 1];
  const bytes = Uint8Array.from(message);
  switch (random.below(6)) {
    case 0:
      bytes[random.below(bytes.length)] = random.below(256);
      return bytes;
    case 1:
      viewOf(bytes).setUint32(4 * random.below(Math.floor(bytes.length / 4)), hurting[random.below(10)]!, true);
      return bytes;
    case 2:
      Header.fields.size.set(viewOf(bytes), hurting[random.below(10)]!);
      return bytes;
    case 3:
      Header.fields.command.set(viewOf(bytes), random.below(2) === 0 ? random.below(24) : random.below(0x1_0000));
      return bytes;
    case 4:
      Header.fields.flags.set(viewOf(bytes), random.below(64));
      return bytes;
    default: {
      // Another length than the sender thought, with a header that agrees.
      const length = Header.size + random.below(bytes.length + 8);
      const other = new Uint8Array(length);
      other.set(bytes.subarray(0, length));
      Header.fields.size.set(viewOf(other), length);
      return other;
    }
  }
}

/** Maps that are none, or that a valid range is in the way of; each would show the half that is not theirs. */
function badMap(random: Random): Uint8Array {
  const bad = [
    { flags: 3, offset: HALF, address: GPA, size: HALF },
    { flags: 3, offset: HALF + 8, address: 2 * GPA, size: 0x1000 },
    { flags: 3, offset: HALF, address: 2 * GPA + 8, size: 0x1000 },
    { flags: 3, offset: HALF, address: 2 * GPA, size: 0 },
    { flags: 3, offset: HALF, address: 2 * GPA, size: 0x1001 },
    { flags: 3, offset: HALF, address: 2 * GPA, size: HALF + 0x1000 },
    { flags: 0, offset: HALF, address: 2 * GPA, size: 0x1000 },
    { flags: 0xffff_fff3, offset: HALF, address: 2 * GPA, size: 0x1000 },
    { flags: 3, offset: HALF, address: 2n ** 64n - 0x1000n, size: 0x2000 },
    { flags: 3, offset: HALF, address: 2n ** 63n, size: 0x1000 },
    { flags: 3, offset: 2n ** 64n - 0x1000n, address: 2 * GPA, size: 0x2000 },
    { flags: 3, offset: HALF, address: GPA - 0x1000, size: 0x2000 },
  ];
  return DmaMap.encode({ argsz: DmaMap.size, ...bad[random.below(bad.length)]! });
}

/** The device told to move bytes somewhere: to what is mapped, beside it, or anywhere. */
function dma(random: Random): Uint8Array[] {
  const places = [GPA, GPA + HALF - 32, GPA + HALF, 2 * GPA, 2 * GPA + 8, GPA - 0x1000, 0, HALF, 0xffff_ffff];
  const address = random.below(2) === 0 ? places[random.below(places.length)]! : random.below(2 ** 32);
  const high = [0, 0, 0, 0x8000_0000, 0xffff_ffff][random.below(5)]!;
  const writes = [
    access(0, Reg.ADDRESS, new Uint8Array(Uint32Array.of(address, high).buffer)),
    access(0, Reg.LENGTH, word(random.below(2) === 0 ? 64 : random.below(BUFFER_BYTES + 1))),
    access(0, Reg.DOORBELL, word(1 + random.below(3))),
    access(0, random.below(0x1100), new Uint8Array(random.below(12))),
  ];
  return [
    ...writes.map(each => encodeCommand(9, VfioUserCommand.REGION_WRITE, 0, each)),
    encodeCommand(
      9,
      VfioUserCommand.REGION_READ,
      0,
      RegionAccess.encode({ region: 0, offset: BUFFER, count: BUFFER_BYTES }),
    ),
  ];
}

test('a client whose messages are damaged', async t => {
  await using rig = await start();
  for (let seed = 1; seed <= 150; seed++) {
    const random = new Random(seed);
    // DMA_MAP stays whole: a damaged one may be a valid map of the other half.
    const messages = script().map((message, index) =>
      index !== 1 && random.below(4) === 0 ? mutate(message, random) : message,
    );
    const stream = Buffer.concat(messages);
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < stream.length;) {
      const size = 1 + random.below(200);
      pieces.push(stream.subarray(at, at + size));
      at += size;
    }
    const answers = await converse(rig, pieces);
    if (leaks(answers)) t.fail(`seed ${seed}: bytes that are not mapped`);
    await servesAProperClient(t, rig, `seed ${seed}`);
  }
  t.pass();
});

test('a client that maps what it must not, and has the device look there', async t => {
  await using rig = await start();
  for (let seed = 1; seed <= 150; seed++) {
    const random = new Random(seed);
    const [version, map, , enabling] = script();
    const messages = [version!, map!, enabling!];
    for (let count = 0; count < 8; count++) {
      messages.push(encodeCommand(1, VfioUserCommand.DMA_MAP, 0, badMap(random)), ...dma(random));
    }
    const answers = await converse(rig, messages);
    if (leaks(answers)) t.fail(`seed ${seed}: bytes that are not mapped`);
    await servesAProperClient(t, rig, `seed ${seed}`);
  }
  t.pass();
});

test('a client that sends whatever it likes', async t => {
  await using rig = await start();
  for (let seed = 1; seed <= 100; seed++) {
    const random = new Random(seed);
    const messages = [script()[0]!];
    for (let count = 0; count < 30; count++) {
      const payload = Uint8Array.from({ length: random.below(64) }, () =>
        random.below(3) === 0 ? random.below(256) : 0,
      );
      const command = random.below(20);
      if (command === VfioUserCommand.DMA_MAP) continue;
      messages.push(
        encodeCommand(random.below(0x1_0000), command, random.below(8) === 0 ? random.below(64) : 0, payload),
      );
    }
    const answers = await converse(rig, messages);
    if (leaks(answers)) t.fail(`seed ${seed}: bytes that are not mapped`);
    await servesAProperClient(t, rig, `seed ${seed}`);
  }
  t.pass();
});

test('noise', async t => {
  await using rig = await start();
  for (let seed = 1; seed <= 100; seed++) {
    const random = new Random(seed);
    await converse(rig, [Uint8Array.from({ length: random.below(300) }, () => random.below(256))]);
    await servesAProperClient(t, rig, `seed ${seed}`);
  }
  t.pass();
});

/** A stream that takes nothing of what is written until it is told to. */
class Clogged extends Duplex {
  written = 0;
  #done: (() => void) | undefined;

  override _read(): void {}

  override _write(_chunk: unknown, _encoding: string, done: () => void): void {
    this.written++;
    this.#done = done;
  }

  release(): void {
    const done = this.#done;
    this.#done = undefined;
    done?.();
  }
}

test('a client that asks and does not read waits, and costs no more than one answer', async t => {
  await using rig = await start();
  const stream = new Clogged({ writableHighWaterMark: 1 });
  rig.server.accept(stream);
  const reading = RegionAccess.encode({ region: 0, offset: 0, count: 4096 });
  const many = Array.from({ length: 2000 }, (_, id) => encodeCommand(id, VfioUserCommand.REGION_READ, 0, reading));
  stream.push(Buffer.concat([script()[0]!, ...many]));
  await new Promise(resolve => setImmediate(resolve));
  t.true(stream.writableLength <= 8192, `${stream.writableLength} bytes wait`);
  for (let taken = 0; taken < 2001; taken++) {
    stream.release();
    await new Promise(resolve => setImmediate(resolve));
    if (stream.writableLength > 8192) t.fail(`${stream.writableLength} bytes wait`);
  }
  t.is(stream.written, 2001, 'in the end all is answered');
  stream.destroy();
  await servesAProperClient(t, rig, 'after the clogged client');
});

test('a client that reads nothing while the device raises interrupts is given up', async t => {
  await using rig = await start();
  const stream = new Clogged({ writableHighWaterMark: 1 });
  rig.server.accept(stream);
  stream.push(script()[0]!);
  await new Promise(resolve => setImmediate(resolve));
  let sent = 0;
  while (rig.server.message(0, 0xfee0_0000, 1)) sent++;
  t.true(sent > 1000 && sent < 1_000_000, `${sent} messages`);
  t.deepEqual(rig.reports, ['copier: the client is lost: it reads nothing']);
  await servesAProperClient(t, rig, 'after the client that is lost');
});
