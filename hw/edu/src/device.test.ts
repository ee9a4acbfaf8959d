// From https://www.qemu.org/docs/master/specs/edu.html, a test for each sentence that says what the device does.
import test from 'ava';
import { AddressSpace, MemTx, Ram, Region, StateReader, StateWriter, VirtualClock, WHOLE_SPACE } from '@remora/core';
import { Command, Config, MsiLog, PciBus, type PciFunction } from '@remora/pci';
import { type EduOptions, eduProperties } from './config.js';
import { Edu } from './device.js';
import { factorial } from './factorial.js';
import { BUFFER_BASE, DELAY_NS, Reg } from './spec.js';

const BAR = 0xe000_0000;
const RID = 0x38;
const MSI_ADDRESS = 0xfee0_1000;
const MSI_DATA = 0x4021;
const COMPUTING = 0x01;
const INTERRUPT = 0x80;
const [RUN, TO_MEMORY, DMA_INTERRUPT] = [1, 2, 4];

/** The device at 00:07.0 with 16 MiB of memory, and MSI on. */
function machine({ dma_mask }: Pick<EduOptions, 'dma_mask'> = {}) {
  const memory = Region.container('system', WHOLE_SPACE);
  const pci = Region.container('pci', WHOLE_SPACE);
  memory.add(0, Region.ram('ram', Ram.allocate(0x100_0000)));
  memory.add(0x1_1000_0000, Region.ram('high', Ram.allocate(0x1_0000)));
  memory.add(0, pci, -1);
  const addressSpace = new AddressSpace('memory', memory);
  const messages = new MsiLog();
  const ports = Region.container('io', 0x1_0000);
  const root = PciBus.root('pcie.0', { memory: pci, ports, addressSpace, msi: messages.deliver });
  const clock = new VirtualClock();
  const config = eduProperties.parse('edu', { dma_mask });
  const device = new Edu({ name: 'edu0', clock, plug: (fn: PciFunction) => root.plug(fn, RID) }, config);
  device.realize();
  const space = device.fn.config;
  const enable = (): void => {
    space.write(Config.COMMAND, Command.MEMORY | Command.MASTER, 2);
    space.write(Config.BAR0, BAR, 4);
    const msi = space.get8(Config.CAPABILITIES);
    space.write(msi + 4, MSI_ADDRESS, 4);
    space.write(msi + 12, MSI_DATA, 2);
    space.write(msi + 2, 1, 2);
  };
  enable();
  const access = (offset: number, bytes: Uint8Array, write: boolean): MemTx =>
    write ? addressSpace.write(0, BAR + offset, bytes) : addressSpace.read(0, BAR + offset, bytes);
  const set = (offset: number, value: number | bigint, size: 4 | 8 = 4): MemTx => {
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
    return access(offset, new Uint8Array(view.buffer, 0, size), true);
  };
  const get64 = (offset: number): bigint => {
    const bytes = new Uint8Array(8);
    access(offset, bytes, false);
    return new DataView(bytes.buffer).getBigUint64(0, true);
  };
  const get = (offset: number): number => {
    const bytes = new Uint8Array(4);
    access(offset, bytes, false);
    return new DataView(bytes.buffer).getUint32(0, true);
  };
  const transfer = (source: number | bigint, target: number | bigint, count: number, command: number): void => {
    set(Reg.DMA_SRC, source, 8);
    set(Reg.DMA_DST, target, 8);
    set(Reg.DMA_COUNT, count, 8);
    set(Reg.DMA_CMD, command, 8);
  };
  const poke = (address: number, bytes: Uint8Array): void => {
    addressSpace.write(Math.floor(address / 2 ** 32), address >>> 0, bytes);
  };
  const peek = (address: number, length: number): number[] => {
    const bytes = new Uint8Array(length);
    addressSpace.read(Math.floor(address / 2 ** 32), address >>> 0, bytes);
    return [...bytes];
  };
  const sent = (): number => messages.messages.length;
  return { device, root, clock, messages, access, enable, set, get, get64, transfer, poke, peek, sent };
}

