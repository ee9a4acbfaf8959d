/**
 * Clients that do not behave when a device waits for their memory. However it ends, nothing is thrown into the device, nothing hangs, and a
 * proper client is served afterwards in full.
 */
import test, { type ExecutionContext } from 'ava';
import { Errno, MemTx } from '@remora/core';
import { VfioPciRegion, viewOf } from '@remora/uapi';
import { Command, Config } from '@remora/pci';
import { ClientRam } from './client-memory.js';
import { encodeCommand, encodeError, encodeReply, Message } from './message.js';
import { DmaAccess, Header, HeaderFlag, RegionAccess, VfioUserCommand } from './protocol.js';
import { type MessageRig, messageRig } from './message-rig.test.helper.js';
import type { Behaviour } from './remote-client.test.helper.js';
import { BUFFER, Doorbell, ID, Reg, same, word } from './rig.test.helper.js';

const BASE = 0x10_0000;
const BYTES = 0x2000;
const ASKED = 16;
/** Looks that a client gets here; only those that never answer need them all. */
const LOOKS = 600_000;
const FEW_LOOKS = 300;

function start(looks = LOOKS): Promise<MessageRig & AsyncDisposable> {
  return messageRig({ looks }, BASE, BYTES, at => at * 5 + 1);
}

/** Until the server has seen that the client before is gone. */
async function connect({ rig, client }: MessageRig): Promise<void> {
  while (rig.server.busy) await new Promise(resolve => setImmediate(resolve));
  await client.connect(rig.socket);
  await client.behave({});
  await client.do('reset');
  await client.do('write', VfioPciRegion.CONFIG, Config.COMMAND, Uint8Array.of(Command.MEMORY | Command.MASTER, 0));
  await client.do('dmaMap', { address: BASE, size: BYTES });
  await client.do('write', 0, Reg.ADDRESS, word(BASE + 0x100));
  await client.do('write', 0, Reg.LENGTH, word(ASKED));
}

async function servesAProperClient(t: ExecutionContext, given: MessageRig, what: string): Promise<void> {
  const { client } = given;
  await connect(given);
  if ((await client.do('readNumber', 0, Reg.ID, 4)) !== ID) t.fail(`${what}: no register is read`);
  for (const [doorbell, asked] of [
    [Doorbell.FROM_MEMORY, 1],
    [Doorbell.TO_MEMORY, 2],
  ] as const) {
    await client.do('postWrite', 0, Reg.DOORBELL, word(doorbell));
    while ((await client.asked()).length < asked) await new Promise(resolve => setImmediate(resolve));
    if ((await client.do('readNumber', 0, Reg.RESULT, 4)) !== MemTx.OK) t.fail(`${what}: no DMA`);
    await client.do('write', 0, Reg.ADDRESS, word(BASE + 0x200));
  }
  if (!same(await client.do('read', 0, BUFFER, ASKED), client.memory.slice(0x100, 0x100 + ASKED)))
    t.fail(`${what}: DMA of something else`);
  if (!same(client.memory.slice(0x200, 0x200 + ASKED), client.memory.slice(0x100, 0x100 + ASKED)))
    t.fail(`${what}: nothing was written`);
  await client.leave();
}

/** The device is told to transfer; the client does as `behaviour` says. Resolves when the server has left it. */
async function hostile(given: MessageRig, doorbell: number, behaviour: Behaviour): Promise<void> {
  await connect(given);
  await given.client.behave(behaviour);
  await given.client.do('postWrite', 0, Reg.DOORBELL, word(doorbell));
  await given.client.closed();
}

/** The reply that a proper client would give, with id 0. */
function proper(doorbell: number): Uint8Array {
  const write = doorbell === Doorbell.TO_MEMORY;
  const access = DmaAccess.encode({ address: BASE + 0x100, count: ASKED });
  const command = write ? VfioUserCommand.DMA_WRITE : VfioUserCommand.DMA_READ;
  const message = new Message(encodeCommand(0, command, 0, access, new Uint8Array(write ? ASKED : 0)));
  return new ClientRam(BASE, new Uint8Array(BYTES)).answer(message);
}

test('a client that leaves after any byte of its answer', async t => {
  await using given = await start();
  for (const doorbell of [Doorbell.FROM_MEMORY, Doorbell.TO_MEMORY]) {
    for (let cut = 0; cut < proper(doorbell).length; cut++) {
      await hostile(given, doorbell, { cut, leave: true });
      await servesAProperClient(t, given, `doorbell ${doorbell}, ${cut} bytes`);
    }
  }
  t.deepEqual(given.rig.reports, []);
});

test('an answer in single bytes is one', async t => {
  await using given = await start();
  const { client, rig } = given;
  await connect(given);
  await client.behave({ pieces: 1 });
  await client.do('postWrite', 0, Reg.DOORBELL, word(Doorbell.FROM_MEMORY));
  while ((await client.asked()).length < 1) await new Promise(resolve => setImmediate(resolve));
  t.deepEqual(rig.reports, []);
  await client.behave({});
  t.is(await client.do('readNumber', 0, Reg.RESULT, 4), MemTx.OK);
  await client.leave();
  await servesAProperClient(t, given, 'afterwards');
});

