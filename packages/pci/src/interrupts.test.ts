import test from 'ava';
import type { AddressSpace } from '@remora/core';
import { Command, Config } from './registers.js';
import { enable, endpoint, peek, platform } from './platform.test.helper.js';

const TABLE = 0xe000_0000;

function withMsi(vectors: number) {
  const { root, messages } = platform();
  const fn = endpoint();
  const { offset } = fn.enableMsi(vectors);
  root.plug(fn, 0x18);
  enable(fn);
  fn.config.write(offset + 4, 0xfee0_1000, 4);
  fn.config.write(offset + 12, 0x4047, 2);
  return { fn, offset, messages };
}

function poke(space: AddressSpace, address: number, value: number): void {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  space.write(0, address, bytes);
}

function withMsix(vectors: number) {
  const { root, messages, addressSpace } = platform();
  const fn = endpoint();
  const { offset } = fn.enableMsix(vectors, 2);
  root.plug(fn, 0x18);
  fn.config.write(0x18, TABLE, 4);
  enable(fn);
  const set = (vector: number, address: number, data: number, masked: boolean): void =>
    [address, 0, data, masked ? 1 : 0].forEach((word, i) => poke(addressSpace, TABLE + 16 * vector + 4 * i, word));
  const pba = TABLE + (fn.config.get32(offset + 8) & ~7);
  return { fn, offset, messages, addressSpace, set, pba };
}

test('MSI control: vectors offered, 64-bit, maskable; enable and granted vectors are writable', t => {
  const { fn, offset } = withMsi(8);
  t.is(fn.config.get16(offset + 2), 0x0186);
  fn.config.write(offset + 2, 0xffff, 2);
  t.is(fn.config.get16(offset + 2), 0x01f7);
  t.throws(() => endpoint().enableMsi(3), { instanceOf: RangeError, message: /power of two/ });
});

test('MSI without masking: no mask bits, and nothing is read from what comes behind', t => {
  const { root, messages } = platform();
  const fn = endpoint();
  const { offset } = fn.enableMsi(1, { maskable: false });
  const next = fn.addCapability(0x09, new Uint8Array(14).fill(0xff));
  root.plug(fn, 0x18);
  enable(fn);
  t.is(next, offset + 0x10);
  t.is(fn.config.get16(offset + 2), 0x0080);
  fn.config.write(offset + 4, 0xfee0_1000, 4);
  fn.config.write(offset + 12, 0x4047, 2);
  fn.config.write(offset + 2, 1, 2);
  fn.msi(0);
  t.deepEqual(messages.messages, [{ requesterId: 0x18, address: 0xfee0_1000, data: 0x4047 }]);
});

test('MSI: nothing until enabled; then the vector is in the low bits of the data, as many as software granted', t => {
  const { fn, offset, messages } = withMsi(8);
  fn.msi(5);
  t.deepEqual(messages.messages, []);
  fn.config.write(offset + 2, 0x0031, 2);
  fn.msi(5);
  fn.config.write(offset + 2, 0x0011, 2);
  fn.msi(5);
  t.deepEqual(messages.messages, [
    { requesterId: 0x18, address: 0xfee0_1000, data: 0x4045 },
    { requesterId: 0x18, address: 0xfee0_1000, data: 0x4047 },
  ]);
});

test('MSI: a masked vector waits in the pending bits and is sent once when unmasked', t => {
  const { fn, offset, messages } = withMsi(4);
  fn.config.write(offset + 2, 0x0021, 2);
  fn.config.write(offset + 16, 0b0100, 4);
  fn.msi(2);
  fn.msi(2);
  t.is(fn.config.get32(offset + 20), 0b0100);
  t.deepEqual(messages.messages, []);
  fn.config.write(offset + 16, 0, 4);
  t.is(fn.config.get32(offset + 20), 0);
  t.deepEqual(
    messages.messages.map(message => message.data),
    [0x4046],
  );
});

