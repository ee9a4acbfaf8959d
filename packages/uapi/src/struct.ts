/**
 * C structures of the Linux uAPI, declared: every offset and the size are written out, as a compiler would lay them out (LP64,
 * little-endian). Bytes that no field claims are padding, so that the must-be-zero check comes from the declaration too.
 *
 * Fields are read and written in place through `fields`; `encode`, `write`, `decode` and `format` are for edges.
 */
import type { Wide } from '@remora/bits';
import {
  type AnyField,
  ArrayField,
  bindFields,
  type Bound,
  BytesField,
  type BytesSpec,
  type ArraySpec,
  type Fields,
  type FieldSpec,
  type InArm,
  IntField,
  type IntSpec,
  NestedField,
  type NestedSpec,
  type TailSpec,
  type UnionSpec,
  WideField,
  type WideSpec,
} from './field.js';
import { formatValues, type PlainValue } from './format.js';
import { claimFields } from './layout.js';

/** What `encode` takes for one field. A nested structure may be given as its bytes. */
export type Value<S extends FieldSpec> = S extends IntSpec
  ? number
  : S extends WideSpec
    ? Wide
    : S extends BytesSpec | UnionSpec
      ? Uint8Array
      : S extends NestedSpec<infer F>
        ? StructValues<F> | Uint8Array
        : S extends ArraySpec<infer E>
          ? readonly Value<E>[]
          : never;

/** What `encode` takes: fields that are not named stay as they are, or zero. */
export type StructValues<F extends Fields> = { readonly [K in keyof F]?: Value<F[K]> | undefined };

/** What `decode` gives for one field: numbers (a BigInt from 2^53 on), copies of bytes, objects and lists of these. */
export type DecodedField<S extends FieldSpec> = S extends IntSpec
  ? number
  : S extends WideSpec
    ? number | bigint
    : S extends BytesSpec | UnionSpec
      ? Uint8Array
      : S extends NestedSpec<infer F>
        ? Decoded<F>
        : S extends ArraySpec<infer E>
          ? DecodedField<E>[]
          : never;

/** Fields of a union are there only if their arm is in use; the union's own bytes only if no arm is. */
export type Decoded<F extends Fields> = {
  [K in keyof F as F[K] extends InArm | UnionSpec | TailSpec ? never : K]: DecodedField<F[K]>;
} & { [K in keyof F as F[K] extends InArm | UnionSpec ? K : never]?: DecodedField<F[K]> };

/** One scalar of a structure, or of what is nested in it. */
export interface Leaf {
  /** As C writes it: `addr_info.pasid`, `private_data[1]`. */
  readonly path: string;
  readonly offset: number;
  readonly size: number;
}

/** A declared structure. */
export class StructType<F extends Fields = Fields> {
  /** As in C, without `struct`. */
  readonly name: string;
  /** The header, or the patch, that defines it. */
  readonly source: string;
  /** sizeof, in bytes. */
  readonly size: number;
  readonly specs: F;
  readonly fields: Bound<F>;
  /** Half-open byte ranges that no field claims, here or in a nested structure. */
  readonly padding: readonly (readonly [number, number])[];

  constructor(name: string, source: string, size: number, specs: F) {
    this.name = name;
    this.source = source;
    this.size = size;
    this.specs = specs;
    this.padding = claimFields(name, size, specs);
    this.fields = bindFields(specs, 0);
  }

  /** Whether any padding byte is set. Bytes of a union that its arm in use does not need are not padding. */
  hasPadding(view: DataView, at = 0): boolean {
    for (const [start, end] of this.padding) {
      for (let byte = start; byte < end; byte++) if (view.getUint8(at + byte) !== 0) return true;
    }
    return false;
  }

  /** New bytes with these values; everything else is zero. @throws RangeError for a value that does not fit. */
  encode(values: StructValues<F>): Uint8Array {
    const encoded = new Uint8Array(this.size);
    this.write(viewOf(encoded), values);
    return encoded;
  }

  /** Stores the values that are given, in their order. @throws RangeError for a value that does not fit. */
  write(view: DataView, values: StructValues<F>, at = 0): void {
    writeFields(this.name, this.fields, values, view, at);
  }

  /** All fields, of a union those of the arm in use. @throws RangeError if `view` ends within the structure. */
  decode(view: DataView, at = 0): Decoded<F> {
    return decodeFields(this.specs, this.fields, view, at) as Decoded<F>;
  }

  /** The fields that are not zero, for people: `argsz=0x14 flags=2 free_pasid=5`. */
  format(view: DataView, at = 0): string {
    return formatValues(decodeFields(this.specs, this.fields, view, at));
  }

