/** A PCI device of the host, as the kernel sees it: a function, the driver it is bound to, and who has it open. */
import type { Device } from '@remora/core';
import { aliasRequesterId, Command, Config, ExtendedCapability, PasidLayout, type PciFunction } from '@remora/pci';

export class PhysicalDevice {
  /** `0000:3f:00.0`. */
  readonly bdf: string;
  readonly device: Device;
  readonly fn: PciFunction;
  readonly groupNumber: number;
  /** The kernel driver that is bound to it. */
  readonly driver: string | undefined;
  /** Whether the kernel knows a way to reset it that a user may ask for. */
  readonly resettable: boolean;
  #opened = 0;

  constructor(
    bdf: string,
    device: Device,
    fn: PciFunction,
    { groupNumber, driver, resettable }: Pick<PhysicalDevice, 'groupNumber' | 'driver' | 'resettable'>,
  ) {
    this.resettable = resettable;
    this.bdf = bdf;
    this.device = device;
    this.fn = fn;
    this.groupNumber = groupNumber;
    this.driver = driver;
  }

  /** Under which the IOMMU sees its requests. */
  get requesterId(): number {
    return aliasRequesterId(this.fn);
  }

  get pasidBits(): number {
    return this.fn.pasidBits;
  }

  setPasidEnabled(enabled: boolean): void {
    const at = this.fn.capabilities.findExtended(ExtendedCapability.PASID);
    if (at === undefined) return;
    const word = this.fn.config.get16(at + CONTROL);
    this.fn.config.write(at + CONTROL, enabled ? word | ENABLE : word & ~ENABLE, 2);
  }

  /** Whether a descriptor of it is open. */
  get isOpen(): boolean {
    return this.#opened > 0;
  }

  /** The first descriptor finds the device reset, and mastering nothing. */
  opened(): void {
    if (this.#opened++ === 0) this.reset();
  }

  /** With the last descriptor, its DMA ends. */
  closed(): void {
    if (--this.#opened === 0) this.reset();
  }

  /** Resets the function. What the kernel enabled is enabled again, and it answers where the firmware put it; bus mastering is off. */
  reset(): void {
    const pasid = this.fn.pasidEnabled;
    const ats = this.fn.atsEnabled;
    const pri = this.fn.priEnabled;
    const places = BAR_REGISTERS.map(at => [at, this.fn.config.get32(at)] as const);
    const decoding = this.fn.config.get16(Config.COMMAND) & (Command.MEMORY | Command.IO);
    this.fn.reset();
    for (const [at, value] of places) if (this.fn.config.get32(at) !== value) this.fn.config.write(at, value, 4);
    if (decoding !== 0) this.fn.config.write(Config.COMMAND, decoding, 2);
    if (pasid) this.setPasidEnabled(true);
    if (ats) this.fn.atsCapability!.enable(true);
    if (pri) this.fn.priCapability!.enable(true);
  }

  /** Translations that came with a device's state are another host's: it begins without any. */
  dropTranslations(): void {
    this.fn.atsCapability?.enable(this.fn.atsEnabled);
  }

  get busMaster(): boolean {
    return (this.fn.config.get16(Config.COMMAND) & Command.MASTER) !== 0;
  }

  state(): unknown {
    return {
      group: this.groupNumber,
      driver: this.driver ?? null,
      opened: this.#opened,
      busMaster: this.busMaster,
      pasidEnabled: this.fn.pasidEnabled,
      atsEnabled: this.fn.atsEnabled,
    };
  }
}

const BAR_REGISTERS = [0, 1, 2, 3, 4, 5].map(index => Config.BAR0 + 4 * index);
/** PASID control register in its capability. */
const CONTROL = PasidLayout.fields.enable.word * 4 + 2;
const ENABLE = 1;
