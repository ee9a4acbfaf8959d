import test from 'ava';
import { type AddressSpace, ConfigError, Ledger, MemTx, Ram, Region, VirtualClock } from '@remora/core';
import { Command, Config, PciBridge, PciFunction, PLATFORM_REQUESTER } from '@remora/pci';
import type { Q35 } from './board.js';
import { q35Kind } from './plugin.js';
import { HOST_BRIDGE, PCIEXBAR } from './spec.js';

const MIB = 0x10_0000;
const GIB = 2 ** 30;
const ECAM = 0xb000_0000;

function board(options: Record<string, unknown> = {}): Q35 {
  const config = q35Kind.properties.parse('board', options);
  const ram = Ram.allocate(q35Kind.ramBytes(config));
  return q35Kind.create({ name: 'vm', ram, clock: new VirtualClock(), ledger: new Ledger() }, config) as Q35;
}

function fetch(space: AddressSpace, address: number, size = 4): number | undefined {
  const out = new Uint8Array(size);
  const result = space.read(Math.floor(address / 2 ** 32), address % 2 ** 32, out);
  return result === MemTx.OK ? out.reduceRight((value, byte) => value * 256 + byte, 0) : undefined;
}

function put(space: AddressSpace, address: number, value: number, size = 4): MemTx {
  const bytes = Uint8Array.from({ length: size }, (_, i) => Math.floor(value / 2 ** (8 * i)));
  return space.write(Math.floor(address / 2 ** 32), address % 2 ** 32, bytes);
}

/** Configuration mechanism 1, as libqos does it: the full byte offset in CONFIG_ADDRESS, data at 0xCFC. */
function cf8(at: Q35, bus: number, devfn: number, offset: number, size: number): number | undefined {
  put(at.portSpace, 0xcf8, 0x8000_0000 + bus * 0x1_0000 + devfn * 0x100 + offset);
  return fetch(at.portSpace, 0xcfc, size);
}

function ecam(bus: number, devfn: number, offset: number): number {
  return ECAM + bus * 0x10_0000 + devfn * 0x1000 + offset;
}

function endpoint(name = 'endpoint'): PciFunction {
  return new PciFunction(name, { vendor: 0x1234, device: 0x5678, classCode: 0xff0000, pcie: true });
}

test('512 MiB lie below 4 GiB in one piece', t => {
  const at = board();
  t.is(at.ram.size, 512 * MIB);
  t.is(fetch(at.addressSpace, 512 * MIB - 4), 0);
  t.is(fetch(at.addressSpace, 512 * MIB), undefined);
  t.is(fetch(at.addressSpace, 4 * GIB), undefined);
});

test("q35's hole: RAM up to 0xb0000000 stays below; from there on 2 GiB stay and the rest is above 4 GiB", t => {
  const ramSections = (memory: string): unknown =>
    board({ memory })
      .addressSpace.sections()
      .filter(section => section.region.kind === 'ram')
      .map(({ start, size, offset }) => ({ start, size, offset }));
  t.deepEqual(ramSections('2815M'), [{ start: 0, size: 2815 * MIB, offset: 0 }]);
  t.deepEqual(ramSections('2816M'), [
    { start: 0, size: 2 * GIB, offset: 0 },
    { start: 4 * GIB, size: 768 * MIB, offset: 2 * GIB },
  ]);
});

test('64 GiB: every byte once, and none of it allocated before it is written', t => {
  const before = process.memoryUsage().arrayBuffers;
  const at = board({ memory: '64G' });
  t.is(put(at.addressSpace, 66 * GIB - 4, 0xcafe_f00d), MemTx.OK);
  t.is(put(at.addressSpace, 2 * GIB - 4, 0x1234_5678), MemTx.OK);
  t.is(fetch(at.addressSpace, 66 * GIB), undefined);
  t.is(fetch(at.addressSpace, 2 * GIB), undefined);
  const out = new Uint8Array(4);
  at.ram.read(15, 0xffff_fffc, out);
  t.deepEqual(out, Uint8Array.of(0x0d, 0xf0, 0xfe, 0xca));
  at.ram.read(0, 0x7fff_fffc, out);
  t.deepEqual(out, Uint8Array.of(0x78, 0x56, 0x34, 0x12));
  t.true(process.memoryUsage().arrayBuffers - before < GIB);
});

