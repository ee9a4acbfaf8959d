/** The ATS extended capability (PCIe 10.5.1): whether a function may keep translations of its own. */
import type { Capabilities } from './capabilities.js';
import type { ConfigSpace } from './config-space.js';
import { AtsLayout } from './layouts.js';
import { ExtendedCapability } from './registers.js';

/** Offset of the control register in the capability. */
const CONTROL = 6;

export interface AtsOptions {
  /** Invalidate requests that the function can take, 1 .. 32 (the default). */
  readonly queueDepth?: number;
  /** Whether it takes invalidations of all PASIDs at once; default true. */
  readonly globalInvalidate?: boolean;
}

export class AtsCapability {
  readonly offset: number;
  readonly #config: ConfigSpace;

  /** @throws RangeError if it does not fit. */
  constructor(config: ConfigSpace, capabilities: Capabilities, options: AtsOptions = {}) {
    this.#config = config;
    const values = AtsLayout.encode({
      queueDepth: (options.queueDepth ?? 32) % 32,
      pageAligned: 1,
      globalInvalidate: Number(options.globalInvalidate ?? true),
    });
    const writable = AtsLayout.encode({ stu: 0x1f, enable: 1 });
    this.offset = capabilities.addExtended(
      ExtendedCapability.ATS,
      1,
      new Uint8Array(values.buffer, 4),
      new Uint8Array(writable.buffer, 4),
    );
  }

  /** Whether software set Enable. */
  get enabled(): boolean {
    return AtsLayout.fields.enable.get(this.#config.words, this.offset / 4) !== 0;
  }

  /** log2 of the smallest translation unit in bytes, 12 .. 43. */
  get smallestShift(): number {
    return 12 + AtsLayout.fields.stu.get(this.#config.words, this.offset / 4);
  }

  /** Sets or clears Enable, as a kernel does: a configuration write, with the smallest unit of 4 KiB. */
  enable(on: boolean): void {
    const control = AtsLayout.encode({ enable: Number(on) })[1]! >>> 16;
    this.#config.write(this.offset + CONTROL, control, 2);
  }

  /** Calls `changed` after software wrote the control register. A reset of the function is not reported here. */
  onWrite(changed: () => void): void {
    const { offset } = this;
    const range = { start: offset + CONTROL, end: offset + CONTROL + 2 };
    this.#config.onWrite(range, (_offset, size) => {
      if (size <= 4) changed();
    });
  }
}
