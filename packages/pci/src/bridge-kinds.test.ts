import test from 'ava';
import { AddressSpace, Inspector, Ledger, Region, Trace, VirtualClock } from '@remora/core';
import type { BridgeDevice } from './bridge-kinds.js';
import { bridgeKinds } from './bridge-kinds.js';
import { devfnOf } from './bdf.js';
import { aliasRequesterId } from './dma.js';
import { Config, ExpressType } from './registers.js';
import type { PciFunction } from './function.js';
import { endpoint, number, platform } from './platform.test.helper.js';

function create(id: string, plug: (fn: PciFunction) => void, options: Record<string, unknown> = {}): BridgeDevice {
  const kind = bridgeKinds.find(each => each.id === id)!;
  const guestMemory = new AddressSpace('none', Region.container('none', 4096));
  const context = {
    name: id,
    clock: new VirtualClock(),
    ledger: new Ledger(),
    trace: new Trace(),
    host: undefined,
    guestMemory,
    plug,
  };
  return kind.create(context, kind.properties.parse(id, options)) as BridgeDevice;
}

test('a switch below a root port: each kind has its ids, its port type, and a bus for the next one', t => {
  const { root } = platform();
  const port = create('pcie-root-port', fn => root.plug(fn, devfnOf(1)), { port: '0x10' });
  const upstream = create('x3130-upstream', fn => port.bridge.secondary.plug(fn, 0));
  const downstream = create('xio3130-downstream', fn => upstream.bridge.secondary.plug(fn, devfnOf(3)));
  const chain = [port, upstream, downstream];
  for (const device of chain) device.realize();
  chain.forEach((device, i) => number(device.bridge.fn, i + 1, 3));
  const fn = endpoint();
  downstream.bridge.secondary.plug(fn, 0);
  t.is(fn.bdf, '0000:03:00.0');
  t.is(aliasRequesterId(fn), 0x0300, 'links speak for nobody');
  t.deepEqual(
    chain.map(({ bridge }) => [bridge.fn.config.get16(Config.VENDOR), bridge.fn.expressType]),
    [
      [0x1b36, ExpressType.ROOT_PORT],
      [0x104c, ExpressType.UPSTREAM_PORT],
      [0x104c, ExpressType.DOWNSTREAM_PORT],
    ],
  );
  const express = port.bridge.fn.capabilities.find(0x10)!;
  t.is(port.bridge.fn.config.get8(express + 15), 0x10, 'port number in Link Capabilities');
});

test("a root port has QEMU's subsystem, pin, and one MSI-X vector with its table in BAR 0", t => {
  const { root } = platform();
  const { fn } = create('pcie-root-port', each => root.plug(each, devfnOf(1))).bridge;
  t.deepEqual(
    fn.capabilities.standard.map(({ id, offset }) => [id, offset]),
    [
      [0x0d, 0x40],
      [0x11, 0x48],
      [0x10, 0x54],
    ],
  );
  t.deepEqual([fn.config.get16(0x44), fn.config.get16(0x46)], [0x1b36, 0]);
  t.deepEqual([fn.config.get16(0x4a), fn.config.get32(0x4c), fn.config.get32(0x50)], [0, 0, 0x800]);
  t.is(fn.config.get8(Config.INTERRUPT_PIN), 1);
  fn.config.write(Config.BAR0, 0xffff_ffff, 4);
  t.is(fn.config.get32(Config.BAR0), 0xffff_f000);
});

test('reset takes its bus numbers, unplugging its place', t => {
  const { root } = platform();
  const port = create('pcie-root-port', fn => root.plug(fn, devfnOf(1)));
  port.realize();
  number(port.bridge.fn, 4, 5);
  const before = new Inspector();
  port.inspect(before);
  t.like(before.toJSON(), { bdf: '0000:00:01.0', id: '1b36:000c', secondary: 4, subordinate: 5 });
  port.reset('enter');
  t.is(port.bridge.secondary.number, 4);
  port.reset('hold');
  t.is(port.bridge.secondary.number, 0);
  port.unplug();
  t.is(root.functions[devfnOf(1)], undefined);
  t.notThrows(() => port[Symbol.dispose]());
});
