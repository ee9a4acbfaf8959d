/** Clients that pass descriptors where, and as many as, they should not. After each a proper client is served, and nothing is left open. */
import type { ExecutionContext } from 'ava';
import { Random } from '@remora/bits';
import { Errno, MemTx } from '@remora/core';
import { VfioIrqSet, VfioIrqSetFlag, VfioPciIrq } from '@remora/uapi';
import { VfioUserClient } from '../client.js';
import { encodeCommand } from '../message.js';
import { DmaMap, RegionAccess, Version, VfioUserCommand } from '../protocol.js';
import { Doorbell, enable, FILE_BYTES, ID, Reg, type Rig, transfer } from '../rig.test.helper.js';
import type { DescriptorSocket } from './descriptor-socket.js';
import type { Descriptors } from './descriptors.js';
import { Event, opened, start, timesOpen, withDescriptors } from './descriptors.test.helper.js';
import { MAX_MSG_FDS } from './libc.js';

const GPA = 0x10_0000;
/** Of event descriptors beside the test's own. */
const NONE = 1;

/** A proper client gets everything. */
async function servesAProperClient(t: ExecutionContext, rig: Rig, fd: number, what: string): Promise<void> {
  const client = await rig.connect();
  await client.reset();
  await enable(client);
  if ((await client.readNumber(0, Reg.ID, 4)) !== ID) t.fail(`${what}: no register is read`);
  await client.dmaMap({ address: GPA, size: FILE_BYTES, offset: 0, fd });
  if ((await transfer(client, Doorbell.FROM_MEMORY, GPA, 16)) !== MemTx.OK) t.fail(`${what}: no DMA`);
  client[Symbol.dispose]();
  await gone(rig);
}

async function gone(rig: Rig): Promise<void> {
  while (rig.server.busy) await new Promise(resolve => setImmediate(resolve));
}

/** A connection on which nothing was said. */
async function connect(rig: Rig, system: Descriptors): Promise<DescriptorSocket> {
  await gone(rig);
  const socket = system.connect(rig.socket);
  socket.on('error', () => undefined).resume();
  return socket;
}

const version = (): Uint8Array => {
  const text = new TextEncoder().encode('{"capabilities":{"max_msg_fds":16}}\0');
  return encodeCommand(1, VfioUserCommand.VERSION, 0, Version.encode({}), text);
};
const map = (): Uint8Array =>
  DmaMap.encode({ argsz: DmaMap.size, flags: 3, offset: 0, address: GPA, size: FILE_BYTES });
const irqs = (count: number): Uint8Array => {
  const flags = VfioIrqSetFlag.DATA_EVENTFD | VfioIrqSetFlag.ACTION_TRIGGER;
  return VfioIrqSet.encode({ argsz: VfioIrqSet.size, flags, index: VfioPciIrq.MSIX, start: 0, count });
};

withDescriptors('descriptors on every command: only those that take some keep any', async (t, system) => {
  await using rig = await start(system);
  const fd = opened(t, rig.file);
  for (let command = 0; command < 24; command++) {
    if (command === VfioUserCommand.VERSION) continue;
    const client = await rig.connect();
    for (const payload of [new Uint8Array(0), new Uint8Array(32), map()]) {
      const reply = await client.request(command, payload, 0, [fd, fd]);
      if (reply?.error !== Errno.EINVAL) t.fail(`command ${command}: ${reply?.error}`);
    }
    if (timesOpen(rig.file) !== NONE) t.fail(`command ${command}: ${timesOpen(rig.file)} are open`);
    client[Symbol.dispose]();
    await servesAProperClient(t, rig, fd, `command ${command}`);
  }
  t.is(timesOpen(rig.file), NONE);
});

withDescriptors('descriptors before the version is agreed, and with it', async (t, system) => {
  await using rig = await start(system);
  const fd = opened(t, rig.file);
  for (const message of [version(), encodeCommand(1, VfioUserCommand.DMA_MAP, 0, map()), new Uint8Array(40)]) {
    const socket = await connect(rig, system);
    const client = new VfioUserClient(socket);
    client.send(message, [fd]);
    await client.closed;
    await gone(rig);
    t.is(timesOpen(rig.file), NONE);
    await servesAProperClient(t, rig, fd, 'early descriptors');
  }
});

withDescriptors('as many as are announced are taken; more are none at all', async (t, system) => {
  await using rig = await start(system);
  const fd = opened(t, rig.file);
  using event = new Event(system);
  const many = (count: number): number[] => new Array<number>(count).fill(event.fd);
  const client = await rig.connect();
  t.is((await client.request(VfioUserCommand.DEVICE_SET_IRQS, irqs(4), 0, many(4)))?.error, 0);
  t.is(event.copies(), 5);
  for (const count of [MAX_MSG_FDS, MAX_MSG_FDS + 1, 100, 253]) {
    t.is((await client.request(VfioUserCommand.DEVICE_SET_IRQS, irqs(4), 0, many(count)))?.error, Errno.EINVAL);
    t.is(
      (await client.request(VfioUserCommand.DMA_MAP, map(), 0, new Array<number>(count).fill(fd)))?.error,
      Errno.EINVAL,
    );
    t.deepEqual([event.copies(), timesOpen(rig.file)], [5, NONE], `${count}`);
  }
  client[Symbol.dispose]();
  await servesAProperClient(t, rig, fd, 'many');
  t.is(event.copies(), NONE);
});

