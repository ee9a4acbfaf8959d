/** A controller at 00:07.0 with 64 MiB of memory and a namespace of 4 MiB, its driver, and what arrives of its messages. */
import { AddressSpace, type Ledger, Ram, Region, VirtualClock, WHOLE_SPACE } from '@remora/core';
import { Command, Config, MsiLog, PciBus, type PciFunction } from '@remora/pci';
import { type NvmeOptions, nvmeProperties } from './config.js';
import { Nvme, type NvmeContext } from './device/device.js';
import { NvmeDriver, type Page } from './driver/index.js';

export const BAR = 0xe000_0000;
export const MSIX_TABLE = 0xe100_0000;
export const RID = 0x38;
export const MSI_ADDRESS = 0xfee0_1000;
export const RAM_BYTES = 0x400_0000;
export const TRAP = 0x5000_0000;
const MSI_DATA = 0x4000;
const PAGE = 4096;
const NO_LEDGER = { on: false } as Ledger;

export type Rig = ReturnType<typeof rig>;

export function rig(options: NvmeOptions = {}, { start = true } = {}) {
  const memory = Region.container('system', WHOLE_SPACE);
  const pci = Region.container('pci', WHOLE_SPACE);
  memory.add(0, Region.ram('ram', Ram.allocate(RAM_BYTES)));
  memory.add(0, pci, -1);
  /** Called for each access to the page at TRAP. */
  const trap = { access: () => {} };
  const act = (): number => {
    trap.access();
    return 0;
  };
  memory.add(TRAP, Region.mmio('trap', PAGE, { read: act, write: act }));
  const addressSpace = new AddressSpace('memory', memory);
  const messages = new MsiLog();
  /** What the pin was, each time it changed. */
  const turns: boolean[] = [];
  const ports = Region.container('io', 0x1_0000);
  const root = PciBus.root('pcie.0', {
    memory: pci,
    ports,
    addressSpace,
    msi: messages.deliver,
    intx: () => turns.push(device.fn.intx.asserted),
  });
  const clock = new VirtualClock();
  const context: NvmeContext = {
    name: 'nvme0',
    clock,
    ledger: NO_LEDGER,
    plug: (fn: PciFunction) => root.plug(fn, RID),
  };
  const device = new Nvme(
    context,
    nvmeProperties.parse('nvme', options.file === undefined ? { size: '4M', ...options } : { ...options }),
  );
  device.realize();
  let next = 0x10_0000;
  const allocate = (pages: number): Page => {
    const cpu = next;
    next += pages * PAGE;
    if (next > RAM_BYTES) throw new Error('no memory is left');
    return { cpu, device: cpu };
  };
  const space = device.fn.config;
  const map = (): void => {
    space.write(Config.BAR0, BAR, 4);
    space.write(Config.BAR0 + 4, 0, 4);
    if (options.msix !== false) space.write(Config.BAR0 + 16, MSIX_TABLE, 4);
    space.write(Config.COMMAND, Command.MEMORY | Command.MASTER, 2);
  };
  map();
  const driver = new NvmeDriver({ memory: addressSpace, bar: BAR, allocate });
  const enableMsi = (log2Vectors = 0): void => {
    const at = device.fn.capabilities.find(0x05)!;
    space.write(at + 4, MSI_ADDRESS, 4);
    space.write(at + 12, MSI_DATA, 2);
    space.write(at + 2, 1 | (log2Vectors << 4), 2);
  };
  /** Vector v sends data v. */
  const enableMsix = (vectors: number): void => {
    for (let vector = 0; vector < vectors; vector++) {
      addressSpace.store(0, MSIX_TABLE + 16 * vector, Int32Array.of(MSI_ADDRESS, 0, vector, 0), 0, 4);
    }
    space.write(device.fn.capabilities.find(0x11)! + 2, 0x8000, 2);
  };
  /** Data of the messages that came since the last call. */
  const sent = (): number[] => {
    const data = messages.messages.map(each => (each.data >= MSI_DATA ? each.data - MSI_DATA : each.data));
    messages.clear();
    return data;
  };
  if (start) {
    driver.enable();
    driver.createQueues(1);
  }
  return {
    device,
    root,
    trap,
    turns,
    clock,
    addressSpace,
    driver,
    allocate,
    map,
    enableMsi,
    enableMsix,
    sent,
    config: space,
  };
}

/** Bytes that differ from place to place. */
export function pattern(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (Math.imul(i + seed, 0x9e37_79b1) >>> 24) ^ i;
  return bytes;
}

/** The status without `do not retry` and `more`. */
export function code(completion: { readonly status: number }): number {
  return completion.status & 0x07ff;
}
