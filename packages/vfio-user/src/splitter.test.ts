import test from 'ava';
import { Errno } from '@remora/core';
import { encodeCommand, type Message } from './message.js';
import { Header } from './protocol.js';
import { MAX_MESSAGE_BYTES, MessageSplitter, ProtocolError } from './splitter.js';

function drain(splitter: MessageSplitter): Message[] {
  const messages: Message[] = [];
  for (let next = splitter.next(); next !== undefined; next = splitter.next()) messages.push(next);
  return messages;
}

const stream = Buffer.concat([
  encodeCommand(7, 4, 0x10, Uint8Array.of(1, 2, 3)),
  encodeCommand(8, 5, 0),
  encodeCommand(0xffff, 9, 0, Uint8Array.of(4), Uint8Array.of(5, 6)),
]);

const EXPECTED = [
  { id: 7, command: 4, flags: 0x10, payload: [1, 2, 3] },
  { id: 8, command: 5, flags: 0, payload: [] },
  { id: 0xffff, command: 9, flags: 0, payload: [4, 5, 6] },
];

function plain(messages: readonly Message[]): unknown {
  return messages.map(({ id, command, flags, payload }) => ({ id, command, flags, payload: [...payload] }));
}

test('however the bytes arrive, the messages are the same', t => {
  for (let size = 1; size <= stream.length; size++) {
    const splitter = new MessageSplitter();
    const messages: Message[] = [];
    for (let at = 0; at < stream.length; at += size) {
      splitter.push(stream.subarray(at, at + size));
      messages.push(...drain(splitter));
    }
    t.deepEqual(plain(messages), EXPECTED, `in pieces of ${size}`);
    t.is(splitter.length, 0);
  }
});

test('a message that is not complete waits', t => {
  const splitter = new MessageSplitter();
  splitter.push(stream.subarray(0, 18));
  t.is(splitter.next(), undefined);
  t.is(splitter.length, 18);
});

test('a size that no message can have ends the stream, before any of the message came', t => {
  for (const [size, errno] of [
    [0, Errno.EINVAL],
    [15, Errno.EINVAL],
    [MAX_MESSAGE_BYTES + 1, Errno.E2BIG],
    [0xffff_ffff, Errno.E2BIG],
  ] as const) {
    const splitter = new MessageSplitter();
    splitter.push(Header.encode({ id: 3, command: 9, size }));
    const failure = t.throws(() => splitter.next(), { instanceOf: ProtocolError });
    t.deepEqual([failure.errno, failure.to], [errno, { id: 3, command: 9 }]);
  }
});

test('the largest message is taken', t => {
  const splitter = new MessageSplitter();
  const payload = new Uint8Array(MAX_MESSAGE_BYTES - Header.size).fill(5);
  const bytes = encodeCommand(1, 10, 0, payload);
  splitter.push(bytes.subarray(0, 100));
  t.is(splitter.next(), undefined);
  splitter.push(bytes.subarray(100));
  t.is(Buffer.compare(splitter.next()!.payload, payload), 0);
});