test('the host bridge is 8086:29c0 at 00:00.0', t => {
  const at = board();
  t.is(cf8(at, 0, 0, 0, 4), HOST_BRIDGE.vendor + HOST_BRIDGE.device * 0x1_0000);
  t.is(cf8(at, 0, 0, 0x0a, 2), 0x0600);
});

test('an absent function answers all ones both ways, and 0xCFC too while CONFIG_ADDRESS is not enabled', t => {
  const at = board();
  t.is(cf8(at, 0, 0x10, 0, 4), 0xffff_ffff);
  t.is(cf8(at, 0, 0x10, 0, 2), 0xffff);
  t.is(fetch(at.addressSpace, ecam(0, 0x10, 0)), 0xffff_ffff);
  t.is(fetch(at.addressSpace, ecam(255, 255, 0xffc)), 0xffff_ffff);
  put(at.portSpace, 0xcf8, 0);
  t.is(fetch(at.portSpace, 0xcfc), 0xffff_ffff);
  put(at.portSpace, 0xcfc, 0);
  put(at.portSpace, 0xcf9, 0xff, 1);
  t.is(fetch(at.portSpace, 0xcf8), 0, 'a byte write is not one to CONFIG_ADDRESS');
});

test('ECAM and 0xCF8/0xCFC agree on every byte, behind bridges too', t => {
  const at = board();
  const port = new PciBridge('port', 'root-port', { vendor: 1, device: 1 });
  const fn = endpoint();
  at.rootBus.plug(port.fn, 0x08);
  port.secondary.plug(fn, 0);
  put(at.addressSpace, ecam(0, 0x08, Config.SECONDARY_BUS), 5, 1);
  put(at.addressSpace, ecam(0, 0x08, Config.SUBORDINATE_BUS), 5, 1);
  for (const [bus, devfn] of [
    [0, 0],
    [0, 0x08],
    [5, 0],
  ] as const) {
    for (let offset = 0; offset < 256; offset++) {
      t.is(cf8(at, bus, devfn, offset, 1), fetch(at.addressSpace, ecam(bus, devfn, offset), 1));
    }
  }
  put(at.addressSpace, ecam(5, 0, Config.INTERRUPT_LINE), 0x77, 1);
  t.is(cf8(at, 5, 0, Config.INTERRUPT_LINE, 1), 0x77);
  put(at.portSpace, 0xcf8, 0x8000_0000 + 5 * 0x1_0000 + Config.COMMAND);
  put(at.portSpace, 0xcfc, 7, 2);
  t.is(fetch(at.addressSpace, ecam(5, 0, Config.COMMAND), 2), 7);
});

test('byte offsets may be in the address or in the port', t => {
  const at = board();
  put(at.portSpace, 0xcf8, 0x8000_0000);
  t.is(fetch(at.portSpace, 0xcfe, 2), HOST_BRIDGE.device);
  put(at.portSpace, 0xcf8, 0x8000_0002);
  t.is(fetch(at.portSpace, 0xcfc, 2), HOST_BRIDGE.device);
  t.is(fetch(at.portSpace, 0xcfe, 2), HOST_BRIDGE.device);
});

test('extended configuration space is in ECAM only', t => {
  const at = board();
  const fn = endpoint();
  fn.enablePasid(20);
  at.rootBus.plug(fn, 0x18);
  t.is(fetch(at.addressSpace, ecam(0, 0x18, 0x100)), 0x0001_001b);
  t.is(fetch(at.addressSpace, ecam(0, 0, 0x100)), 0xffff_ffff, 'the host bridge is conventional');
});

