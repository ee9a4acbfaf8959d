import test from 'ava';
import { Ledger, Ram, Region, StateReader, StateWriter, VirtualClock } from '@remora/core';
import { Command, Config, PciFunction } from '@remora/pci';
import type { Q35 } from './board.js';
import { q35Kind } from './plugin.js';
import { EXT_TSEG } from './smram-spec.js';

const F_SMBASE = 0x9c;
const SMRAM = 0x9d;
const ESMRAMC = 0x9e;
const MIB = 0x10_0000;

interface Bench {
  readonly board: Q35;
  /** Writes a byte of the bridge's configuration space, and tells what it holds then. */
  put(register: number, value: number): number;
  get(register: number): number;
  poke(address: number, value: number): void;
  peek(address: number): number;
}

function bench(options: Record<string, unknown> = {}): Bench {
  const config = q35Kind.properties.parse('board', { memory: 128 * MIB, ...options });
  const ram = Ram.allocate(q35Kind.ramBytes(config));
  const services = { name: 'vm', ram, clock: new VirtualClock(), ledger: new Ledger() };
  const board = q35Kind.create(services, config) as Q35;
  const space = board.hostBridge.config;
  const byte = new Uint8Array(1);
  return {
    board,
    put: (register, value) => {
      space.write(register, value, 1);
      return space.read(register, 1);
    },
    get: register => space.read(register, 1),
    poke: (address, value) => void board.addressSpace.write(0, address, Uint8Array.of(value)),
    peek: address => {
      byte[0] = 0x11;
      board.addressSpace.read(0, address, byte);
      return byte[0];
    },
  };
}

test('SMRAM: opens, closes, and is locked until reset', t => {
  const { put, get, board } = bench();
  t.is(get(SMRAM), 0x02);
  t.is(put(SMRAM, 0x42), 0x42);
  t.is(put(SMRAM, 0x52), 0x12, 'a lock closes it');
  t.is(put(SMRAM, 0x52), 0x12);
  t.is(put(SMRAM, 0x6a), 0x32, 'only D_CLS is writable then');
  t.is(put(SMRAM, 0x00), 0x12);
  board.reset('hold');
  t.is(get(SMRAM), 0x02);
  t.is(put(SMRAM, 0x42), 0x42);
});

for (const [code, mib] of [
  [0x39, 1],
  [0x3b, 2],
  [0x3d, 8],
  [0x3f, 16],
] as const) {
  test(`TSEG of ${mib} MiB ends where RAM ends, and hides it`, t => {
    const { put, get, poke, peek, board } = bench();
    const first = 128 * MIB - mib * MIB;
    t.is(get(ESMRAMC), 0x38);
    poke(first, 0x77);
    t.is(put(ESMRAMC, code), code);
    t.is(peek(first), 0x77, 'without G_SMRAME there is none');
    put(SMRAM, 0x2a);
    put(SMRAM, 0x3a);
    poke(first - 1, 1);
    t.is(peek(first - 1), 1);
    t.is(peek(first), 0xff);
    t.is(peek(128 * MIB - 1), 0xff);
    poke(first, 0x33);
    t.is(put(ESMRAMC, 0x38), code, 'locked');
    board.reset('hold');
    t.is(get(ESMRAMC), 0x38);
    t.is(peek(first), 0x77, 'it swallowed what was written meanwhile');
  });
}

test('the extended TSEG has the configured size, and tells it to whoever asks', t => {
  const { board, put, peek } = bench({ 'extended-tseg-mbytes': 5 });
  const { config } = board.hostBridge;
  t.is(config.read(EXT_TSEG, 2), 5);
  config.write(EXT_TSEG, 0x1234, 2);
  t.is(config.read(EXT_TSEG, 2), 0x1234);
  config.write(EXT_TSEG, 0xffff, 2);
  t.is(config.read(EXT_TSEG, 2), 5);
  put(ESMRAMC, 0x3f);
  put(SMRAM, 0x0a);
  t.deepEqual([peek(123 * MIB - 1), peek(123 * MIB)], [0, 0xff]);
});

