/**
 * What the unit may still have in its caches: everything that was true when a request could have brought it there and that no
 * invalidation has covered since (vtd.md 9, 5.11). The unit may have forgotten any of it, and must not answer with anything else.
 */
import { isRefusal, type LegacyContext, type PasidContext, type Refusal, type ScalableContext } from './lookup.js';
import type { Page } from './paging.js';
import { leadsTo, sameTag, type Known } from './walking.js';

/** An IOTLB entry's tag. Second-stage translations belong to a domain, the others to a PASID in it. */
export interface Tag {
  readonly kind: 'first' | 'second' | 'nested';
  readonly domain: number;
  /** -1 for second-stage translations. */
  readonly pasid: number;
}

export interface Cached extends Page {
  readonly tag: Tag;
  /** Input address of the page. */
  readonly input: bigint;
}

export type Context = LegacyContext | ScalableContext;

/** The domains that a legacy context entry belongs to. A refused one belongs to 0 and, if it is present, to its own (vtd.md 9 rule 3). */
function domainsOf(context: Context | Refusal): readonly (number | undefined)[] {
  if (isRefusal(context)) return [0, context.domain];
  return 'domain' in context ? [context.domain] : [];
}

export class Shadow {
  readonly #contexts = new Map<number, Map<string, Context | Refusal>>();
  readonly #pasids = new Map<
    string,
    { readonly pasid: number; readonly entries: Map<string, PasidContext | Refusal> }
  >();
  readonly #pages = new Map<string, Cached>();
  readonly #structures = new Map<string, Known>();

  contexts(rid: number): (Context | Refusal)[] {
    return [...(this.#contexts.get(rid)?.values() ?? [])];
  }

  addContext(rid: number, context: Context | Refusal): void {
    const known = this.#contexts.get(rid) ?? new Map<string, Context | Refusal>();
    this.#contexts.set(rid, known.set(textOf(context), context));
  }

  pasids(rid: number, pasid: number): (PasidContext | Refusal)[] {
    return [...(this.#pasids.get(`${rid}:${pasid}`)?.entries.values() ?? [])];
  }

  addPasid(rid: number, pasid: number, entry: PasidContext | Refusal): void {
    const key = `${rid}:${pasid}`;
    const known = this.#pasids.get(key) ?? { pasid, entries: new Map<string, PasidContext | Refusal>() };
    known.entries.set(textOf(entry), entry);
    this.#pasids.set(key, known);
  }

  pages(tag: Tag, address: bigint): Cached[] {
    return [...this.#pages.values()].filter(
      each => sameTag(each.tag, tag) && each.input >> BigInt(each.shift) === address >> BigInt(each.shift),
    );
  }

  addPage(tag: Tag, address: bigint, page: Page): void {
    const input = (address >> BigInt(page.shift)) << BigInt(page.shift);
    const cached = { ...page, tag, input };
    this.#pages.set(textOf(cached), cached);
  }

  /** Entries of paging structures on the way to an address, in tables of so many levels. */
  structures(tag: Tag, levels: number, address: bigint): Known[] {
    return [...this.#structures.values()].filter(each => leadsTo(each, tag, levels, address));
  }

  addStructures(met: readonly Known[]): void {
    for (const each of met) this.#structures.set(keyOf(each), each);
  }

  everything(): void {
    this.#contexts.clear();
    this.#pasids.clear();
    this.#pages.clear();
    this.#structures.clear();
  }

  /** Granularity 1 global, 2 domain, 3 device under a function mask. Scalable-mode contexts have no domain. */
  contextCache(granularity: number, domain: number, source: number, functionMask: number, scalable: boolean): void {
    if (granularity === 1 || (granularity === 2 && scalable)) {
      this.#contexts.clear();
      return;
    }
    const ignored = [0, 4, 6, 7][functionMask]!;
    for (const [rid, known] of this.#contexts) {
      if (granularity === 3 && ((rid ^ source) & ~ignored) !== 0) continue;
      for (const [key, context] of known) {
        if (scalable || domainsOf(context).includes(domain)) known.delete(key);
      }
    }
  }

  /** Granularity 0 domain, 1 PASID in the domain, 3 global. */
  pasidCache(granularity: number, domain: number, pasid: number): void {
    for (const known of this.#pasids.values()) {
      if (granularity === 1 && known.pasid !== pasid) continue;
      for (const [key, entry] of known.entries) {
        // A refused entry has no domain: all of them cover it.
        if (granularity === 3 || isRefusal(entry) || entry.domain === domain) known.entries.delete(key);
      }
    }
  }

  /**
   * Granularity 1 global, 2 domain, 3 pages: then first-stage and nested ones of the domain go wholesale. With `leavesOnly` (IH) paging
   * structures stay, but for what a leaf can have taken the place of.
   */
  iotlb(granularity: number, domain: number, address: bigint, mask: number, leavesOnly: boolean): void {
    this.#dropStructures(({ tag, level, input, table }) => {
      if (granularity === 1) return true;
      if (tag.domain !== domain) return false;
      if (granularity === 2) return true;
      if (tag.kind !== 'second') return !leavesOnly;
      if (leavesOnly && (typeof table === 'bigint' || level > 3)) return false;
      return overlaps(input, 3 + 9 * level, address, mask + 12);
    });
    this.#drop(
      ({ tag, input, shift }) =>
        granularity === 1 ||
        (tag.domain === domain &&
          (granularity === 2 || tag.kind !== 'second' || overlaps(input, shift, address, mask + 12))),
    );
  }

  /** Granularity 2 the PASID, 3 pages of it; `leavesOnly` as for `iotlb`. */
  pasidIotlb(
    granularity: number,
    domain: number,
    pasid: number,
    address: bigint,
    mask: number,
    leavesOnly: boolean,
  ): void {
    this.#dropStructures(
      ({ tag, level, input }) =>
        tag.kind !== 'second' &&
        tag.domain === domain &&
        tag.pasid === pasid &&
        (granularity === 2 || (!leavesOnly && overlaps(input, 3 + 9 * level, address, mask + 12))),
    );
    this.#drop(
      ({ tag, input, shift }) =>
        tag.kind !== 'second' &&
        tag.domain === domain &&
        tag.pasid === pasid &&
        (granularity === 2 || overlaps(input, shift, address, mask + 12)),
    );
  }

  #drop(covered: (page: Cached) => boolean): void {
    for (const [key, page] of this.#pages) if (covered(page)) this.#pages.delete(key);
  }

  #dropStructures(covered: (known: Known) => boolean): void {
    for (const [key, known] of this.#structures) if (covered(known)) this.#structures.delete(key);
  }
}

/** Whether two aligned ranges of `1 << shift` bytes around the addresses have a byte in common. */
function overlaps(a: bigint, aShift: number, b: bigint, bShift: number): boolean {
  const wider = BigInt(Math.max(aShift, bShift));
  return a >> wider === b >> wider;
}

function keyOf({ tag, level, input, table, rights }: Known): string {
  const next = typeof table === 'bigint' ? table.toString(16) : table;
  return `${tag.kind} ${tag.domain} ${tag.pasid} ${level} ${input.toString(16)} ${next} ${rights}`;
}

/** The same for equal values of one shape. Millions of these are made: JSON.stringify would take most of the time. */
export function textOf(value: unknown): string {
  if (typeof value === 'bigint') return value.toString(16);
  if (typeof value !== 'object' || value === null) return String(value);
  let text = '{';
  for (const [name, each] of Object.entries(value)) text += `${name}:${textOf(each)},`;
  return text + '}';
}
