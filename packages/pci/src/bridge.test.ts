import test from 'ava';
import { ConfigError, MemTx } from '@remora/core';
import { PciBridge, type BridgeKind } from './bridge.js';
import { configRead, configWrite, functionAt } from './config-access.js';
import { Command, Config } from './registers.js';
import { enable, endpoint, number, peek, platform, registers } from './platform.test.helper.js';

function bridge(name: string, kind: BridgeKind): PciBridge {
  return new PciBridge(name, kind, { vendor: 0x1b36, device: 0x000c });
}

/** root -> port (bus 1) -> PCI bridge (bus 2) -> endpoint at 02:03.0. */
function tree() {
  const at = platform();
  const port = bridge('port', 'root-port');
  const inner = bridge('inner', 'pci');
  const fn = endpoint();
  fn.addBar(0, registers('regs', 0x1000).region, { type: 'mem32' });
  fn.addBar(1, registers('ports', 0x100).region, { type: 'io' });
  at.root.plug(port.fn, 0x08);
  port.secondary.plug(inner.fn, 0);
  inner.secondary.plug(fn, 0x18);
  number(port.fn, 1, 2);
  number(inner.fn, 2, 2);
  return { ...at, port, inner, fn };
}

/** Opens `base` .. `limit` for memory below 4 GiB. */
function window(target: PciBridge, base: number, limit: number): void {
  target.fn.config.write(Config.MEMORY_BASE, base / 0x1_0000, 2);
  target.fn.config.write(Config.MEMORY_LIMIT, Math.floor(limit / 0x10_0000) * 0x10, 2);
}

test('a type 1 header, with every window closed after reset', t => {
  const { port } = tree();
  const { config } = port.fn;
  t.is(config.get8(Config.HEADER_TYPE) & 0x7f, 1);
  t.is(config.get16(0x0a), 0x0604);
  t.true(config.get16(Config.MEMORY_BASE) > config.get16(Config.MEMORY_LIMIT));
  t.true(config.get16(Config.PREFETCH_BASE) > config.get16(Config.PREFETCH_LIMIT));
  t.true(config.get8(Config.IO_BASE) > config.get8(Config.IO_LIMIT));
});

test('configuration cycles follow the bus numbers that software wrote', t => {
  const { root, port, inner, fn } = tree();
  t.is(functionAt(root, 2, 0x18), fn);
  t.is(fn.bdf, '0000:02:03.0');
  number(port.fn, 5, 9);
  number(inner.fn, 7, 8);
  t.is(functionAt(root, 2, 0x18), undefined);
  t.is(configRead(root, 7, 0x18, 0, 2), 0x1234);
  configWrite(root, 7, 0x18, Config.INTERRUPT_LINE, 0x55, 1);
  t.is(fn.config.get8(Config.INTERRUPT_LINE), 0x55);
  t.is(fn.requesterId, 0x0718);
  number(port.fn, 5, 6);
  t.is(functionAt(root, 7, 0x18), undefined, 'beyond the subordinate bus');
  number(port.fn, 0, 9);
  t.is(functionAt(root, 7, 0x18), undefined, 'a bridge that is not numbered forwards nothing');
});

test('a BAR two bridges down shows only while both windows and both COMMANDs let it', t => {
  const { addressSpace, port, inner, fn } = tree();
  fn.config.write(Config.BAR0, 0xe012_0000, 4);
  enable(fn);
  enable(port.fn);
  enable(inner.fn);
  window(port, 0xe000_0000, 0xe01f_ffff);
  t.is(peek(addressSpace, 0xe012_0004), -1);
  window(inner, 0xe010_0000, 0xe01f_ffff);
  t.is(peek(addressSpace, 0xe012_0004), 4);
  enable(port.fn, Command.MASTER);
  t.is(peek(addressSpace, 0xe012_0004), -1);
  enable(port.fn, Command.MEMORY);
  t.is(peek(addressSpace, 0xe012_0004), 4);
  window(inner, 0xe000_0000, 0xe00f_ffff);
  t.is(peek(addressSpace, 0xe012_0004), -1);
});

