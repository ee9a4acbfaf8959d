// An NVMe controller behind a vIOMMU: queues, lists and data go where the guest's tables say, and nowhere else.
import { Random } from '@remora/bits';
import { Access } from '@remora/core';
import { createMachine } from '@remora/machine';
import { Guest } from '@remora/machines';
import { Capability } from '@remora/pci';
import { owner } from '@remora/testing';
import { Fault, Granularity, InterruptEntry, InterruptRequest } from '@hw/intel-iommu';
import { firstStagePasid, legacyContext, secondStagePasid } from '@hw/intel-iommu/driver';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import { IoOpcode, Reg, Status } from '@hw/nvme';
import { NvmeDriver, type Page, prpsFor, transfer } from '@hw/nvme/driver';
import nvmePlugin from '@hw/nvme/plugin';
import q35Plugin from '@hw/q35/plugin';
import test, { type ExecutionContext } from 'ava';

const BDF = '00:06.0';
const RID = 0x30;
const BAR = 0xe100_0000;
const PAGE = 4096;
const DOMAIN = 3;
const INDEX = 9;
const MODES = ['legacy', 'second', 'first'] as const;
/** The driver's memory, in the upper half of the guest's. */
const FIRST_FRAME = 0x1000;
/** No memory is at these addresses: what is not translated goes nowhere. */
const FIRST_IOVA_FRAME = 0x7_0000;

function translated(t: ExecutionContext, mode: (typeof MODES)[number], iommu = '') {
  const scalable = mode === 'legacy' ? '' : `,x-scalable-mode=on,x-flts=${mode === 'first' ? 'on' : 'off'}`;
  const machine = owner(t)(
    createMachine(undefined, {
      board: 'q35,memory=32M',
      plugins: [q35Plugin, intelIommuPlugin, nvmePlugin],
      devices: [`intel-iommu${scalable}${iommu}`, 'nvme,id=nvme0,addr=06.0,size=4M'],
    }),
  );
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
  machine.config.write(BDF, 0x10, BAR, 4);
  machine.config.write(BDF, 0x14, 0, 4);
  machine.config.write(BDF, 0x04, 6, 2);
  let frame = FIRST_FRAME;
  let iova = FIRST_IOVA_FRAME;
  const allocate = (pages: number, access: number = Access.READ_WRITE): Page => {
    iova -= pages + 1;
    t.is(table.map(iova, frame, pages, access), 0);
    frame += pages;
    return { cpu: (frame - pages) * PAGE, device: iova * PAGE };
  };
  const driver = new NvmeDriver({ memory: machine.memory, bar: BAR, allocate });
  driver.enable();
  driver.createQueues(1);
  return { machine, guest, table, driver, allocate };
}

