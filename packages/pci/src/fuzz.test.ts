/** Whatever a guest writes to configuration space, nothing throws, and what is mapped afterwards is what the registers say. */
import test from 'ava';
import fc from 'fast-check';
import { PciBridge } from './bridge.js';
import { configRead, configWrite } from './config-access.js';
import { Command, Config, ExpressType } from './registers.js';
import { enable, endpoint, platform, registers } from './platform.test.helper.js';

function tree() {
  const at = platform();
  const port = new PciBridge('port', 'root-port', { vendor: 1, device: 1 });
  const inner = new PciBridge('inner', 'pcie-to-pci', { vendor: 1, device: 2 });
  const wide = endpoint('wide', { pcie: true });
  wide.enableExpress(ExpressType.ENDPOINT);
  wide.enableMsi(32);
  wide.enableMsix(64, 5);
  wide.enablePasid(20);
  wide.addBar(0, registers('a', 0x1000).region, { type: 'mem32' });
  wide.addBar(1, registers('b', 0x10).region, { type: 'io' });
  wide.addBar(2, registers('c', 2 ** 34).region, { type: 'mem64', prefetchable: true });
  const plain = endpoint('plain');
  plain.addBar(0, registers('d', 0x8000).region, { type: 'mem32' });
  at.root.plug(port.fn, 0x08);
  at.root.plug(wide, 0x10);
  port.secondary.plug(inner.fn, 0);
  inner.secondary.plug(plain, 0x18);
  return { ...at, functions: [port.fn, inner.fn, wide, plain], wide, plain };
}

const HOT = [Config.COMMAND, Config.BAR0, 0x14, 0x18, 0x1c, Config.MEMORY_BASE, Config.PREFETCH_BASE, 0x28, 0x2c, 0x24];
const offset = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...HOT) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xfff }) },
);
const value = fc.oneof(
  fc.integer({ min: 0, max: 0xffff_ffff }),
  fc.constantFrom(0, 7, 0xffff_ffff, 0xe000_0000, 0x0100),
);
const write = fc.tuple(fc.nat(3), offset, value, fc.constantFrom(1, 2, 4));

test('random configuration writes, to functions and by bus number', t => {
  let mapped = 0;
  const property = fc.property(fc.array(write, { minLength: 10, maxLength: 80, size: 'max' }), writes => {
    const { functions, root, wide, plain } = tree();
    for (const fn of functions) enable(fn);
    for (const [which, at, data, size] of writes) {
      const aligned = at - (at % size);
      functions[which]!.config.write(aligned, data, size);
      configWrite(root, data & 0xff, (data >>> 8) & 0xff, aligned, data, size);
      configRead(root, data & 0xff, (data >>> 8) & 0xff, aligned, size);
      wide.msi(which);
    }
    for (const [fn, index, size] of [
      [wide, 0, 0x1000],
      [plain, 0, 0x8000],
    ] as const) {
      const address = fn.config.get32(Config.BAR0 + 4 * index);
      const decoded =
        (fn.config.get16(Config.COMMAND) & Command.MEMORY) !== 0 && address !== 0 && address + size < 2 ** 32;
      if (fn.bars.address(index) !== (decoded ? address : undefined)) return false;
      if (decoded) mapped++;
    }
    return true;
  });
  t.notThrows(() => fc.assert(property, { numRuns: 150, seed: 1 }));
  t.true(mapped > 20, `only ${mapped} BARs were mapped: the generator misses its point`);
});
