/**
 * From INTx of functions to pins of the I/O APIC, as QEMU's q35 wires them: through the eight lines PIRQA .. PIRQH of ICH9, which are
 * pins 16 .. 23. Which line a device has cannot be changed here: there are no routing registers.
 */
import { type PciBus, rootPinOf } from '@remora/pci';
import type { IoApic } from './ioapic.js';

const LINES = 8;
const FIRST_PIN = 16;
const SLOT_LINES = 4;
/** Devices from here on are ICH9's own: their INTA .. INTD are PIRQA .. PIRQD. */
const FIRST_OWN_DEVICE = 25;
/** But for its bridge to conventional PCI. */
const PCI_BRIDGE_DEVICE = 30;

export class IntxLines {
  readonly #root: PciBus;
  readonly #ioapic: IoApic;
  readonly #levels = new Uint8Array(LINES);
  readonly #wanted = new Uint8Array(LINES);

  constructor(root: PciBus, ioapic: IoApic) {
    this.#root = root;
    this.#ioapic = ioapic;
  }

  /** A function asserted its pin, or let go of it: a line is asserted as long as anybody does. */
  update(): void {
    this.#wanted.fill(0);
    for (const fn of this.#root.walk()) {
      const at = fn.intx.asserted ? rootPinOf(fn) : undefined;
      if (at !== undefined) this.#wanted[lineOf(at.device, at.pin)] = 1;
    }
    for (let line = 0; line < LINES; line++) {
      const level = this.#wanted[line]!;
      if (level === this.#levels[line]) continue;
      this.#levels[line] = level;
      this.#ioapic.set(FIRST_PIN + line, level === 1);
    }
  }

  /** The I/O APIC was loaded: what it has at these pins came from here. */
  load(): void {
    for (let line = 0; line < LINES; line++) this.#levels[line] = this.#ioapic.asserted(FIRST_PIN + line) ? 1 : 0;
  }
}

/** Other devices share PIRQE .. PIRQH in turn. */
function lineOf(device: number, pin: number): number {
  if (device === PCI_BRIDGE_DEVICE) return SLOT_LINES + pin;
  return device < FIRST_OWN_DEVICE ? SLOT_LINES + ((device + pin) % SLOT_LINES) : pin;
}
