/**
 * The q35 board: RAM with its hole, the PCI Express root complex, both configuration mechanisms, the I/O APIC, and a sink for
 * interrupt messages. Omits: processors and their local APICs, the ICH9 functions, system management mode, firmware.
 */
import {
  AddressSpace,
  ConfigError,
  type Inspector,
  memoryBatch,
  type Ram,
  Region,
  type ResetPhase,
  type StateReader,
  type StateWriter,
  WHOLE_SPACE,
} from '@remora/core';
import {
  type Board,
  type BoardServices,
  type FirmwareTable,
  MsiLog,
  PciBus,
  PciFunction,
  PLATFORM_REQUESTER,
} from '@remora/pci';
import { ConfigPorts, ecamOps } from './config-cycles.js';
import type { Q35Config } from './config.js';
import { dmarTable } from './dmar.js';
import { IntxLines } from './intx.js';
import { IoApic } from './ioapic.js';
import { IOAPIC_BASE, IOAPIC_REQUESTER } from './ioapic-spec.js';
import { SystemManagementRam } from './smram.js';
import {
  CONFIG_ADDRESS_PORT,
  CONFIG_PORTS,
  ECAM_BASE,
  ECAM_BYTES,
  FOUR_GIB,
  HOST_BRIDGE,
  LOW_RAM_ALL,
  LOW_RAM_SPLIT,
  MSI_BASE,
  MSI_BYTES,
  PCIEXBAR,
  Pciexbar,
} from './spec.js';

const PORT_BYTES = 0x1_0000;
/** BARs show only where the board has nothing else; the windows of the chipset lie over RAM. */
const PCI_PRIORITY = -1;
const WINDOW_PRIORITY = 1;

export class Q35 implements Board {
  readonly name: string;
  readonly ram: Ram;
  readonly memory: Region;
  readonly ports: Region;
  readonly addressSpace: AddressSpace;
  readonly portSpace: AddressSpace;
  readonly rootBus: PciBus;
  readonly hostBridge: PciFunction;
  readonly messages = new MsiLog();
  /** Pins 16 .. 23 are the lines of INTx; the others are not connected to anything of this board. */
  readonly ioapic: IoApic;
  readonly reserved: readonly number[];
  readonly #ecam: Region;
  #window: Region | undefined;
  readonly #configPorts: ConfigPorts;
  readonly #intx: IntxLines;

