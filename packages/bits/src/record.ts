/**
 * Hardware structures, declared: a record is a run of little-endian 32-bit words with named fields. Unclaimed bits *are* the
 * reserved mask, so that the reserved-field check, the formatter and the encoder all come from one declaration.
 *
 * Records are read from and written to an `Int32Array` at a word index. Nothing on these paths allocates or uses BigInt.
 */

/** The bits of a field within its record, most significant first, as specifications write them. */
export interface FieldSpec {
  readonly msb: number;
  readonly lsb: number;
  /** 'int': up to 32 bits in one word. 'frame': a page frame number, bits 63:12 of a quadword. 'wide': up to 64 bits. */
  readonly kind: 'int' | 'frame' | 'wide';
}

/** One bit. */
export function bit(position: number): FieldSpec {
  return { msb: position, lsb: position, kind: 'int' };
}

/** Bits `msb:lsb`, at most 32 of them and all in one 32-bit word. */
export function bits(msb: number, lsb: number): FieldSpec {
  return { msb, lsb, kind: 'int' };
}

/** A page frame number: `msb:lsb` where `lsb` is bit 12 of a quadword and `msb` at most its bit 63. Its value is a number. */
export function frame(msb: number, lsb: number): FieldSpec {
  return { msb, lsb, kind: 'frame' };
}

/** Up to 64 bits that may cross a word boundary. Its value is a BigInt in `encode` and `decode`, words elsewhere. */
export function wide(msb: number, lsb: number): FieldSpec {
  return { msb, lsb, kind: 'wide' };
}

/** A field bound to its place in a record. */
export class Field {
  readonly name: string;
  readonly spec: FieldSpec;
  /** Index of the field's (lowest) word in the record. */
  readonly word: number;
  /** Position of the field's least significant bit in that word. */
  readonly shift: number;
  /** The field's mask, unshifted; for a field of one word. */
  readonly mask: number;
  /** Of a frame field: its bits in the high word. */
  readonly #highMask: number;

  constructor(name: string, spec: FieldSpec) {
    this.name = name;
    this.spec = spec;
    this.word = spec.lsb >>> 5;
    this.shift = spec.lsb & 31;
    const width = spec.msb - spec.lsb + 1;
    this.mask = width >= 32 ? 0xffffffff : 2 ** width - 1;
    this.#highMask = -1 >>> (31 - (spec.msb & 31));
  }

  /** The value of an int field, unsigned; `at` is the word index at which the record starts. */
  get(words: Int32Array, at: number): number {
    return ((words[at + this.word]! >>> this.shift) & this.mask) >>> 0;
  }

  /** Stores `value` in an int field and leaves the other bits alone. */
  set(words: Int32Array, at: number, value: number): void {
    const index = at + this.word;
    words[index] = (words[index]! & ~(this.mask << this.shift)) | ((value & this.mask) << this.shift);
  }

