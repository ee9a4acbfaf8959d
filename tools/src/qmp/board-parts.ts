/** What the q35 has beside PCI functions, as objects: the I/O APIC. */
import { IOAPIC_BASE, IOAPIC_BYTES, IOAPIC_PINS, IOAPIC_VERSION, Q35 } from '@hw/q35';
import type { Board } from '@remora/pci';
import { container, type QomNode, type QomProperty } from '@remora/qmp';

export interface BoardPart {
  /** Its name below the host bridge, and its type. */
  readonly name: string;
  readonly properties: readonly QomProperty[];
  readonly children: readonly (readonly [string, QomNode])[];
  /** Lines of `info qtree`. */
  readonly details: readonly string[];
}

export function boardParts(board: Board): BoardPart[] {
  return board instanceof Q35 ? [IOAPIC] : [];
}

const IOAPIC: BoardPart = {
  name: 'ioapic',
  properties: [{ name: 'version', type: 'uint8', get: () => IOAPIC_VERSION }],
  children: [
    ['ioapic[0]', container([], 'memory-region')],
    ...Array.from({ length: IOAPIC_PINS }, (_, pin): [string, QomNode] => [
      `unnamed-gpio-in[${pin}]`,
      container([], 'irq'),
    ]),
  ],
  details: [`gpio-in "" ${IOAPIC_PINS}`, `mmio ${hex(IOAPIC_BASE)}/${hex(IOAPIC_BYTES)}`],
};

function hex(value: number): string {
  return value.toString(16).padStart(16, '0');
}
