import test from 'ava';
import {
  Access,
  AddressSpace,
  Ledger,
  MemTx,
  NO_PASID,
  Ram,
  Region,
  type TxAttrs,
  VirtualClock,
  WHOLE_SPACE,
} from '@remora/core';
import { Capability, Command, Config, ExtendedCapability, MsiLog, PciBus, pciSetupIommu } from '@remora/pci';
import { DmaEngine } from './device.js';
import { dmaEngineKind } from './plugin.js';
import { Ctrl, EngineError, MAX_LENGTH, Operation, PasidWord, Reg, StatusWord } from './spec.js';

const BAR = 0xe000_0000;
const MSIX = 0xe001_0000;
const RAM_BYTES = 0x40_0000;

interface Setup {
  readonly options?: Record<string, unknown>;
  /** Puts an IOMMU between: the engine's addresses are then those of this region. */
  readonly translated?: Region;
}

function machine({ options = {}, translated }: Setup = {}) {
  const memory = Region.container('system', WHOLE_SPACE);
  const pci = Region.container('pci', WHOLE_SPACE);
  const ram = Ram.allocate(RAM_BYTES);
  memory.add(0, Region.ram('ram', ram));
  memory.add(0, pci, -1);
  const addressSpace = new AddressSpace('memory', memory);
  const messages = new MsiLog();
  const clock = new VirtualClock();
  const ledger = new Ledger();
  const ports = Region.container('io', 0x1_0000);
  const root = PciBus.root('pcie.0', { memory: pci, ports, addressSpace, msi: messages.deliver, ledger });
  if (translated !== undefined) {
    const space = new AddressSpace('dma', translated);
    pciSetupIommu(root, { wantsNesting: true, addressSpaceFor: () => space });
  }
  const config = dmaEngineKind.properties.parse('dma-engine', options);
  const engine = new DmaEngine({ name: 'engine0', clock, ledger, plug: fn => root.plug(fn, 0x18) }, config);
  engine.realize();
  engine.fn.config.write(Config.COMMAND, Command.MEMORY | Command.MASTER, 2);
  engine.fn.config.write(Config.BAR0, BAR, 4);
  engine.fn.config.write(Config.BAR0 + 8, MSIX, 4);
  const bytes = new Uint8Array(4);
  const view = new DataView(bytes.buffer);
  const set = (offset: number, value: number): MemTx => {
    view.setUint32(0, value, true);
    return addressSpace.write(0, BAR + offset, bytes);
  };
  const get = (offset: number): number => {
    addressSpace.read(0, BAR + offset, bytes);
    return view.getUint32(0, true);
  };
  const status = () => StatusWord.decode(Int32Array.of(get(Reg.STATUS)));
  const start = (command: number, interrupt = 0): void =>
    void set(Reg.CTRL, Ctrl.encode({ start: 1, command, interrupt })[0]!);
  const load = (address: number, length: number): Uint8Array => {
    const out = new Uint8Array(length);
    ram.read(0, address, out);
    return out;
  };
  return { engine, addressSpace, ram, messages, clock, ledger, root, set, get, status, start, load };
}

function numbered(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + (i >>> 8)) & 0xff);
}

test('registers after reset; those that are read-only stay', t => {
  const { set, get } = machine();
  t.is(get(Reg.ID), 0x4541_4d44);
  t.is(get(Reg.MAX_LEN), 0x10_0000);
  for (const offset of [Reg.ID, Reg.MAX_LEN, Reg.STATUS, Reg.MOVED, Reg.FAIL_LO, Reg.FAIL_HI]) {
    const before = get(offset);
    set(offset, 0xffff_ffff);
    t.is(get(offset), before);
  }
  set(Reg.PASID, 0xffff_ffff);
  t.is(get(Reg.PASID), 0xe00f_ffff);
});