withDescriptors('a client that leaves in the middle of a message that brought descriptors', async (t, system) => {
  await using rig = await start(system);
  const fd = opened(t, rig.file);
  const message = encodeCommand(0x999, VfioUserCommand.DMA_MAP, 0, map());
  for (let length = 1; length <= message.length; length++) {
    const socket = await connect(rig, system);
    socket.write(version());
    socket.writeWith(message.subarray(0, length), [fd]);
    // What was sent arrives before the end.
    socket.end();
    await new Promise(resolve => socket.once('close', resolve));
    await gone(rig);
    if (timesOpen(rig.file) !== NONE) t.fail(`after ${length} bytes ${timesOpen(rig.file)} are open`);
  }
  await servesAProperClient(t, rig, fd, 'cut messages');
  t.is(timesOpen(rig.file), NONE);
});

withDescriptors('a message whose descriptors come with its last bytes, or piece by piece', async (t, system) => {
  await using rig = await start(system);
  const fd = opened(t, rig.file);
  const message = encodeCommand(0x999, VfioUserCommand.DMA_MAP, 0, map());
  for (const cut of [1, 15, 16, 17, 47]) {
    const client = await rig.connect();
    const settled = client.request(VfioUserCommand.DEVICE_RESET);
    client.send(message.subarray(0, cut));
    client.send(message.subarray(cut), [fd]);
    await settled;
    await client.readNumber(0, 0, 4);
    t.is(timesOpen(rig.file), 2, `cut at ${cut}`);
    client[Symbol.dispose]();
    await gone(rig);
  }
  const client = await rig.connect();
  client.send(message.subarray(0, 20), [fd]);
  client.send(message.subarray(20), [fd]);
  await client.readNumber(0, 0, 4);
  t.is(timesOpen(rig.file), NONE, 'it takes one');
});

withDescriptors('a client that is turned away, and one that is refused, leave nothing', async (t, system) => {
  await using rig = await start(system);
  const fd = opened(t, rig.file);
  const first = await rig.connect();
  const second = system.connect(rig.socket);
  second.on('error', () => undefined).resume();
  second.write(version());
  second.writeWith(encodeCommand(2, VfioUserCommand.DMA_MAP, 0, map()), [fd]);
  await new Promise(resolve => second.once('close', resolve));
  await first.dmaMap({ address: GPA, size: 0x1000, offset: 0, fd });
  t.is(timesOpen(rig.file), 2);
  first.send(
    Uint8Array.from({ length: 16 }, () => 0),
    [fd],
  );
  await first.closed;
  await gone(rig);
  t.is(timesOpen(rig.file), NONE);
  await servesAProperClient(t, rig, fd, 'refused');
});

withDescriptors('a client that passes whatever it likes with whatever it says', async (t, system) => {
  await using rig = await start(system);
  const file = opened(t, rig.file);
  using event = new Event(system);
  const others = [opened(t, '/dev/null'), opened(t, rig.file, 'r'), opened(t, rig.folder, 'r')];
  const fds = [file, event.fd, ...others];
  for (let seed = 1; seed <= 60; seed++) {
    const random = new Random(seed);
    const socket = await connect(rig, system);
    socket.write(version());
    for (let count = 0; count < 20; count++) {
      const payloads = [map(), irqs(random.below(6)), RegionAccess.encode({ region: 0, offset: 0, count: 4 })];
      const payload = Uint8Array.from(payloads[random.below(3)]!);
      if (random.below(3) === 0) payload[random.below(payload.length)] = random.below(256);
      const commands = [VfioUserCommand.DMA_MAP, VfioUserCommand.DEVICE_SET_IRQS, random.below(20)];
      const message = encodeCommand(count, commands[random.below(3)]!, 0, payload);
      const passed = Array.from({ length: random.below(6) }, () => fds[random.below(fds.length)]!);
      const cut = random.below(8) === 0 ? random.below(message.length) : message.length;
      if (cut > 0) socket.writeWith(message.subarray(0, cut), passed);
    }
    socket.end();
    await new Promise(resolve => socket.once('close', resolve));
    await gone(rig);
    if (timesOpen(rig.file) !== 2 || event.copies() !== NONE) t.fail(`seed ${seed}: some are open`);
    if (seed % 10 === 0) await servesAProperClient(t, rig, file, `seed ${seed}`);
  }
  t.pass();
});
