/** A device's own transfers: through what is mapped for it, and where nothing is. */
import type { MappedMemory } from '@remora/host';
import { VFIO_GROUP_GET_DEVICE_FD, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA, VFIO_TYPE1v2_IOMMU } from '@remora/uapi';
import { deviceName } from './container-script.js';
import { Regions } from './device-script.js';
import { containerOf, mapBytes, unmapBytes } from './mapping-script.js';
import type { HostRig } from './rig.js';
import type { Script } from './script.js';

const PAGE = 0x1000;
const REG = { ID: 0, SOURCE: 0x80, TARGET: 0x88, COUNT: 0x90, COMMAND: 0x98 } as const;
const RUN = 1;
const TO_MEMORY = 2;
/** The device's own page, as its engine addresses it. */
const BUFFER = 0x4_0000;
const BYTES = 256;
const TRIES = 400;

/** One transfer of an edu device, waited for. False if it never ended. */
export function transfer(rig: HostRig, regions: Regions, iova: number, toMemory: boolean, bytes = BYTES): boolean {
  regions.set(REG.SOURCE, toMemory ? BUFFER : iova);
  regions.set(REG.TARGET, toMemory ? iova : BUFFER);
  regions.set(REG.COUNT, bytes);
  regions.set(REG.COMMAND, toMemory ? RUN | TO_MEMORY : RUN);
  for (let attempt = 0; attempt < TRIES; attempt++) {
    rig.wait();
    if ((regions.get(REG.COMMAND) & RUN) === 0) return true;
  }
  return false;
}

/** What the device made of the memory: `all`, `nothing`, or how much. */
export class Tries {
  readonly #script: Script;
  readonly #rig: HostRig;
  readonly #regions: Regions;
  readonly #memory: MappedMemory;
  #seed = 1;

  /** The first page of `memory` is the source of all transfers, the second one the target. */
  constructor(script: Script, rig: HostRig, regions: Regions, memory: MappedMemory) {
    this.#script = script;
    this.#rig = rig;
    this.#regions = regions;
    this.#memory = memory;
  }

  /** Has a pattern copied from one IOVA to another by way of the device, and tells how much of it came. */
  copy(step: string, source: number, target: number): void {
    const pattern = Uint8Array.from({ length: BYTES }, (_, at) => (at * 7 + this.#seed * 31) & 0xff);
    this.#seed++;
    const { ram } = this.#memory;
    ram.write(0, 0, pattern);
    ram.write(0, PAGE, new Uint8Array(PAGE));
    const ended = transfer(this.#rig, this.#regions, source, false) && transfer(this.#rig, this.#regions, target, true);
    const found = new Uint8Array(BYTES);
    ram.read(0, PAGE, found);
    const same = found.filter((byte, at) => byte === pattern[at]).length;
    const what = same === BYTES ? 'all' : found.every(byte => byte === 0) ? 'nothing' : 'something else';
    this.#script.say(step, ended ? 0 : 'endless', what);
  }

  /** The device answers as before. */
  alive(step: string): void {
    this.#script.say(step, 0, this.#regions.get(REG.ID));
  }
}

export function dmaScript(script: Script, rig: HostRig): void {
  const { syscalls, devices } = rig;
  const { container, group } = containerOf(rig, VFIO_TYPE1v2_IOMMU);
  script.chapter('DMA');
  const device = script.openBy('device', group, VFIO_GROUP_GET_DEVICE_FD, deviceName(devices[0]));
  const regions = new Regions(rig.syscalls, device);
  const memory = script.memory(4 * PAGE);
  const { address } = memory;
  regions.enable();
  const tries = new Tries(script, rig, regions, memory);
  const map = (step: string, iova: number, page: number, flags: number): void => {
    const argument = mapBytes({ vaddr: address + page * PAGE, iova, size: PAGE, flags });
    script.ioctl(step, container, VFIO_IOMMU_MAP_DMA, argument);
  };
  const unmap = (step: string, iova: number): void => {
    script.ioctl(step, container, VFIO_IOMMU_UNMAP_DMA, unmapBytes({ iova, size: PAGE }));
  };
  map('source', 0x10_0000, 0, 3);
  map('target', 0x20_0000, 1, 3);
  tries.copy('copy', 0x10_0000, 0x20_0000);
  tries.copy('to where nothing is mapped', 0x10_0000, 0x30_0000);
  tries.alive('alive after that');
  map('target, to be read only', 0x30_0000, 1, 1);
  tries.copy('to what may be read only', 0x10_0000, 0x30_0000);
  map('target, to be written only', 0x40_0000, 1, 2);
  tries.copy('to what may be written only', 0x10_0000, 0x40_0000);
  tries.copy('copy again', 0x10_0000, 0x20_0000);
  unmap('unmap the target', 0x20_0000);
  tries.copy('to what is unmapped', 0x10_0000, 0x20_0000);
  map('other memory there', 0x20_0000, 2, 3);
  tries.copy('to other memory', 0x10_0000, 0x20_0000);
  unmap('unmap that', 0x20_0000);
  map('target again', 0x20_0000, 1, 3);
  tries.copy('copy after that', 0x10_0000, 0x20_0000);
  tries.alive('alive at the end');
  for (const fd of [device, group, container]) syscalls.close(fd);
}
