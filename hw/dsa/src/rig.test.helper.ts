/** A dsa at 00:07.0 with 16 MiB of memory and no IOMMU, its driver, and what arrives of its messages. */
import { AddressSpace, Ram, Region, VirtualClock, WHOLE_SPACE } from '@remora/core';
import { Command, Config, MsiLog, PciBus, type PciFunction } from '@remora/pci';
import { type DsaConfig, dsaProperties } from './config.js';
import { Dsa } from './device/device.js';
import { type Completion, type DescriptorValues, DsaDriver, type QueueValues } from './driver/index.js';

export const REGISTERS = 0xe000_0000;
export const PORTALS = 0xe100_0000;
export const MSIX_TABLE = 0xe200_0000;
export const RAM_BYTES = 0x100_0000;
export const RECORD = 0x1000;
const MSI_ADDRESS = 0xfee0_1000;
const RID = 0x38;

export type Rig = ReturnType<typeof rig>;

export function rig(options: Partial<DsaConfig> = {}, queues: readonly QueueValues[] | undefined = [{}], engines = 1) {
  const memory = Region.container('system', WHOLE_SPACE);
  const pci = Region.container('pci', WHOLE_SPACE);
  memory.add(0, Region.ram('ram', Ram.allocate(RAM_BYTES)));
  memory.add(0, pci, -1);
  const addressSpace = new AddressSpace('memory', memory);
  const messages = new MsiLog();
  const ports = Region.container('io', 0x1_0000);
  const root = PciBus.root('pcie.0', {
    memory: pci,
    ports,
    addressSpace,
    msi: messages.deliver,
    intx: () => undefined,
  });
  const clock = new VirtualClock();
  const device = new Dsa(
    { name: 'dsa0', clock, plug: (fn: PciFunction) => root.plug(fn, RID) },
    dsaProperties.parse('dsa', { ...options }),
  );
  device.realize();
  const { config } = device.fn;
  const map = (): void => {
    config.write(Config.BAR0, REGISTERS, 4);
    config.write(Config.BAR0 + 4, 0, 4);
    config.write(Config.BAR0 + 8, PORTALS, 4);
    config.write(Config.BAR0 + 12, 0, 4);
    config.write(Config.BAR0 + 16, MSIX_TABLE, 4);
    config.write(Config.COMMAND, Command.MEMORY | Command.MASTER, 2);
    // Vector v sends data v.
    for (let vector = 0; vector <= (options['work-queues'] ?? 8); vector++) {
      addressSpace.store(0, MSIX_TABLE + 16 * vector, Int32Array.of(MSI_ADDRESS, 0, vector, 0), 0, 4);
    }
    config.write(device.fn.capabilities.find(0x11)! + 2, 0x8000, 2);
  };
  map();
  const driver = new DsaDriver({ memory: addressSpace, registers: REGISTERS, portals: PORTALS });
  if (queues.length > 0) driver.start(queues, engines);
  const poke = (at: number, bytes: Uint8Array): void => void addressSpace.write(0, at, bytes);
  const peek = (at: number, length: number): Uint8Array => {
    const bytes = new Uint8Array(length);
    addressSpace.read(0, at, bytes);
    return bytes;
  };
  /** Runs one descriptor. Its record. */
  const run = (values: DescriptorValues): Completion => {
    poke(RECORD, new Uint8Array(32));
    driver.submit(0, { completion: RECORD, ...values });
    return driver.completion(RECORD);
  };
  /** Data of the messages that came since the last call. */
  const sent = (): number[] => {
    const data = messages.messages.map(each => each.data);
    messages.clear();
    return data;
  };
  return { device, clock, addressSpace, driver, config, map, poke, peek, run, sent };
}

/** Bytes that differ from place to place. */
export function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (Math.imul(i + seed, 0x9e37_79b1) >>> 24) ^ i);
}
