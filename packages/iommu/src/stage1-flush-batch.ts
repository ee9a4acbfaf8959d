/**
 * First-stage flushes in the order in which a guest asked for them: what a vIOMMU collects between two things that must not overtake a
 * flush, and a host takes in one call. Owned by the vIOMMU and used again and again: nothing is allocated once it has grown.
 */
import { Stage1Flush } from './stage1.js';

const FIRST_CAPACITY = 64;
const ADDRESS = 1;
const LEAF = 2;

export class Stage1FlushBatch {
  /** Set by the host that the batch is given to: how many entries, from the first, are known to be done. */
  accepted = 0;
  /**
   * Told by `begin` which entry the host works for from now on, so that a ledger can name the cause of each host call. Undefined while
   * nobody asks.
   */
  begun: ((index: number) => void) | undefined;
  #length = 0;
  #pasid = new Int32Array(FIRST_CAPACITY);
  #hi = new Int32Array(FIRST_CAPACITY);
  #lo = new Int32Array(FIRST_CAPACITY);
  #granules = new Float64Array(FIRST_CAPACITY);
  #shift = new Uint8Array(FIRST_CAPACITY);
  #flags = new Uint8Array(FIRST_CAPACITY);
  readonly #entry = new Stage1Flush();

  get length(): number {
    return this.#length;
  }

  /** Appends a copy of `flush`. */
  add(flush: Stage1Flush): void {
    const at = this.#length;
    if (at === this.#pasid.length) this.#grow();
    this.#pasid[at] = flush.pasid;
    this.#hi[at] = flush.hi;
    this.#lo[at] = flush.lo;
    this.#granules[at] = flush.granules;
    this.#shift[at] = flush.granuleShift;
    this.#flags[at] = (flush.granularity === 'address' ? ADDRESS : 0) | (flush.leaf ? LEAF : 0);
    this.#length = at + 1;
  }

  /** Entry `index`, 0 .. length - 1: what the host does from now on, it does for this one. Valid until the next call. */
  begin(index: number): Stage1Flush {
    this.begun?.(index);
    const entry = this.#entry;
    const flags = this.#flags[index]!;
    entry.pasid = this.#pasid[index]!;
    entry.hi = this.#hi[index]!;
    entry.lo = this.#lo[index]!;
    entry.granules = this.#granules[index]!;
    entry.granuleShift = this.#shift[index]!;
    entry.granularity = flags & ADDRESS ? 'address' : 'pasid';
    entry.leaf = (flags & LEAF) !== 0;
    return entry;
  }

  /** Forgets the first `count` entries. */
  drop(count: number): void {
    const words = [this.#pasid, this.#hi, this.#lo, this.#granules, this.#shift, this.#flags];
    for (const each of words) each.copyWithin(0, count, this.#length);
    this.#length -= count;
  }

  clear(): void {
    this.#length = 0;
    this.accepted = 0;
  }

  #grow(): void {
    const capacity = 2 * this.#pasid.length;
    this.#pasid = grown(this.#pasid, new Int32Array(capacity));
    this.#hi = grown(this.#hi, new Int32Array(capacity));
    this.#lo = grown(this.#lo, new Int32Array(capacity));
    this.#granules = grown(this.#granules, new Float64Array(capacity));
    this.#shift = grown(this.#shift, new Uint8Array(capacity));
    this.#flags = grown(this.#flags, new Uint8Array(capacity));
  }
}

function grown<T extends Int32Array | Float64Array | Uint8Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