test('1234:11e8, class 00ff, a 1 MiB memory BAR 0, pin INTA, one MSI vector that cannot be masked', t => {
  const { device } = machine();
  const { config } = device.fn;
  t.deepEqual([config.get16(0), config.get16(2), config.get16(0x0a), config.get8(8)], [0x1234, 0x11e8, 0x00ff, 0x10]);
  config.write(Config.BAR0, 0xffff_ffff, 4);
  t.is(config.get32(Config.BAR0), 0xfff0_0000);
  t.is(config.get8(0x3d), 1);
  t.deepEqual([config.get16(0x2c), config.get16(0x2e)], [0x1af4, 0x1100]);
  t.is(config.get16(config.get8(Config.CAPABILITIES) + 2) & ~1, 0x0080);
});

test('00 identifies: major version, minor version, ed', t => {
  const { set, get } = machine();
  t.is(get(Reg.ID), 0x0100_00ed);
  set(Reg.ID, 0);
  t.is(get(Reg.ID), 0x0100_00ed);
});

test('04 reads as the inverse of what was written', t => {
  const { set, get } = machine();
  set(Reg.LIVENESS, 0x1234_5678);
  t.is(get(Reg.LIVENESS), 0xedcb_a987);
  set(Reg.LIVENESS, 0xffff_ffff);
  t.is(get(Reg.LIVENESS), 0);
});

test('08 gives the factorial when the status says that it is done', t => {
  const { set, get, clock, sent } = machine();
  set(Reg.FACTORIAL, 10);
  t.is(get(Reg.STATUS), COMPUTING);
  t.is(get(Reg.FACTORIAL), 10);
  set(Reg.FACTORIAL, 3);
  clock.step(DELAY_NS - 1);
  t.is(get(Reg.STATUS), COMPUTING);
  clock.step(1);
  t.deepEqual([get(Reg.STATUS), get(Reg.FACTORIAL)], [0, 3_628_800], 'what came meanwhile was ignored');
  t.is(sent(), 0);
  t.is(get(Reg.IRQ_STATUS), 0);
});

test('factorials are of 32 bits', t => {
  let expected = 1n;
  for (let number = 0; number <= 40; number++) {
    if (number > 0) expected *= BigInt(number);
    t.is(BigInt(factorial(number)), BigInt.asUintN(32, expected), `${number}!`);
  }
  t.is(factorial(0xffff_ffff), 0);
});

test('20: bit 7 asks for an interrupt after the factorial; the others are read-only', t => {
  const { set, get, clock, messages, sent } = machine();
  set(Reg.STATUS, 0xffff_ffff);
  t.is(get(Reg.STATUS), INTERRUPT);
  set(Reg.FACTORIAL, 5);
  t.is(get(Reg.STATUS), COMPUTING | INTERRUPT);
  clock.step(DELAY_NS);
  t.is(get(Reg.FACTORIAL), 120);
  t.is(get(Reg.IRQ_STATUS), 0x001);
  t.deepEqual(messages.messages, [{ requesterId: RID, address: MSI_ADDRESS, data: MSI_DATA }]);
  set(Reg.STATUS, 0);
  set(Reg.FACTORIAL, 5);
  clock.step(DELAY_NS);
  t.is(sent(), 1, 'not asked for');
});

test('60 raises an interrupt, 24 holds its values until 64 acknowledges them', t => {
  const { set, get, sent } = machine();
  set(Reg.IRQ_RAISE, 0x12);
  set(Reg.IRQ_RAISE, 0x21);
  t.is(get(Reg.IRQ_STATUS), 0x33);
  t.is(sent(), 2);
  set(Reg.IRQ_ACK, 0x11);
  t.is(get(Reg.IRQ_STATUS), 0x22);
  set(Reg.IRQ_ACK, 0xffff_ffff);
  t.is(get(Reg.IRQ_STATUS), 0);
  set(Reg.IRQ_RAISE, 0);
  t.is(sent(), 2, 'nothing is raised');
  set(Reg.IRQ_STATUS, 5);
  t.is(get(Reg.IRQ_STATUS), 0, 'read-only');
});

