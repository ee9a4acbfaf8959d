/** Which byte of a structure belongs to which field, checked when the structure is declared. */
import type { Fields, FieldSpec, UnionSpec } from './field.js';

interface Claim {
  readonly key: string;
  readonly spec: FieldSpec;
}

/**
 * Checks the fields of `struct name` and returns the half-open byte ranges that none of them claims.
 * @throws RangeError as `struct` says.
 */
export function claimFields(name: string, size: number, fields: Fields): [number, number][] {
  const unions = Object.entries(fields).filter((entry): entry is [string, UnionSpec] => entry[1].kind === 'union');
  for (const [key, union] of unions) {
    const by = fields[union.by];
    if (by?.kind !== 'int') throw new RangeError(`${name}.${key}: no integer field ${union.by} selects its arms`);
  }
  const claims = Array.from({ length: size }, (): Claim[] => []);
  for (const [key, spec] of Object.entries(fields)) {
    const where = `${name}.${key}`;
    if (spec.kind === 'tail' ? spec.offset < 0 : spec.offset < 0 || spec.size <= 0 || spec.offset + spec.size > size) {
      throw new RangeError(`${where}: bytes ${spec.offset} to ${spec.offset + spec.size} are outside the structure`);
    }
    if (spec.arm !== undefined) checkArm(where, spec, spec.arm, unions);
    for (let byte = spec.offset; byte < spec.offset + spec.size; byte++) claim(where, claims, byte, { key, spec });
  }
  return holes(claims, fields);
}

/** A union's arms lie within it, and each is one that can be selected. */
function checkArm(
  where: string,
  spec: FieldSpec,
  arm: string,
  unions: readonly (readonly [string, UnionSpec])[],
): void {
  const home = unions.find(([, union]) => Object.values(union.arms).includes(arm))?.[1];
  if (home === undefined) throw new RangeError(`${where}: no union has an arm ${arm}`);
  if (spec.offset < home.offset || spec.offset + spec.size > home.offset + home.size) {
    throw new RangeError(`${where}: outside its union`);
  }
}

function claim(where: string, claims: readonly Claim[][], byte: number, mine: Claim): void {
  const held = claims[byte]!;
  const clash = held.find(other => !mayShare(other.spec, mine.spec));
  if (clash !== undefined) throw new RangeError(`${where}: byte ${byte} belongs to ${clash.key}`);
  held.push(mine);
}

/** Two arms of a union share its bytes with each other and with the union as a whole; nothing else shares bytes. */
function mayShare(one: FieldSpec, other: FieldSpec): boolean {
  if (one.kind === 'union') return other.arm !== undefined && Object.values(one.arms).includes(other.arm);
  if (other.kind === 'union') return mayShare(other, one);
  return one.arm !== undefined && other.arm !== undefined && one.arm !== other.arm;
}

function holes(claims: readonly (readonly Claim[])[], fields: Fields): [number, number][] {
  const used = claims.map(held => held.length > 0);
  for (const spec of Object.values(fields)) if (spec.arm === undefined) markNestedHoles(used, spec, spec.offset);
  const found: [number, number][] = [];
  for (const [byte, claimed] of used.entries()) {
    if (claimed) continue;
    const last = found.at(-1);
    if (last !== undefined && last[1] === byte) last[1] = byte + 1;
    else found.push([byte, byte + 1]);
  }
  return found;
}

/** Padding of a structure inside is padding of the one around it. Not inside a union: another arm may use the bytes. */
function markNestedHoles(used: boolean[], spec: FieldSpec, at: number): void {
  if (spec.kind === 'nested') {
    for (const [start, end] of spec.type.padding) used.fill(false, at + start, at + end);
  } else if (spec.kind === 'array') {
    for (let index = 0; index < spec.count; index++)
      markNestedHoles(used, spec.element, at + index * spec.element.size);
  }
}
