/**
 * The fields of a C structure: how they are declared, and how a declared one reads and writes bytes. Little-endian, as all hosts
 * that Remora speaks to. Getters and setters take the byte `at` which the structure starts and allocate nothing.
 */
import { bigOf, hiOf, loOf, numberOf, type Wide } from '@remora/bits';
import type { StructType } from './struct.js';

interface Place {
  /** From the start of the structure, in bytes. */
  readonly offset: number;
  readonly size: number;
  /** The member of a union that this field is, or belongs to. */
  readonly arm?: string;
}

export interface IntSpec extends Place {
  readonly kind: 'int';
  readonly signed: boolean;
}
export interface WideSpec extends Place {
  readonly kind: 'wide';
}
export interface BytesSpec extends Place {
  readonly kind: 'bytes';
}
export interface UnionSpec extends Place {
  readonly kind: 'union';
  /** Name of the int field whose value tells which arm is in use. */
  readonly by: string;
  readonly arms: Readonly<Record<number, string>>;
}
export interface NestedSpec<F extends Fields = Fields> extends Place {
  readonly kind: 'nested';
  readonly type: StructType<F>;
}
export interface ArraySpec<E extends FieldSpec = FieldSpec> extends Place {
  readonly kind: 'array';
  readonly count: number;
  readonly element: E;
}
export interface TailSpec<E extends FieldSpec = FieldSpec> extends Place {
  readonly kind: 'tail';
  readonly element: E;
}

export type FieldSpec = IntSpec | WideSpec | BytesSpec | UnionSpec | NestedSpec | ArraySpec | TailSpec;
/** The fields of a structure, by the names that C gives them. */
export interface Fields {
  readonly [name: string]: FieldSpec;
}
/** What makes a field a part of one arm of a union. */
export interface InArm {
  readonly arm: string;
}

function int(offset: number, size: number, signed = false): IntSpec {
  return { kind: 'int', offset, size, signed };
}

export const u8 = (offset: number): IntSpec => int(offset, 1);
export const u16 = (offset: number): IntSpec => int(offset, 2);
export const u32 = (offset: number): IntSpec => int(offset, 4);
/** Signed, for file descriptors. */
export const s32 = (offset: number): IntSpec => int(offset, 4, true);
export const u64 = (offset: number): WideSpec => ({ kind: 'wide', offset, size: 8 });
export const bytes = (offset: number, size: number): BytesSpec => ({ kind: 'bytes', offset, size });

/** A structure within a structure. */
export function nested<F extends Fields>(offset: number, type: StructType<F>): NestedSpec<F> {
  return { kind: 'nested', offset, size: type.size, type };
}

/** `count` elements one after the other: `array(24, 2, u64)`. */
export function array<E extends FieldSpec>(
  offset: number,
  count: number,
  element: (offset: number) => E,
): ArraySpec<E> {
  const one = element(0);
  return { kind: 'array', offset, size: one.size * count, count, element: one };
}

/** A flexible array member: elements behind the structure, as many as something else says. Takes no bytes of it. */
export function tail<E extends FieldSpec>(offset: number, element: (offset: number) => E): TailSpec<E> {
  return { kind: 'tail', offset, size: 0, element: element(0) };
}

/**
 * A union, anonymous in C: this field is all of its bytes, and `arms` tells which arm the value of the int field `by` selects. The
 * arms are fields of their own, marked by `arm`, and may overlap those of other arms.
 */
export function union(offset: number, size: number, by: string, arms: Readonly<Record<number, string>>): UnionSpec {
  return { kind: 'union', offset, size, by, arms };
}

/** Makes `spec` a part of the union's arm `name`. */
export function arm<S extends FieldSpec>(name: string, spec: S): S & InArm {
  return { ...spec, arm: name };
}

/** A field of up to 32 bits. */
export class IntField {
  readonly offset: number;
  readonly size: number;
  readonly signed: boolean;

  constructor(offset: number, size: number, signed: boolean) {
    this.offset = offset;
    this.size = size;
    this.signed = signed;
  }

