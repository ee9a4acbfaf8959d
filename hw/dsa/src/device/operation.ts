/**
 * What an operation does to memory (DSA 8.3): piece by piece within pages, from where it stopped if a page had to be waited for. An
 * access that waited is repeated as it was.
 */
import { PAGE_BYTES, type StateReader, type StateWriter } from '@remora/core';
import { Descriptor, DESCRIPTOR_WORDS, Flag, Operation, Status, Word } from '../spec/index.js';
import { distance } from './check.js';
import { crcBegin, crcEnd, crcUpdate } from './crc.js';

/** One access within a page. 0 if it was done; else why not, and the operation stops. */
export type AccessMemory = (write: boolean, hi: number, lo: number, bytes: Uint8Array) => number;

interface Step {
  readonly write: boolean;
  /** Where the descriptor has the address. */
  readonly word: number;
  readonly buffer: 0 | 1;
}

const SOURCE: Step = { write: false, word: Word.SOURCE, buffer: 0 };
const SECOND: Step = { write: false, word: Word.DESTINATION, buffer: 1 };
const TARGET: Step = { write: true, word: Word.DESTINATION, buffer: 0 };
const SECOND_TARGET: Step = { write: true, word: Word.EXTRA, buffer: 0 };

/** The accesses of a piece, in this order. */
const STEPS: Readonly<Partial<Record<number, readonly Step[]>>> = {
  [Operation.MEMMOVE]: [SOURCE, TARGET],
  [Operation.FILL]: [TARGET],
  [Operation.COMPARE]: [SOURCE, SECOND],
  [Operation.COMPARE_PATTERN]: [SOURCE],
  [Operation.DUALCAST]: [SOURCE, TARGET, SECOND_TARGET],
  [Operation.CRC]: [SOURCE],
  [Operation.COPY_CRC]: [SOURCE, TARGET],
  // Caches are not modelled: the addresses are, and so are their faults.
  [Operation.CACHE_FLUSH]: [SECOND],
};
const NO_STEPS: readonly Step[] = [];
const TWO_32 = 0x1_0000_0000;
const SEED_BYTES = 4;
const PATTERN_BYTES = 8;

export class OperationRun {
  /** Bytes that are done; of Compare: that are equal. */
  done = 0;
  /** 1 if what was compared differs, or if a copy runs from the end. */
  result = 0;
  readonly #words: Int32Array;
  readonly #buffers = [new Uint8Array(PAGE_BYTES), new Uint8Array(PAGE_BYTES)] as const;
  readonly #seed = new Uint8Array(SEED_BYTES);
  #steps = NO_STEPS;
  #size = 0;
  #step = 0;
  #count = 0;
  #backward = false;
  #seeded = false;
  #crc = 0;

  /** `words` is the engine's present descriptor. */
  constructor(words: Int32Array) {
    if (words.length !== DESCRIPTOR_WORDS) throw new RangeError('a descriptor has 16 words');
    this.#words = words;
  }

  /** Of a descriptor that was checked. */
  begin(): void {
    const words = this.#words;
    this.#steps = STEPS[this.#operation] ?? NO_STEPS;
    this.#size = this.#steps === NO_STEPS ? 0 : words[Word.SIZE]! >>> 0;
    this.done = 0;
    this.#step = 0;
    this.#count = 0;
    const apart = distance(words, Word.SOURCE, Word.DESTINATION);
    this.#backward = this.#operation === Operation.MEMMOVE && apart > 0 && apart < this.#size;
    this.result = this.#backward ? 1 : 0;
    this.#seeded = !this.#has(Flag.READ_CRC_SEED) || !this.#isCrc;
    this.#crc = crcBegin(words[Word.EXTRA]!, this.#has(Flag.BYPASS_CRC_REFLECTION));
  }