test('interrupts are DMA: no bus mastering, no message; an address elsewhere is a write to memory', t => {
  const { root, messages, addressSpace } = platform();
  const fn = endpoint();
  const { offset } = fn.enableMsi(1);
  root.plug(fn, 0x18);
  fn.config.write(offset + 2, 1, 2);
  fn.config.write(offset + 4, 0x3000, 4);
  fn.config.write(offset + 12, 0xabcd, 2);
  enable(fn, Command.MEMORY);
  fn.msi(0);
  t.is(peek(addressSpace, 0x3000), 0);
  enable(fn, Command.MASTER);
  fn.msi(0);
  t.is(peek(addressSpace, 0x3000), 0xabcd);
  t.deepEqual(messages.messages, []);
});

test('MSI-X: the capability says where table and pending bits are and how many; vectors start masked', t => {
  const { fn, offset, addressSpace, pba } = withMsix(130);
  t.is(fn.config.get16(offset + 2), 129);
  t.is(fn.config.get32(offset + 4), 2);
  t.is(fn.config.get32(offset + 8), 0x1002);
  t.is(peek(addressSpace, TABLE + 12), 1);
  t.is(peek(addressSpace, pba), 0);
  t.throws(() => endpoint().enableMsix(2049, 0), { instanceOf: RangeError });
});

test('MSI-X: each vector has its own message; vectors that do not exist are ignored', t => {
  const { fn, offset, messages, set } = withMsix(4);
  set(0, 0xfee0_0000, 0x30, false);
  set(3, 0xfee0_2000, 0x33, false);
  fn.msi(3);
  t.deepEqual(messages.messages, []);
  fn.config.write(offset + 2, 0x8000, 2);
  fn.msi(3);
  fn.msi(0);
  fn.msi(4);
  t.deepEqual(messages.messages, [
    { requesterId: 0x18, address: 0xfee0_2000, data: 0x33 },
    { requesterId: 0x18, address: 0xfee0_0000, data: 0x30 },
  ]);
});

test('MSI-X: a masked vector is pending until its own mask is lifted', t => {
  const { fn, offset, messages, set, addressSpace, pba } = withMsix(40);
  fn.config.write(offset + 2, 0x8000, 2);
  set(33, 0xfee0_0000, 0x51, true);
  fn.msi(33);
  t.is(peek(addressSpace, pba + 4), 0b10);
  poke(addressSpace, pba + 4, 0);
  t.is(peek(addressSpace, pba + 4), 0b10, 'the pending bits are read-only');
  poke(addressSpace, TABLE + 16 * 33 + 12, 0);
  t.is(peek(addressSpace, pba + 4), 0);
  t.deepEqual(
    messages.messages.map(message => message.data),
    [0x51],
  );
});

test('MSI-X: the function mask holds all vectors back and releases those that are pending', t => {
  const { fn, offset, messages, set } = withMsix(4);
  set(0, 0xfee0_0000, 0x40, false);
  set(1, 0xfee0_0000, 0x41, true);
  set(2, 0xfee0_0000, 0x42, false);
  fn.config.write(offset + 2, 0xc000, 2);
  for (const vector of [2, 1, 0]) fn.msi(vector);
  t.deepEqual(messages.messages, []);
  fn.config.write(offset + 2, 0x8000, 2);
  t.deepEqual(
    messages.messages.map(message => message.data),
    [0x40, 0x42],
  );
});

test('MSI-X: reset masks everything and forgets what was pending', t => {
  const { fn, offset, messages, set, addressSpace, pba } = withMsix(2);
  fn.config.write(offset + 2, 0x8000, 2);
  set(1, 0xfee0_0000, 0x41, true);
  fn.msi(1);
  fn.reset();
  fn.config.write(Config.BAR0 + 8, TABLE, 4);
  enable(fn);
  t.is(peek(addressSpace, pba), 0);
  t.is(peek(addressSpace, TABLE + 16 + 12), 1);
  fn.config.write(offset + 2, 0x8000, 2);
  t.deepEqual(messages.messages, []);
});