test('without MSI INTx is asserted until everything is acknowledged', t => {
  const { device, set, get, sent } = machine();
  const { fn } = device;
  const msi = fn.config.get8(Config.CAPABILITIES) + 2;
  fn.config.write(msi, 0, 2);
  set(Reg.IRQ_RAISE, 0x12);
  set(Reg.IRQ_ACK, 0x10);
  t.true(fn.intx.asserted);
  set(Reg.IRQ_ACK, 0x02);
  t.false(fn.intx.asserted);
  set(Reg.IRQ_RAISE, 4);
  fn.config.write(msi, 1, 2);
  set(Reg.IRQ_ACK, 4);
  t.true(fn.intx.asserted, 'with MSI on nobody touches the pin');
  t.is(get(Reg.IRQ_STATUS), 0);
  t.is(sent(), 0);
  device.reset('hold');
  t.false(fn.intx.asserted);
});

test('100 bytes to the buffer at 40000 and back, with an interrupt each', t => {
  const { transfer, poke, peek, get, clock, sent, set } = machine();
  const pattern = Uint8Array.from({ length: 100 }, (_, i) => i ^ 0x5a);
  poke(0x12345, pattern);
  transfer(0x12345, BUFFER_BASE, 100, RUN | DMA_INTERRUPT);
  t.is(get(Reg.DMA_CMD), RUN | DMA_INTERRUPT);
  clock.step(DELAY_NS);
  t.is(get(Reg.DMA_CMD) & RUN, 0);
  t.is(get(Reg.IRQ_STATUS), 0x100);
  t.is(sent(), 1);
  set(Reg.IRQ_ACK, 0x100);
  transfer(BUFFER_BASE, 0x80_0001, 100, RUN | TO_MEMORY | DMA_INTERRUPT);
  clock.step(DELAY_NS - 1);
  t.deepEqual(peek(0x80_0001, 100), new Array(100).fill(0));
  clock.step(1);
  t.deepEqual(peek(0x80_0000, 102), [0, ...pattern, 0]);
  t.is(sent(), 2);
});

test('the buffer has 4096 bytes; a transfer that leaves it moves nothing, and is over', t => {
  const { transfer, poke, peek, get, clock } = machine();
  const page = Uint8Array.from({ length: 4096 }, (_, i) => (i * 7) & 0xff);
  poke(0x2000, page);
  transfer(0x2000, BUFFER_BASE, 4096, RUN);
  clock.step(DELAY_NS);
  const outside: (readonly [number | bigint, number])[] = [
    [BUFFER_BASE, 4097],
    [BUFFER_BASE + 1, 4096],
    [BUFFER_BASE - 1, 1],
    [BUFFER_BASE + 4096, 1],
    [0, 16],
    [2n ** 32n + BigInt(BUFFER_BASE), 16],
    [BUFFER_BASE + 16, 0xffff_fff0],
  ];
  for (const [source, count] of outside) {
    transfer(source, 0x30_0000, count, RUN | TO_MEMORY | DMA_INTERRUPT);
    clock.step(DELAY_NS);
    t.is(get(Reg.DMA_CMD) & RUN, 0);
    t.is(get(Reg.IRQ_STATUS), 0x100);
    t.deepEqual(peek(0x30_0000, 4), [0, 0, 0, 0], String(source));
  }
  transfer(BUFFER_BASE + 4095, 0x30_0000, 1, RUN | TO_MEMORY);
  clock.step(DELAY_NS);
  t.deepEqual(peek(0x30_0000, 2), [page[4095]!, 0]);
});