test('PCIEXBAR moves, shrinks and closes the window', t => {
  const at = board();
  const write = (value: number): void => {
    put(at.portSpace, 0xcf8, 0x8000_0000 + PCIEXBAR);
    put(at.portSpace, 0xcfc, value);
  };
  t.is(cf8(at, 0, 0, PCIEXBAR, 4), 0xb000_0001);
  write(0xc000_0001);
  t.is(fetch(at.addressSpace, 0xb000_0000), undefined);
  t.is(fetch(at.addressSpace, 0xc000_0000, 2), 0x8086);
  t.is(fetch(at.addressSpace, 0xcfff_fffc), 0xffff_ffff);
  write(0xc400_0001);
  t.is(fetch(at.addressSpace, 0xc000_0000, 2), 0x8086, 'aligned to its size');
  write(0xc400_0000 + 1 + 2 * 2);
  t.is(fetch(at.addressSpace, 0xc400_0000, 2), 0x8086, '64 buses, 64 MiB aligned');
  t.is(fetch(at.addressSpace, 0xc800_0000), undefined);
  write(0xc000_0007);
  t.is(fetch(at.addressSpace, 0xc000_0000), undefined, 'a reserved length');
  write(0xc000_0000);
  t.is(fetch(at.addressSpace, 0xc000_0000), undefined);
  at.reset('enter');
  t.is(cf8(at, 0, 0, PCIEXBAR, 4), 0xc000_0000);
  at.reset('hold');
  t.is(fetch(at.portSpace, 0xcf8), 0);
  t.is(fetch(at.addressSpace, 0xb000_0000, 2), 0x8086);
});

test('ecam=off: as the chipset comes out of reset', t => {
  const at = board({ ecam: 'off' });
  t.is(cf8(at, 0, 0, PCIEXBAR, 4), 0xb000_0000);
  t.is(fetch(at.addressSpace, 0xb000_0000), undefined);
});

test('BARs appear in the hole, and RAM hides one that is put upon it', t => {
  const at = board();
  const fn = endpoint();
  fn.addBar(0, Region.mmio('regs', 0x1000, { read: () => 0x1234_5678, write: () => {} }), { type: 'mem32' });
  at.rootBus.plug(fn, 0x10);
  fn.config.write(Config.COMMAND, Command.MEMORY, 2);
  fn.config.write(Config.BAR0, 0xe000_0000, 4);
  t.is(fetch(at.addressSpace, 0xe000_0010), 0x1234_5678);
  fn.config.write(Config.BAR0, 0x1000_0000, 4);
  t.is(fetch(at.addressSpace, 0x1000_0010), 0);
});

test('messages are recorded with their sender, and listeners hear them until they are disposed of', t => {
  const at = board();
  const fn = endpoint();
  at.rootBus.plug(fn, 0x18);
  fn.config.write(Config.COMMAND, Command.MASTER, 2);
  const heard: number[] = [];
  const listener = at.messages.listen(message => heard.push(message.data));
  fn.dma.message(0, 0xfee0_1000, 0x41);
  put(at.addressSpace, 0xfee0_2000, 0x42);
  listener[Symbol.dispose]();
  fn.dma.message(0, 0xfee0_1000, 0x43);
  t.deepEqual(heard, [0x41, 0x42]);
  t.deepEqual(at.messages.messages, [
    { requesterId: 0x18, address: 0xfee0_1000, data: 0x41 },
    { requesterId: PLATFORM_REQUESTER, address: 0xfee0_2000, data: 0x42 },
    { requesterId: 0x18, address: 0xfee0_1000, data: 0x43 },
  ]);
});

test('RAM of another size than configured is refused', t => {
  const config = q35Kind.properties.parse('board', { memory: '1G' });
  const services = { name: 'vm', ram: Ram.allocate(MIB), clock: new VirtualClock(), ledger: new Ledger() };
  t.throws(() => q35Kind.create(services, config), { instanceOf: ConfigError, message: /1073741824 bytes configured/ });
  t.throws(() => q35Kind.properties.parse('board', { memory: '1000' }), { instanceOf: ConfigError });
});
