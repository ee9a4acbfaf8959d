// The judge is a real QEMU with its vfio-user client: what it reads of a served device, and what the device does to its guest.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Access, MemTx, type Plugin } from '@remora/core';
import { Guest } from '@remora/machines';
import { ServedMachine } from '@remora/tools/serve';
import { listen } from '@remora/vfio-user';
import { BUFFER_BASE, IDENTIFICATION, Irq, Reg } from '@hw/edu';
import eduPlugin from '@hw/edu/plugin';
import { Fault } from '@hw/intel-iommu';
import { legacyContext } from '@hw/intel-iommu/driver';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import { Reg as Vtd } from '@hw/intel-iommu/spec';
import { AdminOpcode, Cns, Reg as Nvme } from '@hw/nvme';
import nvmePlugin from '@hw/nvme/plugin';
import test, { type ExecutionContext } from 'ava';
import { findVfioUserQemu, QemuVm } from './real-qemu.js';

const qemu = findVfioUserQemu();
const withQemu = 'command' in qemu ? test : test.skip;
const because = 'missing' in qemu ? ` (skipped: ${qemu.missing})` : '';

const SLOT = 4;
const BAR = 0xfeb0_0000;
const MSI = 0x40;
const [RUN, TO_MEMORY, INTERRUPT] = [1, 2, 4];
const DATA = '0x000102030405060708090a0b0c0d0e0f';

async function start(
  t: ExecutionContext,
  plugins: Plugin[],
  devices: string[],
  slots: Record<string, number>,
  messages = false,
) {
  const folder = mkdtempSync(join(tmpdir(), 'remora-qemu-'));
  const reports: string[] = [];
  const served = new ServedMachine({
    plugins,
    devices,
    ...(messages ? { messages } : { memory: join(folder, 'ram') }),
    report: text => reports.push(text),
    iommu: { identity: { vendor: 0x8086, device: 0x0e34, classCode: 0x080600 }, bytes: 4096 },
  });
  const open: Disposable[] = [];
  t.teardown(() => {
    for (const each of open) each[Symbol.dispose]();
    served[Symbol.dispose]();
    rmSync(folder, { recursive: true });
  });
  const sockets = [];
  for (const { id, server } of served.parts) {
    const socket = join(folder, id);
    open.push(await listen(socket, stream => server.accept(stream)));
    sockets.push({ socket, slot: slots[id]! });
  }
  const vm = await QemuVm.start((qemu as { command: readonly string[] }).command, folder, sockets, !messages);
  t.teardown(() => vm[Symbol.asyncDispose]());
  return { vm, served, reports };
}

/** Places BAR 0 and turns decoding and bus mastering on, as firmware does. */
async function enable(vm: QemuVm, slot: number, bar: number): Promise<void> {
  await vm.writeConfig(slot, 0x10, bar);
  await vm.writeConfig(slot, 4, 6, 2);
}

async function transfer(vm: QemuVm, source: number, target: number, command: number): Promise<void> {
  await vm.write64(BAR + Reg.DMA_SRC, source);
  await vm.write64(BAR + Reg.DMA_DST, target);
  await vm.write64(BAR + Reg.DMA_COUNT, 16);
  await vm.write64(BAR + Reg.DMA_CMD, RUN | command);
  while (((await vm.read64(BAR + Reg.DMA_CMD)) & 1n) !== 0n) await new Promise(resolve => setTimeout(resolve, 5));
}

for (const messages of [false, true]) {
  const how = messages ? 'by message' : 'in a file';
  withQemu(
    `edu, memory ${how}: configuration space, BAR, registers, DMA in both directions, MSI, reset${because}`,
    async t => {
      const { vm, reports } = await start(t, [eduPlugin], ['edu,id=edu0,addr=4'], { edu0: SLOT }, messages);
      t.is(await vm.readConfig(SLOT, 0), 0x11e8_1234);
      t.is(await vm.readConfig(SLOT, 8), 0x00ff_0010);
      await vm.writeConfig(SLOT, 0x10, 0xffff_ffff);
      t.is(await vm.readConfig(SLOT, 0x10), 0xfff0_0000);
      await enable(vm, SLOT, BAR);
      t.is(await vm.read32(BAR + Reg.ID), IDENTIFICATION);
      await vm.write32(BAR + Reg.LIVENESS, 0x1234_5678);
      t.is(await vm.read32(BAR + Reg.LIVENESS), 0xedcb_a987);

      await vm.setMemory(0x1008, DATA);
      await transfer(vm, 0x1008, BUFFER_BASE + 8, 0);
      await transfer(vm, BUFFER_BASE + 8, 0x20_1ff8, TO_MEMORY);
      t.is(await vm.memory(0x20_1ff8, 16), DATA);

      t.is(await vm.readConfig(SLOT, 0x34), MSI);
      await vm.writeConfig(SLOT, MSI + 4, 0xfee0_0000);
      await vm.writeConfig(SLOT, MSI + 12, 0x41, 2);
      await vm.writeConfig(SLOT, MSI + 2, 1, 2);
      await transfer(vm, BUFFER_BASE, 0x1000, TO_MEMORY | INTERRUPT);
      await vm.interrupted(0x41);
      t.is(await vm.read32(BAR + Reg.IRQ_STATUS), Irq.DMA);
      t.deepEqual(await vm.waiting(), [0x41]);

      await vm.reset();
      t.is(await vm.readConfig(SLOT, 4), 0x0010_0000, 'nothing is decoded, there are capabilities');
      t.is(await vm.readConfig(SLOT, 0x10), 0);
      await enable(vm, SLOT, BAR);
      t.is(await vm.read32(BAR + Reg.IRQ_STATUS), 0);
      t.is(await vm.read32(BAR + Reg.LIVENESS), 0);
      t.deepEqual(reports, []);
    },
  );
}

