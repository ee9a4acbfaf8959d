// The edu device behind a vIOMMU: its DMA goes where the guest's tables say, its interrupts as the remapping table says.
import { Access } from '@remora/core';
import { createMachine, type Machine } from '@remora/machine';
import { Guest, q35Testdev } from '@remora/machines';
import { Capability } from '@remora/pci';
import { owner } from '@remora/testing';
import { BUFFER_BASE, DELAY_NS, Irq, Reg } from '@hw/edu';
import eduPlugin from '@hw/edu/plugin';
import { Fault, InterruptEntry, InterruptRequest } from '@hw/intel-iommu';
import { firstStagePasid, legacyContext, secondStagePasid } from '@hw/intel-iommu/driver';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';
import test, { type ExecutionContext } from 'ava';

const BDF = '00:06.0';
const RID = 0x30;
const BAR = 0xe100_0000;
const DOMAIN = 3;
const INDEX = 9;
const IOVA_FRAME = 0x765_4321 >> 12;
const [RUN, TO_MEMORY, INTERRUPT] = [1, 2, 4];

/** A guest's driver of the device. */
class EduDriver {
  readonly #machine: Machine;
  readonly #words = new Uint8Array(8);

  constructor(machine: Machine) {
    this.#machine = machine;
    machine.config.write(BDF, 0x10, BAR, 4);
    machine.config.write(BDF, 0x04, 6, 2);
  }

