/**
 * One walk among paging entries that the unit may have cached (vtd.md 9, "paging-structure caches"): a walk starts at the root, or at the
 * table to which any of them leads.
 */
import type { Choices } from './choices.js';
import type { Facts } from './facts.js';
import type { Shadow, Tag } from './shadow.js';

/** A paging entry that the unit may have cached. */
export interface Known {
  readonly tag: Tag;
  /** 1 for an entry of the last table. */
  readonly level: number;
  /** First input address that it covers. */
  readonly input: bigint;
  /** The next table; with caching mode also why there is none. */
  readonly table: bigint | 'absent' | 'reserved';
  /** What the way to here leaves of the rights: as the stage's walk counts them. */
  readonly rights: number;
}

export class Walking {
  readonly facts: Facts;
  readonly choices: Choices;
  /** Entries that this walk has met, which count as cached from here on. */
  readonly met: Known[] = [];
  readonly shadow: Shadow;

  constructor(facts: Facts, shadow: Shadow, choices: Choices) {
    this.facts = facts;
    this.shadow = shadow;
    this.choices = choices;
  }

  /** Those on the way to an address, in tables of so many levels. */
  known(tag: Tag, levels: number, address: bigint): Known[] {
    return [
      ...this.shadow.structures(tag, levels, address),
      ...this.met.filter(each => leadsTo(each, tag, levels, address)),
    ];
  }

  meet(tag: Tag, level: number, address: bigint, table: Known['table'], rights: number): void {
    if (typeof table === 'string' && !this.facts.cachingMode) return;
    const shift = BigInt(3 + 9 * level);
    this.met.push({ tag, level, input: (address >> shift) << shift, table, rights });
  }
}

export function leadsTo(known: Known, tag: Tag, levels: number, address: bigint): boolean {
  const shift = BigInt(3 + 9 * known.level);
  return known.level <= levels && sameTag(known.tag, tag) && known.input >> shift === address >> shift;
}

export function sameTag(a: Tag, b: Tag): boolean {
  return a.kind === b.kind && a.domain === b.domain && a.pasid === b.pasid;
}