test('without an extended TSEG there is no such register, and nothing of that size', t => {
  const { board, put, peek } = bench({ 'extended-tseg-mbytes': 0 });
  const { config } = board.hostBridge;
  config.write(EXT_TSEG, 0xffff, 2);
  t.is(config.read(EXT_TSEG, 2), 0);
  put(ESMRAMC, 0x3f);
  put(SMRAM, 0x0a);
  t.is(peek(128 * MIB - 1), 0);
});

test('a TSEG that is larger than RAM hides nothing', t => {
  const { put, peek } = bench({ memory: 4 * MIB });
  put(ESMRAMC, 0x3d);
  put(SMRAM, 0x0a);
  t.is(peek(4 * MIB - 1), 0);
});

test('SMRAM at SMBASE: asked for, locked, and hidden until reset', t => {
  const { put, get, poke, peek, board } = bench();
  t.is(get(F_SMBASE), 0);
  t.is(put(F_SMBASE, 0x02), 0, 'nobody asked');
  poke(0x3_0000, 0x32);
  t.is(peek(0x3_0000), 0x32);
  t.is(put(F_SMBASE, 0xff), 0x01);
  t.is(peek(0x3_0000), 0x32);
  t.is(put(F_SMBASE, 0x02), 0x02);
  for (let value = 0; value <= 0xff; value++) {
    t.is(put(F_SMBASE, value), 0x02);
    poke(0x3_0000, 0x44);
    t.is(peek(0x3_0000), 0xff);
  }
  t.deepEqual([peek(0x2_ffff), peek(0x4_ffff), peek(0x5_0000)], [0, 0xff, 0]);
  board.reset('hold');
  t.is(get(F_SMBASE), 0);
  t.is(peek(0x3_0000), 0x32);
});

test('F_SMBASE: only bit 1 locks, and only after the question', t => {
  const { put } = bench();
  t.deepEqual([put(F_SMBASE, 0x55), put(F_SMBASE, 0xff), put(F_SMBASE, 0x04), put(F_SMBASE, 0x01)], [0, 1, 1, 1]);
  t.is(put(F_SMBASE, 0xff), 0x02);
});

test('compatible SMRAM is RAM where the PCI bus has nothing; what it has there shows unless SMRAM is open', t => {
  const { board, put, poke, peek } = bench();
  const sections = board.addressSpace.sections().length;
  poke(0xa_0000, 0x12);
  t.is(peek(0xa_0000), 0x12);
  const adapter = new PciFunction('vga', { vendor: 0x1234, device: 0x1111, classCode: 0x030000 });
  const frames = { read: () => 0x77, write: () => undefined };
  adapter.addBar(0, Region.mmio('frames', 0x2_0000, frames), { type: 'mem32' });
  board.rootBus.plug(adapter, 0x08);
  adapter.config.write(Config.BAR0, 0xa_0000, 4);
  adapter.config.write(Config.COMMAND, Command.MEMORY, 2);
  t.deepEqual([peek(0x9_ffff), peek(0xa_0000), peek(0xb_fffc), peek(0xc_0000)], [0, 0x77, 0x77, 0]);
  put(SMRAM, 0x4a);
  t.is(peek(0xa_0000), 0x12);
  put(SMRAM, 0x0a);
  t.is(peek(0xa_0000), 0x77);
  adapter.config.write(Config.COMMAND, 0, 2);
  t.is(board.addressSpace.sections().length, sections, 'nothing there, nothing cut');
});

test('what was locked and hidden when the board was saved is so where it is loaded', t => {
  const from = bench();
  from.put(ESMRAMC, 0x39);
  from.put(F_SMBASE, 0xff);
  from.put(F_SMBASE, 0x02);
  from.put(SMRAM, 0x1a);
  const section = new StateWriter();
  from.board.save(section);
  const into = bench();
  into.board.load(new StateReader(section.section));
  t.deepEqual([into.peek(0x3_0000), into.peek(127 * MIB), into.peek(127 * MIB - 1)], [0xff, 0xff, 0]);
  t.is(into.put(SMRAM, 0x42), 0x1a);
  into.board.reset('hold');
  t.deepEqual([into.peek(0x3_0000), into.peek(127 * MIB)], [0, 0]);
});
