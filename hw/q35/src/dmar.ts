/**
 * The DMAR table (VT-d chapter 8): one remapping unit with an explicit scope list, as QEMU's q35 builds it. That is, no
 * INCLUDE_PCI_ALL flag, the I/O APIC first, then each function of the root bus, and an ATSR for all ports if the unit has device TLBs.
 */
import { Config, type IommuFacts, type PciBus, type PciFunction } from '@remora/pci';
import { IOAPIC_REQUESTER } from './ioapic-spec.js';

const REVISION = 1;
const LENGTH_AT = 4;
const CHECKSUM_AT = 9;

/** Structure types. */
const Remapping = { DRHD: 0, ATSR: 2 } as const;
/** Device scope types. */
const Scope = { ENDPOINT: 1, BRIDGE: 2, IOAPIC: 3 } as const;
const FLAG_INTR_REMAP = 1;
const FLAG_ALL_PORTS = 1;

export function dmarTable(facts: IommuFacts, root: PciBus): Uint8Array {
  const bytes = [
    ...acpiHeader('DMAR'),
    facts.hostAddressWidth - 1,
    facts.interruptRemapping ? FLAG_INTR_REMAP : 0,
    ...new Array<number>(10).fill(0),
    ...remappingUnit(facts, root),
    ...(facts.deviceTlb ? allPorts() : []),
  ];
  const table = Uint8Array.from(bytes);
  table.set(little(table.length, 4), LENGTH_AT);
  table[CHECKSUM_AT] = -table.reduce((sum, byte) => sum + byte, 0);
  return table;
}

/** 36 bytes (ACPI 5.2.6); length and checksum are filled in later. */
function acpiHeader(signature: string): number[] {
  return [
    ...ascii(signature, 4),
    ...little(0, 4),
    REVISION,
    0,
    ...ascii('REMORA', 6),
    ...ascii('REMORAPC', 8),
    ...little(1, 4),
    ...ascii('RMRA', 4),
    ...little(1, 4),
  ];
}

function remappingUnit(facts: IommuFacts, root: PciBus): number[] {
  const scopes = [...scope(Scope.IOAPIC, 0, IOAPIC_REQUESTER >>> 8, IOAPIC_REQUESTER & 0xff)];
  for (const fn of root.functions) if (fn !== undefined) scopes.push(...scope(scopeType(fn), 0, root.number, fn.devfn));
  return structure(Remapping.DRHD, [0, 0, ...little(0, 2), ...little(facts.registerBase, 8), ...scopes]);
}

function scopeType(fn: PciFunction): number {
  return (fn.config.get8(Config.HEADER_TYPE) & 0x7f) === 1 ? Scope.BRIDGE : Scope.ENDPOINT;
}

/** A path of one step: device and function on `bus`. */
function scope(type: number, enumeration: number, bus: number, devfn: number): number[] {
  return [type, 8, 0, 0, enumeration, bus, devfn >>> 3, devfn & 7];
}

function allPorts(): number[] {
  return structure(Remapping.ATSR, [FLAG_ALL_PORTS, 0, ...little(0, 2)]);
}

/** `body` behind type and length. */
function structure(type: number, body: readonly number[]): number[] {
  return [...little(type, 2), ...little(body.length + 4, 2), ...body];
}

function little(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => Math.floor(value / 2 ** (8 * i)) % 256);
}

function ascii(text: string, length: number): number[] {
  return Array.from({ length }, (_, i) => text.charCodeAt(i));
}
