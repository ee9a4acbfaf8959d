/** Machines of ours on the host: their guests have its device, by vfio-pci, with and without a virtual IOMMU. */
import { frameHi, frameLo } from '@remora/bits';
import { Access, type MemoryPort } from '@remora/core';
import { createMachine, type Machine, type MachineOptions } from '@remora/machine';
import { Guest } from '@remora/machines';
import { Capability } from '@remora/pci';
import { legacyContext, type PageTable } from '@hw/intel-iommu/driver';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import type { HostRig } from './rig.js';
import type { Script } from './script.js';

const PAGE = 0x1000;
/** Where the guest's device is, and its requester id. */
const DEVICE = '00:03.0';
const REQUESTER = 0x18;
/** Where the guest puts its registers. */
const BASE = 0xe000_0000;
const MESSAGE = { address: 0xfee0_1000, data: 0x4021 } as const;
const REG = { ID: 0, IRQ_RAISE: 0x60, IRQ_ACK: 0x64, SOURCE: 0x80, TARGET: 0x88, COUNT: 0x90, COMMAND: 0x98 } as const;
const BUFFER = 0x4_0000;
const BYTES = 512;
const TRIES = 400;
const DOMAIN = 7;
/** Page-selective invalidation. */
const PAGES_OF_DOMAIN = 3;

/** `iommufd`: whether the host has that. */
export async function machineScript(script: Script, rig: HostRig, iommufd: boolean): Promise<void> {
  const device = `vfio-pci,host=${rig.devices[0]},addr=03.0`;
  await passedThrough(script, rig, 'machine', { devices: [device] });
  await shadowed(script, rig, device);
  if (!iommufd) return;
  const objects = ['iommufd,id=iommufd0'];
  await passedThrough(script, rig, 'machine on iommufd', { objects, devices: [`${device},iommufd=iommufd0`] });
}

function assemble(rig: HostRig, options: Partial<MachineOptions>): Machine {
  const machine = createMachine(rig.host, {
    board: 'q35,memory=64M',
    ...options,
    plugins: [q35Plugin, vfioPciPlugin, intelIommuPlugin],
  });
  machine.start();
  return machine;
}

async function passedThrough(
  script: Script,
  rig: HostRig,
  chapter: string,
  options: Partial<MachineOptions>,
): Promise<void> {
  script.chapter(chapter);
  using machine = assemble(rig, options);
  const edu = new GuestEdu(machine, rig, script);
  edu.place();
  await edu.interrupt();
  await edu.copy('copy within guest memory', 0x20_0000, 0x30_0000, 0x20_0000, 0x30_0000);
  await edu.copy('copy from the last page', 0x3ff_f000, 0x10_0000, 0x3ff_f000, 0x10_0000);
  await edu.copy('copy to where the guest has no memory', 0x20_0000, 0x800_0000, 0x20_0000, 0x30_0000);
  edu.identify('alive after that');
}

/** A guest with a virtual IOMMU: what it maps, the host maps, and nothing else. */
async function shadowed(script: Script, rig: HostRig, device: string): Promise<void> {
  script.chapter('machine with a vIOMMU');
  using machine = assemble(rig, { devices: ['intel-iommu,caching-mode=on', device] });
  const edu = new GuestEdu(machine, rig, script);
  edu.place();
  const guest = new Guest(machine, { mode: 'legacy' });
  const table = guest.secondStage();
  const [source, target, other] = [guest.page(), guest.page(), guest.page()].map(frame => frame * PAGE);
  await edu.copy('copy before translation', source!, target!, source!, target!);
  guest.iommu.start();
  script.say('attach', guest.iommu.attach(REQUESTER, legacyContext(table, DOMAIN)));
  await edu.copy('by addresses that are not mapped any more', source!, target!, source!, target!);
  const remap = (step: string, iova: number, address: number, access: number): void => {
    table.unmap(iova / PAGE, 1);
    script.say(step, table.map(iova / PAGE, address / PAGE, 1, access));
    invalidate(guest, iova / PAGE);
  };
  remap('map the source', 0x500_0000, source!, Access.READ);
  remap('map the target', 0x600_0000, target!, Access.READ_WRITE);
  await edu.copy('copy by IOVAs', 0x500_0000, 0x600_0000, source!, target!);
  await edu.copy('to the source, which is read only', 0x600_0000, 0x500_0000, target!, source!);
  remap('map the target elsewhere', 0x600_0000, other!, Access.READ_WRITE);
  await edu.copy('copy to the new place', 0x500_0000, 0x600_0000, source!, other!);
  await edu.copy('copy to the old place', 0x500_0000, 0x600_0000, source!, target!);
  unmap(script, guest, table, 0x600_0000);
  await edu.copy('copy to what is unmapped', 0x500_0000, 0x600_0000, source!, other!);
  guest.iommu.disableTranslation();
  await edu.copy('copy after translation', source!, target!, source!, target!);
}

