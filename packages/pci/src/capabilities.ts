/** The two capability chains of a function: standard (0x40 to 0xff) and, for PCI Express, extended (0x100 to 0xfff). */
import type { ConfigSpace } from './config-space.js';
import { Config, CONFIG_BYTES, Status } from './registers.js';

const FIRST_STANDARD = 0x40;
const NEXT_POINTER = 1;

export interface CapabilityPlace {
  readonly id: number;
  readonly offset: number;
}

export class Capabilities {
  readonly #config: ConfigSpace;
  #standardEnd = FIRST_STANDARD;
  #extendedEnd = CONFIG_BYTES;
  readonly #standard: CapabilityPlace[] = [];
  readonly #extended: (CapabilityPlace & { readonly version: number })[] = [];

  constructor(config: ConfigSpace) {
    this.#config = config;
  }

  get standard(): readonly CapabilityPlace[] {
    return this.#standard;
  }

  get extended(): readonly CapabilityPlace[] {
    return this.#extended;
  }

  /**
   * Appends a standard capability. `body` is what follows the two header bytes; `writeMask`, of the same length, has the bits
   * that guests may write. `at` places it (a multiple of 4); otherwise it follows the one before. Returns its offset.
   * @throws RangeError if it does not fit.
   */
  add(id: number, body: Uint8Array, writeMask?: Uint8Array, at?: number): number {
    const offset = at ?? this.#standardEnd;
    const end = aligned(offset + 2 + body.length);
    if (offset < FIRST_STANDARD || offset % 4 !== 0 || end > CONFIG_BYTES) {
      throw new RangeError(`capability 0x${id.toString(16)} does not fit at 0x${offset.toString(16)}`);
    }
    this.#standardEnd = Math.max(this.#standardEnd, end);
    this.#config.define(offset, 2, id);
    this.#define(offset + 2, body, writeMask);
    const last = this.#standard.at(-1);
    this.#config.define(last === undefined ? Config.CAPABILITIES : last.offset + NEXT_POINTER, 1, offset);
    this.#standard.push({ id, offset });
    this.#config.define(Config.STATUS, 2, Status.CAPABILITIES, 0, Status.ERRORS);
    return offset;
  }

  /**
   * Appends an extended capability; `body` is what follows the four header bytes; `clearMask` has the bits that guests clear by writing
   * 1. The chain must begin at 0x100, so the first one goes there.
   * @throws RangeError if the function is not PCI Express or it does not fit.
   */
  addExtended(id: number, version: number, body: Uint8Array, writeMask?: Uint8Array, clearMask?: Uint8Array): number {
    const offset = this.#extendedEnd;
    const end = aligned(offset + 4 + body.length);
    if (end > this.#config.size) throw new RangeError(`extended capability 0x${id.toString(16)} does not fit`);
    this.#extendedEnd = end;
    const last = this.#extended.at(-1);
    if (last !== undefined) this.#config.define(last.offset, 4, header(last.id, last.version, offset));
    this.#config.define(offset, 4, header(id, version, 0));
    this.#define(offset + 4, body, writeMask, clearMask);
    this.#extended.push({ id, version, offset });
    return offset;
  }

  /** Offset of the first standard capability with this id; undefined if there is none. */
  find(id: number): number | undefined {
    return this.#standard.find(capability => capability.id === id)?.offset;
  }

  /** Offset of the first extended capability with this id; undefined if there is none. */
  findExtended(id: number): number | undefined {
    return this.#extended.find(capability => capability.id === id)?.offset;
  }

  #define(offset: number, body: Uint8Array, writeMask?: Uint8Array, clearMask?: Uint8Array): void {
    for (let i = 0; i < body.length; i++) {
      this.#config.define(offset + i, 1, body[i]!, writeMask?.[i] ?? 0, clearMask?.[i] ?? 0);
    }
  }
}

function aligned(offset: number): number {
  return Math.ceil(offset / 4) * 4;
}

/** PCIe 7.6.3: id 15:0, version 19:16, next 31:20. */
function header(id: number, version: number, next: number): number {
  return id + version * 0x1_0000 + next * 0x10_0000;
}
