/**
 * C structures of the Linux uAPI, declared: little-endian, LP64, every offset written out. Bytes that no field claims are padding.
 * Getting and setting a field allocates nothing; 64-bit fields are two 32-bit words, with BigInt and number at the edges only.
 */
import { bigOf, hiOf, loOf, numberOf, type Wide } from '@remora/bits';

export interface FieldSpec {
  readonly offset: number;
  readonly size: number;
  readonly kind: 'int' | 'wide' | 'bytes';
}

export const u8 = (offset: number): FieldSpec & { kind: 'int' } => ({ offset, size: 1, kind: 'int' });
export const u16 = (offset: number): FieldSpec & { kind: 'int' } => ({ offset, size: 2, kind: 'int' });
export const u32 = (offset: number): FieldSpec & { kind: 'int' } => ({ offset, size: 4, kind: 'int' });
export const u64 = (offset: number): FieldSpec & { kind: 'wide' } => ({ offset, size: 8, kind: 'wide' });
/** A union, an array or a nested structure: declared here as the bytes it takes, and by a structure of its own. */
export const bytes = (offset: number, size: number): FieldSpec & { kind: 'bytes' } => ({ offset, size, kind: 'bytes' });

/** A field of up to 32 bits. */
export class IntField {
  readonly offset: number;
  readonly size: number;

  constructor(offset: number, size: number) {
    this.offset = offset;
    this.size = size;
  }

  /** Unsigned. `at` is the byte at which the structure starts. */
  get(view: DataView, at = 0): number {
    if (this.size === 4) return view.getUint32(at + this.offset, true);
    return this.size === 2 ? view.getUint16(at + this.offset, true) : view.getUint8(at + this.offset);
  }

  set(view: DataView, value: number, at = 0): void {
    if (this.size === 4) view.setUint32(at + this.offset, value, true);
    else if (this.size === 2) view.setUint16(at + this.offset, value, true);
    else view.setUint8(at + this.offset, value);
  }
}

/** A field of 64 bits. */
export class WideField {
  readonly offset: number;
  readonly size = 8;

  constructor(offset: number) {
    this.offset = offset;
  }

  lo(view: DataView, at = 0): number {
    return view.getUint32(at + this.offset, true);
  }

  hi(view: DataView, at = 0): number {
    return view.getUint32(at + this.offset + 4, true);
  }

  /** Stores the words; either sign. */
  set(view: DataView, hi: number, lo: number, at = 0): void {
    view.setUint32(at + this.offset, lo, true);
    view.setUint32(at + this.offset + 4, hi, true);
  }

  /** As a number: exact below 2^53. */
  number(view: DataView, at = 0): number {
    return numberOf(this.hi(view, at), this.lo(view, at));
  }

  big(view: DataView, at = 0): bigint {
    return bigOf(this.hi(view, at), this.lo(view, at));
  }

  /** @throws RangeError unless `value` is an integer in [0, 2^64). */
  setWide(view: DataView, value: Wide, at = 0): void {
    this.set(view, hiOf(value), loOf(value), at);
  }
}

/** A union, an array or a nested structure. */
export class BytesField {
  readonly offset: number;
  readonly size: number;

  constructor(offset: number, size: number) {
    this.offset = offset;
    this.size = size;
  }

  /** The bytes themselves, not a copy. */
  of(view: DataView, at = 0): Uint8Array {
    return new Uint8Array(view.buffer, view.byteOffset + at + this.offset, this.size);
  }
}

type FieldOf<S extends FieldSpec> = S['kind'] extends 'int'
  ? IntField
  : S['kind'] extends 'wide'
    ? WideField
    : BytesField;

/** Values as people write and read them. */
export type StructValues<F extends Record<string, FieldSpec>> = {
  -readonly [K in keyof F]?: F[K]['kind'] extends 'int' ? number : F[K]['kind'] extends 'wide' ? Wide : Uint8Array;
};

/** A declared structure. */
export class StructType<F extends Record<string, FieldSpec> = Record<string, FieldSpec>> {
  /** As in C, without `struct`. */
  readonly name: string;
  /** The header, or the patch, that defines it. */
  readonly source: string;
  /** sizeof, in bytes. */
  readonly size: number;
  readonly fields: { readonly [K in keyof F]: FieldOf<F[K]> };
  /** Half-open byte ranges that no field claims. */
  readonly padding: readonly (readonly [number, number])[];

