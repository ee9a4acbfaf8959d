/** The page request extended capability (PCIe 10.5.2): whether a function may ask for pages, and what became of that. */
import type { Field } from '@remora/bits';
import type { StateReader, StateWriter } from '@remora/core';
import type { Capabilities } from './capabilities.js';
import type { ConfigSpace } from './config-space.js';
import { PriLayout } from './layouts.js';
import { ExtendedCapability } from './registers.js';

/** Offset of the control register in the capability. */
const CONTROL = 4;
/** Of the register that says how many requests may be outstanding. */
const ALLOCATION = 12;
/** There are as many page request group indices. */
export const PAGE_REQUEST_GROUPS = 512;

export interface PriOptions {
  /** Page requests that the function could have outstanding, 1 .. 512 (the default). */
  readonly capacity?: number;
  /** Whether responses to requests with a PASID must carry it; default false. */
  readonly responsePasidRequired?: boolean;
}

const { enable, reset, responseFailure, unexpectedIndex, stopped, responsePasidRequired, capacity, allocation } =
  PriLayout.fields;

export class PriCapability {
  readonly offset: number;
  readonly #config: ConfigSpace;
  /** A response said "failure": the interface is off until software enables it anew (PCIe 10.4.2.2). */
  #failed = false;
  #wasEnabled = false;
  #outstanding = 0;
  #forget: () => void = () => undefined;

  /** @throws RangeError if it does not fit, or the capacity is not what PriOptions says. */
  constructor(config: ConfigSpace, capabilities: Capabilities, options: PriOptions = {}) {
    const most = options.capacity ?? PAGE_REQUEST_GROUPS;
    if (!Number.isInteger(most) || most < 1 || most > PAGE_REQUEST_GROUPS) {
      throw new RangeError(`a function has 1 to ${PAGE_REQUEST_GROUPS} page requests outstanding, not ${most}`);
    }
    this.#config = config;
    const values = PriLayout.encode({
      stopped: 1,
      responsePasidRequired: Number(options.responsePasidRequired ?? false),
      capacity: most,
    });
    const writable = PriLayout.encode({ enable: 1, reset: 1, allocation: 0xffff_ffff });
    const clearable = PriLayout.encode({ responseFailure: 1, unexpectedIndex: 1 });
    this.offset = capabilities.addExtended(
      ExtendedCapability.PRI,
      1,
      new Uint8Array(values.buffer, 4),
      new Uint8Array(writable.buffer, 4),
      new Uint8Array(clearable.buffer, 4),
    );
    const control = this.offset + CONTROL;
    config.onWrite({ start: control, end: control + 2 }, (_offset, size) => {
      if (size > 4) this.#restart();
      else this.#controlled();
    });
  }

  /** Whether page requests may be sent: software set Enable, and no response since said "failure". */
  get enabled(): boolean {
    return this.#get(enable) !== 0 && !this.#failed;
  }

  /** Page requests that may be outstanding: what software allows, at most what the function can. */
  get allocation(): number {
    return Math.min(this.#get(allocation) >>> 0, this.#get(capacity) >>> 0);
  }

  /** As software does it: off, or on with as many requests outstanding as the function can have. Not while it is as wanted. */
  enable(on: boolean): void {
    if ((this.#get(enable) !== 0) === on) return;
    if (on) this.#config.write(this.offset + ALLOCATION, this.#get(capacity), 4);
    this.#config.write(this.offset + CONTROL, PriLayout.encode({ enable: Number(on) })[1]! & 0xffff, 2);
  }

  get responsePasidRequired(): boolean {
    return this.#get(responsePasidRequired) !== 0;
  }

  /** How many page requests of the function wait for their response. */
  get outstanding(): number {
    return this.#outstanding;
  }

  set outstanding(count: number) {
    this.#outstanding = count;
    this.#updateStopped();
  }

  /** A response said "failure": whatever is outstanding gets no other (PCIe 10.4.2.2). */
  fail(): void {
    this.#failed = true;
    responseFailure.set(this.#config.words, this.offset / 4, 1);
  }

  /** A response came that nothing waits for. */
  unexpected(): void {
    unexpectedIndex.set(this.#config.words, this.offset / 4, 1);
  }

  /** What the registers do not tell. */
  save(into: StateWriter): void {
    into.flag('failed', this.#failed);
  }

  /** After the registers; the requests that are outstanding count themselves. */
  load(from: StateReader): void {
    this.#failed = from.flag('failed');
    this.#wasEnabled = this.#get(enable) !== 0;
    this.#outstanding = 0;
  }

  /** `forget` is called when software resets the interface: nothing is outstanding from then on. */
  onReset(forget: () => void): void {
    this.#forget = forget;
  }

  #controlled(): void {
    const enabled = this.#get(enable) !== 0;
    if (enabled && !this.#wasEnabled) this.#failed = false;
    this.#wasEnabled = enabled;
    const asked = this.#get(reset) !== 0;
    reset.set(this.#config.words, this.offset / 4, 0);
    if (asked && !enabled) this.#forget();
    this.#updateStopped();
  }

  /** After a reset of the function. */
  #restart(): void {
    this.#failed = false;
    this.#wasEnabled = false;
    this.#outstanding = 0;
  }

  #updateStopped(): void {
    stopped.set(this.#config.words, this.offset / 4, Number(this.#get(enable) === 0 && this.#outstanding === 0));
  }

  #get(field: Field): number {
    return field.get(this.#config.words, this.offset / 4);
  }
}
