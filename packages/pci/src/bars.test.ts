import test from 'ava';
import fc from 'fast-check';
import { Region } from '@remora/core';
import { Command, Config } from './registers.js';
import { enable, endpoint, peek, platform, registers } from './platform.test.helper.js';

const BAR0 = 0x10;

test('sizing as software does it: all ones, read the mask, then an address (memory, 4 KiB)', t => {
  const { root, addressSpace } = platform();
  const fn = endpoint();
  fn.addBar(0, registers('regs', 0x1000, 0x100).region, { type: 'mem32' });
  root.plug(fn, 0x10);
  enable(fn);
  fn.config.write(BAR0, 0xffff_ffff, 4);
  t.is(fn.config.read(BAR0, 4), 0xffff_f000);
  t.is(fn.bars.address(0), undefined);
  fn.config.write(BAR0, 0xe000_0000, 4);
  t.is(fn.bars.address(0), 0xe000_0000);
  t.is(peek(addressSpace, 0xe000_0008), 0x108);
});

test('a 64-bit prefetchable BAR has both halves, type bits 1100, and maps above 4 GiB', t => {
  const { root, addressSpace } = platform();
  const fn = endpoint();
  fn.addBar(2, registers('big', 2 ** 33, 0).region, { type: 'mem64', prefetchable: true });
  root.plug(fn, 0x10);
  enable(fn);
  fn.config.write(0x18, 0xffff_ffff, 4);
  fn.config.write(0x1c, 0xffff_ffff, 4);
  t.deepEqual([fn.config.read(0x18, 4), fn.config.read(0x1c, 4)], [0x0000_000c, 0xffff_fffe]);
  fn.config.write(0x18, 0, 4);
  fn.config.write(0x1c, 0x10, 4);
  t.is(fn.bars.address(2), 0x10_0000_0000);
  t.is(peek(addressSpace, 0x10_0000_0040), 0x40);
  fn.config.write(0x1c, 0xffff_fffe, 4);
  t.is(fn.bars.address(2), undefined);
});

test('an I/O BAR decodes in port space, by its own COMMAND bit', t => {
  const { root, portSpace } = platform();
  const fn = endpoint();
  fn.addBar(1, registers('ports', 0x20, 7).region, { type: 'io' });
  root.plug(fn, 0x10);
  fn.config.write(0x14, 0xffff_ffff, 4);
  t.is(fn.config.read(0x14, 4), 0xffff_ffe1);
  fn.config.write(0x14, 0xc000, 4);
  enable(fn, Command.MEMORY);
  t.is(peek(portSpace, 0xc000), -1);
  enable(fn, Command.IO);
  t.is(peek(portSpace, 0xc004), 11);
});

test('decoding off hides the BAR; a new address moves it; what it left answers no more', t => {
  const { root, addressSpace } = platform();
  const fn = endpoint();
  fn.addBar(0, registers('regs', 0x1000).region, { type: 'mem32' });
  root.plug(fn, 0x10);
  fn.config.write(BAR0, 0xe000_0000, 4);
  t.is(peek(addressSpace, 0xe000_0004), -1);
  enable(fn, Command.MEMORY);
  t.is(peek(addressSpace, 0xe000_0004), 4);
  fn.config.write(BAR0, 0xe100_0000, 4);
  t.is(peek(addressSpace, 0xe000_0004), -1);
  t.is(peek(addressSpace, 0xe100_0004), 4);
  enable(fn, 0);
  t.is(peek(addressSpace, 0xe100_0004), -1);
});

test('address 0 and the top of a 32-bit space are not decoded', t => {
  const { root, addressSpace } = platform();
  const fn = endpoint();
  fn.addBar(0, registers('regs', 0x1000).region, { type: 'mem32' });
  root.plug(fn, 0x10);
  enable(fn);
  t.is(fn.bars.address(0), undefined);
  t.is(peek(addressSpace, 0), 0, 'RAM, not registers');
  fn.config.write(BAR0, 0xffff_f000, 4);
  t.is(fn.bars.address(0), undefined);
});

test('reset and unplugging unmap; plugging again shows what the registers say', t => {
  const { root, addressSpace } = platform();
  const fn = endpoint();
  fn.addBar(0, registers('regs', 0x1000).region, { type: 'mem32' });
  root.plug(fn, 0x10);
  fn.config.write(BAR0, 0xe000_0000, 4);
  enable(fn);
  root.unplug(fn);
  t.is(peek(addressSpace, 0xe000_0004), -1);
  root.plug(fn, 0x18);
  t.is(peek(addressSpace, 0xe000_0004), 4);
  fn.reset();
  t.is(peek(addressSpace, 0xe000_0004), -1);
  t.is(fn.config.read(BAR0, 4), 0);
});

test('whatever is written to a BAR, the region is where the register says, or nowhere', t => {
  const { root } = platform();
  const fn = endpoint();
  fn.addBar(0, registers('regs', 0x4000).region, { type: 'mem64' });
  root.plug(fn, 0x10);
  enable(fn);
  const word = fc.integer({ min: 0, max: 0xffff_ffff });
  t.notThrows(() =>
    fc.assert(
      fc.property(word, word, (lo, hi) => {
        fn.config.write(BAR0, lo, 4);
        fn.config.write(BAR0 + 4, hi, 4);
        const expected = hi * 2 ** 32 + (lo - (lo % 0x4000));
        const decodable = expected !== 0 && expected + 0x4000 < 2 ** 52;
        return fn.bars.address(0) === (decodable ? expected : undefined);
      }),
      { seed: 1 },
    ),
  );
});

test('a BAR that cannot be is refused when the device is built', t => {
  const fn = endpoint();
  const region = (size: number): Region => Region.container('r', size);
  t.throws(() => fn.addBar(0, region(0x1800), { type: 'mem32' }), { instanceOf: RangeError, message: /power of two/ });
  t.throws(() => fn.addBar(0, region(8), { type: 'mem32' }), { instanceOf: RangeError });
  fn.addBar(0, region(0x1000), { type: 'mem64' });
  t.throws(() => fn.addBar(1, region(0x1000), { type: 'mem32' }), { instanceOf: RangeError, message: /taken/ });
  t.throws(() => fn.addBar(5, region(0x1000), { type: 'mem64' }), { instanceOf: RangeError, message: /absent/ });
});

test('the header of function 0 announces siblings as they come and go', t => {
  const { root } = platform();
  const first = endpoint('first');
  const second = endpoint('second');
  root.plug(first, 0x20);
  t.is(first.config.get8(Config.HEADER_TYPE), 0);
  root.plug(second, 0x21);
  t.is(first.config.get8(Config.HEADER_TYPE), 0x80);
  root.unplug(second);
  t.is(first.config.get8(Config.HEADER_TYPE), 0);
});
