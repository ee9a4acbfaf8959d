/** MSI-X (PCI 3.0 6.8.2): a table of messages and a pending-bit array in a BAR of their own. */
import { type MmioOps, Region, type StateReader, type StateWriter } from '@remora/core';
import type { Capabilities } from './capabilities.js';
import type { ConfigSpace } from './config-space.js';
import { MsixEntry, MsixLayout } from './layouts.js';
import type { SendMessage } from './msi.js';
import { Capability } from './registers.js';

export const MAX_MSIX_VECTORS = 2048;

const { fields } = MsixLayout;
const PBA_ALIGN = 0x800;

export class Msix {
  readonly offset: number;
  readonly vectors: number;
  /** What the BAR shows: the table at 0, the pending bits after it. */
  readonly region: Region;
  readonly #config: ConfigSpace;
  readonly #at: number;
  readonly #table: Int32Array;
  readonly #pending: Int32Array;
  readonly #send: SendMessage;

  /** @throws RangeError unless `vectors` is 1 .. 2048. */
  constructor(
    name: string,
    config: ConfigSpace,
    capabilities: Capabilities,
    vectors: number,
    bar: number,
    send: SendMessage,
  ) {
    if (!Number.isInteger(vectors) || vectors < 1 || vectors > MAX_MSIX_VECTORS) {
      throw new RangeError(`MSI-X: ${vectors} vectors is not 1 .. ${MAX_MSIX_VECTORS}`);
    }
    this.vectors = vectors;
    this.#table = new Int32Array(vectors * MsixEntry.words);
    this.#pending = new Int32Array(Math.ceil(vectors / 64) * 2);
    const pbaOffset = Math.ceil((vectors * MsixEntry.bytes) / PBA_ALIGN) * PBA_ALIGN;
    const values = MsixLayout.encode({ last: vectors - 1, tableBar: bar, pbaBar: bar, pbaOffset: pbaOffset / 8 });
    const writable = MsixLayout.encode({ functionMask: 1, enable: 1 });
    this.offset = capabilities.add(
      Capability.MSIX,
      new Uint8Array(values.buffer, 2),
      new Uint8Array(writable.buffer, 2),
    );
    this.#config = config;
    this.#at = this.offset / 4;
    this.#send = send;
    const bytes = Math.max(4096, 2 ** Math.ceil(Math.log2(pbaOffset + this.#pending.byteLength)));
    this.region = Region.container(`${name}.msix`, bytes);
    this.region.add(0, Region.mmio(`${name}.msix-table`, this.#table.byteLength, this.#tableOps));
    this.region.add(pbaOffset, Region.mmio(`${name}.msix-pba`, this.#pending.byteLength, this.#pbaOps));
    config.onWrite({ start: this.offset, end: this.offset + MsixLayout.bytes }, () => this.#flush());
    this.reset();
  }

  get enabled(): boolean {
    return fields.enable.get(this.#config.words, this.#at) !== 0;
  }

  /** Sends `vector`, or marks it pending while it or the function is masked. Vectors beyond the table are ignored. */
  raise(vector: number): void {
    if (vector < 0 || vector >= this.vectors) return;
    const entry = vector * MsixEntry.words;
    if (this.#masked(entry)) {
      this.#pending[vector >>> 5]! |= 1 << (vector & 31);
      return;
    }
    this.#send(
      MsixEntry.fields.addressHi.get(this.#table, entry),
      MsixEntry.fields.addressLo.get(this.#table, entry),
      MsixEntry.fields.data.get(this.#table, entry),
    );
  }

  /** Whether `vector` waits for its mask to be lifted. */
  pending(vector: number): boolean {
    return ((this.#pending[vector >>> 5]! >>> (vector & 31)) & 1) !== 0;
  }

  /** Every vector masked, nothing pending. */
  reset(): void {
    this.#pending.fill(0);
    this.#table.fill(0);
    for (let vector = 0; vector < this.vectors; vector++) {
      MsixEntry.fields.masked.set(this.#table, vector * MsixEntry.words, 1);
    }
  }

  save(into: StateWriter): void {
    into.words('table', this.#table).words('pending', this.#pending);
  }

  load(from: StateReader): void {
    from.words('table', this.#table);
    from.words('pending', this.#pending);
  }

  #masked(entry: number): boolean {
    return (
      fields.functionMask.get(this.#config.words, this.#at) !== 0 ||
      MsixEntry.fields.masked.get(this.#table, entry) !== 0
    );
  }

  #flush(): void {
    if (!this.enabled) return;
    for (let vector = 0; vector < this.vectors; vector++) this.#flushVector(vector);
  }

  #flushVector(vector: number): void {
    if (!this.pending(vector) || this.#masked(vector * MsixEntry.words)) return;
    this.#pending[vector >>> 5]! &= ~(1 << (vector & 31));
    this.raise(vector);
  }

  readonly #tableOps: MmioOps = {
    valid: { min: 4, max: 8 },
    impl: { min: 4, max: 4 },
    read: offset => this.#table[offset >>> 2]! >>> 0,
    write: (offset, value) => {
      const word = offset >>> 2;
      this.#table[word] = word % MsixEntry.words === 3 ? value & ~MsixEntry.reserved[3]! : value;
      if (this.enabled) this.#flushVector(Math.floor(word / MsixEntry.words));
    },
  };

  readonly #pbaOps: MmioOps = {
    valid: { min: 4, max: 8 },
    impl: { min: 4, max: 4 },
    read: offset => this.#pending[offset >>> 2]! >>> 0,
    write: () => {},
  };
}
