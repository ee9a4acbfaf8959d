/** Lines as QEMU's q35 wires them; `test/src/qtest` compares every device number with a real one. */
import test from 'ava';
import { Ledger, Ram, StateReader, StateWriter, VirtualClock } from '@remora/core';
import { Config, PciBridge, PciFunction } from '@remora/pci';
import type { Q35 } from './board.js';
import { q35Kind } from './plugin.js';

function bench() {
  const config = q35Kind.properties.parse('board', { memory: '1M' });
  const ram = Ram.allocate(q35Kind.ramBytes(config));
  const board = q35Kind.create({ name: 'vm', ram, clock: new VirtualClock(), ledger: new Ledger() }, config) as Q35;
  const changes: string[] = [];
  board.ioapic.watch((pin, asserted) => changes.push(`${pin} ${asserted ? 'on' : 'off'}`));
  return { board, taken: () => changes.splice(0) };
}

function device(interruptPin = 1): PciFunction {
  return new PciFunction('d', { vendor: 0x1234, device: 0x5678, classCode: 0xff0000, interruptPin });
}

test('devices share pins 20 .. 23 in turn; those that ICH9 has for itself use 16 .. 19', t => {
  const pins: readonly (readonly [number, number, number])[] = [
    [1, 1, 21],
    [2, 1, 22],
    [3, 1, 23],
    [4, 1, 20],
    [4, 4, 23],
    [24, 1, 20],
    [25, 1, 16],
    [29, 3, 18],
    [30, 1, 20],
    [31, 4, 19],
  ];
  for (const [slot, interruptPin, pin] of pins) {
    const { board, taken } = bench();
    const fn = device(interruptPin);
    board.rootBus.plug(fn, slot << 3);
    fn.intx.set(true);
    fn.intx.set(false);
    t.deepEqual(taken(), [`${pin} on`, `${pin} off`], `device ${slot}, pin ${interruptPin}`);
  }
});

test('a line is asserted as long as anybody asserts it, behind bridges too', t => {
  const { board, taken } = bench();
  const bridge = new PciBridge('b', 'pcie-to-pci', { vendor: 0x1b36, device: 0xe });
  const [near, far] = [device(), device()];
  board.rootBus.plug(near, 1 << 3);
  board.rootBus.plug(bridge.fn, 5 << 3);
  bridge.secondary.plug(far, 4 << 3);
  near.intx.set(true);
  far.intx.set(true);
  board.rootBus.unplug(near);
  t.deepEqual(taken(), ['21 on']);
  bridge.fn.config.write(Config.BRIDGE_CONTROL, 0x40, 2);
  t.deepEqual(taken(), ['21 off']);
});

test('a saved line is let go of after loading, as it would have been', t => {
  const { board } = bench();
  const fn = device();
  board.rootBus.plug(fn, 1 << 3);
  fn.intx.set(true);
  const [own, functions] = [new StateWriter(), new StateWriter()];
  board.save(own);
  fn.save(functions);
  const other = bench();
  const twin = device();
  other.board.rootBus.plug(twin, 1 << 3);
  other.board.load(new StateReader(own.section));
  twin.load(new StateReader(functions.section));
  t.true(other.board.ioapic.asserted(21));
  t.deepEqual(other.taken(), []);
  twin.intx.set(false);
  t.deepEqual(other.taken(), ['21 off']);
});
