/** The schema as query-qmp-schema shows it: flat, each type once; names of types say nothing and are numbers, as QEMU's. */
import { COMMANDS, EVENTS } from './commands.js';
import {
  BUILTINS,
  elementOf,
  memberName,
  type CommandType,
  type EventType,
  type ObjectType,
  type TypeRef,
} from './type.js';
import { EMPTY, namedType } from './types.js';

/** One entity: its name, what it is (`meta-type`) and what belongs to that. */
export interface SchemaInfo {
  readonly name: string;
  readonly 'meta-type': string;
  readonly [member: string]: unknown;
}

export function describeSchema(): SchemaInfo[] {
  const description = new Description();
  for (const [name, type] of Object.entries<CommandType>(COMMANDS)) description.command(name, type);
  for (const [name, type] of Object.entries<EventType>(EVENTS)) description.event(name, type);
  return description.entities;
}

class Description {
  readonly entities: SchemaInfo[] = [];
  readonly #shown = new Map<TypeRef | ObjectType, string>();
  #numbers = 0;

  command(name: string, { arg, ret, oob }: CommandType): void {
    const types = { 'arg-type': this.#type(arg), 'ret-type': this.#type(ret) };
    this.entities.push({ name, 'meta-type': 'command', ...types, ...(oob === true ? { 'allow-oob': true } : {}) });
  }

  event(name: string, data: EventType): void {
    this.entities.push({ name, 'meta-type': 'event', 'arg-type': this.#type(data) });
  }

  /** The name under which `type` is shown. */
  #type(type: TypeRef | ObjectType): string {
    const shown = this.#shown.get(type);
    if (shown !== undefined) return shown;
    if (typeof type !== 'string') {
      const nothing = Object.keys(type.members).length === 0;
      return nothing ? this.#type(EMPTY) : this.#object(type, type);
    }
    const element = elementOf(type);
    if (element !== undefined) return this.#array(type, element);
    const named = namedType(type);
    if (named === undefined) return this.#builtin(type as keyof typeof BUILTINS);
    if (named.meta === 'object') return this.#object(type, named);
    const members = named.values.map(name => ({ name }));
    return this.#add(type, this.#number(), { 'meta-type': 'enum', members, values: named.values });
  }

  #builtin(type: keyof typeof BUILTINS): string {
    return this.#add(type, type, { 'meta-type': 'builtin', 'json-type': BUILTINS[type] });
  }

  #array(ref: TypeRef, element: TypeRef): string {
    const name = this.#type(element);
    return this.#shown.get(ref) ?? this.#add(ref, `[${name}]`, { 'meta-type': 'array', 'element-type': name });
  }

  /** Named before its members are, which may lead back to it. */
  #object(key: TypeRef | ObjectType, { members, tag, variants }: ObjectType): string {
    const name = this.#number();
    this.#shown.set(key, name);
    const shown = Object.entries(members).map(([written, ref]) => {
      const member = memberName(written);
      return { name: member.name, type: this.#type(ref), ...(member.optional ? { default: null } : {}) };
    });
    const cases = Object.entries(variants ?? {}).map(([value, ref]) => ({ case: value, type: this.#type(ref) }));
    const choice = tag === undefined ? {} : { tag, variants: cases };
    return this.#add(key, name, { 'meta-type': 'object', members: shown, ...choice });
  }

  #add(key: TypeRef | ObjectType, name: string, what: Omit<SchemaInfo, 'name'> & { 'meta-type': string }): string {
    this.#shown.set(key, name);
    this.entities.push({ name, ...what });
    return name;
  }

  #number(): string {
    return `${this.#numbers++}`;
  }
}