withQemu(`edu: a burst of posted writes arrives whole and in order${because}`, async t => {
  const { vm } = await start(t, [eduPlugin], ['edu,id=edu0,addr=4'], { edu0: SLOT });
  await enable(vm, SLOT, BAR);
  await Promise.all(Array.from({ length: 2000 }, (_, value) => vm.write32(BAR + Reg.LIVENESS, value)));
  t.is(await vm.read32(BAR + Reg.LIVENESS), ~1999 >>> 0);
});

for (const messages of [false, true]) {
  const how = messages ? 'by message' : 'in a file';
  withQemu(`edu, memory ${how}, without a bus to master, and beyond the memory of its guest${because}`, async t => {
    const { vm } = await start(
      t,
      [eduPlugin],
      ['edu,id=edu0,addr=4,dma_mask=0xffffffffffffffff'],
      { edu0: SLOT },
      messages,
    );
    await enable(vm, SLOT, BAR);
    await vm.setMemory(0x1000, DATA);
    await transfer(vm, 0x1000, BUFFER_BASE, 0);
    await vm.writeConfig(SLOT, 4, 2, 2);
    await transfer(vm, BUFFER_BASE, 0x2000, TO_MEMORY);
    t.is(await vm.memory(0x2000, 16), `0x${'00'.repeat(16)}`);
    await vm.writeConfig(SLOT, 4, 6, 2);
    await transfer(vm, BUFFER_BASE, 0xffff_0000, TO_MEMORY);
    await transfer(vm, BUFFER_BASE, 0x1_0000_0000, TO_MEMORY);
    await transfer(vm, BUFFER_BASE, 0x2000, TO_MEMORY);
    t.is(await vm.memory(0x2000, 16), DATA);
  });
}

for (const messages of [false, true]) {
  const how = messages ? 'by message' : 'in a file';
  withQemu(
    `edu behind a VT-d unit, both in QEMU, memory ${how}: translated by tables in its memory, a fault interrupts its processor${because}`,
    async t => {
      const slots = { vtd: 3, edu0: SLOT };
      const devices = ['intel-iommu,id=vtd', 'edu,id=edu0,addr=4'];
      const { vm, served } = await start(t, [intelIommuPlugin, eduPlugin], devices, slots, messages);
      const unit = 0xfebf_c000;
      t.is((await vm.readConfig(3, 4)) & 4, 4, 'it masters the bus though nobody told it to');
      await vm.writeConfig(3, 0x10, unit);
      await vm.writeConfig(3, 4, 6, 2);
      await enable(vm, SLOT, BAR);

      const guest = new Guest(served.machine, { mode: 'legacy', firstFrame: 0x800, frames: 0x400 });
      const table = guest.secondStage();
      const rid = SLOT << 3;
      guest.iommu.start({ hi: 0, lo: 0xfee0_0000, data: 0x51 }, () => guest.iommu.attach(rid, legacyContext(table, 3)));
      t.is((await vm.read32(unit + Vtd.GSTS)) >>> 31, 1, 'QEMU sees that translation is on');
      table.map(0x7654, 0x120, 1, Access.READ);
      table.map(0x7655, 0x355, 1, Access.READ_WRITE);
      await vm.setMemory(0x12_0008, DATA);
      await transfer(vm, 0x765_4008, BUFFER_BASE, 0);
      await transfer(vm, BUFFER_BASE, 0x765_5010, TO_MEMORY);
      t.is(await vm.memory(0x35_5010, 16), DATA);
      t.deepEqual(await vm.waiting(), []);

      await transfer(vm, BUFFER_BASE, 0x765_4000, TO_MEMORY);
      await vm.interrupted(0x51);
      t.is((await vm.read32(unit + Vtd.FSTS)) & 2, 2, 'a fault is pending');
      t.like(guest.iommu.handleFaults()[0], { requesterId: rid, write: true, lo: 0x765_4000, reason: Fault.LGN_2 });
      t.is(await vm.memory(0x12_0008, 16), DATA, 'nothing was written');
    },
  );
}