test('copies any length between any alignments, across pages', t => {
  const { ram, set, get, status, start, load } = machine();
  const data = numbered(10_001);
  ram.write(0, 0x1_0ffd, data);
  set(Reg.SRC_LO, 0x1_0ffd);
  set(Reg.DST_LO, 0x2_0803);
  set(Reg.LEN, data.length);
  start(Operation.COPY);
  t.deepEqual(status(), { busy: 0, done: 1, error: 0, result: 0, failedWrite: 0 });
  t.is(get(Reg.MOVED), 10_001);
  t.is(get(Reg.CTRL), 0, 'start reads 0');
  t.deepEqual(load(0x2_0803, data.length), data);
  t.deepEqual(load(0x2_0803 - 1, 1), Uint8Array.of(0));
  t.deepEqual(load(0x2_0803 + data.length, 1), Uint8Array.of(0));
});

test('fills with the pattern from the first byte on, whatever the alignment', t => {
  const { set, status, start, load } = machine();
  set(Reg.DST_LO, 0x2_0ffe);
  set(Reg.PATTERN, 0x4433_2211);
  set(Reg.LEN, 7);
  start(Operation.FILL);
  t.is(status().error, EngineError.NONE);
  t.deepEqual(load(0x2_0ffd, 9), Uint8Array.of(0, 0x11, 0x22, 0x33, 0x44, 0x11, 0x22, 0x33, 0));
});

test('bad lengths, commands and ranges move nothing', t => {
  const { set, get, status, start, load } = machine();
  set(Reg.PATTERN, 0xffff_ffff);
  set(Reg.LEN, 0);
  start(Operation.FILL);
  t.is(status().error, EngineError.LENGTH);
  set(Reg.LEN, MAX_LENGTH + 1);
  start(Operation.FILL);
  t.is(status().error, EngineError.LENGTH);
  set(Reg.LEN, 16);
  start(5);
  t.is(status().error, EngineError.COMMAND);
  set(Reg.SRC_HI, 0xffff_ffff);
  set(Reg.SRC_LO, 0xffff_fff8);
  start(Operation.COPY);
  t.is(status().error, EngineError.ADDRESS);
  t.is(get(Reg.MOVED), 0);
  t.deepEqual(load(0, 16), new Uint8Array(16));
});

test('the longest command moves all of it', t => {
  const { ram, set, status, start, load } = machine();
  const data = numbered(MAX_LENGTH);
  ram.write(0, 0, data);
  set(Reg.DST_LO, 0x20_0000);
  set(Reg.LEN, MAX_LENGTH);
  start(Operation.COPY);
  t.is(status().error, EngineError.NONE);
  t.deepEqual(load(0x20_0000, MAX_LENGTH), data);
});

test('a read that fails: result, address of the first byte, and what arrived before', t => {
  const { set, get, status, start, load, ram } = machine();
  ram.write(0, RAM_BYTES - 4096, numbered(4096));
  set(Reg.SRC_LO, RAM_BYTES - 4096);
  set(Reg.DST_LO, 0x1000);
  set(Reg.LEN, 8192);
  start(Operation.COPY);
  t.deepEqual(status(), { busy: 0, done: 1, error: EngineError.MEMORY, result: MemTx.DECODE_ERROR, failedWrite: 0 });
  t.deepEqual([get(Reg.FAIL_HI), get(Reg.FAIL_LO), get(Reg.MOVED)], [0, RAM_BYTES, 4096]);
  t.deepEqual(load(0x1000, 4096), numbered(4096));
});

test('pieces end at the pages of the source, too', t => {
  const { set, get, start } = machine();
  set(Reg.SRC_LO, RAM_BYTES - 100);
  set(Reg.DST_LO, 0x1000);
  set(Reg.LEN, 200);
  start(Operation.COPY);
  t.deepEqual([get(Reg.FAIL_LO), get(Reg.MOVED)], [RAM_BYTES, 100]);
});