test('the buffer is not in the BAR', t => {
  const { transfer, poke, clock, get, set, peek } = machine();
  poke(0x2000, Uint8Array.of(1, 2, 3, 4));
  transfer(0x2000, BUFFER_BASE, 4, RUN);
  clock.step(DELAY_NS);
  t.is(get(BUFFER_BASE), 0xffff_ffff);
  set(BUFFER_BASE, 0);
  transfer(BUFFER_BASE, 0x3000, 4, RUN | TO_MEMORY);
  clock.step(DELAY_NS);
  t.deepEqual(peek(0x3000, 4), [1, 2, 3, 4]);
});

test('while a transfer runs its registers stay; a command without the start bit does nothing', t => {
  const { transfer, set, get64, clock, get } = machine();
  transfer(0x1000, BUFFER_BASE, 8, RUN);
  for (const offset of [Reg.DMA_SRC, Reg.DMA_DST, Reg.DMA_COUNT, Reg.DMA_CMD]) set(offset, 0x7777, 8);
  t.deepEqual([Reg.DMA_SRC, Reg.DMA_DST, Reg.DMA_COUNT, Reg.DMA_CMD].map(get64), [
    0x1000n,
    BigInt(BUFFER_BASE),
    8n,
    BigInt(RUN),
  ]);
  clock.step(DELAY_NS);
  set(Reg.DMA_CMD, TO_MEMORY | DMA_INTERRUPT, 8);
  t.is(get(Reg.DMA_CMD), 0);
  clock.step(DELAY_NS);
  t.is(get(Reg.IRQ_STATUS), 0);
});

test('the mask cuts addresses: 28 bits by default', t => {
  const narrow = machine();
  narrow.poke(0x4000, Uint8Array.of(9, 8, 7, 6));
  narrow.transfer(0x1_1000_4000, BUFFER_BASE, 4, RUN);
  narrow.clock.step(DELAY_NS);
  narrow.transfer(BUFFER_BASE, 0xf_1000_5000, 4, RUN | TO_MEMORY);
  narrow.clock.step(DELAY_NS);
  t.deepEqual(narrow.peek(0x5000, 4), [9, 8, 7, 6]);
  const wide = machine({ dma_mask: 2n ** 64n - 1n });
  wide.poke(0x1_1000_4000, Uint8Array.of(5, 4, 3, 2));
  wide.transfer(0x1_1000_4000, BUFFER_BASE, 4, RUN);
  wide.clock.step(DELAY_NS);
  wide.transfer(BUFFER_BASE, 0x6000, 4, RUN | TO_MEMORY);
  wide.clock.step(DELAY_NS);
  t.deepEqual(wide.peek(0x6000, 4), [5, 4, 3, 2]);
});

test('what memory refuses reads as zeros, and without bus mastering nothing is written', t => {
  const { device, transfer, poke, peek, clock, get } = machine();
  poke(0x4000, Uint8Array.of(9, 8, 7, 6));
  transfer(0x4000, BUFFER_BASE, 4, RUN);
  clock.step(DELAY_NS);
  transfer(0xfff_0000, BUFFER_BASE, 4, RUN);
  clock.step(DELAY_NS);
  t.is(get(Reg.DMA_CMD), 0, 'nothing answers there');
  poke(0x5000, Uint8Array.of(1, 2, 3, 4));
  device.fn.config.write(Config.COMMAND, Command.MEMORY, 2);
  transfer(BUFFER_BASE, 0x5000, 4, RUN | TO_MEMORY);
  clock.step(DELAY_NS);
  t.deepEqual(peek(0x5000, 4), [1, 2, 3, 4], 'bus mastering is off');
  device.fn.config.write(Config.COMMAND, Command.MEMORY | Command.MASTER, 2);
  transfer(BUFFER_BASE, 0x5000, 4, RUN | TO_MEMORY);
  clock.step(DELAY_NS);
  t.deepEqual(peek(0x5000, 4), [0, 0, 0, 0]);
});