  constructor(name: string, source: string, size: number, fields: F) {
    this.name = name;
    this.source = source;
    this.size = size;
    const claimed = new Array<string | undefined>(size);
    for (const [key, field] of Object.entries(fields)) this.#claim(claimed, key, field);
    this.fields = Object.fromEntries(
      Object.entries(fields).map(([key, { kind, offset, size: bytes }]) => [
        key,
        kind === 'int'
          ? new IntField(offset, bytes)
          : kind === 'wide'
            ? new WideField(offset)
            : new BytesField(offset, bytes),
      ]),
    ) as { readonly [K in keyof F]: FieldOf<F[K]> };
    this.padding = holes(claimed);
  }

  #claim(claimed: (string | undefined)[], key: string, { offset, size }: FieldSpec): void {
    if (offset < 0 || offset + size > this.size) throw new RangeError(`${this.name}.${key}: outside the structure`);
    for (let byte = offset; byte < offset + size; byte++) {
      if (claimed[byte] !== undefined)
        throw new RangeError(`${this.name}.${key}: byte ${byte} belongs to ${claimed[byte]}`);
      claimed[byte] = key;
    }
  }

  /** Whether any padding byte is set. */
  hasPadding(view: DataView, at = 0): boolean {
    for (const [start, end] of this.padding) {
      for (let byte = start; byte < end; byte++) if (view.getUint8(at + byte) !== 0) return true;
    }
    return false;
  }

  /** New bytes with these values; everything else is zero. @throws RangeError for a value that does not fit. */
  encode(values: StructValues<F>): Uint8Array {
    const encoded = new Uint8Array(this.size);
    this.write(new DataView(encoded.buffer), values);
    return encoded;
  }

  /** Stores the values that are given. @throws RangeError for a value that does not fit. */
  write(view: DataView, values: StructValues<F>, at = 0): void {
    for (const [key, value] of Object.entries<number | Wide | Uint8Array | undefined>(values)) {
      const field = this.fields[key] as IntField | WideField | BytesField | undefined;
      if (field === undefined) throw new RangeError(`${this.name} has no field ${key}`);
      if (value === undefined) continue;
      if (field instanceof BytesField) {
        const given = value as Uint8Array;
        if (given.length > field.size)
          throw new RangeError(`${this.name}.${key}: ${given.length} bytes, it has ${field.size}`);
        field.of(view, at).set(given);
      } else if (field instanceof WideField) {
        field.setWide(view, value as Wide, at);
      } else {
        const given = Number(value);
        if (!Number.isInteger(given) || given < 0 || given >= 256 ** field.size) {
          throw new RangeError(`${this.name}.${key}: ${given} does not fit in ${field.size} bytes`);
        }
        field.set(view, given, at);
      }
    }
  }

  /** All fields: numbers (a BigInt from 2^53 on), copies of bytes. For the ledger and tests. */
  decode(view: DataView, at = 0): Record<keyof F & string, number | bigint | Uint8Array> {
    const values: Record<string, number | bigint | Uint8Array> = {};
    for (const [key, field] of Object.entries<IntField | WideField | BytesField>(this.fields)) {
      if (field instanceof BytesField) values[key] = field.of(view, at).slice();
      else if (field instanceof IntField) values[key] = field.get(view, at);
      else
        values[key] = field.number(view, at) <= Number.MAX_SAFE_INTEGER ? field.number(view, at) : field.big(view, at);
    }
    return values as Record<keyof F & string, number | bigint | Uint8Array>;
  }
}

function holes(claimed: readonly (string | undefined)[]): [number, number][] {
  const found: [number, number][] = [];
  for (let byte = 0; byte < claimed.length; byte++) {
    if (claimed[byte] !== undefined) continue;
    const last = found.at(-1);
    if (last !== undefined && last[1] === byte) last[1] = byte + 1;
    else found.push([byte, byte + 1]);
  }
  return found;
}

/**
 * Declares `struct name` of `size` bytes.
 * @throws RangeError if a field lies outside the structure or claims a byte that another field has.
 */
export function struct<F extends Record<string, FieldSpec>>(
  name: string,
  source: string,
  size: number,
  fields: F,
): StructType<F> {
  return new StructType(name, source, size, fields);
}

/** A DataView over exactly `bytes`. */
export function viewOf(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}