test('the prefetchable window reaches above 4 GiB, and one beyond any address opens nothing', t => {
  const { root, addressSpace } = platform();
  const port = bridge('port', 'root-port');
  const fn = endpoint();
  fn.addBar(0, registers('regs', 0x1000).region, { type: 'mem64', prefetchable: true });
  root.plug(port.fn, 0x08);
  port.secondary.plug(fn, 0);
  enable(port.fn);
  enable(fn);
  fn.config.write(0x14, 0x10, 4);
  fn.config.write(0x10, 0x8000_0000, 4);
  const { config } = port.fn;
  config.write(Config.PREFETCH_BASE, 0x8000, 2);
  config.write(Config.PREFETCH_LIMIT, 0x8000, 2);
  config.write(Config.PREFETCH_BASE_UPPER, 0x10, 4);
  config.write(Config.PREFETCH_LIMIT_UPPER, 0x10, 4);
  t.is(peek(addressSpace, 0x10_8000_0008), 8);
  config.write(Config.PREFETCH_LIMIT_UPPER, 0xffff_ffff, 4);
  t.is(peek(addressSpace, 0x10_8000_0008), 8);
  config.write(Config.PREFETCH_BASE_UPPER, 0xffff_0000, 4);
  t.is(peek(addressSpace, 0x10_8000_0008), -1);
});

test('the I/O window shows ports in steps of 4 KiB', t => {
  const { portSpace, port, inner, fn } = tree();
  fn.config.write(0x14, 0xd000, 4);
  for (const each of [fn, port.fn, inner.fn]) enable(each);
  for (const each of [port, inner]) {
    each.fn.config.write(Config.IO_BASE, 0xd0, 1);
    each.fn.config.write(Config.IO_LIMIT, 0xd0, 1);
  }
  t.is(peek(portSpace, 0xd010), 0x10);
  inner.fn.config.write(Config.IO_BASE, 0xe0, 1);
  t.is(peek(portSpace, 0xd010), -1);
});

test('the reset bit of BRIDGE_CONTROL resets all that is below, once', t => {
  const { port, inner, fn } = tree();
  let resets = 0;
  fn.onReset(() => resets++);
  enable(fn);
  port.fn.config.write(Config.BRIDGE_CONTROL, 0x40, 2);
  port.fn.config.write(Config.BRIDGE_CONTROL, 0x40, 2);
  t.is(resets, 1);
  t.is(fn.config.get16(Config.COMMAND), 0);
  t.is(inner.secondary.number, 0);
  t.is(port.secondary.number, 1);
  port.fn.config.write(Config.BRIDGE_CONTROL, 0, 2);
  port.fn.config.write(Config.BRIDGE_CONTROL, 0x40, 2);
  t.is(resets, 2);
});

test('walk visits bridges before what is behind them', t => {
  const { root, port, inner, fn } = tree();
  const other = endpoint('other');
  root.plug(other, 0x10);
  t.deepEqual([...root.walk()], [port.fn, inner.fn, fn, other]);
});

test('places: taken, absent on a link, plugged twice, and the first free one', t => {
  const { root } = platform();
  const port = bridge('port', 'root-port');
  root.plug(port.fn, 0x08);
  t.throws(() => root.plug(endpoint('late'), 0x08), { instanceOf: ConfigError, message: /port is here, late needs/ });
  t.throws(() => port.secondary.plug(endpoint('far'), 0x08), { instanceOf: ConfigError, message: /device 00 only/ });
  t.throws(() => root.plug(endpoint('beyond'), 256), { instanceOf: ConfigError, message: /0 \.\. 255/ });
  const fn = endpoint('fn');
  root.plug(fn, 0x00);
  t.throws(() => port.secondary.plug(fn, 0), { instanceOf: ConfigError, message: /already plugged at 0000:00:00.0/ });
  t.is(root.freeSlot, 0x10);
  t.is(port.secondary.freeSlot, 0);
  port.secondary.plug(endpoint('deep'), 0);
  t.is(port.secondary.freeSlot, undefined);
});

test('pulling a bridge takes the way to memory from what is below, and putting it back restores it', t => {
  const { root, port, inner, fn } = tree();
  for (const each of [port.fn, inner.fn, fn]) enable(each);
  t.is(fn.dma.write(0, 0x1000, Uint8Array.of(1)), MemTx.OK);
  root.unplug(port.fn);
  t.is(fn.dma.write(0, 0x1000, Uint8Array.of(2)), MemTx.ACCESS_ERROR);
  t.throws(() => fn.dma.addressSpace, { message: /not plugged/ });
  root.plug(port.fn, 0x20);
  t.is(fn.dma.write(0, 0x1000, Uint8Array.of(3)), MemTx.OK);
});
