import test from 'ava';
import { AddressSpace, MemTx, Ram, Region, WHOLE_SPACE } from '@remora/core';
import { Command, Config, MsiLog, PciBus, type PciFunction, pciSetupIommu } from '@remora/pci';
import { IommuTestdev } from './device.js';
import { Reg } from './spec.js';

const BAR = 0xe000_0000;
const IOVA = 0x20_0567;
const GPA = 0x10_0567;

/** The device at 00:02.0 behind an IOMMU that moves 0x200000.. to 0x100000.. and refuses everything else. */
function machine() {
  const memory = Region.container('system', WHOLE_SPACE);
  const pci = Region.container('pci', WHOLE_SPACE);
  const ram = Region.ram('ram', Ram.allocate(0x40_0000));
  memory.add(0, ram);
  memory.add(0, pci, -1);
  const addressSpace = new AddressSpace('memory', memory);
  const messages = new MsiLog();
  const ports = Region.container('io', 0x1_0000);
  const root = PciBus.root('pcie.0', { memory: pci, ports, addressSpace, msi: messages.deliver });
  const translated = Region.container('translated', WHOLE_SPACE);
  translated.add(0x20_0000, Region.alias('window', ram, 0x10_0000, 0x1_0000));
  const space = new AddressSpace('dma', translated);
  pciSetupIommu(root, { wantsNesting: false, addressSpaceFor: () => space });
  const device = new IommuTestdev({
    name: 'testdev',
    guestMemory: addressSpace,
    plug: (fn: PciFunction) => root.plug(fn, 0x10),
  });
  device.realize();
  const { config } = device.fn;
  const enable = (): void => {
    config.write(Config.COMMAND, Command.IO | Command.MEMORY | Command.MASTER, 2);
    config.write(Config.BAR0, BAR, 4);
  };
  enable();
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
  const run = (values: { gva?: number; gpa?: number; length?: number; attrs?: number } = {}): string => {
    set(Reg.GVA_LO, values.gva ?? IOVA);
    set(Reg.GPA_LO, values.gpa ?? GPA);
    set(Reg.LEN, values.length ?? 4);
    set(Reg.ATTRS, values.attrs ?? 0);
    set(Reg.DBELL, 1);
    get(Reg.TRIGGERING);
    return get(Reg.RESULT).toString(16);
  };
  return { device, addressSpace, root, set, get, run, enable };
}

test('1b36:0005, class 00ff, a 4 KiB memory BAR 0 with type bits 0', t => {
  const { device } = machine();
  const { config } = device.fn;
  t.deepEqual([config.get16(0), config.get16(2), config.get16(0x0a)], [0x1b36, 0x0005, 0x00ff]);
  config.write(Config.BAR0, 0xffff_ffff, 4);
  t.is(config.get32(Config.BAR0), 0xffff_f000);
});

test('an armed DMA writes 0x12345678 through the IOMMU, unaligned, and reads it back at the physical address', t => {
  const { addressSpace, run, set, get } = machine();
  set(Reg.GVA_LO, IOVA);
  set(Reg.GPA_LO, GPA);
  set(Reg.LEN, 4);
  t.is(get(Reg.RESULT), 0xffff_ffff);
  set(Reg.DBELL, 1);
  t.is(get(Reg.RESULT), 0xffff_fffe);
  t.is(get(Reg.TRIGGERING), 0);
  t.is(get(Reg.RESULT), 0);
  const out = new Uint8Array(6);
  addressSpace.read(0, GPA - 1, out);
  t.deepEqual(out, Uint8Array.of(0, 0x78, 0x56, 0x34, 0x12, 0));
  t.is(run({ length: 7 }), '0');
});

test('each result code', t => {
  const { device, run, set, get } = machine();
  t.is(run({ length: 0 }), 'dead0001');
  t.is(run({ length: 0x20_0000 }), 'dead0001');
  t.is(run({ gva: 0x100 }), 'dead0002');
  t.is(run({ gpa: 0x7000_0000 }), 'dead0003');
  t.is(run({ gpa: GPA + 1 }), 'dead0004');
  get(Reg.TRIGGERING);
  t.is(get(Reg.RESULT), 0xdead_0005, 'a trigger consumes the armed request');
  t.is(run({ attrs: 0b1111 }), 'dead0006', 'no such space');
  t.is(run({ attrs: 0b1000 }), 'dead0006', 'secure space, not secure');
  t.is(run({ attrs: 0b1010 }), '0', 'non-secure');
  t.is(run({ attrs: 0b1001 }), '0', 'secure');
  t.is(run({ attrs: 0b0110 }), '0', 'a space that is not valid does not count');
  set(Reg.DBELL, 1);
  set(Reg.DBELL, 0);
  t.is(get(Reg.RESULT), 0xffff_ffff);
  get(Reg.TRIGGERING);
  t.is(get(Reg.RESULT), 0xdead_0005);
  device.fn.config.write(Config.COMMAND, Command.MEMORY, 2);
  t.is(run(), 'dead0002', 'bus mastering is off');
});

test('accesses other than of 4 bytes are refused, and read-only registers stay', t => {
  const { addressSpace, set, get } = machine();
  t.not(addressSpace.write(0, BAR + Reg.LEN, Uint8Array.of(1, 2)), MemTx.OK);
  t.is(get(Reg.LEN), 0);
  set(Reg.RESULT, 5);
  t.is(get(Reg.RESULT), 0xffff_ffff);
  set(Reg.TRIGGERING, 5);
  t.is(get(Reg.RESULT), 0xffff_ffff);
});

test('reset forgets an armed request and all registers', t => {
  const { device, set, get, enable } = machine();
  set(Reg.LEN, 4);
  set(Reg.DBELL, 1);
  for (const phase of ['enter', 'hold', 'exit'] as const) device.reset(phase);
  enable();
  t.is(get(Reg.RESULT), 0xffff_ffff);
  t.is(get(Reg.LEN), 0);
  get(Reg.TRIGGERING);
  t.is(get(Reg.RESULT), 0xdead_0005);
});

test('unplugged, it is gone from memory and may be disposed of', t => {
  const { device, addressSpace, root } = machine();
  device.unplug();
  t.is(root.functions[0x10], undefined);
  t.is(addressSpace.read(0, BAR, new Uint8Array(4)), MemTx.DECODE_ERROR);
  t.notThrows(() => device[Symbol.dispose]());
});
