// A real QEMU passes descriptors of its guest's memory and of interrupts: what the device does with them, its guest sees.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Plugin } from '@remora/core';
import { Capability, Config } from '@remora/pci';
import { ServedMachine } from '@remora/tools/serve';
import { PassedDescriptor } from '@remora/vfio-user';
import { BUFFER_BASE, Reg as Edu } from '@hw/edu';
import eduPlugin from '@hw/edu/plugin';
import nvmePlugin from '@hw/nvme/plugin';
import { Reg as Nvme } from '@hw/nvme';
import test, { type ExecutionContext } from 'ava';
import { koffiMissing } from './koffi.js';
import { findVfioUserQemu, QemuVm } from './real-qemu.js';

const qemu = findVfioUserQemu();
const missing = 'missing' in qemu ? qemu.missing : koffiMissing();
/** One after the other: the descriptors that are open are counted. */
const withQemu = missing === undefined ? test.serial : test.serial.skip;
const because = missing === undefined ? '' : ` (skipped: ${missing})`;

const SLOT = 4;
const BAR = 0xfeb0_0000;
const IOAPIC = 0xfec0_0000;
const APIC = 0xfee0_0000;
/** Of the I/O APIC, for pin A of a device in slot 4. */
const PIN = 20;
const LEVEL = 0x8000;

interface Running {
  readonly vm: QemuVm;
  readonly reports: readonly string[];
}