  /** @throws ConfigError if the RAM that the machine supplies is not of the configured size. */
  constructor(services: BoardServices, config: Q35Config) {
    if (services.ram.size !== config.memory) {
      throw new ConfigError(
        `${services.name}.memory`,
        `${config.memory} bytes configured, ${services.ram.size} supplied`,
      );
    }
    this.name = services.name;
    this.ram = services.ram;
    this.memory = Region.container('system', WHOLE_SPACE);
    this.ports = Region.container('io', PORT_BYTES);
    const pci = Region.container('pci', WHOLE_SPACE);
    this.#showRam();
    this.memory.add(0, pci, PCI_PRIORITY);
    this.memory.add(MSI_BASE, this.#processorMessages(), WINDOW_PRIORITY);
    this.addressSpace = new AddressSpace('memory', this.memory);
    this.portSpace = new AddressSpace('io', this.ports);
    this.rootBus = PciBus.root('pcie.0', {
      memory: pci,
      ports: this.ports,
      addressSpace: this.addressSpace,
      msi: this.messages.deliver,
      intx: () => this.#intx.update(),
      ledger: services.ledger,
    });
    this.ioapic = new IoApic((hi, lo, data) => this.rootBus.interrupt(IOAPIC_REQUESTER, hi, lo, data));
    this.#intx = new IntxLines(this.rootBus, this.ioapic);
    this.memory.add(IOAPIC_BASE, this.ioapic.region, WINDOW_PRIORITY);
    this.#ecam = Region.mmio('pcie-mmcfg', ECAM_BYTES, ecamOps(this.rootBus));
    this.#configPorts = new ConfigPorts(this.rootBus);
    this.ports.add(CONFIG_ADDRESS_PORT, Region.mmio('pci-conf', CONFIG_PORTS, this.#configPorts.ops));
    this.hostBridge = this.#plugHostBridge(config.ecam);
    const place = { memory: this.memory, pci, lowRam: this.#lowRam };
    const extendedTseg = config['extended-tseg-mbytes'];
    new SystemManagementRam(this.hostBridge, place, { extendedTseg });
    this.reserved = config.reserved.split(' ').flatMap(slot => (slot === '' ? [] : [parseInt(slot, 16) * 8]));
  }

  /** Bytes below 4 GiB. */
  get #lowRam(): number {
    const { size } = this.ram;
    return Math.min(size, size >= LOW_RAM_ALL ? LOW_RAM_SPLIT : LOW_RAM_ALL);
  }

  /** See q35's hole: RAM that would reach beyond the ECAM window is split at 2 GiB. */
  #showRam(): void {
    const { ram, memory } = this;
    const low = this.#lowRam;
    const region = Region.ram('ram', ram);
    memory.add(0, Region.alias('ram-below-4g', region, 0, low));
    if (ram.size > low) memory.add(FOUR_GIB, Region.alias('ram-above-4g', region, low, ram.size - low));
  }

  /** What processors write here is a message; what functions write never gets here, being sent to the sink by their own bus. */
  #processorMessages(): Region {
    return Region.mmio('msi', MSI_BYTES, {
      valid: { min: 4, max: 4 },
      impl: { min: 4, max: 4 },
      read: () => 0,
      write: (offset, value) => this.messages.deliver(PLATFORM_REQUESTER, 0, MSI_BASE + offset, value),
    });
  }

  #plugHostBridge(enabled: boolean): PciFunction {
    const bridge = new PciFunction('mch', HOST_BRIDGE);
    const value = Pciexbar.encode({ enable: enabled ? 1 : 0, baseLo: ECAM_BASE / 2 ** 26 });
    const writable = Pciexbar.encode({ enable: 1, length: 3, baseLo: 0x3f, baseHi: 0xf });
    for (const word of [0, 1]) bridge.config.define(PCIEXBAR + 4 * word, 4, value[word]!, writable[word]!);
    bridge.config.onWrite({ start: PCIEXBAR, end: PCIEXBAR + Pciexbar.bytes }, () => this.#showEcam(bridge));
    bridge.onLoad(() => this.#showEcam(bridge));
    this.rootBus.plug(bridge, 0);
    this.#showEcam(bridge);
    return bridge;
  }

  #showEcam(bridge: PciFunction): void {
    const { words } = bridge.config;
    const at = PCIEXBAR / 4;
    const { enable, length, baseLo, baseHi } = Pciexbar.fields;
    const shrink = length.get(words, at);
    const size = ECAM_BYTES >>> shrink;
    const address = baseHi.get(words, at) * FOUR_GIB + baseLo.get(words, at) * 2 ** 26;
    memoryBatch(() => {
      if (this.#window !== undefined) this.memory.remove(this.#window);
      this.#window = undefined;
      if (enable.get(words, at) === 0 || shrink > 2) return;
      this.#window = Region.alias('pcie-mmcfg-window', this.#ecam, 0, size);
      this.memory.add(address - (address % size), this.#window, WINDOW_PRIORITY);
    });
  }

  firmwareTables(): FirmwareTable[] {
    const facts = this.rootBus.iommu?.facts;
    return facts === undefined ? [] : [{ signature: 'DMAR', bytes: dmarTable(facts, this.rootBus) }];
  }

  reset(phase: ResetPhase): void {
    if (phase !== 'hold') return;
    this.hostBridge.reset();
    this.#configPorts.reset();
    this.ioapic.reset();
  }

  inspect(into: Inspector): void {
    into.value('ram', this.ram.size);
    into.record('pciexbar', Pciexbar, this.hostBridge.config.words, PCIEXBAR / 4);
    this.ioapic.inspect(into.child('ioapic'));
    into.value('messages', this.messages.messages.length);
    for (const fn of this.rootBus.walk()) fn.inspect(into.child(fn.bdf));
  }

  save(into: StateWriter): void {
    this.hostBridge.save(into.child('mch'));
    this.#configPorts.save(into.child('config-ports'));
    this.ioapic.save(into.child('ioapic'));
    this.messages.save(into.child('interrupt-messages'));
  }

  load(from: StateReader): void {
    this.hostBridge.load(from.child('mch'));
    this.#configPorts.load(from.child('config-ports'));
    this.ioapic.load(from.child('ioapic'));
    this.#intx.load();
    this.messages.load(from.child('interrupt-messages'));
  }

  [Symbol.dispose](): void {
    this.portSpace[Symbol.dispose]();
    this.addressSpace[Symbol.dispose]();
  }
}