  /** Every scalar field, of all arms, in the order of declaration. Flexible array members and unions as a whole have none. */
  leaves(): Leaf[] {
    return Object.entries(this.specs).flatMap(([key, spec]) => leavesOf(key, spec));
  }
}

/**
 * Declares `struct name` of `size` bytes.
 * @throws RangeError if a field lies outside the structure, claims a byte that another field has, or is a part of a union that
 *   is not declared.
 */
export function struct<F extends Fields>(name: string, source: string, size: number, fields: F): StructType<F> {
  return new StructType(name, source, size, fields);
}

/** A DataView over exactly `data`. */
export function viewOf(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

function writeFields(
  where: string,
  fields: Readonly<Record<string, AnyField>>,
  values: object,
  view: DataView,
  at: number,
): void {
  for (const [key, value] of Object.entries(values)) {
    const field = Object.hasOwn(fields, key) ? fields[key] : undefined;
    if (field === undefined) throw new RangeError(`${where} has no field ${key}`);
    if (value !== undefined) writeField(`${where}.${key}`, field, value, view, at);
  }
}

function writeField(where: string, field: AnyField, value: unknown, view: DataView, at: number): void {
  if (field instanceof IntField) {
    const span = 256 ** field.size;
    const [least, end] = field.signed ? [-span / 2, span / 2] : [0, span];
    if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value >= end) {
      throw new RangeError(`${where}: ${String(value)} does not fit in ${field.size} bytes`);
    }
    field.set(view, value, at);
  } else if (field instanceof WideField) {
    field.setWide(view, value as Wide, at);
  } else if (field instanceof ArrayField) {
    const given = value as readonly unknown[];
    if (given.length > (field.count ?? 0)) {
      throw new RangeError(`${where}: ${given.length} elements, it has ${field.count ?? 0}`);
    }
    for (const [index, one] of given.entries()) {
      writeField(`${where}[${index}]`, field.element, one, view, field.start(index, at));
    }
  } else if (value instanceof Uint8Array) {
    if (value.length > field.size) throw new RangeError(`${where}: ${value.length} bytes, it has ${field.size}`);
    new Uint8Array(view.buffer, view.byteOffset + at + field.offset, field.size).set(value);
  } else if (field instanceof NestedField && typeof value === 'object' && value !== null) {
    writeFields(where, field.fields, value, view, at);
  } else {
    throw new RangeError(`${where}: ${String(value)} is not what this field holds`);
  }
}

function decodeFields(
  specs: Fields,
  fields: Readonly<Record<string, AnyField>>,
  view: DataView,
  at: number,
): Record<string, PlainValue> {
  const inUse = new Set<string>();
  const whole = new Set<string>();
  for (const [key, spec] of Object.entries(specs)) {
    if (spec.kind !== 'union') continue;
    const selected = spec.arms[(fields[spec.by] as IntField).get(view, at)];
    if (selected === undefined) whole.add(key);
    else inUse.add(selected);
  }
  const values: Record<string, PlainValue> = {};
  for (const [key, spec] of Object.entries(specs)) {
    const hidden = spec.kind === 'union' ? !whole.has(key) : spec.arm !== undefined && !inUse.has(spec.arm);
    if (!hidden && spec.kind !== 'tail') values[key] = decodeField(fields[key]!, view, at);
  }
  return values;
}

function decodeField(field: AnyField, view: DataView, at: number): PlainValue {
  if (field instanceof IntField) return field.get(view, at);
  if (field instanceof WideField) {
    const value = field.number(view, at);
    return value <= Number.MAX_SAFE_INTEGER ? value : field.big(view, at);
  }
  if (field instanceof BytesField) return field.of(view, at).slice();
  if (field instanceof NestedField) return decodeFields(field.type.specs, field.fields, view, at);
  return Array.from({ length: field.count ?? 0 }, (_, index) =>
    decodeField(field.element, view, field.start(index, at)),
  );
}

function leavesOf(path: string, spec: FieldSpec): Leaf[] {
  const { offset, size } = spec;
  switch (spec.kind) {
    case 'union':
    case 'tail':
      return [];
    case 'nested':
      return spec.type.leaves().map(leaf => ({ ...leaf, path: `${path}.${leaf.path}`, offset: offset + leaf.offset }));
    case 'array':
      return Array.from({ length: spec.count }, (_, index) =>
        leavesOf(`${path}[${index}]`, spec.element).map(leaf => ({
          ...leaf,
          offset: leaf.offset + offset + index * spec.element.size,
        })),
      ).flat();
    default:
      return [{ path, offset, size }];
  }
}
