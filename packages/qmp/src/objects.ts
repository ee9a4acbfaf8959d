/** Objects that users create beside devices: `-object` and object-add. Nothing here uses them; they are there to be named and looked at. */
import { QmpError } from './errors.js';
import type { JsonObject } from './json/parse.js';
import type { QomNode, QomProperty } from './qom.js';
import { checkValue } from './schema/check.js';

interface ObjectKind {
  /** Default values; those without one show nothing until they are given. */
  readonly defaults: JsonObject;
  /** What may be changed while the object is there. */
  readonly writable: readonly string[];
}

const KINDS: Readonly<Record<string, ObjectKind>> = {
  iommufd: { defaults: {}, writable: [] },
  iothread: {
    defaults: {
      'aio-max-batch': 0,
      'thread-pool-min': 0,
      'thread-pool-max': 64,
      'poll-max-ns': 32768,
      'poll-grow': 0,
      'poll-shrink': 0,
    },
    writable: ['aio-max-batch', 'thread-pool-min', 'thread-pool-max', 'poll-max-ns', 'poll-grow', 'poll-shrink'],
  },
  'memory-backend-ram': {
    defaults: { dump: true, merge: true, prealloc: false, reserve: true, share: false },
    writable: ['dump', 'merge'],
  },
  'rng-builtin': { defaults: {}, writable: [] },
};

interface UserObject {
  readonly kind: string;
  readonly values: Map<string, unknown>;
}

export class ObjectStore {
  readonly #objects = new Map<string, UserObject>();
  readonly #provided = new Map<string, QomNode>();

  /** Types that can be created. */
  static get kinds(): readonly string[] {
    return Object.keys(KINDS);
  }

  /** Shows `node` among the objects: it is part of the machine, and users cannot remove it. */
  provide(id: string, node: QomNode): void {
    this.#provided.set(id, node);
  }

  /** `options` are those of object-add, `qom-type` and `id` among them. @throws QmpError if they are wrong, or the id is taken. */
  add(options: JsonObject): void {
    checkValue('ObjectOptions', '', options);
    const { 'qom-type': kind, id, ...given } = options as { 'qom-type': string; id: string };
    checkId(id);
    if (this.#objects.has(id) || this.#provided.has(id))
      throw new QmpError(`attempt to add duplicate property '${id}' to object (type 'container')`);
    this.#objects.set(id, { kind, values: new Map(Object.entries({ ...KINDS[kind]!.defaults, ...given })) });
  }

  /** @throws QmpError if there is none that could be removed. */
  remove(id: string): void {
    if (this.#provided.has(id)) throw new QmpError(`object '${id}' is in use, it cannot be deleted`);
    if (!this.#objects.delete(id)) throw new QmpError(`object '${id}' not found`);
  }

  /** By id. */
  nodes(): [string, QomNode][] {
    const created = [...this.#objects].map(([id, object]): [string, QomNode] => [id, nodeOf(object)]);
    return [...this.#provided, ...created];
  }
}

/** An id begins with a letter; letters, digits, `-`, `.` and `_` follow. @throws QmpError if `id` is none. */
export function checkId(id: string): void {
  if (!/^[A-Za-z][A-Za-z0-9._-]*$/.test(id)) throw new QmpError("Parameter 'id' expects an identifier");
}

function nodeOf({ kind, values }: UserObject): QomNode {
  const { writable } = KINDS[kind]!;
  const properties = [...values].map(([name, value]): QomProperty => {
    const type = typeof value === 'boolean' ? 'bool' : typeof value === 'string' ? 'str' : 'int';
    const property = { name, type, get: () => values.get(name) };
    if (!writable.includes(name)) return property;
    return {
      ...property,
      set: to => {
        checkValue(type, name, to);
        values.set(name, to);
      },
    };
  });
  return { type: kind, properties, children: new Map() };
}
