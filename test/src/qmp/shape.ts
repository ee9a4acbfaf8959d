/** Keys and types of JSON values. Elements of an array count as one; what not all of them have may be absent. */

/** By path (`[].id.vendor`): the types found there, and the keys of objects there with whether all objects have them. */
export interface Shape {
  readonly types: Set<string>;
  readonly keys: Map<string, { always: boolean }>;
}

export type Shapes = Map<string, Shape>;

export function shapeOf(value: unknown, path = '', shapes: Shapes = new Map()): Shapes {
  const type = Array.isArray(value) ? 'array' : value === null ? 'null' : typeof value;
  const known = shapes.get(path);
  const shape = known ?? { types: new Set(), keys: new Map<string, { always: boolean }>() };
  shapes.set(path, shape);
  if (type === 'object') {
    const first = !shape.types.has('object');
    const members = value as Record<string, unknown>;
    for (const [key, { always }] of shape.keys) shape.keys.set(key, { always: always && key in members });
    for (const [key, member] of Object.entries(members)) {
      if (!shape.keys.has(key)) shape.keys.set(key, { always: first });
      shapeOf(member, `${path}.${key}`, shapes);
    }
  }
  shape.types.add(type);
  if (Array.isArray(value)) for (const each of value) shapeOf(each, `${path}[]`, shapes);
  return shapes;
}

/** How `ours` differs from `theirs`, where both have something. What lies below `any` may be anything. */
export function differences(ours: Shapes, theirs: Shapes, any: RegExp = /^$./): string[] {
  return [...ours].flatMap(([path, our]) => {
    const their = theirs.get(path);
    if (their === undefined || any.test(path)) return [];
    const types = [...our.types].filter(type => !their.types.has(type));
    const unknown = [...our.keys.keys()].filter(key => !their.keys.has(key));
    const missing = [...their.keys].filter(
      ([key, { always }]) => always && our.types.has('object') && our.keys.get(key)?.always !== true,
    );
    return [
      ...types.map(type => `${path}: ${type}, not ${[...their.types].join(' or ')}`),
      ...unknown.map(key => `${path}: ${key} is unknown`),
      ...missing.map(([key]) => `${path}: ${key} is missing`),
    ];
  });
}