test('a write that fails above 4 GiB; the next command clears the report', t => {
  const { set, get, status, start } = machine();
  set(Reg.DST_HI, 5);
  set(Reg.DST_LO, 0xffff_fff0);
  set(Reg.LEN, 4);
  start(Operation.FILL);
  t.deepEqual(status(), { busy: 0, done: 1, error: EngineError.MEMORY, result: MemTx.DECODE_ERROR, failedWrite: 1 });
  t.deepEqual([get(Reg.FAIL_HI), get(Reg.FAIL_LO)], [5, 0xffff_fff0]);
  set(Reg.DST_HI, 0);
  set(Reg.DST_LO, 0);
  start(Operation.FILL);
  t.deepEqual(status(), { busy: 0, done: 1, error: 0, result: 0, failedWrite: 0 });
  t.is(get(Reg.FAIL_HI), 0);
});

test('bus mastering off: nothing is read or written', t => {
  const { engine, set, status, start, load } = machine();
  engine.fn.config.write(Config.COMMAND, Command.MEMORY, 2);
  set(Reg.DST_LO, 0x1000);
  set(Reg.PATTERN, -1);
  set(Reg.LEN, 4);
  start(Operation.FILL);
  t.deepEqual(status(), { busy: 0, done: 1, error: EngineError.MEMORY, result: MemTx.ACCESS_ERROR, failedWrite: 1 });
  t.deepEqual(load(0x1000, 4), new Uint8Array(4));
});

test('requests carry the PASID and its flags when it is valid, and nothing when it is not', t => {
  const seen: unknown[] = [];
  const note = (write: boolean, attrs: TxAttrs): void =>
    void seen.push([write, attrs.requesterId, attrs.pasid, attrs.flags]);
  const translated = Region.mmio('iommu', 0x1_0000, {
    read: (_offset, _size, attrs) => (note(false, attrs), 0),
    write: (_offset, _value, _size, attrs) => note(true, attrs),
  });
  const { set, start, status } = machine({ translated });
  set(Reg.DST_LO, 0x2000);
  set(Reg.LEN, 4);
  set(Reg.PASID, PasidWord.encode({ pasid: 0xabcde, valid: 1, privileged: 1, execute: 1 })[0]!);
  start(Operation.COPY);
  set(Reg.PASID, PasidWord.encode({ pasid: 0xabcde, privileged: 1, execute: 1 })[0]!);
  start(Operation.COPY);
  t.is(status().error, EngineError.NONE);
  t.deepEqual(seen, [
    [false, 0x18, 0xabcde, Access.EXECUTE | Access.PRIVILEGED],
    [true, 0x18, 0xabcde, Access.PRIVILEGED],
    [false, 0x18, NO_PASID, 0],
    [true, 0x18, NO_PASID, 0],
  ]);
});

test('a PASID without an IOMMU is refused, not taken for a physical address', t => {
  const { set, status, start, load } = machine();
  set(Reg.DST_LO, 0x1000);
  set(Reg.PATTERN, -1);
  set(Reg.LEN, 4);
  set(Reg.PASID, PasidWord.encode({ pasid: 1, valid: 1 })[0]!);
  start(Operation.FILL);
  t.is(status().result, MemTx.ACCESS_ERROR);
  t.deepEqual(load(0x1000, 4), new Uint8Array(4));
});

test('completion raises vector 0 through MSI-X when asked to, whether it succeeded or not', t => {
  const { engine, addressSpace, messages, set, start } = machine();
  addressSpace.write(0, MSIX, Uint8Array.of(0, 0, 0xe0, 0xfe, 0, 0, 0, 0, 0x55, 0, 0, 0, 0, 0, 0, 0));
  const at = engine.fn.capabilities.find(Capability.MSIX)!;
  engine.fn.config.write(at + 2, 0x8000, 2);
  set(Reg.LEN, 4);
  start(Operation.FILL);
  t.deepEqual(messages.messages, []);
  start(Operation.FILL, 1);
  set(Reg.LEN, 0);
  start(Operation.FILL, 1);
  const message = { requesterId: 0x18, address: 0xfee0_0000, data: 0x55 };
  t.deepEqual(messages.messages, [message, message]);
});

