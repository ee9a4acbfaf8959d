/** How a guest lets a function use ATS, page requests and PASIDs: through its extended capabilities, as Linux does. */
import type { Machine } from '@remora/machine';
import { AtsLayout, ExtendedCapability, PasidLayout, PriLayout } from '@remora/pci';
import { GuestError } from './guest-error.js';

const FIRST = 0x100;
/** Of the control registers in their capabilities. */
const ATS_CONTROL = 6;
const PASID_CONTROL = 6;
const PRI_CONTROL = 4;
const PRI_STATUS = 6;
const PRI_ALLOCATION = 12;

/** Offset of an extended capability of the function at `bdf`; undefined if it has none. */
export function extendedCapability(machine: Machine, bdf: string, id: number): number | undefined {
  const seen = new Set<number>();
  for (let at = FIRST; at >= FIRST && !seen.has(at);) {
    seen.add(at);
    const header = machine.config.read(bdf, at, 4);
    if ((header & 0xffff) === id) return at;
    at = header >>> 20;
  }
  return undefined;
}

export class GuestAts {
  readonly #machine: Machine;
  readonly #bdf: string;

  constructor(machine: Machine, bdf: string) {
    this.#machine = machine;
    this.#bdf = bdf;
  }

  /** Turns ATS on, with the smallest unit of 4 KiB, or off. */
  enable(on = true): void {
    this.#write(ExtendedCapability.ATS, ATS_CONTROL, AtsLayout.encode({ enable: Number(on) })[1]! >>> 16, 2);
  }

  enablePasid(on = true): void {
    this.#write(ExtendedCapability.PASID, PASID_CONTROL, PasidLayout.encode({ enable: Number(on) })[1]! >>> 16, 2);
  }

  /** Lets the function have `allocation` page requests outstanding. */
  enablePageRequests(allocation = 32): void {
    this.#write(ExtendedCapability.PRI, PRI_ALLOCATION, allocation, 4);
    this.#write(ExtendedCapability.PRI, PRI_CONTROL, PriLayout.encode({ enable: 1 })[1]!, 2);
  }

  disablePageRequests(): void {
    this.#write(ExtendedCapability.PRI, PRI_CONTROL, 0, 2);
  }

  /** Status bits of the page request interface. */
  get pageRequestStatus(): { readonly failure: boolean; readonly unexpected: boolean; readonly stopped: boolean } {
    const status = this.#machine.config.read(this.#bdf, this.#at(ExtendedCapability.PRI) + PRI_STATUS, 2);
    const words = Int32Array.of(0, status << 16);
    const { responseFailure, unexpectedIndex, stopped } = PriLayout.fields;
    return {
      failure: responseFailure.get(words, 0) !== 0,
      unexpected: unexpectedIndex.get(words, 0) !== 0,
      stopped: stopped.get(words, 0) !== 0,
    };
  }

  #write(id: number, register: number, value: number, size: number): void {
    this.#machine.config.write(this.#bdf, this.#at(id) + register, value, size);
  }

  /** @throws GuestError if the function has no such capability. */
  #at(id: number): number {
    const at = extendedCapability(this.#machine, this.#bdf, id);
    if (at === undefined) throw new GuestError(`${this.#bdf} has no extended capability 0x${id.toString(16)}`);
    return at;
  }
}
