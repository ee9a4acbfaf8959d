/** Every declaration against bytes, offsets and values that a C compiler made (fixtures/; tools/src/headers makes them). */
import { readFileSync } from 'node:fs';
import test from 'ava';
import * as uapi from './index.js';
import {
  type AnyField,
  ArrayField,
  BytesField,
  type Fields,
  IntField,
  IOMMUFD_CONSTANTS,
  LINUX_CONSTANTS,
  NestedField,
  RFC_CONSTANTS,
  StructType,
  type StructValues,
  viewOf,
  WideField,
} from './index.js';

interface Fixtures {
  readonly structs: Record<
    string,
    {
      readonly size: number;
      readonly fields: Record<string, [offset: number, size: number]>;
      readonly samples: { readonly bytes: string; readonly values: Record<string, string> }[];
    }
  >;
  readonly constants: Record<'rfc' | 'linux' | 'iommufd', Record<string, number>>;
}

const fixtures = JSON.parse(readFileSync(new URL('../fixtures/fixtures.json', import.meta.url), 'utf8')) as Fixtures;
const exported: readonly unknown[] = Object.values(uapi);
const ALL = { ...RFC_CONSTANTS, ...LINUX_CONSTANTS, ...IOMMUFD_CONSTANTS };
const declared = exported.filter((value): value is StructType => value instanceof StructType);
const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'));

/** `{ 'a.b[1]': 5n }` as `{ a: { b: [, 5] } }`, with BigInts where a number does not hold the value. */
function nest(values: Record<string, string>): Record<string, unknown> {
  const root: Record<string, unknown> = {};
  for (const [path, text] of Object.entries(values)) {
    const keys = path.split(/[.[\]]+/).filter(key => key !== '');
    let node = root;
    for (const [index, key] of keys.slice(0, -1).entries()) {
      node[key] ??= /^\d+$/.test(keys[index + 1]!) ? [] : {};
      node = node[key] as Record<string, unknown>;
    }
    const value = BigInt(text);
    node[keys.at(-1)!] = value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
  }
  return root;
}

/** The scalar field that a C path names, with the extra bytes that array elements before it take. */
function fieldAt(type: StructType, path: string): { field: IntField | WideField; extra: number } {
  let fields: Readonly<Record<string, AnyField>> = type.fields;
  let found: AnyField | undefined;
  let extra = 0;
  for (const key of path.split(/[.[\]]+/).filter(part => part !== '')) {
    if (found instanceof ArrayField) {
      extra += found.start(Number(key));
      found = found.element;
    } else {
      found = fields[key];
    }
    if (found instanceof NestedField) fields = found.fields;
  }
  if (!(found instanceof IntField || found instanceof WideField)) throw new Error(`${path} is no scalar`);
  return { field: found, extra };
}

test('every structure is known to the compiler, and the other way round', t => {
  t.deepEqual(declared.map(type => type.name).sort(), Object.keys(fixtures.structs).sort());
});

for (const type of declared) {
  const facts = fixtures.structs[type.name]!;

  test(`${type.name}: size, and offset and size of each field`, t => {
    t.is(type.size, facts.size);
    t.deepEqual(Object.fromEntries(type.leaves().map(leaf => [leaf.path, [leaf.offset, leaf.size]])), facts.fields);
  });

  test(`${type.name}: encodes to the compiler's bytes and decodes to its values`, t => {
    t.true(facts.samples.length > 0);
    const seen = new Set<string>();
    for (const { bytes, values } of facts.samples) {
      t.deepEqual(type.encode(nest(values) as StructValues<Fields>), bytesOf(bytes));
      t.deepEqual<unknown, unknown>(type.decode(viewOf(bytesOf(bytes))), nest(values));
      for (const path of Object.keys(values)) seen.add(path);
    }
    t.deepEqual([...seen].sort(), Object.keys(facts.fields).sort(), 'the samples leave a field out');
  });

  test(`${type.name}: each field alone is read and written in place`, t => {
    const at = 3;
    for (const { bytes, values } of facts.samples) {
      const shifted = viewOf(Uint8Array.of(...new Array<number>(at).fill(0xee), ...bytesOf(bytes)));
      for (const [path, text] of Object.entries(values)) {
        const { field, extra } = fieldAt(type, path);
        const value = BigInt(text);
        const target = new Uint8Array(at + type.size + 1);
        if (field instanceof WideField) {
          t.is(field.big(shifted, at + extra), value);
          t.is(field.lo(shifted, at + extra), Number(value & 0xffff_ffffn));
          t.is(field.hi(shifted, at + extra), Number(value >> 32n));
          t.is(field.number(shifted, at + extra), Number(value));
          field.set(viewOf(target), Number(value >> 32n), Number(value & 0xffff_ffffn), at + extra);
        } else {
          t.is(field.get(shifted, at + extra), Number(value));
          field.set(viewOf(target), Number(value), at + extra);
        }
        const [offset, size] = facts.fields[path]!;
        const expected = new Uint8Array(at + type.size + 1);
        expected.set(bytesOf(bytes).subarray(offset, offset + size), at + offset);
        t.deepEqual(target, expected, path);
      }
    }
  });

  test(`${type.name}: padding is what no member of the C structure claims`, t => {
    const claimed = new Set<number>();
    const claim = (offset: number, size: number): void => {
      for (let byte = offset; byte < offset + size; byte++) claimed.add(byte);
    };
    for (const [offset, size] of Object.values(facts.fields)) claim(offset, size);
    for (const field of unionsOf(type)) claim(field.offset, field.size);
    const dirty = new Uint8Array(type.size);
    t.false(type.hasPadding(viewOf(dirty)));
    for (let byte = 0; byte < type.size; byte++) {
      dirty[byte] = 1;
      t.is(type.hasPadding(viewOf(dirty)), !claimed.has(byte), `byte ${byte}`);
      dirty[byte] = 0;
    }
  });
}

/** Unions of a structure and of those inside it, at their offsets from its start. */
function unionsOf(type: StructType, base = 0): { offset: number; size: number }[] {
  return Object.entries(type.specs).flatMap(([key, spec]) => {
    const field = type.fields[key]!;
    if (spec.kind === 'nested') return unionsOf(spec.type, base + spec.offset);
    return spec.kind === 'union' && field instanceof BytesField
      ? [{ offset: base + field.offset, size: field.size }]
      : [];
  });
}

test('the constants have the values that C gives them', t => {
  t.deepEqual(RFC_CONSTANTS, fixtures.constants.rfc);
  t.deepEqual(LINUX_CONSTANTS, fixtures.constants.linux);
  t.deepEqual(IOMMUFD_CONSTANTS, fixtures.constants.iommufd);
});

test('every constant that the package exports is among those compared', t => {
  const compared = Object.keys(ALL);
  for (const [name, value] of Object.entries(uapi)) {
    if (typeof value === 'number') {
      t.true(compared.includes(name) || name === 'VfioIommuPasidReqs', name);
    } else if (/^(Vfio|Iommu)/.test(name) && !(value instanceof StructType)) {
      for (const [key, one] of Object.entries(value)) {
        t.true(
          Object.entries(ALL).some(
            ([known, number]) => number === one && known.includes(key.replace(/^VALID$/, 'VAL')),
          ),
          `${name}.${key}`,
        );
      }
    }
  }
});