test('below 80 accesses are of 4 bytes, from there on of 4 or 8; less is refused', t => {
  const { access, set, get, get64 } = machine();
  for (const size of [1, 2]) t.not(access(Reg.LIVENESS, new Uint8Array(size), true), MemTx.OK);
  t.is(get64(Reg.ID), 0xffff_ffff_ffff_ffffn);
  set(Reg.LIVENESS & ~7, 0x1111_1111_1111_1111n, 8);
  t.is(get(Reg.LIVENESS), 0);
  set(Reg.DMA_SRC, 0x1234_5678_9abc_def0n, 8);
  t.deepEqual([get64(Reg.DMA_SRC), get(Reg.DMA_SRC)], [0x1234_5678_9abc_def0n, 0x9abc_def0]);
  set(Reg.DMA_SRC, 0x11, 4);
  t.is(get64(Reg.DMA_SRC), 0x11n, 'the register is written whole');
  t.is(get(Reg.DMA_SRC + 4), 0xffff_ffff, 'there is none');
});

test('reset forgets registers, buffer and what was under way; so does unplugging', t => {
  const { device, root, transfer, poke, peek, set, get, clock, sent, enable } = machine();
  poke(0x4000, Uint8Array.of(9, 8, 7, 6));
  transfer(0x4000, BUFFER_BASE, 4, RUN);
  clock.step(DELAY_NS);
  set(Reg.STATUS, INTERRUPT);
  set(Reg.FACTORIAL, 5);
  set(Reg.LIVENESS, 1);
  transfer(BUFFER_BASE, 0x5000, 4, RUN | TO_MEMORY | DMA_INTERRUPT);
  for (const phase of ['enter', 'hold', 'exit'] as const) device.reset(phase);
  enable();
  clock.step(DELAY_NS);
  t.deepEqual([Reg.LIVENESS, Reg.FACTORIAL, Reg.STATUS, Reg.IRQ_STATUS, Reg.DMA_CMD].map(get), [0, 0, 0, 0, 0]);
  transfer(BUFFER_BASE, 0x5000, 4, RUN | TO_MEMORY);
  clock.step(DELAY_NS);
  t.deepEqual(peek(0x5000, 4), [0, 0, 0, 0]);
  transfer(0x4000, BUFFER_BASE, 4, RUN | DMA_INTERRUPT);
  device[Symbol.dispose]();
  clock.step(DELAY_NS);
  t.is(sent(), 0);
  t.is(root.functions[RID], undefined);
});

test('a saved device goes on where it was: factorial, transfer, buffer and interrupts', t => {
  const from = machine();
  from.poke(0x4000, Uint8Array.of(9, 8, 7, 6));
  from.transfer(0x4000, BUFFER_BASE, 4, RUN);
  from.clock.step(DELAY_NS);
  from.set(Reg.STATUS, INTERRUPT);
  from.set(Reg.FACTORIAL, 6);
  from.clock.step(DELAY_NS / 2);
  from.transfer(BUFFER_BASE, 0x5000, 4, RUN | TO_MEMORY | DMA_INTERRUPT);
  from.set(Reg.IRQ_RAISE, 0x40);
  const into = new StateWriter();
  from.device.save(into);
  const to = machine();
  to.device.load(new StateReader(into.section));
  t.deepEqual([to.get(Reg.STATUS), to.get(Reg.IRQ_STATUS), to.sent()], [COMPUTING | INTERRUPT, 0x40, 0]);
  to.clock.step(DELAY_NS / 2);
  t.deepEqual([to.get(Reg.FACTORIAL), to.get(Reg.IRQ_STATUS)], [720, 0x41]);
  t.deepEqual(to.peek(0x5000, 4), [0, 0, 0, 0]);
  to.clock.step(DELAY_NS / 2);
  t.deepEqual(to.peek(0x5000, 4), [9, 8, 7, 6]);
  t.deepEqual([to.get(Reg.IRQ_STATUS), to.sent()], [0x141, 2]);
});