/** Serves `device` to a QEMU. In the end nothing of what that passed is open. */
async function served(
  t: ExecutionContext,
  plugins: Plugin[],
  device: string,
  body: (running: Running) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'remora-qemu-'));
  const before = PassedDescriptor.open;
  try {
    const reports: string[] = [];
    using machine = new ServedMachine({
      plugins,
      devices: [device],
      descriptors: true,
      report: text => reports.push(text),
    });
    const socket = join(folder, 'socket');
    const listening = await machine.listen(machine.parts[0]!.id, socket);
    try {
      const { command } = qemu as { command: readonly string[] };
      await using vm = await QemuVm.start(command, folder, [{ socket, slot: SLOT }]);
      await vm.writeConfig(SLOT, Config.BAR0, BAR);
      await vm.writeConfig(SLOT, Config.COMMAND, 6, 2);
      await body({ vm, reports });
    } finally {
      listening[Symbol.dispose]();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  t.is(PassedDescriptor.open, before);
}

/** The pin's vector is 0x41, and it has a level. */
async function routePin(vm: QemuVm): Promise<void> {
  await vm.write32(IOAPIC, 0x10 + 2 * PIN);
  await vm.write32(IOAPIC + 0x10, LEVEL | 0x41);
}

/** Of the I/O APIC. */
async function pinsAsserted(vm: QemuVm): Promise<number[]> {
  const text = (await vm.monitor.run('human-monitor-command', { 'command-line': 'info pic' })) as string;
  const line = /^ +IRR +(.*)$/m.exec(text)?.[1] ?? '';
  return line
    .split(/\s+/)
    .filter(each => /^\d+$/.test(each))
    .map(Number);
}

async function capability(vm: QemuVm, id: number): Promise<number> {
  let at = (await vm.readConfig(SLOT, Config.CAPABILITIES)) & 0xff;
  while (at !== 0) {
    const header = await vm.readConfig(SLOT, at);
    if ((header & 0xff) === id) return at;
    at = (header >>> 8) & 0xff;
  }
  throw new Error(`there is no capability ${id}`);
}

withQemu(`edu: DMA by the memory that QEMU passes, and its interrupt pin, a level${because}`, async t => {
  await served(t, [eduPlugin], 'edu,addr=4', running => memoryAndPin(t, running));
});

withQemu(`nvme: MSI-X, whose table QEMU keeps${because}`, async t => {
  await served(t, [nvmePlugin], 'nvme,addr=4,msi=false', running => messages(t, running));
});

async function memoryAndPin(t: ExecutionContext, { vm, reports }: Running): Promise<void> {
  t.is(((await vm.readConfig(SLOT, Config.INTERRUPT_LINE)) >>> 8) & 0xff, 1, 'INTA');
  await vm.setMemory(0x1000, '0x0102030405060708');
  const move = async (source: number, target: number, command: number): Promise<void> => {
    await vm.write64(BAR + Edu.DMA_SRC, source);
    await vm.write64(BAR + Edu.DMA_DST, target);
    await vm.write64(BAR + Edu.DMA_COUNT, 8);
    await vm.write64(BAR + Edu.DMA_CMD, command);
    while (((await vm.read64(BAR + Edu.DMA_CMD)) & 1n) !== 0n) await new Promise(resolve => setTimeout(resolve, 5));
  };
  await move(0x1000, BUFFER_BASE, 1);
  await move(BUFFER_BASE, 0x20_1ffc, 3);
  t.is(await vm.memory(0x20_1ffc, 8), '0x0102030405060708');

  await routePin(vm);
  const before = PassedDescriptor.open;
  t.true(before > 0);
  t.is(await vm.read32(BAR + Edu.IRQ_STATUS), 0);
  t.deepEqual(await pinsAsserted(vm), []);
  await vm.write32(BAR + Edu.IRQ_RAISE, 0x10);
  while ((await pinsAsserted(vm)).length === 0) await new Promise(resolve => setTimeout(resolve, 5));
  t.deepEqual(await pinsAsserted(vm), [PIN]);
  // Any access to a BAR has QEMU lift the mask: a level that is still there is signalled again.
  t.is(await vm.read32(BAR + Edu.IRQ_STATUS), 0x10);
  while ((await pinsAsserted(vm)).length === 0) await new Promise(resolve => setTimeout(resolve, 5));
  await vm.write32(BAR + Edu.IRQ_ACK, 0x10);
  while ((await pinsAsserted(vm)).length > 0) await vm.read32(BAR + Edu.IRQ_STATUS);
  t.is(await vm.read32(BAR + Edu.IRQ_STATUS), 0);
  t.is(PassedDescriptor.open, before);
  t.deepEqual(reports, []);
}

async function messages(t: ExecutionContext, { vm, reports }: Running): Promise<void> {
  const msix = await capability(vm, Capability.MSIX);
  const table = (await vm.readConfig(SLOT, msix + 4)) & 7;
  const TABLE = BAR + 0x1_0000;
  await vm.writeConfig(SLOT, Config.BAR0 + 4 * table, TABLE);
  const before = PassedDescriptor.open;
  const entry = async (vector: number, data: number, masked: number): Promise<void> => {
    await vm.write32(TABLE + 16 * vector, APIC);
    await vm.write32(TABLE + 16 * vector + 4, 0);
    await vm.write32(TABLE + 16 * vector + 8, data);
    await vm.write32(TABLE + 16 * vector + 12, masked);
  };
  await entry(0, 0x71, 0);
  await vm.writeConfig(SLOT, msix + 2, 0x8000, 2);

  const [submission, completion, data] = [0x10_0000, 0x10_1000, 0x10_2000];
  await vm.write32(BAR + Nvme.AQA, 0x000f_000f);
  await vm.write64(BAR + Nvme.ASQ, submission);
  await vm.write64(BAR + Nvme.ACQ, completion);
  await vm.write32(BAR + Nvme.CC, 0x0046_0001);
  t.is((await vm.read32(BAR + Nvme.CSTS)) & 1, 1);
  const identify = async (tail: number): Promise<void> => {
    const command = new Uint32Array(16);
    command.set([0x06 | (tail << 16), 0, 0, 0, 0, 0, data], 0);
    command[10] = 1;
    const hex = Buffer.from(command.buffer).toString('hex');
    await vm.setMemory(submission + 64 * (tail - 1), `0x${hex}`);
    await vm.write32(BAR + Nvme.DOORBELLS, tail);
  };
  await identify(1);
  await vm.interrupted(0x71);
  t.true(PassedDescriptor.open > 0);
  t.is(await vm.memory(data, 2), '0x361b', 'the identity of the controller is in memory: its vendor');
  t.is(Number((await vm.memory(completion + 12, 4)) as string) !== 0, true);
  t.deepEqual(await vm.waiting(), [0x71]);

  // A vector that the guest masks waits; another address and data are taken when it is unmasked.
  await entry(0, 0x72, 1);
  await identify(2);
  t.is((await vm.read32(BAR + Nvme.CSTS)) & 1, 1);
  t.deepEqual(await vm.waiting(), [0x71]);
  await entry(0, 0x72, 0);
  await vm.interrupted(0x72);

  await vm.writeConfig(SLOT, msix + 2, 0, 2);
  t.is(PassedDescriptor.open, before, 'the pin has its event descriptor again, the vectors have none');
  t.deepEqual(reports, []);
}
