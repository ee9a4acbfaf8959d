// INTx: PCI 3.0 2.2.6, 6.2.2, 6.2.3, 6.2.4; PCI-to-PCI Bridge Architecture 1.2, 9.1.
import test from 'ava';
import { StateReader, StateWriter } from '@remora/core';
import { PciBridge } from './bridge.js';
import type { PciFunction } from './function.js';
import { rootPinOf } from './intx.js';
import { endpoint, platform } from './platform.test.helper.js';
import { Command, Config, Status } from './registers.js';

function withIntx() {
  const { root, told } = platform();
  const fn = endpoint('a', { interruptPin: 1 });
  root.plug(fn, 0x18);
  const status = (): boolean => (fn.config.get16(Config.STATUS) & Status.INTERRUPT) !== 0;
  return { root, told, fn, status };
}

test('the pin register is read-only, the line register is not', t => {
  const { config } = endpoint('a', { interruptPin: 3 });
  config.write(Config.INTERRUPT_LINE, 0xffff, 2);
  t.deepEqual([config.get8(Config.INTERRUPT_LINE), config.get8(Config.INTERRUPT_PIN)], [0xff, 3]);
  t.is(endpoint().config.get8(Config.INTERRUPT_PIN), 0);
});

test('STATUS shows the level; the board is told of each change, once', t => {
  const { fn, told, status } = withIntx();
  fn.intx.set(true);
  fn.intx.set(true);
  t.deepEqual([fn.intx.asserted, status(), told.intx], [true, true, 1]);
  fn.config.write(Config.STATUS, 0xffff, 2);
  t.true(status(), 'software cannot clear it');
  fn.intx.set(false);
  t.deepEqual([fn.intx.asserted, status(), told.intx], [false, false, 2]);
});

test('COMMAND disables it without hiding it in STATUS', t => {
  const { fn, told, status } = withIntx();
  fn.intx.set(true);
  fn.config.write(Config.COMMAND, Command.INTX_DISABLE, 2);
  t.deepEqual([fn.intx.asserted, status(), told.intx], [false, true, 2]);
  fn.config.write(Config.COMMAND, 0, 2);
  t.deepEqual([fn.intx.asserted, told.intx], [true, 3]);
});

test('a reset lets go of it, and so does unplugging', t => {
  const { root, fn, told } = withIntx();
  fn.intx.set(true);
  fn.reset();
  t.deepEqual([fn.intx.asserted, told.intx], [false, 2]);
  fn.intx.set(true);
  root.unplug(fn);
  t.deepEqual([fn.intx.asserted, told.intx], [false, 4]);
  root.plug(fn, 0x20);
  t.deepEqual([fn.intx.asserted, told.intx], [true, 5]);
});

test('loaded state tells nobody anything: who is told has state of his own', t => {
  const { fn } = withIntx();
  fn.intx.set(true);
  const saved = new StateWriter();
  fn.save(saved);
  const other = withIntx();
  other.fn.load(new StateReader(saved.section));
  t.deepEqual([other.fn.intx.asserted, other.told.intx], [true, 0]);
  other.fn.intx.set(false);
  t.is(other.told.intx, 1);
});

test('bridges turn pins by device number', t => {
  const { root } = platform();
  const port = new PciBridge('port', 'root-port', { vendor: 0x1b36, device: 0xc });
  const bridge = new PciBridge('bridge', 'pcie-to-pci', { vendor: 0x1b36, device: 0xe });
  const at = (fn: PciFunction): unknown => rootPinOf(fn);
  const fns = [1, 2, 3, 4].map(interruptPin => endpoint(`pin${interruptPin}`, { interruptPin }));
  root.plug(port.fn, 0x28);
  port.secondary.plug(bridge.fn, 0);
  for (const [index, fn] of fns.entries()) bridge.secondary.plug(fn, (3 << 3) | index);
  t.deepEqual(
    fns.map(at),
    [3, 0, 1, 2].map(pin => ({ device: 5, pin })),
  );
  t.is(at(endpoint()), undefined);
});
