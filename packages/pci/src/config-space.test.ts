import test from 'ava';
import fc from 'fast-check';
import { configRead } from './config-access.js';
import { ConfigSpace } from './config-space.js';
import { ExpressType } from './registers.js';
import { enable, endpoint, IDENTITY, platform } from './platform.test.helper.js';

test('the header has the identity where PCI 3.0 6.1 puts it', t => {
  const { config } = endpoint('e', { subsystemVendor: 0x1111, subsystem: 0x2222 });
  t.deepEqual(
    [config.get16(0x00), config.get16(0x02), config.get8(0x08), config.get8(0x09), config.get16(0x0a)],
    [IDENTITY.vendor, IDENTITY.device, 3, 0x42, 0x0880],
  );
  t.deepEqual([config.get8(0x0e), config.get16(0x2c), config.get16(0x2e)], [0, 0x1111, 0x2222]);
});

test('identity is read-only; COMMAND keeps the bits that exist and reads back 7 as qtest expects', t => {
  const { config } = endpoint();
  config.write(0x00, 0xffff_ffff, 4);
  t.is(config.get32(0), IDENTITY.vendor + IDENTITY.device * 0x1_0000);
  config.write(0x04, 7, 2);
  t.is(config.read(0x04, 2), 7);
  config.write(0x04, 0xffff, 2);
  t.is(config.read(0x04, 2), 0x0547);
});

test('writing 1 clears an error bit in STATUS, writing 0 leaves it, and a byte write touches its byte only', t => {
  const { config } = endpoint();
  config.set(0x06, 0xf910, 2);
  config.write(0x06, 0x0000, 2);
  t.is(config.get16(0x06), 0xf910);
  config.write(0x07, 0x80, 1);
  t.is(config.get16(0x06), 0x7910);
  config.write(0x06, 0xffff, 2);
  t.is(config.get16(0x06), 0x0010);
});

test('bits pass a write exactly by their masks, whatever is written with whatever size', t => {
  const word = fc.integer({ min: 0, max: 0xffff_ffff });
  t.notThrows(() =>
    fc.assert(
      fc.property(
        word,
        word,
        word,
        word,
        fc.constantFrom(1, 2, 4),
        fc.nat(3),
        (start, writable, clear, value, size, at) => {
          const clearable = clear & ~writable;
          const offset = at - (at % size);
          const config = new ConfigSpace(false);
          config.define(0x40, 4, start, writable, clearable);
          config.write(0x40 + offset, value, size);
          const covered = (size === 4 ? -1 : (1 << (8 * size)) - 1) << (8 * offset);
          const shifted = value << (8 * offset);
          const written = (shifted & writable) | (start & ~writable & ~(shifted & clearable));
          return config.get32(0x40) === ((start & ~covered) | (written & covered)) >>> 0;
        },
      ),
      { seed: 1 },
    ),
  );
});

test('reset restores what was defined and tells each watcher once', t => {
  const config = new ConfigSpace(false);
  config.define(0x40, 4, 0x1234, 0xffff);
  const seen: [number, number][] = [];
  config.onWrite({ start: 0x40, end: 0x44 }, (offset, size) => seen.push([offset, size]));
  config.write(0x3c, 0xff, 4);
  config.write(0x42, 0xff, 2);
  config.write(0x40, 0xffff, 2);
  t.is(config.get16(0x40), 0xffff);
  config.reset();
  t.is(config.get16(0x40), 0x1234);
  t.deepEqual(seen, [
    [0x42, 2],
    [0x40, 2],
    [0, 256],
  ]);
});

test('extended space exists for PCI Express only; what is not there reads as ones and ignores writes', t => {
  const plain = endpoint('plain').config;
  plain.write(0x100, 0, 4);
  t.is(plain.read(0x100, 4), 0xffff_ffff);
  t.is(endpoint('express', { pcie: true }).config.read(0x100, 4), 0);
});

test('a function that is not there answers all ones in every width', t => {
  const { root } = platform();
  t.deepEqual(
    [1, 2, 4].map(size => configRead(root, 0, 0x18, 0, size)),
    [0xff, 0xffff, 0xffff_ffff],
  );
  t.is(configRead(root, 5, 0, 0, 4), 0xffff_ffff);
});

test('the capability chain names what was added, in order, and STATUS says that there is one', t => {
  const fn = endpoint('e', { pcie: true });
  t.is(fn.config.get16(0x06) & 0x10, 0);
  fn.enableExpress(ExpressType.ENDPOINT);
  fn.enableMsi(4);
  fn.enableMsix(8, 1);
  t.is(fn.config.get16(0x06) & 0x10, 0x10);
  const ids: number[] = [];
  for (let at = fn.config.get8(0x34); at !== 0; at = fn.config.get8(at + 1)) ids.push(fn.config.get8(at));
  t.deepEqual(ids, [0x10, 0x05, 0x11]);
});

test('the extended chain begins at 0x100; PASID shows width and support bits (PCIe 7.8.9)', t => {
  const fn = endpoint('e', { pcie: true });
  fn.enablePasid(20, { execute: true });
  const next = fn.addExtendedCapability(0x000f, 1, new Uint8Array(4));
  t.is(fn.config.get32(0x100), 0x001b + 0x1_0000 + next * 0x10_0000);
  t.is(fn.config.get32(next), 0x1_000f);
  t.is(fn.config.get16(0x104), 0x1402);
  fn.config.write(0x106, 0xffff, 2);
  t.is(fn.config.get16(0x106), 0x0003);
  t.true(fn.pasidEnabled);
  t.is(fn.pasidBits, 20);
  t.throws(() => endpoint('plain').enablePasid(20), { instanceOf: RangeError });
});

test('a capability that does not fit is refused', t => {
  const fn = endpoint();
  t.throws(() => fn.addCapability(9, new Uint8Array(0xc0)), { instanceOf: RangeError, message: /does not fit/ });
  t.throws(() => fn.addCapability(9, new Uint8Array(2), undefined, 0x42), { instanceOf: RangeError });
});

test('a function-level reset resets the function and its device, and reads back 0', t => {
  const { root } = platform();
  const fn = endpoint('e', { pcie: true });
  const at = fn.enableExpress(ExpressType.ENDPOINT);
  let resets = 0;
  fn.onReset(() => resets++);
  root.plug(fn, 8);
  enable(fn);
  fn.config.write(at + 8, 0x8000, 2);
  t.is(resets, 1);
  t.is(fn.config.get16(0x04), 0);
  t.is(fn.config.get16(at + 8) & 0x8000, 0);
});

test('a register whose truth is elsewhere is fetched before each guest read that touches it, and before no other', t => {
  const config = new ConfigSpace(false);
  config.define(0x40, 4, 0);
  let outside = 0x11;
  const asked: [number, number][] = [];
  config.onRead({ start: 0x40, end: 0x42 }, (offset, size) => {
    asked.push([offset, size]);
    config.set(0x40, outside, 2);
  });
  t.is(config.read(0x40, 2), 0x11);
  outside = 0x22;
  t.is(config.read(0x3c, 4), 0);
  t.is(config.read(0x42, 2), 0);
  t.is(config.get16(0x40), 0x11);
  t.is(config.read(0x41, 1), 0);
  t.is(config.get16(0x40), 0x22);
  t.deepEqual(asked, [
    [0x40, 2],
    [0x41, 1],
  ]);
});
