/** Interrupts of a guest's devices, from the guest's MSI-X table through its remapping table to the platform. */
import test, { type ExecutionContext } from 'ava';
import { MemTx } from '@remora/core';
import { createMachine, type Machine, type MachineOptions } from '@remora/machine';
import { Capability, PLATFORM_REQUESTER } from '@remora/pci';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import {
  Fault,
  GlobalCommand,
  InterruptEntry,
  InterruptRequest,
  PostedInterruptEntry,
  XapicPostedDescriptor,
} from '@hw/intel-iommu';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import { IOAPIC_BASE, IOAPIC_REQUESTER, IoApicOffset, type Q35, RemappableRedirectionEntry } from '@hw/q35';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import type { GuestEngine } from './guest/guest-engine.js';
import { Guest } from './guest/guest.js';
import { ENGINE, lendingHost } from './lending-host.js';

const REMAPPING = 'intel-iommu,intremap=on,eim=on';
/** In the engine's BARs: where GuestEngine puts the MSI-X table. */
const MSIX_TABLE = 0x1_0000;
const BUFFER = 0x10_0000;

function own<D extends Disposable>(t: ExecutionContext, resource: D): D {
  t.teardown(() => resource[Symbol.dispose]());
  return resource;
}

class RemappingGuest extends Guest {
  readonly table: number;

  constructor(machine: Machine, extended = false) {
    super(machine, { mode: 'legacy', firstFrame: 0x200, frames: 0x200 });
    this.table = this.page();
    this.iommu.enableQueue();
    this.iommu.setInterruptTable(this.table, 7, extended);
    this.iommu.enableInterruptRemapping();
  }

  /** Writes an entry, without an invalidation. */
  irte(index: number, words: Int32Array): void {
    this.write(this.table, new Uint8Array(words.buffer), index * 16);
  }

  /** Lets vector 0 of the engine ask for entry `index`. */
  route(engine: GuestEngine, id: string, index: number): void {
    const [fn] = this.machine.functions(id);
    const address = InterruptRequest.encode({ head: 0xfee, format: 1, handleLow: index, shv: 1 })[0]!;
    for (const [word, value] of [address, 0, 0, 0].entries()) engine.write(MSIX_TABLE + 4 * word, value);
    this.machine.config.write(engine.bdf, fn!.capabilities.find(Capability.MSIX)! + 2, 0x8000, 2);
  }
}

function started(t: ExecutionContext, devices: readonly string[], options: Partial<MachineOptions> = {}): Machine {
  const plugins = [q35Plugin, intelIommuPlugin, dmaEnginePlugin];
  const machine = own(t, createMachine(undefined, { board: 'q35,memory=8M', plugins, devices, ...options }));
  machine.start();
  return machine;
}

function interrupt(engine: GuestEngine): void {
  engine.fill({ to: BUFFER, length: 4, pattern: 0x5a5a_5a5a, interrupt: true });
}

const entry = (v: number, sid: number): Int32Array => InterruptEntry.encode({ p: 1, v, dst: 0x200, sid, svt: 1 });

test("an engine's interrupt arrives as its entry says; a changed entry counts after its invalidation", t => {
  const vm = started(t, [REMAPPING, 'dma-engine,addr=05.0,id=engine']);
  const guest = new RemappingGuest(vm);
  const engine = guest.engine('00:05.0');
  guest.irte(9, entry(0x41, 0x28));
  guest.route(engine, 'engine', 9);
  interrupt(engine);
  const message = (data: number): object => ({ requesterId: 0x28, address: 0xfee0_2000, data });
  t.deepEqual(vm.messages.messages, [message(0x41)]);
  guest.irte(9, entry(0x42, 0x28));
  interrupt(engine);
  t.is(guest.iommu.interruptEntryCacheInvalidate(9), 0);
  interrupt(engine);
  t.deepEqual(vm.messages.messages, [message(0x41), message(0x41), message(0x42)]);
});

test('32-bit destinations are in the upper half of the address', t => {
  const vm = started(t, [REMAPPING, 'dma-engine,addr=05.0,id=engine']);
  const guest = new RemappingGuest(vm, true);
  const engine = guest.engine('00:05.0');
  guest.irte(9, InterruptEntry.encode({ p: 1, v: 0x41, dst: 0x1_0203 }));
  guest.route(engine, 'engine', 9);
  interrupt(engine);
  t.deepEqual(vm.messages.messages, [{ requesterId: 0x28, address: 0x1_0200_fee0_3000, data: 0x41 }]);
});

test('what is blocked does not arrive, and the guest is told by a message that is not remapped', t => {
  const vm = started(t, [REMAPPING, 'dma-engine,addr=05.0,id=engine']);
  const guest = new RemappingGuest(vm);
  const engine = guest.engine('00:05.0');
  guest.iommu.enableFaultEvents(0, 0xfee0_1000, 0x21);
  guest.irte(9, entry(0x41, 0x30));
  guest.route(engine, 'engine', 9);
  interrupt(engine);
  t.deepEqual(vm.messages.messages, [{ requesterId: PLATFORM_REQUESTER, address: 0xfee0_1000, data: 0x21 }]);
  const faults = guest.iommu.handleFaults();
  t.is(faults.length, 1);
  t.like(faults[0], { requesterId: 0x28, reason: Fault.IR_7, hi: 9 << 16 });
  const engineMemory = new Uint8Array(4);
  t.is(vm.memory.read(0, BUFFER, engineMemory), MemTx.OK);
  t.deepEqual(engineMemory, new Uint8Array(4).fill(0x5a), 'the transfer itself went through');
});

