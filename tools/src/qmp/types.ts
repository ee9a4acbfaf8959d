/** Device kinds as object types: for qom-list-types and device-list-properties. */
import type { PropertyHelp } from '@remora/core';
import type { AnyDeviceKind } from '@remora/pci';
import { ObjectStore, type QomType, type QomTypeProperty } from '@remora/qmp';
import { MACHINES } from './identity.js';

const BASE: readonly QomType[] = [
  { name: 'object', abstract: true },
  { name: 'container', parent: 'object' },
  { name: 'memory-region', parent: 'object' },
  { name: 'machine', parent: 'object', abstract: true },
  { name: 'bus', parent: 'object', abstract: true },
  { name: 'System', parent: 'bus' },
  { name: 'PCI', parent: 'bus' },
  { name: 'PCIE', parent: 'PCI' },
  { name: 'device', parent: 'object', abstract: true },
  { name: 'cpu', parent: 'device', abstract: true },
  { name: 'qemu64-x86_64-cpu', parent: 'cpu' },
  { name: 'sys-bus-device', parent: 'device', abstract: true },
  { name: 'x86-iommu', parent: 'sys-bus-device', abstract: true },
  { name: 'pci-device', parent: 'device', abstract: true },
  { name: 'ioapic-common', parent: 'sys-bus-device', abstract: true },
  { name: 'ioapic', parent: 'ioapic-common' },
  { name: 'irq', parent: 'object' },
  { name: 'q35-pcihost', parent: 'sys-bus-device' },
  { name: 'mch', parent: 'pci-device' },
];

const ADDR: QomTypeProperty = {
  name: 'addr',
  type: 'str',
  description: 'Slot and function on the bus, as 06.0 or 06',
  'default-value': -1,
};

/** All types of a machine with these kinds of device. */
export function typesOf(kinds: readonly AnyDeviceKind[]): QomType[] {
  const machines = MACHINES.map(({ name }): QomType => ({ name: `${name}-machine`, parent: 'machine' }));
  const objects = ObjectStore.kinds.map((name): QomType => ({
    name,
    parent: 'object',
    interfaces: ['user-creatable'],
  }));
  return [...BASE, ...machines, ...objects, ...kinds.map(typeOf)];
}

function typeOf(kind: AnyDeviceKind): QomType {
  const own = kind.properties.help().map(property => describe(kind, property));
  if (kind.bus === 'pci') return { name: kind.id, parent: 'pci-device', properties: [...own, ADDR] };
  const parent = kind.provides?.includes('iommu') === true ? 'x86-iommu' : 'sys-bus-device';
  return { name: kind.id, parent, properties: own };
}

function describe(kind: AnyDeviceKind, property: PropertyHelp): QomTypeProperty {
  const { name, doc, fallback } = property;
  const type = qomTypeOf(kind, property);
  const known = fallback === undefined ? {} : { 'default-value': shownAs(type, fallback) };
  return { name, type, description: doc, ...known };
}

/** Properties that QEMU has, too, with another type than their words here suggest. */
const AS_IN_QEMU: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'intel-iommu': { 'aw-bits': 'uint8', eim: 'OnOffAuto', intremap: 'OnOffAuto', 'x-scalable-mode': 'bool' },
  'pcie-root-port': { port: 'uint8' },
};

/** QEMU's name for the type of a property. */
export function qomTypeOf({ id }: Pick<AnyDeviceKind, 'id'>, { name, type }: PropertyHelp): string {
  const known = AS_IN_QEMU[id]?.[name];
  if (known !== undefined) return known;
  if (type === 'on|off') return 'bool';
  if (type === 'integer' || /^\d+(\|\d+)*$/.test(type)) return 'uint32';
  if (type === 'mask') return 'uint64';
  return type === 'size' ? 'size' : 'str';
}

/** A value as JSON has it for a property of type `type`: numbers that are kept as text are numbers; of words, `on` and `off` are truth. */
export function shownAs(type: string, value: unknown): unknown {
  if (type === 'OnOffAuto' && typeof value === 'boolean') return value ? 'on' : 'off';
  if (type === 'bool' && (value === 'on' || value === 'off')) return value === 'on';
  if (type !== 'uint64' || typeof value !== 'string') return value;
  const number = BigInt(value);
  return number <= Number.MAX_SAFE_INTEGER ? Number(number) : number;
}
