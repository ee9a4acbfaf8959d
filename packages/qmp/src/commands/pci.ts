/** query-pci: functions and their bridges, as their configuration spaces have them now. */
import { Config, type PciBus, type PciFunction } from '@remora/pci';
import type { QmpTarget } from '../target.js';
import { pciClassName } from './pci-classes.js';

export interface PciRange {
  readonly base: number;
  readonly limit: number;
}

export interface PciRegion {
  readonly bar: number;
  readonly type: 'memory' | 'io';
  /** -1 while it is not mapped. */
  readonly address: number;
  readonly size: number;
  readonly prefetch?: boolean;
  readonly mem_type_64?: boolean;
}

export interface PciBridgeInfo {
  readonly bus: {
    readonly number: number;
    readonly secondary: number;
    readonly subordinate: number;
    readonly io_range: PciRange;
    readonly memory_range: PciRange;
    readonly prefetchable_range: PciRange;
  };
  readonly devices?: readonly PciDeviceInfo[];
}

export interface PciDeviceInfo {
  readonly bus: number;
  readonly slot: number;
  readonly function: number;
  readonly class_info: { readonly desc?: string; readonly class: number };
  readonly id: {
    readonly device: number;
    readonly vendor: number;
    readonly subsystem?: number;
    readonly 'subsystem-vendor'?: number;
  };
  readonly irq?: number;
  readonly irq_pin: number;
  readonly qdev_id: string;
  readonly pci_bridge?: PciBridgeInfo;
  readonly regions: readonly PciRegion[];
}

export interface PciInfo {
  readonly bus: number;
  readonly devices: readonly PciDeviceInfo[];
}

const BARS = 6;

export function describePci(target: QmpTarget): PciInfo[] {
  return target.rootBuses.map(bus => ({ bus: bus.number, devices: devicesOn(target, bus) }));
}

function devicesOn(target: QmpTarget, bus: PciBus): PciDeviceInfo[] {
  return bus.functions.flatMap(fn => (fn === undefined ? [] : describeFunction(target, bus.number, fn)));
}

function describeFunction(target: QmpTarget, bus: number, fn: PciFunction): PciDeviceInfo {
  const { config, secondary } = fn;
  const code = config.get16(Config.CLASS + 1);
  const desc = pciClassName(code);
  const pin = config.get8(Config.INTERRUPT_PIN);
  const id = { device: config.get16(Config.DEVICE), vendor: config.get16(Config.VENDOR) };
  const subsystem = {
    subsystem: config.get16(Config.SUBSYSTEM),
    'subsystem-vendor': config.get16(Config.SUBSYSTEM_VENDOR),
  };
  return {
    bus,
    slot: fn.devfn >> 3,
    function: fn.devfn & 7,
    class_info: { ...(desc === undefined ? {} : { desc }), class: code },
    id: secondary === undefined ? { ...id, ...subsystem } : id,
    ...(pin === 0 ? {} : { irq: config.get8(Config.INTERRUPT_LINE) }),
    irq_pin: pin,
    qdev_id: target.idOf(fn),
    ...(secondary === undefined ? {} : { pci_bridge: describeBridge(target, fn, secondary) }),
    regions: regionsOf(fn),
  };
}

function regionsOf({ bars, config }: PciFunction): PciRegion[] {
  const regions: PciRegion[] = [];
  for (let bar = 0; bar < BARS; bar++) {
    const region = bars.region(bar);
    if (region === undefined) continue;
    const { io, wide, prefetchable } = barKind(config.get32(Config.BAR0 + 4 * bar));
    const place = { bar, address: bars.address(bar) ?? -1, size: region.size };
    if (io) regions.push({ ...place, type: 'io' });
    else regions.push({ ...place, type: 'memory', prefetch: prefetchable, mem_type_64: wide });
  }
  return regions;
}

/** PCI 3.0, 6.2.5.1: the low bits of a base address register. */
function barKind(low: number): { readonly io: boolean; readonly wide: boolean; readonly prefetchable: boolean } {
  return { io: (low & 1) !== 0, wide: (low & 6) === 4, prefetchable: (low & 8) !== 0 };
}

function describeBridge(target: QmpTarget, { config }: PciFunction, secondary: PciBus): PciBridgeInfo {
  const number = config.get8(Config.SECONDARY_BUS);
  const upper = (register: number): number => config.get32(register) * 0x1_0000_0000;
  const bus = {
    number: config.get8(Config.PRIMARY_BUS),
    secondary: number,
    subordinate: config.get8(Config.SUBORDINATE_BUS),
    io_range: range(ports(config.get8(Config.IO_BASE)), ports(config.get8(Config.IO_LIMIT)), 0x1000),
    memory_range: range(memory(config.get16(Config.MEMORY_BASE)), memory(config.get16(Config.MEMORY_LIMIT)), 0x10_0000),
    prefetchable_range: range(
      memory(config.get16(Config.PREFETCH_BASE)) + upper(Config.PREFETCH_BASE_UPPER),
      memory(config.get16(Config.PREFETCH_LIMIT)) + upper(Config.PREFETCH_LIMIT_UPPER),
      0x10_0000,
    ),
  };
  return number === 0 ? { bus } : { bus, devices: devicesOn(target, secondary) };
}

/** Of a limit, the low bits are all ones (PCI-to-PCI Bridge Architecture 1.2, 3.2.5). */
function range(base: number, limit: number, unit: number): PciRange {
  return { base, limit: limit + unit - 1 };
}

function ports(register: number): number {
  return (register >>> 4) * 0x1000;
}

function memory(register: number): number {
  return (register >>> 4) * 0x10_0000;
}
