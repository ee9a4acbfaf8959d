import { describePci, type PciBridgeInfo, type PciDeviceInfo, type PciRange, type PciRegion } from '../commands/pci.js';
import type { QmpTarget } from '../target.js';

/** `info pci`: what query-pci says, for people. */
export function formatPci(target: QmpTarget): string {
  return describePci(target)
    .flatMap(({ devices }) => devices.flatMap(functionLines))
    .join('\n');
}

function functionLines(fn: PciDeviceInfo): string[] {
  const { id, class_info: kind, pci_bridge: bridge } = fn;
  const name = kind.desc ?? `Class ${String(kind.class).padStart(4, '0')}`;
  const subsystem = id.subsystem === undefined ? [] : [`PCI subsystem ${pair(id['subsystem-vendor'], id.subsystem)}`];
  const pin = fn.irq_pin === 0 ? [] : [`IRQ ${fn.irq ?? 0}, pin ${String.fromCharCode(0x40 + fn.irq_pin)}`];
  const details = [
    ...subsystem,
    ...pin,
    ...(bridge === undefined ? [] : bridgeLines(bridge)),
    ...fn.regions.map(regionLine),
    `id "${fn.qdev_id}"`,
  ];
  return [
    `  Bus ${String(fn.bus).padStart(2)}, device ${String(fn.slot).padStart(3)}, function ${fn.function}:`,
    `    ${name}: PCI device ${pair(id.vendor, id.device)}`,
    ...details.map(line => `      ${line}`),
    ...(bridge?.devices ?? []).flatMap(functionLines),
  ];
}

function bridgeLines({ bus }: PciBridgeInfo): string[] {
  return [
    `BUS ${bus.number}.`,
    `secondary bus ${bus.secondary}.`,
    `subordinate bus ${bus.subordinate}.`,
    `IO range ${range(bus.io_range, 4)}`,
    `memory range ${range(bus.memory_range, 8)}`,
    `prefetchable memory range ${range(bus.prefetchable_range, 8)}`,
  ];
}

function regionLine({ bar, type, address, size, prefetch, mem_type_64: wide }: PciRegion): string {
  const kind =
    type === 'io' ? 'I/O' : `${wide === true ? 64 : 32} bit ${prefetch === true ? 'prefetchable ' : ''}memory`;
  if (address < 0) return `BAR${bar}: ${kind} (not mapped)`;
  const width = type === 'io' ? 4 : 8;
  return `BAR${bar}: ${kind} at 0x${digits(address, width)} [0x${digits(address + size - 1, width)}]`;
}

function range({ base, limit }: PciRange, width: number): string {
  return `[0x${digits(base, width)}, 0x${digits(limit, width)}]`;
}

function pair(vendor = 0, device = 0): string {
  return `${digits(vendor, 4)}:${digits(device, 4)}`;
}

function digits(value: number, width: number): string {
  return value.toString(16).padStart(width, '0');
}
