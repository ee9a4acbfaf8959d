/** Checks values against the schema; errors are worded as QEMU words them, which clients show to people. */
import { QmpError } from '../errors.js';
import { isObject, type JsonObject } from '../json/parse.js';
import type { BUILTINS } from './type.js';
import { elementOf, memberName, type CommandType, type ObjectType, type TypeRef } from './type.js';
import { namedType } from './types.js';

const EXPECTED: Readonly<Record<keyof typeof BUILTINS, string>> = {
  str: 'string',
  int: 'integer',
  number: 'number',
  bool: 'boolean',
  any: 'value',
};

/** @throws QmpError for what is missing, unexpected or of another type. */
export function checkArguments(type: CommandType, args: JsonObject): void {
  const arg = typeof type.arg === 'string' ? objectType(type.arg) : type.arg;
  checkObject(arg, '', args, type.open === true);
}

/** @throws QmpError that names the member of `value`, which is at `path`. */
export function checkValue(ref: TypeRef, path: string, value: unknown): void {
  const element = elementOf(ref);
  if (element !== undefined) {
    if (!Array.isArray(value)) throw wrongType(path, 'array');
    for (const [index, each] of value.entries()) checkValue(element, `${path}[${index}]`, each);
    return;
  }
  const named = namedType(ref);
  if (named === undefined) checkBuiltin(ref as keyof typeof BUILTINS, path, value);
  else if (named.meta === 'enum') checkEnum(named.values, path, value);
  else if (isObject(value)) checkObject(named, path, value, false);
  else throw wrongType(path, 'object');
}

function checkObject(type: ObjectType, path: string, value: JsonObject, open: boolean): void {
  const known = new Set<string>();
  checkMembers(type, path, value, known);
  if (type.tag !== undefined) checkMembers(objectType(type.variants![value[type.tag] as string]!), path, value, known);
  if (open) return;
  const unknown = Object.keys(value).find(name => !known.has(name) && value[name] !== undefined);
  if (unknown !== undefined) throw new QmpError(`Parameter '${inside(path, unknown)}' is unexpected`);
}

function checkMembers(type: ObjectType, path: string, value: JsonObject, known: Set<string>): void {
  for (const [written, ref] of Object.entries(type.members)) {
    const { name, optional } = memberName(written);
    known.add(name);
    const member = value[name];
    if (member !== undefined) checkValue(ref, inside(path, name), member);
    else if (!optional) throw new QmpError(`Parameter '${inside(path, name)}' is missing`);
  }
}

function checkBuiltin(type: keyof typeof BUILTINS, path: string, value: unknown): void {
  const fits: Readonly<Record<keyof typeof BUILTINS, boolean>> = {
    str: typeof value === 'string',
    int: Number.isSafeInteger(value) || typeof value === 'bigint',
    number: typeof value === 'number' || typeof value === 'bigint',
    bool: typeof value === 'boolean',
    any: true,
  };
  if (!fits[type]) throw wrongType(path, EXPECTED[type]);
}

function checkEnum(values: readonly string[], path: string, value: unknown): void {
  if (typeof value !== 'string') throw wrongType(path, 'string');
  if (!values.includes(value)) throw new QmpError(`Parameter '${path}' does not accept value '${value}'`);
}

function objectType(ref: TypeRef): ObjectType {
  const type = namedType(ref);
  if (type?.meta !== 'object') throw new Error(`${ref} is not an object type`);
  return type;
}

function wrongType(path: string, expected: string): QmpError {
  return new QmpError(`Invalid parameter type for '${path}', expected: ${expected}`);
}

function inside(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}
