/** Two answers to query-qmp-schema: whether what one has, the other has likewise. Names of types mean nothing in them. */

interface Member {
  readonly name: string;
  readonly type: string;
  readonly default?: null;
}

interface Entity {
  readonly name: string;
  readonly 'meta-type': string;
  readonly 'json-type'?: string;
  readonly 'element-type'?: string;
  readonly 'arg-type'?: string;
  readonly 'ret-type'?: string;
  readonly members?: readonly Member[];
  readonly values?: readonly string[];
  readonly variants?: readonly { readonly case: string; readonly type: string }[];
}

type Direction = 'argument' | 'reply';

export class SchemaAgreement {
  readonly differences: string[] = [];
  readonly #ours: ReadonlyMap<string, Entity>;
  readonly #theirs: ReadonlyMap<string, Entity>;
  readonly #compared = new Set<string>();

  constructor(ours: unknown, theirs: unknown) {
    this.#ours = byName(ours);
    this.#theirs = byName(theirs);
    for (const [name, our] of this.#ours) {
      if (our['meta-type'] !== 'command' && our['meta-type'] !== 'event') continue;
      const their = this.#theirs.get(name);
      if (their?.['meta-type'] !== our['meta-type']) {
        this.differences.push(`${name}: there is no such ${our['meta-type']}`);
        continue;
      }
      const direction = our['meta-type'] === 'event' ? 'reply' : 'argument';
      this.#type(name, our['arg-type']!, their['arg-type']!, direction);
      if (our['ret-type'] !== undefined) this.#type(`${name} reply`, our['ret-type'], their['ret-type']!, 'reply');
    }
  }

  #type(path: string, ourName: string, theirName: string, direction: Direction): void {
    const pair = `${ourName} ${theirName} ${direction}`;
    if (this.#compared.has(pair)) return;
    this.#compared.add(pair);
    const [our, their] = [this.#ours.get(ourName)!, this.#theirs.get(theirName)!];
    if (our['meta-type'] !== their['meta-type'] || our['json-type'] !== their['json-type']) {
      this.differences.push(`${path}: ${kindOf(our)}, not ${kindOf(their)}`);
      return;
    }
    if (our['element-type'] !== undefined)
      this.#type(`${path}[]`, our['element-type'], their['element-type']!, direction);
    const unknown = our.values?.filter(value => !their.values!.includes(value)) ?? [];
    for (const value of unknown) this.differences.push(`${path}: "${value}" is unknown`);
    if (our.members !== undefined && our['meta-type'] === 'object') this.#members(path, our, their, direction);
    for (const { case: value, type } of our.variants ?? []) {
      const variant = their.variants?.find(each => each.case === value);
      if (variant !== undefined) this.#type(`${path} (${value})`, type, variant.type, direction);
    }
  }

  /** Whatever is optional there may be absent here; what they need or promise, we do too. */
  #members(path: string, our: Entity, their: Entity, direction: Direction): void {
    for (const member of our.members!) {
      const same = their.members!.find(each => each.name === member.name);
      if (same === undefined) this.differences.push(`${path}: ${member.name} is unknown`);
      else if ('default' in same !== 'default' in member)
        this.differences.push(`${path}: ${member.name} is ${'default' in member ? 'optional here' : 'optional there'}`);
      else this.#type(`${path}.${member.name}`, member.type, same.type, direction);
    }
    const missing = their.members!.filter(
      each => !('default' in each) && !our.members!.some(({ name }) => name === each.name),
    );
    for (const { name } of missing) this.differences.push(`${path}: ${name} is missing`);
  }
}

function byName(schema: unknown): Map<string, Entity> {
  return new Map((schema as readonly Entity[]).map(each => [each.name, each]));
}

function kindOf(entity: Entity): string {
  return entity['json-type'] ?? entity['meta-type'];
}

/** Whether a difference is only that the other one, which greeted so, is too old: qom-list-get came with QEMU 10.1. */
export function isNewer(difference: string, greeting: unknown): boolean {
  const { qemu } = (greeting as { QMP: { version: { qemu: { major: number; minor: number } } } }).QMP.version;
  return difference === 'qom-list-get: there is no such command' && qemu.major * 100 + qemu.minor < 1001;
}
