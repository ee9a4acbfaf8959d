/** Message signalled interrupts (PCI 3.0 6.8.1): up to 32 vectors, 64-bit address, per-vector masking if the function has that. */
import type { Capabilities } from './capabilities.js';
import type { ConfigSpace } from './config-space.js';
import { MsiLayout } from './layouts.js';
import { Capability } from './registers.js';

/** Writes the DWORD `data` at `(hi, lo)` as the function would. */
export type SendMessage = (hi: number, lo: number, data: number) => void;

export interface MsiOptions {
  /** Whether single vectors can be masked; default true. */
  readonly maskable?: boolean;
}

const { fields } = MsiLayout;
/** Without mask and pending bits the capability ends here. */
const UNMASKABLE_BYTES = 14;

export class Msi {
  readonly offset: number;
  readonly #config: ConfigSpace;
  readonly #at: number;
  readonly #vectors: number;
  readonly #maskable: boolean;
  readonly #send: SendMessage;

  /** @throws RangeError unless `vectors` is 1, 2, 4, 8, 16 or 32. */
  constructor(
    config: ConfigSpace,
    capabilities: Capabilities,
    vectors: number,
    send: SendMessage,
    { maskable = true }: MsiOptions = {},
  ) {
    const capable = Math.log2(vectors);
    if (!Number.isInteger(capable) || capable > 5)
      throw new RangeError(`MSI: ${vectors} vectors is not a power of two up to 32`);
    const values = MsiLayout.encode({ capable, wide: 1, maskable: maskable ? 1 : 0 });
    const length = (maskable ? MsiLayout.bytes : UNMASKABLE_BYTES) - 2;
    const writable = MsiLayout.encode({
      enable: 1,
      granted: 7,
      addressLo: 0xffff_fffc,
      addressHi: 0xffff_ffff,
      data: 0xffff,
      mask: 2 ** vectors - 1,
    });
    this.offset = capabilities.add(
      Capability.MSI,
      new Uint8Array(values.buffer, 2, length),
      new Uint8Array(writable.buffer, 2, length),
    );
    this.#config = config;
    this.#at = this.offset / 4;
    this.#vectors = vectors;
    this.#maskable = maskable;
    this.#send = send;
    config.onWrite({ start: this.offset, end: this.offset + MsiLayout.bytes }, () => this.#flush());
  }

  get enabled(): boolean {
    return fields.enable.get(this.#config.words, this.#at) !== 0;
  }

  /**
   * Sends `vector`, or marks it pending while it is masked. Software may grant fewer vectors than the function has: they then
   * share the granted ones.
   */
  raise(vector: number): void {
    const words = this.#config.words;
    const granted = Math.min(1 << fields.granted.get(words, this.#at), this.#vectors);
    const index = vector % granted;
    const bit = 1 << index;
    if (this.#maskable && (fields.mask.get(words, this.#at) & bit) !== 0) {
      fields.pending.set(words, this.#at, fields.pending.get(words, this.#at) | bit);
      return;
    }
    const data = fields.data.get(words, this.#at);
    this.#send(
      fields.addressHi.get(words, this.#at),
      fields.addressLo.get(words, this.#at),
      data - (data % granted) + index,
    );
  }

  #flush(): void {
    if (!this.#maskable || !this.enabled) return;
    const words = this.#config.words;
    const ready = fields.pending.get(words, this.#at) & ~fields.mask.get(words, this.#at);
    if (ready === 0) return;
    fields.pending.set(words, this.#at, fields.pending.get(words, this.#at) & ~ready);
    for (let vector = 0; vector < this.#vectors; vector++) if ((ready >>> vector) & 1) this.raise(vector);
  }
}
