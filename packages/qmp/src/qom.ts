/**
 * The object tree that qom-list and its kin show: what a machine consists of, by path. A tree is made when it is asked for, and
 * read at once.
 */
import { deviceNotFound } from './errors.js';

/** One property of an object; children have properties of their own, see QomNode. */
export interface QomProperty {
  readonly name: string;
  /** `str`, `bool`, `uint32`, `link<bus>` ... */
  readonly type: string;
  get(): unknown;
  /** Absent for what cannot be written. @throws QmpError for a value that is refused. */
  set?(value: unknown): void;
}

export interface QomNode {
  /** Its type: `edu`, `container`. */
  readonly type: string;
  readonly properties: readonly QomProperty[];
  readonly children: ReadonlyMap<string, QomNode>;
  /** Set for devices: what device_del needs. */
  readonly device?: DeviceIdentity;
}

export interface DeviceIdentity {
  /** By which the target knows it. */
  readonly key: string;
  /** Why nobody can unplug it; undefined if device_del can. */
  readonly fixed?: string | undefined;
}

/** A type of object, for qom-list-types. */
export interface QomType {
  readonly name: string;
  /** Undefined for a type that is derived from none. */
  readonly parent?: string;
  readonly abstract?: boolean;
  /** What it can also be used as. */
  readonly interfaces?: readonly string[];
  /** What objects of this type, which is one of devices, can be given. */
  readonly properties?: readonly QomTypeProperty[];
}

export interface QomTypeProperty {
  readonly name: string;
  readonly type: string;
  readonly description?: string;
  readonly 'default-value'?: unknown;
}

/** An object without properties. */
export function container(children: Iterable<readonly [string, QomNode]> = [], type = 'container'): QomNode {
  return { type, properties: [], children: new Map(children) };
}

export interface Found {
  readonly path: string;
  readonly node: QomNode;
}

/** Every object with its path, parents first. */
export function* walkTree(root: QomNode, path = ''): Generator<Found> {
  yield { path: path === '' ? '/' : path, node: root };
  for (const [name, child] of root.children) yield* walkTree(child, `${path}/${name}`);
}

/**
 * The object at `path`: `/machine/peripheral/edu0`, or the end of a path that is the only one with that end: `edu0`.
 * @throws QmpError if there is none, or more than one.
 */
export function findObject(root: QomNode, path: string): Found {
  const parts = path.split('/').filter(part => part !== '');
  if (path.startsWith('/')) {
    let node: QomNode | undefined = root;
    for (const part of parts) node = node?.children.get(part);
    if (node === undefined) throw deviceNotFound(path);
    return { path: `/${parts.join('/')}`, node };
  }
  const end = `/${parts.join('/')}`;
  const found = parts.length === 0 ? [] : [...walkTree(root)].filter(each => each.path.endsWith(end));
  if (found.length !== 1) throw deviceNotFound(path);
  return found[0]!;
}