  /** A Status if it is done, else what `access` said. */
  run(access: AccessMemory): number {
    if (!this.#seeded) {
      const stop = access(false, this.#words[Word.SEED_ADDRESS + 1]!, this.#words[Word.SEED_ADDRESS]!, this.#seed);
      if (stop !== 0) return stop;
      const [a, b, c, d] = this.#seed;
      this.#crc = crcBegin(a! | (b! << 8) | (c! << 16) | (d! << 24), this.#has(Flag.BYPASS_CRC_REFLECTION));
      this.#seeded = true;
    }
    while (this.done < this.#size) {
      if (this.#step === 0) this.#prepare();
      for (; this.#step < this.#steps.length; this.#step++) {
        const stop = this.#access(this.#steps[this.#step]!, access);
        if (stop !== 0) return stop;
      }
      this.#step = 0;
      const equal = this.#taken();
      this.done += equal;
      if (equal < this.#count) {
        this.result = 1;
        break;
      }
    }
    if (!this.#has(Flag.CHECK_RESULT)) return Status.SUCCESS;
    return this.result === (this.#words[Word.EXTRA]! & 0xff) ? Status.SUCCESS : Status.FALSE_PREDICATE;
  }

  /** The CRC, of an operation that makes one. */
  get crc(): number | undefined {
    return this.#isCrc ? crcEnd(this.#crc, this.#has(Flag.BYPASS_CRC_REFLECTION)) : undefined;
  }

  save(into: StateWriter): void {
    into.integer('done', this.done).integer('step', this.#step).integer('count', this.#count);
    into.flag('seeded', this.#seeded).integer('crc', this.#crc >>> 0);
    for (const [index, buffer] of this.#buffers.entries()) into.bytes(`piece${index}`, buffer.subarray(0, this.#count));
  }

  /** After the descriptor. */
  load(from: StateReader): void {
    this.begin();
    this.done = from.integer('done', { max: this.#size });
    this.#step = from.integer('step', { max: this.#steps.length });
    this.#count = from.integer('count', { max: Math.min(PAGE_BYTES, this.#size) });
    this.#seeded = from.flag('seeded');
    this.#crc = from.integer('crc', { max: TWO_32 - 1 }) | 0;
    for (const [index, buffer] of this.#buffers.entries()) from.bytes(`piece${index}`, buffer.subarray(0, this.#count));
  }

  get #operation(): number {
    return Descriptor.fields.operation.get(this.#words, 0);
  }

  get #isCrc(): boolean {
    return this.#operation === Operation.CRC || this.#operation === Operation.COPY_CRC;
  }

  #has(flag: number): boolean {
    return (Descriptor.fields.flags.get(this.#words, 0) & flag) !== 0;
  }

  /** The next piece: as much as is left in the page of each address. */
  #prepare(): void {
    let count = this.#size - this.done;
    for (const { word } of this.#steps) {
      const low = this.#words[word]!;
      const room = this.#backward
        ? (low + this.#size - this.done - 1) % PAGE_BYTES
        : PAGE_BYTES - 1 - ((low + this.done) & (PAGE_BYTES - 1));
      count = Math.min(count, (room & (PAGE_BYTES - 1)) + 1);
    }
    this.#count = count;
    if (this.#operation !== Operation.FILL) return;
    for (let i = 0; i < count; i++) this.#buffers[0][i] = this.#pattern(Word.SOURCE, this.done + i);
  }

  #access(step: Step, access: AccessMemory): number {
    const offset = this.#backward ? this.#size - this.done - this.#count : this.done;
    const low = (this.#words[step.word]! >>> 0) + offset;
    const high = this.#words[step.word + 1]! + (low >= TWO_32 ? 1 : 0);
    return access(step.write, high | 0, low | 0, this.#buffers[step.buffer].subarray(0, this.#count));
  }

  /** Takes a piece that is here. Returns how many of its bytes are as they should be. */
  #taken(): number {
    const [first, second] = this.#buffers;
    if (this.#operation === Operation.COMPARE) {
      for (let i = 0; i < this.#count; i++) if (first[i] !== second[i]) return i;
    } else if (this.#operation === Operation.COMPARE_PATTERN) {
      for (let i = 0; i < this.#count; i++) if (first[i] !== this.#pattern(Word.DESTINATION, this.done + i)) return i;
    } else if (this.#isCrc) {
      this.#crc = crcUpdate(this.#crc, first, this.#count, this.#has(Flag.BYPASS_DATA_REFLECTION));
    }
    return this.#count;
  }

  /** Byte `index` of the eight-byte pattern at `word`, repeated. */
  #pattern(word: number, index: number): number {
    const byte = index % PATTERN_BYTES;
    return (this.#words[word + (byte >>> 2)]! >>> (8 * (byte & 3))) & 0xff;
  }
}