/** A fresh NVMe controller identifies itself, told by `doorbell`. Returns its serial number; undefined if it cannot, or `failed`. */
async function identify(
  vm: QemuVm,
  doorbell: () => Promise<unknown>,
  failed = () => false,
): Promise<string | undefined> {
  const [submission, completion, data] = [0x1_0000, 0x1_1000, 0x1_2000];
  await vm.write32(BAR + Nvme.CC, 0);
  await vm.setMemory(completion, `0x${'00'.repeat(16)}`);
  await vm.write32(BAR + Nvme.AQA, 0x000f_000f);
  await vm.write64(BAR + Nvme.ASQ, submission);
  await vm.write64(BAR + Nvme.ACQ, completion);
  await vm.write32(BAR + Nvme.CC, 0x0046_0001);
  while (((await vm.read32(BAR + Nvme.CSTS)) & 1) === 0) await new Promise(resolve => setTimeout(resolve, 5));
  const command = new DataView(new ArrayBuffer(64));
  command.setUint32(0, 0x0042_0000 | AdminOpcode.IDENTIFY, true);
  command.setUint32(24, data, true);
  command.setUint32(40, Cns.CONTROLLER, true);
  await vm.setMemory(submission, `0x${Buffer.from(command.buffer).toString('hex')}`);
  await doorbell();
  for (;;) {
    const entry = await vm.memory(completion + 12, 4);
    // Command 0x42, phase 1, no error.
    if (entry === '0x42000100') break;
    if (BigInt(entry) !== 0n || failed()) return undefined;
  }
  return Buffer.from((await vm.memory(data + 4, 20)).slice(2), 'hex')
    .toString('latin1')
    .trim();
}

withQemu(
  `nvme, memory by message: a posted doorbell has it fetch a command, answer it and say so${because}`,
  async t => {
    const devices = ['nvme,id=nvme0,addr=4,serial=by-message'];
    const { vm, reports } = await start(t, [nvmePlugin], devices, { nvme0: SLOT }, true);
    await enable(vm, SLOT, BAR);
    t.is(await identify(vm, () => vm.write32(BAR + Nvme.DOORBELLS, 1)), 'by-message');
    t.deepEqual(reports, []);
  },
);

withQemu(`nvme, memory by message: a read right after the doorbell does not stop QEMU${because}`, async t => {
  const devices = ['nvme,id=nvme0,addr=4,serial=by-message'];
  const { vm, reports } = await start(t, [nvmePlugin], devices, { nvme0: SLOT }, true);
  await enable(vm, SLOT, BAR);
  for (let round = 0; round < 20; round++) {
    let status = 0;
    const both = async (): Promise<void> => {
      const ringing = vm.write32(BAR + Nvme.DOORBELLS, 1);
      status = await vm.read32(BAR + Nvme.CSTS);
      await ringing;
    };
    // Whether the read was there before the controller had all answers is a matter of time: if so, it has failed and says so.
    // A completion that was given up may have come to memory all the same.
    const serial = await identify(vm, both, () => (status & 2) !== 0);
    if ((status & 2) === 0) t.is(serial, 'by-message');
    t.is(status & ~3, 0);
  }
  t.is(await identify(vm, () => vm.write32(BAR + Nvme.DOORBELLS, 1)), 'by-message', 'all is as before');
  for (const report of reports)
    t.regex(report, /^vm0.nvme0: DMA by message is refused as a request that is waited for /);
  t.true(reports.length <= 1);
});

withQemu(`long transfers by message come whole: as many messages as it takes${because}`, async t => {
  const { vm, served, reports } = await start(t, [eduPlugin], ['edu,id=edu0,addr=4'], { edu0: SLOT }, true);
  await enable(vm, SLOT, BAR);
  const bytes = new Uint8Array(Uint32Array.from({ length: 0x8_1111 }, (_, index) => index * 0x9e37_79b1).buffer);
  t.is(served.memory.write(0, 0x10_0003, bytes), MemTx.OK);
  const back = new Uint8Array(bytes.length);
  t.is(served.memory.read(0, 0x10_0003, back), MemTx.OK);
  t.is(Buffer.compare(back, bytes), 0);
  t.is(await vm.memory(0x10_0003, 16), `0x${Buffer.from(bytes.subarray(0, 16)).toString('hex')}`);
  t.deepEqual(reports, []);
});

withQemu(`by message, a function that may not master the bus does not stop the one that may${because}`, async t => {
  const slots = { edu0: SLOT, edu1: 5 };
  const { vm, reports } = await start(t, [eduPlugin], ['edu,id=edu1,addr=5', 'edu,id=edu0,addr=4'], slots, true);
  await enable(vm, SLOT, BAR);
  await vm.setMemory(0x1000, DATA);
  await transfer(vm, 0x1000, BUFFER_BASE, 0);
  await transfer(vm, BUFFER_BASE, 0x2000, TO_MEMORY);
  t.is(await vm.memory(0x2000, 16), DATA);
  t.deepEqual(reports, []);
});
