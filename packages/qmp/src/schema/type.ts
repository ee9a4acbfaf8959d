/** The language of the schema: what arguments and replies are made of. Names are those of QEMU's QAPI schema. */

/** JSON types that have a name of their own. */
export const BUILTINS = {
  str: 'string',
  int: 'int',
  number: 'number',
  bool: 'boolean',
  any: 'value',
} as const;

/** The name of a type, or `[name]` for an array of it. */
export type TypeRef = string;

/** Members by name; a name that ends in `?` may be left out. */
export type Members = Readonly<Record<string, TypeRef>>;

export interface ObjectType {
  readonly meta: 'object';
  readonly members: Members;
  /** Member whose value chooses further members: those of the object type that `variants` has for it. */
  readonly tag?: string;
  readonly variants?: Readonly<Record<string, TypeRef>>;
}

export interface EnumType {
  readonly meta: 'enum';
  readonly values: readonly string[];
}

export type NamedType = ObjectType | EnumType;

export interface CommandType {
  /** Members of the arguments, or the object type that has them. */
  readonly arg: ObjectType | TypeRef;
  /** The object without members for commands that return nothing of interest. */
  readonly ret: TypeRef;
  /** It takes any further arguments: they are checked by whoever they are for. */
  readonly open?: boolean;
  /** May run before commands that were sent earlier. */
  readonly oob?: boolean;
}

/** The data that comes with an event. */
export type EventType = ObjectType;

export function struct(members: Members = {}): ObjectType {
  return { meta: 'object', members };
}

export function union(members: Members, tag: string, variants: Readonly<Record<string, TypeRef>>): ObjectType {
  return { meta: 'object', members, tag, variants };
}

export function oneOf(...values: readonly string[]): EnumType {
  return { meta: 'enum', values };
}

/** A command whose arguments are `members`. */
export function command<const M extends Members>(
  members: M,
  ret: TypeRef,
  options: Pick<CommandType, 'open' | 'oob'> = {},
): CommandType & { readonly arg: { readonly members: M } } {
  return { arg: { meta: 'object', members }, ret, ...options };
}

/** What a value of a type is in TypeScript; named types are left to whoever knows them. */
type ValueOf<R> = R extends 'str'
  ? string
  : R extends 'int' | 'number'
    ? number
    : R extends 'bool'
      ? boolean
      : R extends '[str]'
        ? readonly string[]
        : unknown;

/** Arguments that were checked against `M`. */
export type ArgumentsOf<M> = { readonly [N in keyof M as N extends `${string}?` ? never : N]: ValueOf<M[N]> } & {
  readonly [N in keyof M as N extends `${infer Name}?` ? Name : never]?: ValueOf<M[N]> | undefined;
};

/** A member's name, and whether it may be left out. */
export function memberName(written: string): { readonly name: string; readonly optional: boolean } {
  const optional = written.endsWith('?');
  return { name: optional ? written.slice(0, -1) : written, optional };
}

/** The type of the elements, if `ref` is an array. */
export function elementOf(ref: TypeRef): TypeRef | undefined {
  return ref.startsWith('[') ? ref.slice(1, -1) : undefined;
}