/** A field of the reply's header, or of what follows it, is another one. */
function changed(doorbell: number, at: number, value: number): Uint8Array {
  const reply = Uint8Array.from(proper(doorbell));
  new DataView(reply.buffer).setUint32(at, value, true);
  return reply;
}

const { size, flags } = Header.fields;

for (const [name, doorbell] of [
  ['read', Doorbell.FROM_MEMORY],
  ['write', Doorbell.TO_MEMORY],
] as const) {
  const right = proper(doorbell);
  const command = Header.fields.command.get(viewOf(right));
  const other = command === VfioUserCommand.DMA_READ ? VfioUserCommand.DMA_WRITE : VfioUserCommand.DMA_READ;
  const payload = right.slice(Header.size);
  const cases: Record<string, Behaviour> = {
    'another id': { reply: encodeReply({ id: 0x7abc, command }, payload), foreign: true },
    'another command': { reply: encodeReply({ id: 0, command: other }, payload) },
    'the command of a request': { reply: encodeReply({ id: 0, command: VfioUserCommand.REGION_READ }, payload) },
    'a byte less': { reply: encodeReply({ id: 0, command }, payload.subarray(1)) },
    'a byte more': { reply: encodeReply({ id: 0, command }, Buffer.concat([payload, Uint8Array.of(0)])) },
    'nothing but a header': { reply: encodeReply({ id: 0, command }) },
    'another address': { reply: changed(doorbell, Header.size, BASE) },
    'an address far away': { reply: changed(doorbell, Header.size + 4, 0xffff_ffff) },
    'another count': { reply: changed(doorbell, Header.size + 8, ASKED - 1) },
    'a count without end': { reply: changed(doorbell, Header.size + 12, 0xffff_ffff) },
    'an error with data': { reply: changed(doorbell, flags.offset, 0x21) },
    'an error of another command': { reply: encodeError({ id: 0, command: other }, Errno.ENODEV) },
    'a size of nothing': { reply: changed(doorbell, size.offset, 0) },
    'a size of less than a header': { reply: changed(doorbell, size.offset, 15) },
    'a size that no message has': { reply: changed(doorbell, size.offset, 0xffff_ffff) },
    'two answers': { reply: Buffer.concat([encodeReply({ id: 0x7000, command }, payload), right]), foreign: true },
  };
  test(`answers to a ${name} that are none`, async t => {
    await using given = await start();
    for (const [what, behaviour] of Object.entries(cases)) {
      given.rig.reports.length = 0;
      await hostile(given, doorbell, behaviour);
      if (given.rig.reports.length !== 1) t.fail(`${what}: ${given.rig.reports.join('; ')}`);
      t.regex(given.rig.reports[0]!, /^copier: the client is (given up: it answers |refused: a message of )/, what);
      await servesAProperClient(t, given, what);
    }
  });

  test(`a ${name} is answered never, or in part; or a whole header announces more`, async t => {
    await using given = await start(FEW_LOOKS);
    for (const behaviour of [
      { cut: 0 },
      { cut: 7 },
      { cut: right.length - 1 },
      { reply: changed(doorbell, size.offset, 0x1000) },
      // It is a request, so there is no answer.
      { reply: changed(doorbell, flags.offset, HeaderFlag.NO_REPLY), before: posted(Reg.LENGTH, word(1)) },
    ]) {
      given.rig.reports.length = 0;
      await hostile(given, doorbell, behaviour);
      t.deepEqual(given.rig.reports, ['copier: the client is given up: it does not answer a transfer of the device']);
      await connect(given);
      await given.client.leave();
    }
  });
}

function posted(offset: number, data: Uint8Array): Uint8Array {
  const access = RegionAccess.encode({ region: 0, offset, count: data.length });
  return encodeCommand(0, VfioUserCommand.REGION_WRITE, HeaderFlag.NO_REPLY, access, data);
}

test('a client that sends on and on, and no answer, is given up', async t => {
  await using given = await start();
  const flood = Buffer.concat(Array.from({ length: 20 }, () => posted(BUFFER, new Uint8Array(0x10_0000))));
  await hostile(given, Doorbell.FROM_MEMORY, { before: flood, cut: 0 });
  t.deepEqual(given.rig.reports, [
    'copier: the client is given up: it sends on and on and does not answer a transfer of the device',
  ]);
  await servesAProperClient(t, given, 'afterwards');
});

test('errors with a number and nothing else are errors of the bus, whatever the number is', async t => {
  await using given = await start();
  const { client, rig } = given;
  await connect(given);
  let asked = 0;
  for (const errno of [Errno.ENODEV, Errno.EINVAL, 0, 0x7fff_ffff, 0xffff_ffff]) {
    await client.behave({ reply: encodeError({ id: 0, command: VfioUserCommand.DMA_READ }, errno) });
    await client.do('postWrite', 0, Reg.DOORBELL, word(Doorbell.FROM_MEMORY));
    asked = 0;
    while (asked === 0) asked = (await client.asked()).length;
    t.not(await client.do('readNumber', 0, Reg.RESULT, 4), MemTx.OK);
  }
  t.deepEqual(rig.reports, []);
  await client.leave();
  await servesAProperClient(t, given, 'afterwards');
});