function unmap(script: Script, guest: Guest, table: PageTable, iova: number): void {
  script.say('unmap the target', table.unmap(iova / PAGE, 1));
  invalidate(guest, iova / PAGE);
}

function invalidate({ iommu }: Guest, frame: number): void {
  const range = { hi: frameHi(frame), lo: frameLo(frame), addressMask: 0, leaf: false };
  iommu.iotlbInvalidate(PAGES_OF_DOMAIN, DOMAIN, range);
}

/** A guest's driver for edu: it has memory, registers and interrupts of the machine, nothing else. */
class GuestEdu {
  readonly #machine: Machine;
  readonly #rig: HostRig;
  readonly #script: Script;
  #seed = 0;

  constructor(machine: Machine, rig: HostRig, script: Script) {
    this.#machine = machine;
    this.#rig = rig;
    this.#script = script;
  }

  /** Finds it, and gives its registers a place. */
  place(): void {
    const { config } = this.#machine;
    this.#script.say('vendor and device', 0, config.read(DEVICE, 0, 4));
    config.write(DEVICE, 0x10, 0xffff_ffff, 4);
    this.#script.say('size of BAR 0', 0, config.read(DEVICE, 0x10, 4));
    config.write(DEVICE, 0x10, BASE, 4);
    config.write(DEVICE, 4, 6, 2);
    this.identify('identification');
  }

  identify(step: string): void {
    this.#script.say(step, 0, this.#get(REG.ID));
  }

  /** A message of the device's own, by way of the host's interrupt, an eventfd and our event loop. */
  async interrupt(): Promise<void> {
    const { config, messages } = this.#machine;
    let at = config.read(DEVICE, 0x34, 1);
    while (at !== 0 && config.read(DEVICE, at, 1) !== Capability.MSI) at = config.read(DEVICE, at + 1, 1);
    config.write(DEVICE, at + 4, MESSAGE.address, 4);
    config.write(DEVICE, at + 12, MESSAGE.data, 2);
    config.write(DEVICE, at + 2, 1, 2);
    const before = messages.messages.length;
    this.#set(REG.IRQ_RAISE, 1);
    for (let tries = 0; tries < TRIES && messages.messages.length === before; tries++) await this.#rig.pause();
    const { requesterId, address, data } = messages.messages.at(-1) ?? {};
    const out = { requesterId: requesterId ?? null, address: address ?? null, data: data ?? null };
    this.#script.say('message', messages.messages.length - before, out);
    this.#set(REG.IRQ_ACK, 1);
    config.write(DEVICE, at + 2, 0, 2);
  }

  /** Whether what the guest has at `read` comes to `written` when the device copies between two addresses of its own. */
  async copy(step: string, source: number, target: number, read: number, written: number): Promise<void> {
    const { memory } = this.#machine;
    this.#seed++;
    const pattern = Uint8Array.from({ length: BYTES }, (_, at) => (at * 13 + this.#seed * 57 + 1) & 0xff);
    memory.write(0, read, pattern);
    memory.write(0, written, new Uint8Array(BYTES));
    await this.#run(source, BUFFER, 1);
    await this.#run(BUFFER, target, 3);
    const found = new Uint8Array(BYTES);
    memory.read(0, written, found);
    const came = found.every((byte, at) => byte === pattern[at]);
    this.#script.say(step, 0, came ? 'all' : found.every(byte => byte === 0) ? 'nothing' : 'something else');
  }

  async #run(source: number, target: number, command: number): Promise<void> {
    this.#set(REG.SOURCE, source);
    this.#set(REG.TARGET, target);
    this.#set(REG.COUNT, BYTES);
    this.#set(REG.COMMAND, command);
    for (let tries = 0; tries < TRIES && (this.#get(REG.COMMAND) & 1) !== 0; tries++) await this.#rig.pause();
  }

  #get(offset: number): number {
    const bytes = new Uint8Array(4);
    this.#memory.read(0, BASE + offset, bytes);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  #set(offset: number, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.#memory.write(0, BASE + offset, bytes);
  }

  get #memory(): MemoryPort {
    return this.#machine.memory;
  }
}
