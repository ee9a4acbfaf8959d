/** qom-list, qom-get, qom-set and what there is to know of types. */
import { deviceNotFound, QmpError } from '../errors.js';
import { findObject, type Found, type QomProperty, type QomType, type QomTypeProperty } from '../qom.js';
import type { QmpTarget } from '../target.js';

/** What is in the object at `path`: its properties, and its children as properties of type `child<...>`. */
export function listProperties(target: QmpTarget, path: string): QomTypeProperty[] {
  const { node } = findObject(target.tree(), path);
  const own = node.properties.map(({ name, type }) => ({ name, type }));
  const children = [...node.children].map(([name, child]) => ({ name, type: `child<${child.type}>` }));
  return [{ name: 'type', type: 'string' }, ...own, ...children];
}

/** The same with what can be read of it, for each of `paths`. */
export function listValues(target: QmpTarget, paths: readonly string[]): { properties: object[] }[] {
  return paths.map(path => ({
    properties: listProperties(target, path).map(property => ({
      ...property,
      ...valueOf(target, path, property.name),
    })),
  }));
}

function valueOf(target: QmpTarget, path: string, name: string): { value?: unknown } {
  try {
    return { value: getProperty(target, path, name) };
  } catch (failure) {
    if (!(failure instanceof QmpError)) throw failure;
    return {};
  }
}

export function getProperty(target: QmpTarget, path: string, name: string): unknown {
  const found = findObject(target.tree(), path);
  if (name === 'type') return found.node.type;
  if (found.node.children.has(name)) return `${found.path === '/' ? '' : found.path}/${name}`;
  return propertyOf(found, name).get();
}

export function setProperty(target: QmpTarget, path: string, name: string, value: unknown): void {
  const found = findObject(target.tree(), path);
  const { node } = found;
  if (name === 'type' || node.children.has(name)) throw notWritable(node.type, name);
  const property = propertyOf(found, name);
  if (property.set !== undefined) property.set(value);
  else if (node.device === undefined) throw notWritable(node.type, name);
  else throw new QmpError(`Property '${node.type}.${name}' cannot be set: the device '${path}' is realized already`);
}

function propertyOf({ node }: Found, name: string): QomProperty {
  const property = node.properties.find(each => each.name === name);
  if (property === undefined) throw new QmpError(`Property '${node.type}.${name}' not found`);
  return property;
}

function notWritable(type: string, name: string): QmpError {
  return new QmpError(`Property '${type}.${name}' is not writable`);
}

/** Types that are `implements`, or derived from it; abstract ones only if asked for. */
export function listTypes(types: readonly QomType[], root = 'object', abstract = false): QomType[] {
  const byName = new Map(types.map(type => [type.name, type]));
  const derived = (type: QomType | undefined): boolean =>
    type !== undefined &&
    (type.name === root ||
      type.interfaces?.includes(root) === true ||
      (type.parent !== undefined && derived(byName.get(type.parent))));
  return types.filter(type => derived(type) && (abstract || type.abstract !== true));
}

/** A type as qom-list-types shows it. */
export function typeInfo({ name, parent, abstract }: QomType): Pick<QomType, 'name' | 'parent' | 'abstract'> {
  return { name, ...(abstract === true ? { abstract } : {}), ...(parent === undefined ? {} : { parent }) };
}

/** What devices of type `name` can be given. */
export function deviceProperties(types: readonly QomType[], name: string): readonly QomTypeProperty[] {
  const type = types.find(each => each.name === name);
  if (type === undefined) throw deviceNotFound(name);
  const device = listTypes(types, 'device').includes(type);
  if (!device) throw new QmpError("Parameter 'typename' expects a non-abstract device type");
  return type.properties ?? [];
}

/** What objects of type `name` have; for a type that is none of a device, as far as it is known without an object. */
export function typeProperties(types: readonly QomType[], name: string): readonly QomTypeProperty[] {
  const type = types.find(each => each.name === name);
  if (type === undefined) throw deviceNotFound(name);
  return [{ name: 'type', type: 'string' }, ...(type.properties ?? [])];
}