  /** The page frame number of a frame field. */
  frame(words: Int32Array, at: number): number {
    return ((words[at + this.word + 1]! & this.#highMask) >>> 0) * 0x10_0000 + (words[at + this.word]! >>> 12);
  }

  /** Any field's value as a BigInt. For edges. */
  big(words: Int32Array, at: number): bigint {
    let value = 0n;
    for (let word = this.spec.msb >>> 5; word >= this.word; word--)
      value = (value << 32n) | BigInt(words[at + word]! >>> 0);
    return BigInt.asUintN(this.spec.msb - this.spec.lsb + 1, value >> BigInt(this.shift));
  }

  /** Stores any field's value. For edges. @throws RangeError if `value` does not fit. */
  setBig(words: Int32Array, at: number, value: bigint): void {
    const width = BigInt(this.spec.msb - this.spec.lsb + 1);
    if (value < 0n || value >> width !== 0n)
      throw new RangeError(`${this.name}: ${value} does not fit in ${width} bits`);
    for (let position = this.spec.lsb, rest = value; position <= this.spec.msb;) {
      const word = position >>> 5;
      const shift = position & 31;
      const count = Math.min(32 - shift, this.spec.msb - position + 1);
      const mask = (count === 32 ? 0xffffffff : 2 ** count - 1) << shift;
      words[at + word] = (words[at + word]! & ~mask) | (Number(BigInt.asUintN(count, rest)) << shift);
      rest >>= BigInt(count);
      position += count;
    }
  }
}

/** Field values as people write them: numbers for int and frame fields, numbers or BigInts for wide ones. */
export type RecordValues<F extends Record<string, FieldSpec>> = { -readonly [K in keyof F]?: number | bigint };

/** A declared structure. */
export class RecordType<F extends Record<string, FieldSpec> = Record<string, FieldSpec>> {
  readonly name: string;
  /** Where the layout is defined, for instance `VT-d 9.3`. */
  readonly spec: string;
  readonly bytes: number;
  readonly words: number;
  readonly fields: { readonly [K in keyof F]: Field };
  /** Per word, the bits that no field claims. */
  readonly reserved: Int32Array;

  constructor(name: string, spec: string, bytes: number, fields: F) {
    this.name = name;
    this.spec = spec;
    this.bytes = bytes;
    this.words = bytes / 4;
    if (!Number.isInteger(this.words) || bytes <= 0)
      throw new RangeError(`${name}: ${bytes} bytes is not a whole number of words`);
    this.reserved = new Int32Array(this.words).fill(-1);
    const bound: Record<string, Field> = {};
    for (const [key, field] of Object.entries(fields)) {
      bound[key] = new Field(key, field);
      this.#claim(key, field);
    }
    this.fields = bound as { readonly [K in keyof F]: Field };
  }

  #claim(key: string, { msb, lsb, kind }: FieldSpec): void {
    const where = `${this.name}.${key}`;
    if (lsb < 0 || msb < lsb || msb >= this.words * 32)
      throw new RangeError(`${where}: bits ${msb}:${lsb} are outside the record`);
    if (kind === 'int' && msb >>> 5 !== lsb >>> 5) throw new RangeError(`${where}: bits ${msb}:${lsb} cross a word`);
    if (kind === 'frame' && (lsb % 64 !== 12 || msb >>> 6 !== lsb >>> 6)) {
      throw new RangeError(`${where}: a frame starts at bit 12 of a quadword`);
    }
    if (kind === 'wide' && msb - lsb >= 64) throw new RangeError(`${where}: more than 64 bits`);
    for (let position = lsb; position <= msb; position++) {
      const mask = 1 << (position & 31);
      if ((this.reserved[position >>> 5]! & mask) === 0)
        throw new RangeError(`${where}: bit ${position} is claimed twice`);
      this.reserved[position >>> 5]! &= ~mask;
    }
  }

  /** Whether any reserved bit is set. */
  hasReserved(words: Int32Array, at: number): boolean {
    for (let word = 0; word < this.words; word++) {
      if ((words[at + word]! & this.reserved[word]!) !== 0) return true;
    }
    return false;
  }

  /** A new array of words with these values; fields that are not named are 0. @throws RangeError if a value does not fit. */
  encode(values: RecordValues<F>): Int32Array {
    const words = new Int32Array(this.words);
    for (const [key, value] of Object.entries(values)) {
      const field = this.fields[key];
      if (field === undefined) throw new RangeError(`${this.name} has no field ${key}`);
      if (value !== undefined) field.setBig(words, 0, BigInt(value));
    }
    return words;
  }

  /** All fields: BigInts for wide ones, numbers for the others. For inspection and tests. */
  decode(words: Int32Array, at = 0): { [K in keyof F]: number | bigint } {
    const values: Record<string, number | bigint> = {};
    for (const [key, field] of Object.entries<Field>(this.fields)) {
      values[key] = field.spec.kind === 'wide' ? field.big(words, at) : Number(field.big(words, at));
    }
    return values as { [K in keyof F]: number | bigint };
  }

  /** The fields that are not 0, for people: `p=1 tt=2 did=0x7`. */
  format(words: Int32Array, at = 0): string {
    const shown: string[] = [];
    for (const [key, field] of Object.entries<Field>(this.fields)) {
      const value = field.big(words, at);
      if (value !== 0n) shown.push(`${key}=${value < 10n ? value : `0x${value.toString(16)}`}`);
    }
    return shown.join(' ');
  }
}

/**
 * Declares a structure of `bytes` bytes.
 * @throws RangeError if a field lies outside the record, crosses a word (int), or claims a bit that another field has.
 */
export function record<F extends Record<string, FieldSpec>>(
  name: string,
  spec: string,
  bytes: number,
  fields: F,
): RecordType<F> {
  return new RecordType(name, spec, bytes, fields);
}
