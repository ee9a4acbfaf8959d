/**
 * Address spaces of an IOTLB and their tags. An address space (domain, PASID, kind) is interned as a small integer, its asid.
 * While something of it is cached it has a tag, a number that no other address space has; a flush takes the tag away, at once or
 * by a stamp: a tag that was given out before its domain's or the global flush counts no longer.
 */
const MAX_SPACES = 2 ** 17;
const MAX_DOMAIN = 2 ** 30;
const MAX_PASID = 2 ** 20;
const PASID_VALUES = 2 ** 21;
const NO_TAG = -1;
const KINDS = 4;

export interface AddressSpaceName {
  readonly domain: number;
  readonly pasid: number;
  readonly kind: number;
}

export class AddressSpaces {
  /** By index, which is asid - base. */
  readonly #names: AddressSpaceName[] = [];
  readonly #indexOf = new Map<number, number>();
  /** What was asked for last, by kind, and its index (-1: nothing): flushes come in rows for one address space. */
  readonly #lastDomain = new Int32Array(KINDS);
  readonly #lastPasid = new Int32Array(KINDS);
  readonly #lastIndex = new Int32Array(KINDS).fill(-1);
  #group = new Int32Array(64);
  /** The last one given out; never 0. */
  #tag = new Int32Array(64).fill(NO_TAG);
  /** When the tag was given out; 0 if it counts no longer. */
  #born = new Float64Array(64);
  /** asids handed out earlier than this one are stale. */
  #base = 0;

  /** A group is a domain and kind: what is flushed together. By domain: the group of its kind 0; the others follow. */
  readonly #groupsOf = new Map<number, number>();
  /** asids, by group. */
  #members: number[][] = [];
  #groupFlushed = new Float64Array(64);
  #allFlushed = 0;
  /** Counts events; a double, so that it does not wrap. */
  #clock = 0;

  /** By tag: the index of the address space that it was given to. */
  readonly #owner: Int32Array;
  #nextTag = 1;

  constructor(tags: number) {
    this.#owner = new Int32Array(tags);
  }

  get full(): boolean {
    return this.#names.length >= MAX_SPACES;
  }

  get tagsUsedUp(): boolean {
    return this.#nextTag === this.#owner.length;
  }

  intern(domain: number, pasid: number, kind: number): number {
    const last = this.#lastIndex[kind] ?? -1;
    if (last >= 0 && this.#lastDomain[kind] === domain && this.#lastPasid[kind] === pasid) return this.#base + last;
    const index = this.#intern(domain, pasid, kind);
    this.#lastDomain[kind] = domain;
    this.#lastPasid[kind] = pasid;
    this.#lastIndex[kind] = index;
    return this.#base + index;
  }

  #intern(domain: number, pasid: number, kind: number): number {
    if (!within(domain, 0, MAX_DOMAIN) || !within(pasid, -1, MAX_PASID) || !within(kind, 0, KINDS)) {
      throw new RangeError(`not an address space: domain ${domain}, PASID ${pasid}, kind ${kind}`);
    }
    const key = (domain * KINDS + kind) * PASID_VALUES + pasid + 1;
    const known = this.#indexOf.get(key);
    if (known !== undefined) return known;
    const index = this.#names.length;
    this.#names.push({ domain, pasid, kind });
    this.#indexOf.set(key, index);
    if (index === this.#tag.length) this.#growSpaces();
    const group = this.#internGroups(domain) + kind;
    this.#group[index] = group;
    this.#members[group]!.push(this.#base + index);
    return index;
  }

  isCurrent(asid: number): boolean {
    return asid >= this.#base;
  }

  /** The tag under which entries of `asid` count; 0 if nothing of it is cached. */
  tagOf(asid: number): number {
    const index = asid - this.#base;
    if (index < 0) return 0;
    const born = this.#born[index]!;
    return born > this.#allFlushed && born > this.#groupFlushed[this.#group[index]!]! ? this.#tag[index]! : 0;
  }

  /** Whether entries with this tag count. */
  isLive(tag: number): boolean {
    return tag !== 0 && this.tagOf(this.#base + this.#owner[tag]!) === tag;
  }

  /** Whether entries with this tag surely do not count: tag 0, or its address space has another. One that was not used since its flush still has its. */
  isOutdated(tag: number): boolean {
    return this.#tag[this.#owner[tag]!] !== tag;
  }

  newTag(asid: number): number {
    const index = asid - this.#base;
    const tag = this.#nextTag++;
    this.#owner[tag] = index;
    this.#tag[index] = tag;
    this.#born[index] = ++this.#clock;
    return tag;
  }

  flush(asid: number): void {
    const index = asid - this.#base;
    if (index >= 0) this.#born[index] = 0;
  }

  /** Of one kind, or of all four (-1). */
  flushDomain(domain: number, kind: number): void {
    const first = this.#groupsOf.get(domain);
    if (first === undefined) return;
    const now = ++this.#clock;
    const flushed = this.#groupFlushed;
    if (kind >= 0) flushed[first + kind] = now;
    else for (let each = 0; each < KINDS; each++) flushed[first + each] = now;
  }

  flushAll(): void {
    this.#allFlushed = ++this.#clock;
  }

  /** The asids of a domain and kind. */
  members(domain: number, kind: number): readonly number[] | undefined {
    const first = this.#groupsOf.get(domain);
    return first === undefined ? undefined : this.#members[first + kind];
  }

  /** Whose a live tag is. */
  describe(tag: number): AddressSpaceName {
    return this.#names[this.#owner[tag]!]!;
  }

  /** Takes all tags back. */
  restartTags(): void {
    this.#tag.fill(NO_TAG);
    this.#born.fill(0);
    this.#nextTag = 1;
  }

  /** Forgets all address spaces; their asids are never handed out again. Tags must have been taken back. */
  recycle(): void {
    this.#base += this.#names.length;
    this.#names.length = 0;
    this.#indexOf.clear();
    this.#lastIndex.fill(-1);
    this.#groupsOf.clear();
    this.#members = [];
    this.#groupFlushed.fill(0);
  }

  #internGroups(domain: number): number {
    const known = this.#groupsOf.get(domain);
    if (known !== undefined) return known;
    const first = this.#members.length;
    this.#groupsOf.set(domain, first);
    for (let kind = 0; kind < KINDS; kind++) this.#members.push([]);
    if (first === this.#groupFlushed.length) {
      this.#groupFlushed = grown(this.#groupFlushed, new Float64Array(first * 2));
    }
    return first;
  }

  #growSpaces(): void {
    const length = this.#tag.length * 2;
    this.#group = grown(this.#group, new Int32Array(length));
    this.#tag = grown(this.#tag, new Int32Array(length).fill(NO_TAG));
    this.#born = grown(this.#born, new Float64Array(length));
  }
}

function within(value: number, from: number, to: number): boolean {
  return Number.isInteger(value) && value >= from && value < to;
}

function grown<A extends Int32Array | Float64Array>(old: A, larger: A): A {
  larger.set(old);
  return larger;
}
