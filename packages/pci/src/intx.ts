/** INTx: a function's level at its pin, and where bridges carry it. */
import { Command, Config, Status } from './registers.js';
import type { PciFunction } from './function.js';
import type { PciPlatform } from './bus.js';

const PINS = 4;

/** A function's INTx. Whether it is asserted stands in STATUS, so that it is saved and reset with the other registers. */
export class Intx {
  readonly #fn: PciFunction;
  /** What the board was told last. */
  #told = false;

  constructor(fn: PciFunction) {
    this.#fn = fn;
    fn.config.onWrite({ start: Config.COMMAND, end: Config.STATUS + 2 }, () => this.#tell(fn.bus?.platform));
    fn.onLoad(() => (this.#told = this.asserted));
  }

  /** Whether the board sees it: asserted, and not disabled by COMMAND. */
  get asserted(): boolean {
    const { bus, config } = this.#fn;
    const disabled = (config.get16(Config.COMMAND) & Command.INTX_DISABLE) !== 0;
    return bus !== undefined && !disabled && (config.get16(Config.STATUS) & Status.INTERRUPT) !== 0;
  }

  set(level: boolean): void {
    const { bus, config } = this.#fn;
    const status = config.get16(Config.STATUS);
    config.set(Config.STATUS, level ? status | Status.INTERRUPT : status & ~Status.INTERRUPT, 2);
    this.#tell(bus?.platform);
  }

  /** The function was plugged, or has left `platform`. */
  moved(platform: PciPlatform | undefined): void {
    this.#tell(platform ?? this.#fn.bus?.platform);
  }

  #tell(platform: PciPlatform | undefined): void {
    const { asserted } = this;
    if (asserted === this.#told) return;
    this.#told = asserted;
    platform?.intx?.();
  }
}

export interface RootPin {
  /** Device number on the root bus. */
  readonly device: number;
  /** 0 .. 3 for INTA .. INTD. */
  readonly pin: number;
}

/** Where the pin of `fn` appears on its root bus: each bridge turns pins by device number (PCI-to-PCI Bridge Architecture 1.2, 9.1). Undefined without a pin. */
export function rootPinOf(fn: PciFunction): RootPin | undefined {
  let pin = fn.config.get8(Config.INTERRUPT_PIN) - 1;
  if (pin < 0) return undefined;
  let at = fn;
  for (let bridge = at.bus?.parent; bridge !== undefined; bridge = at.bus?.parent) {
    pin = (pin + (at.devfn >> 3)) % PINS;
    at = bridge;
  }
  return { device: at.devfn >> 3, pin };
}