  read(offset: number): number {
    this.#machine.memory.read(0, BAR + offset, this.#words.subarray(0, 4));
    return new DataView(this.#words.buffer).getUint32(0, true);
  }

  write(offset: number, value: number, size: 4 | 8 = 4): void {
    new DataView(this.#words.buffer).setBigUint64(0, BigInt(value), true);
    this.#machine.memory.write(0, BAR + offset, this.#words.subarray(0, size));
  }

  /** Runs a transfer to its end. */
  transfer(source: number, target: number, count: number, command: number): void {
    this.write(Reg.DMA_SRC, source, 8);
    this.write(Reg.DMA_DST, target, 8);
    this.write(Reg.DMA_COUNT, count, 8);
    this.write(Reg.DMA_CMD, RUN | command, 8);
    this.#machine.clock.step(DELAY_NS);
  }

  /** Lets the device's message ask for the entry at `index`. */
  routeMessage(id: string, index: number): void {
    const [fn] = this.#machine.functions(id);
    const at = fn!.capabilities.find(Capability.MSI)!;
    const address = InterruptRequest.encode({ head: 0xfee, format: 1, handleLow: index, shv: 1 })[0]!;
    this.#machine.config.write(BDF, at + 4, address >>> 0, 4);
    this.#machine.config.write(BDF, at + 8, 0, 4);
    this.#machine.config.write(BDF, at + 12, 0, 2);
    this.#machine.config.write(BDF, at + 2, 1, 2);
  }
}

const MODES = ['legacy', 'second', 'first'] as const;

function translated(t: ExecutionContext, mode: (typeof MODES)[number]) {
  const options = mode === 'legacy' ? {} : ({ 'x-scalable-mode': 'on', 'x-flts': mode === 'first' } as const);
  const machine = owner(t)(q35Testdev(options));
  machine.start();
  const guest = new Guest(machine, { mode: mode === 'legacy' ? 'legacy' : 'scalable', pasidBits: 6 });
  const table = mode === 'first' ? guest.firstStage() : guest.secondStage();
  guest.iommu.start(undefined, () => {
    if (mode !== 'legacy') {
      const values = mode === 'first' ? firstStagePasid(table, DOMAIN) : secondStagePasid(table, DOMAIN);
      guest.iommu.pasidEntry(RID, 0, values);
    }
    guest.iommu.attach(RID, mode === 'legacy' ? legacyContext(table, DOMAIN) : {});
  });
  return { machine, guest, table, edu: new EduDriver(machine) };
}

for (const mode of MODES) {
  test(`${mode}: DMA to and from the buffer across two pages that the guest scattered`, t => {
    const { guest, table, edu } = translated(t, mode);
    const source = [guest.page(), guest.page()];
    guest.page();
    const target = [guest.page(), guest.page()].reverse();
    for (const [i, frame] of [...source, ...target].entries()) {
      t.is(table.map(IOVA_FRAME + i, frame, 1, i < 2 ? Access.READ : Access.READ_WRITE), 0);
    }
    const pattern = Uint8Array.from({ length: 200 }, (_, i) => i + 1);
    guest.write(source[0]!, pattern.subarray(0, 96), 4000);
    guest.write(source[1]!, pattern.subarray(96), 0);
    const iova = IOVA_FRAME * 4096;
    edu.transfer(iova + 4000, BUFFER_BASE + 8, 200, 0);
    edu.transfer(BUFFER_BASE + 8, iova + 2 * 4096 + 4000, 200, TO_MEMORY);
    t.deepEqual(guest.read(target[0]!, 96, 4000), pattern.slice(0, 96));
    t.deepEqual(guest.read(target[1]!, 104), pattern.slice(96));
    t.deepEqual(guest.iommu.handleFaults(), []);
  });

  test(`${mode}: what is not mapped, or read-only, faults; nothing moves`, t => {
    const { guest, table, edu } = translated(t, mode);
    const page = guest.page();
    table.map(IOVA_FRAME, page, 1, Access.READ);
    const iova = IOVA_FRAME * 4096;
    edu.transfer(BUFFER_BASE, iova, 4, TO_MEMORY);
    edu.transfer(iova + 4096, BUFFER_BASE, 4, 0);
    const faults = guest.iommu.handleFaults();
    t.like(faults[0], { requesterId: RID, write: true, hi: 0, lo: iova });
    t.is(faults[0]!.reason, mode === 'legacy' ? Fault.LGN_2 : Fault.SGN_6);
    t.deepEqual(guest.read(page, 4), new Uint8Array(4));
  });
}

test('an interrupt of each kind arrives as the remapping table says, until its entry is another', t => {
  const machine = owner(t)(
    createMachine(undefined, {
      board: 'q35,memory=16M',
      plugins: [q35Plugin, intelIommuPlugin, eduPlugin],
      devices: ['intel-iommu,intremap=on,eim=on', 'edu,addr=06.0,id=edu0,dma_mask=0xffffffffffffffff'],
    }),
  );
  machine.start();
  const guest = new Guest(machine, { mode: 'legacy' });
  const edu = new EduDriver(machine);
  const table = guest.page();
  guest.iommu.enableQueue();
  guest.iommu.setInterruptTable(table, 7, false);
  guest.iommu.enableInterruptRemapping();
  const irte = (sid: number): void => {
    const words = InterruptEntry.encode({ p: 1, v: 0x41, dst: 0x200, sid, svt: 1 });
    guest.write(table, new Uint8Array(words.buffer), INDEX * 16);
    t.is(guest.iommu.interruptEntryCacheInvalidate(INDEX), 0);
  };
  irte(RID);
  edu.routeMessage('edu0', INDEX);

  edu.write(Reg.IRQ_RAISE, 0x10);
  edu.write(Reg.IRQ_ACK, 0x10);
  edu.write(Reg.STATUS, 0x80);
  edu.write(Reg.FACTORIAL, 12);
  machine.clock.step(DELAY_NS);
  t.is(edu.read(Reg.FACTORIAL), 479_001_600);
  t.is(edu.read(Reg.IRQ_STATUS), Irq.FACTORIAL);
  edu.write(Reg.IRQ_ACK, Irq.FACTORIAL);
  edu.transfer(BUFFER_BASE, 0x10_0000, 16, TO_MEMORY | INTERRUPT);
  t.is(edu.read(Reg.IRQ_STATUS), Irq.DMA);
  const message = { requesterId: RID, address: 0xfee0_2000, data: 0x41 };
  t.deepEqual(machine.messages.messages, [message, message, message]);

  irte(RID + 8);
  edu.write(Reg.IRQ_RAISE, 1);
  t.is(machine.messages.messages.length, 3, 'blocked: the entry is of another source');
  t.like(guest.iommu.handleFaults().at(-1), { requesterId: RID, reason: Fault.IR_7 });
});