test('compatibility format needs CFI', t => {
  const vm = started(t, [REMAPPING, 'dma-engine,addr=05.0,id=engine']);
  const guest = new RemappingGuest(vm);
  const engine = guest.engine('00:05.0');
  guest.route(engine, 'engine', 0);
  engine.write(MSIX_TABLE, 0xfee0_3000);
  engine.write(MSIX_TABLE + 8, 0x55);
  interrupt(engine);
  t.deepEqual(vm.messages.messages, []);
  guest.registers.write32(0x18, GlobalCommand.QIE | GlobalCommand.IRE | GlobalCommand.CFI);
  interrupt(engine);
  t.deepEqual(vm.messages.messages, [{ requesterId: 0x28, address: 0xfee0_3000, data: 0x55 }]);
});

test('behind a port the source is the live bus number', t => {
  const vm = started(t, [REMAPPING, 'pcie-root-port,addr=02.0,id=rp0', 'dma-engine,bus=rp0,id=engine']);
  vm.config.write('00:02.0', 0x19, 5, 1);
  vm.config.write('00:02.0', 0x1a, 5, 1);
  vm.config.write('00:02.0', 0x20, 0xe0f0_e000, 4);
  vm.config.write('00:02.0', 0x04, 6, 2);
  const guest = new RemappingGuest(vm);
  const engine = guest.engine('05:00.0');
  guest.irte(9, InterruptEntry.encode({ p: 1, v: 0x41, dst: 0x200, sid: 0x0506, svt: 2 }));
  guest.route(engine, 'engine', 9);
  interrupt(engine);
  t.deepEqual(vm.messages.messages, [{ requesterId: 0x500, address: 0xfee0_2000, data: 0x41 }]);
  vm.config.write('00:02.0', 0x19, 7, 1);
  vm.config.write('00:02.0', 0x1a, 7, 1);
  vm.functions('engine')[0]!.msi(0);
  t.is(vm.messages.messages.length, 1, 'bus 7 is not in the range 5 to 6');
});

test('a posted interrupt waits in guest memory, with one notification', t => {
  const vm = started(t, [`${REMAPPING},x-pi=on`, 'dma-engine,addr=05.0,id=engine']);
  const guest = new RemappingGuest(vm);
  const engine = guest.engine('00:05.0');
  const frame = guest.page();
  guest.write(frame, new Uint8Array(XapicPostedDescriptor.encode({ nv: 0xf2, ndst: 1 }).buffer));
  guest.irte(9, PostedInterruptEntry.encode({ p: 1, im: 1, v: 0x41, pdaLow: frame * 64, sid: 0x28, svt: 1 }));
  guest.route(engine, 'engine', 9);
  interrupt(engine);
  interrupt(engine);
  t.deepEqual(vm.messages.messages, [{ requesterId: 0x28, address: 0xfee0_1000, data: 0xf2 }]);
  t.deepEqual(guest.read(frame, 16), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0));
  t.is(guest.read(frame, 1, 32)[0], 1);
});

test('the I/O APIC asks as ff:00.0; a level triggered interrupt is ended by the vector of its pin', t => {
  const vm = started(t, [REMAPPING]);
  const guest = new RemappingGuest(vm);
  const { ioapic } = vm.board as Q35;
  const write = (offset: number, value: number): void => {
    const bytes = Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);
    t.is(vm.memory.write(0, IOAPIC_BASE + offset, bytes), MemTx.OK);
  };
  const route = (pin: number, index: number): void => {
    const words = RemappableRedirectionEntry.encode({ format: 1, indexLow: index, vector: 0x30 + pin, trigger: 1 });
    for (const half of [1, 0]) {
      write(IoApicOffset.SELECT, 0x10 + 2 * pin + half);
      write(IoApicOffset.DATA, words[half]!);
    }
  };
  const level = { p: 1, tm: 1, dst: 0x200, svt: 1 };
  guest.irte(1, InterruptEntry.encode({ ...level, v: 0x39, sid: IOAPIC_REQUESTER }));
  guest.irte(2, InterruptEntry.encode({ ...level, v: 0x3a, sid: 0x28 }));
  route(9, 1);
  route(10, 2);
  ioapic.set(9, true);
  const message = { requesterId: IOAPIC_REQUESTER, address: 0xfee0_2000, data: 0xc039 };
  t.deepEqual(vm.messages.messages, [message]);
  write(IoApicOffset.EOI, 0x39);
  t.deepEqual(vm.messages.messages, [message, message]);
  ioapic.set(10, true);
  t.is(vm.messages.messages.length, 2);
  t.like(guest.iommu.handleFaults()[0], { requesterId: IOAPIC_REQUESTER, reason: Fault.IR_7, hi: 2 << 16 });
});

test("a passed-through engine's interrupt goes through the guest's remapping", t => {
  const host = own(t, lendingHost());
  const plugins = [q35Plugin, intelIommuPlugin, vfioPciPlugin];
  const devices = [`${REMAPPING},caching-mode=on`, `vfio-pci,host=${ENGINE},addr=03.0,id=engine`];
  const vm = own(t, createMachine(host, { board: 'q35,memory=8M', plugins, devices }));
  vm.start();
  const guest = new RemappingGuest(vm);
  const engine = guest.engine('00:03.0');
  guest.irte(9, entry(0x41, 0x18));
  guest.irte(10, entry(0x42, 0x28));
  guest.route(engine, 'engine', 9);
  interrupt(engine);
  t.deepEqual(vm.messages.messages, [{ requesterId: 0x18, address: 0xfee0_2000, data: 0x41 }]);
  guest.route(engine, 'engine', 10);
  interrupt(engine);
  t.is(vm.messages.messages.length, 1);
  t.like(guest.iommu.handleFaults()[0], { requesterId: 0x18, reason: Fault.IR_7 });
});