for (const mode of MODES) {
  test(`${mode}: random transfers with lists over scattered pages`, t => {
    const { machine, guest, driver, allocate } = translated(t, mode);
    const random = new Random(7);
    const disk = new Uint8Array(0x10_0000);
    const pages = Array.from({ length: 140 }, () => allocate(1));
    const lists = Array.from({ length: 4 }, () => allocate(1));
    const order = Array.from(pages.keys());
    for (let count = 0; count < 60; count++) {
      const start = random.below(1024);
      const blocks = 1 + random.below(1024);
      const [offset, bytes] = [random.below(1024) * 4, blocks * 512];
      random.shuffle(order);
      let list = 0;
      const chosen = order.slice(0, Math.ceil((offset + bytes) / PAGE)).map(index => pages[index]!);
      const page = (): Page => lists[list++]!;
      const prps = prpsFor({
        pages: chosen,
        offset,
        bytes,
        memory: machine.memory,
        page,
        listOffset: 8 * random.below(512),
      });
      const all = Buffer.alloc(chosen.length * PAGE, random.below(256));
      const write = random.below(2) === 0;
      if (write) for (let i = 0; i < bytes; i += 4) all.writeUInt32LE(random.next(), offset + i);
      for (const [index, { cpu }] of chosen.entries()) driver.poke(cpu, all.subarray(index * PAGE, (index + 1) * PAGE));
      driver.expect(1, { ...transfer(write ? IoOpcode.WRITE : IoOpcode.READ, start, blocks), ...prps });
      if (write) disk.set(all.subarray(offset, offset + bytes), start * 512);
      else all.set(disk.subarray(start * 512, start * 512 + bytes), offset);
      const after = Buffer.concat(chosen.map(({ cpu }) => driver.peek(cpu, PAGE)));
      if (Buffer.compare(after, all) !== 0) return t.fail(`transfer ${count}`);
    }
    t.deepEqual(guest.iommu.handleFaults(), []);
  });

  test(`${mode}: a page that is not mapped, or not to be written: a fault, and Data Transfer Error`, t => {
    const { guest, table, driver, allocate } = translated(t, mode);
    driver.write(0, new Uint8Array(PAGE).fill(0x5a));
    const [good, readOnly, gone] = [allocate(1), allocate(1, Access.READ), allocate(1)];
    table.unmap(gone.device / PAGE, 1);
    const fault = (opcode: number, blocks: number, prp1: number, prp2: number, at: number, write: boolean): void => {
      const { status } = driver.run(1, { ...transfer(opcode, 0, blocks), prp1, prp2 });
      t.is(status & 0x7ff, Status.DATA_TRANSFER_ERROR);
      const [first, ...more] = guest.iommu.handleFaults();
      t.like(first, { requesterId: RID, write, hi: 0, lo: at });
      t.deepEqual(more, []);
    };
    fault(IoOpcode.READ, 8, gone.device, 0, gone.device, true);
    fault(IoOpcode.WRITE, 8, gone.device, 0, gone.device, false);
    fault(IoOpcode.READ, 16, good.device, gone.device, gone.device, true);
    fault(IoOpcode.READ, 24, good.device, gone.device, gone.device, false);
    if (mode !== 'first') fault(IoOpcode.READ, 8, readOnly.device, 0, readOnly.device, true);
    t.deepEqual(driver.peek(gone.cpu, PAGE), new Uint8Array(PAGE));
    t.deepEqual(driver.peek(readOnly.cpu, PAGE), new Uint8Array(PAGE));
    t.deepEqual(driver.read(0, 8), new Uint8Array(PAGE).fill(0x5a), 'the controller goes on');
  });
}

test('a queue that loses its mapping: a fault and a fatal status; a reset brings the controller back', t => {
  const { guest, table, driver } = translated(t, 'legacy');
  const place = driver.register(Reg.ASQ);
  table.unmap(place / PAGE, 1);
  t.is(guest.iommu.iotlbInvalidate(Granularity.DOMAIN, DOMAIN), 0);
  driver.submit(0, { opcode: 6, cdw10: 1 });
  t.is(driver.status.cfs, 1);
  const [fault] = guest.iommu.handleFaults();
  t.like(fault, { requesterId: RID, write: false, lo: place, reason: Fault.LGN_3 });
  driver.enable();
  t.is(driver.identify().length, 4096);
});

test('completions interrupt through the remapping table', t => {
  const { machine, guest, driver } = translated(t, 'legacy', ',intremap=on,eim=on');
  const interrupts = guest.page();
  guest.iommu.setInterruptTable(interrupts, 7, false);
  guest.iommu.enableInterruptRemapping();
  const words = InterruptEntry.encode({ p: 1, v: 0x51, dst: 0x200, sid: RID, svt: 1 });
  guest.write(interrupts, new Uint8Array(words.buffer), INDEX * 16);
  const [fn] = machine.functions('nvme0');
  const at = fn!.capabilities.find(Capability.MSI)!;
  machine.config.write(
    BDF,
    at + 4,
    InterruptRequest.encode({ head: 0xfee, format: 1, handleLow: INDEX, shv: 1 })[0]! >>> 0,
    4,
  );
  machine.config.write(BDF, at + 2, 1, 2);
  machine.messages.clear();
  driver.identify();
  t.deepEqual(machine.messages.messages, [{ requesterId: RID, address: 0xfee0_2000, data: 0x51 }]);
});
