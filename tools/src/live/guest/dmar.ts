/** The ACPI table that tells an operating system of a remapping unit (VT-d 8). */

export interface DmarScope {
  /** `endpoint` for a PCI function; an I/O APIC also has the id by which the interrupt tables name it. */
  readonly kind: 'endpoint' | 'bridge' | 'ioapic';
  readonly id?: number;
  /** Device and function on bus 0, then those behind each bridge. */
  readonly path: readonly (readonly [device: number, fn: number])[];
  /** Bus on which the path starts; default 0. An I/O APIC's is where its requests come from. */
  readonly bus?: number;
}

export interface DmarUnit {
  /** Physical address of its registers, a multiple of 4096 below 2^53. */
  readonly base: number;
  readonly scopes: readonly DmarScope[];
}

export interface DmarOptions {
  /** Width of a device's addresses in bits. */
  readonly hostAddressWidth: number;
  readonly interruptRemapping: boolean;
}

const HEADER_BYTES = 48;
const UNIT_BYTES = 16;
const SCOPE_BYTES = 6;
const SCOPE_TYPES = { endpoint: 1, bridge: 2, ioapic: 3 } as const;
const CHECKSUM = 9;
const INTR_REMAP = 1;

/** The whole table, checksum included. */
export function dmarTable(units: readonly DmarUnit[], options: DmarOptions): Uint8Array {
  const body = units.flatMap(unitBytes);
  const table = new Uint8Array(HEADER_BYTES + body.length);
  const view = new DataView(table.buffer);
  const text = (at: number, value: string): void => table.set(new TextEncoder().encode(value), at);
  text(0, 'DMAR');
  view.setUint32(4, table.length, true);
  table[8] = 1;
  text(10, 'REMORA');
  text(16, 'REMORA  ');
  view.setUint32(24, 1, true);
  text(28, 'RMRA');
  view.setUint32(32, 1, true);
  table[36] = options.hostAddressWidth - 1;
  table[37] = options.interruptRemapping ? INTR_REMAP : 0;
  table.set(body, HEADER_BYTES);
  table[CHECKSUM] = -table.reduce((sum, byte) => sum + byte, 0);
  return table;
}

function unitBytes({ base, scopes }: DmarUnit): number[] {
  const body = scopes.flatMap(scopeBytes);
  const unit = new DataView(new ArrayBuffer(UNIT_BYTES));
  unit.setUint16(2, UNIT_BYTES + body.length, true);
  unit.setUint32(8, base % 2 ** 32, true);
  unit.setUint32(12, Math.floor(base / 2 ** 32), true);
  return [...new Uint8Array(unit.buffer), ...body];
}

function scopeBytes({ kind, id = 0, path, bus = 0 }: DmarScope): number[] {
  const steps = path.flat();
  return [SCOPE_TYPES[kind], SCOPE_BYTES + steps.length, 0, 0, id, bus, ...steps];
}