test('with a latency, a command takes virtual time; meanwhile registers keep their values', t => {
  const { clock, set, get, status, start, load } = machine({ options: { latency: 1000 } });
  set(Reg.DST_LO, 0x1000);
  set(Reg.PATTERN, 0x0101_0101);
  set(Reg.LEN, 4);
  start(Operation.FILL);
  t.deepEqual([status().busy, status().done], [1, 0]);
  set(Reg.DST_LO, 0x2000);
  start(Operation.FILL);
  clock.step(999);
  t.deepEqual(load(0x1000, 4), new Uint8Array(4));
  clock.step(1);
  t.deepEqual([status().busy, status().done, get(Reg.DST_LO)], [0, 1, 0x1000]);
  t.deepEqual(load(0x1000, 4), Uint8Array.of(1, 1, 1, 1));
  t.deepEqual(load(0x2000, 4), new Uint8Array(4));
});

test('reset, function-level reset and unplugging cancel a command in flight', t => {
  const ways: ((at: ReturnType<typeof machine>) => void)[] = [
    ({ engine }) => engine.reset('enter'),
    ({ engine }) => {
      const express = engine.fn.capabilities.find(Capability.EXPRESS)!;
      engine.fn.config.write(express + 8, 0x8000, 2);
    },
    ({ engine }) => engine.unplug(),
    ({ engine }) => engine[Symbol.dispose](),
  ];
  for (const way of ways) {
    const at = machine({ options: { latency: 10 } });
    at.set(Reg.DST_LO, 0x1000);
    at.set(Reg.PATTERN, -1);
    at.set(Reg.LEN, 4);
    at.start(Operation.FILL);
    t.is(at.clock.next(), 10);
    way(at);
    t.is(at.clock.next(), undefined);
    at.clock.step(100);
    t.deepEqual(at.load(0x1000, 4), new Uint8Array(4));
  }
});

test('a reset in the middle of a command leaves no report of it', t => {
  const translated = Region.mmio('trap', 0x1_0000, { read: () => 0, write: () => engine.fn.reset() });
  const { engine, set, status, start, messages } = machine({ translated });
  set(Reg.DST_LO, 0xffe);
  set(Reg.LEN, 4);
  start(Operation.FILL, 1);
  engine.fn.config.write(Config.COMMAND, Command.MEMORY, 2);
  engine.fn.config.write(Config.BAR0, BAR, 4);
  t.deepEqual(status(), { busy: 0, done: 0, error: 0, result: 0, failedWrite: 0 });
  t.deepEqual(messages.messages, []);
});

test('aimed at its own registers, it starts nothing', t => {
  const { set, get, status, start } = machine();
  set(Reg.DST_LO, BAR + Reg.CTRL);
  set(Reg.PATTERN, Ctrl.encode({ start: 1, command: Operation.FILL })[0]!);
  set(Reg.LEN, 4);
  start(Operation.FILL);
  t.is(status().error, EngineError.MEMORY);
  t.is(get(Reg.MOVED), 0);
});

test('a PASID capability of 20 bits with execute and privileged, MSI, MSI-X and Express', t => {
  const { engine } = machine();
  t.is(engine.fn.pasidBits, 20);
  const at = engine.fn.capabilities.findExtended(ExtendedCapability.PASID)!;
  t.is(engine.fn.config.get16(at + 4), 0x1406);
  t.deepEqual(
    engine.fn.capabilities.standard.map(({ id }) => id),
    [Capability.EXPRESS, Capability.MSI, Capability.MSIX],
  );
});

test('the ledger tells what was asked, what it caused and what came of it', t => {
  const { ledger, set, start } = machine();
  ledger.on = true;
  set(Reg.SRC_LO, 0x1000);
  set(Reg.DST_LO, 0x2000);
  set(Reg.LEN, 4);
  start(Operation.COPY);
  const [command, read, write] = ledger.events;
  t.like(command, {
    source: 'engine0',
    kind: 'dma-command',
    data: {
      operation: 'copy',
      pasid: NO_PASID,
      source: '0x1000',
      target: '0x2000',
      length: 4,
      status: 'done=1',
      moved: 4,
    },
  });
  t.deepEqual(
    [read, write].map(event => [event!.cause, event!.kind, event!.data['write']]),
    [
      [command!.id, 'dma', false],
      [command!.id, 'dma', true],
    ],
  );
});
