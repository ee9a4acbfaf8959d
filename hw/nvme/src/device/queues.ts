/** Submission and completion queues: rings in the host's memory (NVMe 1.4, 4.1). */
import type { Inspector, StateReader, StateWriter } from '@remora/core';
import { hex } from '@remora/bits';
import { CQ_ENTRY_SHIFT, SQ_ENTRY_SHIFT } from '../spec/index.js';

const TWO_32 = 0x1_0000_0000;
const U32 = { min: 0, max: 0xffff_ffff };
const MOST_ENTRIES = 0x1_0000;

/** A ring of `size` entries: from head on, up to tail, they are used. One stays free. */
class Ring {
  readonly id: number;
  readonly hi: number;
  readonly lo: number;
  readonly size: number;
  readonly #shift: number;
  head = 0;
  tail = 0;

  constructor(id: number, hi: number, lo: number, size: number, shift: number) {
    this.id = id;
    this.hi = hi >>> 0;
    this.lo = lo >>> 0;
    this.size = size;
    this.#shift = shift;
  }

  get empty(): boolean {
    return this.head === this.tail;
  }

  get full(): boolean {
    return this.next(this.tail) === this.head;
  }

  get used(): number {
    return this.tail >= this.head ? this.tail - this.head : this.tail - this.head + this.size;
  }

  next(index: number): number {
    return index + 1 === this.size ? 0 : index + 1;
  }

  /** How far it is from `from` on to `to`, around the ring. */
  distance(from: number, to: number): number {
    return to >= from ? to - from : to - from + this.size;
  }

  addressLo(index: number): number {
    return (this.lo + (index << this.#shift)) % TWO_32;
  }

  addressHi(index: number): number {
    return this.lo + (index << this.#shift) >= TWO_32 ? (this.hi + 1) >>> 0 : this.hi;
  }

  inspect(into: Inspector): void {
    into
      .value('base', hex(this.hi, this.lo))
      .value('size', this.size)
      .value('head', this.head)
      .value('tail', this.tail);
  }

  protected saveRing(into: StateWriter): void {
    into.integer('id', this.id).integer('hi', this.hi).integer('lo', this.lo).integer('size', this.size);
    into.integer('head', this.head).integer('tail', this.tail);
  }

  protected loadRing(from: StateReader): void {
    this.head = from.integer('head', { max: this.size - 1 });
    this.tail = from.integer('tail', { max: this.size - 1 });
  }
}

export class SubmissionQueue extends Ring {
  /** The completion queue that its commands complete to. */
  readonly completions: number;

  constructor(id: number, hi: number, lo: number, size: number, completions: number) {
    super(id, hi, lo, size, SQ_ENTRY_SHIFT);
    this.completions = completions;
  }

  override inspect(into: Inspector): void {
    super.inspect(into);
    into.value('completions', this.completions);
  }

  save(into: StateWriter): void {
    this.saveRing(into);
    into.integer('completions', this.completions);
  }

  static load(from: StateReader): SubmissionQueue {
    const { id, hi, lo, size } = ringOf(from);
    const queue = new SubmissionQueue(id, hi, lo, size, from.integer('completions', { max: 0xffff }));
    queue.loadRing(from);
    return queue;
  }
}

export class CompletionQueue extends Ring {
  readonly vector: number;
  readonly interrupts: boolean;
  /** The phase tag of the next entry. */
  phase = 1;

  constructor(id: number, hi: number, lo: number, size: number, vector: number, interrupts: boolean) {
    super(id, hi, lo, size, CQ_ENTRY_SHIFT);
    this.vector = vector;
    this.interrupts = interrupts;
  }

  /** An entry has been written. */
  advance(): void {
    this.tail = this.next(this.tail);
    if (this.tail === 0) this.phase ^= 1;
  }

  override inspect(into: Inspector): void {
    super.inspect(into);
    into.value('phase', this.phase).value('vector', this.interrupts ? this.vector : 'none');
  }

  save(into: StateWriter): void {
    this.saveRing(into);
    into.integer('vector', this.vector).flag('interrupts', this.interrupts).integer('phase', this.phase);
  }

  static load(from: StateReader): CompletionQueue {
    const { id, hi, lo, size } = ringOf(from);
    const vector = from.integer('vector', { max: 0xffff });
    const queue = new CompletionQueue(id, hi, lo, size, vector, from.flag('interrupts'));
    queue.loadRing(from);
    queue.phase = from.integer('phase', { max: 1 });
    return queue;
  }
}

function ringOf(from: StateReader): { id: number; hi: number; lo: number; size: number } {
  return {
    id: from.integer('id', { max: 0xffff }),
    hi: from.integer('hi', U32),
    lo: from.integer('lo', U32),
    size: from.integer('size', { min: 2, max: MOST_ENTRIES }),
  };
}
