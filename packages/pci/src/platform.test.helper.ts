import { AddressSpace, Ram, Region, WHOLE_SPACE } from '@remora/core';
import { MsiLog } from './msi-sink.js';
import { PciBus } from './bus.js';
import { PciFunction, type PciIdentity } from './function.js';
import { Command, Config } from './registers.js';

/** A root complex over 16 MiB of RAM; BARs appear in the same address space, with lower priority. `told` counts changes of INTx. */
export function platform() {
  const memory = Region.container('system', WHOLE_SPACE);
  const pci = Region.container('pci', WHOLE_SPACE);
  const ports = Region.container('io', 0x1_0000);
  memory.add(0, Region.ram('ram', Ram.allocate(0x100_0000)));
  memory.add(0, pci, -1);
  const addressSpace = new AddressSpace('memory', memory);
  const portSpace = new AddressSpace('io', ports);
  const messages = new MsiLog();
  const told = { intx: 0 };
  const intx = (): void => void told.intx++;
  const root = PciBus.root('pcie.0', { memory: pci, ports, addressSpace, msi: messages.deliver, intx });
  return { root, addressSpace, portSpace, messages, told };
}

export const IDENTITY: PciIdentity = { vendor: 0x1234, device: 0x5678, revision: 3, classCode: 0x08_80_42 };

export function endpoint(name = 'endpoint', id: Partial<PciIdentity> = {}): PciFunction {
  return new PciFunction(name, { ...IDENTITY, ...id });
}

/** Registers that read as `tag` + offset and remember the last write. */
export function registers(name: string, size: number, tag = 0) {
  const written: { offset: number; value: number }[] = [];
  const region = Region.mmio(name, size, {
    read: offset => tag + offset,
    write: (offset, value) => void written.push({ offset, value }),
  });
  return { region, written };
}

export function enable(fn: PciFunction, bits: number = Command.IO | Command.MEMORY | Command.MASTER): void {
  fn.config.write(Config.COMMAND, bits, 2);
}

/** Assigns bus numbers to a bridge, as enumeration does. */
export function number(bridge: PciFunction, secondary: number, subordinate: number): void {
  bridge.config.write(Config.SECONDARY_BUS, secondary, 1);
  bridge.config.write(Config.SUBORDINATE_BUS, subordinate, 1);
}

/** Reads 4 bytes; -1 if nothing answers. */
export function peek(space: AddressSpace, address: number): number {
  const out = new Uint8Array(4);
  const result = space.read(Math.floor(address / 2 ** 32), address % 2 ** 32, out);
  return result === 0 ? new DataView(out.buffer).getUint32(0, true) : -1;
}