  /** Unsigned, unless the field is declared signed. */
  get(view: DataView, at = 0): number {
    if (this.size === 4) {
      const value = view.getUint32(at + this.offset, true);
      return this.signed ? value | 0 : value;
    }
    return this.size === 2 ? view.getUint16(at + this.offset, true) : view.getUint8(at + this.offset);
  }

  /** Stores the low bits of `value`. */
  set(view: DataView, value: number, at = 0): void {
    if (this.size === 4) view.setUint32(at + this.offset, value, true);
    else if (this.size === 2) view.setUint16(at + this.offset, value, true);
    else view.setUint8(at + this.offset, value);
  }
}

/** A field of 64 bits: two words where it is hot, a number or BigInt at the edges. */
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

/** Bytes without further structure, or the whole of a union. */
export class BytesField {
  readonly offset: number;
  readonly size: number;

  constructor(offset: number, size: number) {
    this.offset = offset;
    this.size = size;
  }

  /** The bytes themselves, not a copy. The view object is new: not for hot paths. */
  of(view: DataView, at = 0): Uint8Array {
    return new Uint8Array(view.buffer, view.byteOffset + at + this.offset, this.size);
  }
}

/** A structure within a structure. Its `fields` count from the start of the outermost one. */
export class NestedField<F extends Fields = Fields> {
  readonly offset: number;
  readonly size: number;
  readonly type: StructType<F>;
  readonly fields: Bound<F>;

  constructor(offset: number, type: StructType<F>, fields: Bound<F>) {
    this.offset = offset;
    this.size = type.size;
    this.type = type;
    this.fields = fields;
  }
}

/** Equal elements in a row: `field.element.get(view, field.start(index, at))`. */
export class ArrayField<E extends FieldSpec = FieldSpec> {
  readonly offset: number;
  /** Bytes that the elements take of the structure: 0 for a flexible array member. */
  readonly size: number;
  /** Undefined for a flexible array member. */
  readonly count: number | undefined;
  /** Bytes from one element to the next. */
  readonly stride: number;
  /** Bound to the start of an element. */
  readonly element: FieldOf<E>;

  constructor(offset: number, count: number | undefined, stride: number, element: FieldOf<E>) {
    this.offset = offset;
    this.size = (count ?? 0) * stride;
    this.count = count;
    this.stride = stride;
    this.element = element;
  }

  /** The byte at which element `index` starts, in a structure that starts `at`. */
  start(index: number, at = 0): number {
    return at + this.offset + index * this.stride;
  }
}

export type AnyField = IntField | WideField | BytesField | NestedField | ArrayField;

export type FieldOf<S extends FieldSpec> = S extends IntSpec
  ? IntField
  : S extends WideSpec
    ? WideField
    : S extends BytesSpec | UnionSpec
      ? BytesField
      : S extends NestedSpec<infer F>
        ? NestedField<F>
        : S extends ArraySpec<infer E> | TailSpec<infer E>
          ? ArrayField<E>
          : never;

export type Bound<F extends Fields> = { readonly [K in keyof F]: FieldOf<F[K]> };

/** Declared fields bound to a place: `base` is where their structure starts within the outermost one. */
export function bindFields<F extends Fields>(specs: F, base: number): Bound<F> {
  return Object.fromEntries(Object.entries(specs).map(([key, spec]) => [key, bindField(spec, base)])) as Bound<F>;
}

function bindField(spec: FieldSpec, base: number): AnyField {
  const offset = base + spec.offset;
  switch (spec.kind) {
    case 'int':
      return new IntField(offset, spec.size, spec.signed);
    case 'wide':
      return new WideField(offset);
    case 'bytes':
    case 'union':
      return new BytesField(offset, spec.size);
    case 'nested':
      return new NestedField(offset, spec.type, bindFields(spec.type.specs, offset));
    case 'array':
      return new ArrayField(offset, spec.count, spec.element.size, bindField(spec.element, 0));
    case 'tail':
      return new ArrayField(offset, undefined, spec.element.size, bindField(spec.element, 0));
  }
}
