/**
 * Every outcome that a request may have now: by the tables as they stand, and by what the unit may still have cached. One of them is
 * what the unit must answer, with the memory writes that belong to it.
 */
import type { TableMemory } from '../table-memory.js';
import { everyWay } from './choices.js';
import type { Facts } from './facts.js';
import {
  isRefusal,
  legacyContext,
  pasidContext,
  scalableContext,
  type LegacyContext,
  type PasidContext,
  type Refusal,
  type ScalableContext,
} from './lookup.js';
import { Overlay } from './overlay.js';
import {
  EXECUTE,
  inInterruptRange,
  overlapsInterrupts,
  PRIVILEGED,
  READ,
  walkFirst,
  walkSecond,
  WRITE,
  type FirstStage,
  type Page,
  type Rights,
  type SecondStage,
} from './paging.js';
import { Shadow, type Tag } from './shadow.js';
import { Walking } from './walking.js';

export interface Request {
  readonly rid: number;
  /** -1 for none. */
  readonly pasid: number;
  readonly address: bigint;
  readonly access: number;
}

export type Outcome = Refusal | { readonly base: bigint; readonly shift: number; readonly access: number };

export interface Possibility {
  readonly outcome: Outcome;
  /** Quadwords that the unit writes on the way, by address. */
  readonly writes: ReadonlyMap<bigint, bigint>;
  /** How it comes about, for messages and coverage. */
  readonly by: string;
  /** What the unit must have cached for it, if the tables as they are do not say so. */
  readonly stale?: 'page' | 'table' | 'refusal';
}

const NOTHING: ReadonlyMap<bigint, bigint> = new Map();
const LEGACY = 0;
const SCALABLE = 1;
const FULL = READ | WRITE | EXECUTE;

export class NaiveUnit {
  readonly shadow = new Shadow();
  readonly #facts: Facts;
  readonly #memory: TableMemory;
  enabled = false;
  /** Root table and mode as latched by SRTP. */
  root = 0n;
  mode = LEGACY;

  constructor(facts: Facts, memory: TableMemory) {
    this.#facts = facts;
    this.#memory = memory;
  }

  /** SRTP with this RTADDR. CAP.ESRTPS is set in every configuration, so all caches go. */
  setRoot(rtaddr: bigint): void {
    this.root = rtaddr & ~0xfffn;
    this.mode = Number((rtaddr >> 10n) & 3n);
    this.shadow.everything();
  }

  /** All possibilities; what the tables yield now counts as cached from here on. */
  possibilities(request: Request): Possibility[] {
    const { address, access } = request;
    if (!this.enabled) return [certain({ base: 0n, shift: 64, access: FULL }, 'off')];
    if (request.pasid === -1 && inInterruptRange(address)) {
      if ((access & 3) === WRITE) return [certain(identity(address), 'interrupt')];
      return [certain({ reason: this.mode === SCALABLE ? 0x87 : 0x0e, fpd: false }, 'interrupt')];
    }
    if (this.mode === SCALABLE && this.#facts.scalable) return this.#scalable(request);
    if (this.mode === LEGACY) return this.#legacy(request);
    return [certain({ reason: 0x30, fpd: false }, 'mode')];
  }

  #legacy(request: Request): Possibility[] {
    if (request.pasid !== -1) return [certain({ reason: 0x31, fpd: false }, 'mode')];
    const current = legacyContext(this.#facts, new Overlay(this.#memory), this.root, request.rid);
    const contexts = this.shadow.contexts(request.rid) as (LegacyContext | Refusal)[];
    contexts.push(current);
    if (this.#isCached(current)) this.shadow.addContext(request.rid, current);
    return contexts.flatMap(context => {
      if (isRefusal(context)) return refused(context, current, 'context');
      if (context.passThrough) {
        const beyond = request.address >> BigInt(this.#facts.mgaw) !== 0n;
        return certain(beyond ? { reason: 0x04, fpd: context.fpd } : identity(request.address), 'legacy pass-through');
      }
      const tag: Tag = { kind: 'second', domain: context.domain, pasid: -1 };
      const stage: SecondStage = {
        tag,
        root: context.root,
        levels: context.levels,
        accessedDirty: 'ignored',
        reasons: 'legacy',
      };
      return this.#paged(request, context.fpd, tag, `legacy ${stage.levels}-level`, (walking, memory) =>
        walkSecond(walking, memory, stage, request.address, request.access, true),
      );
    });
  }

  #scalable(request: Request): Possibility[] {
    const current = scalableContext(this.#facts, new Overlay(this.#memory), this.root, request.rid);
    const contexts = this.shadow.contexts(request.rid) as (ScalableContext | Refusal)[];
    contexts.push(current);
    if (this.#isCached(current)) this.shadow.addContext(request.rid, current);
    return contexts.flatMap(context =>
      isRefusal(context) ? refused(context, current, 'context') : this.#byContext(request, context),
    );
  }

  #byContext(request: Request, context: ScalableContext): Possibility[] {
    const { fpd } = context;
    let { pasid, access } = request;
    if (pasid === -1) {
      pasid = context.ridPasid;
      access &= 3;
    } else {
      if (!context.paside) return [certain({ reason: 0x45, fpd }, 'PASID')];
      if (pasid >= context.limit) return [certain({ reason: 0x46, fpd }, 'PASID')];
    }
    const current = pasidContext(this.#facts, new Overlay(this.#memory), context, pasid);
    const entries = this.shadow.pasids(request.rid, pasid);
    entries.push(current);
    if (this.#isCached(current)) this.shadow.addPasid(request.rid, pasid, current);
    return entries.flatMap(entry =>
      isRefusal(entry) ? refused(entry, current, 'PASID entry') : this.#byEntry({ ...request, access }, pasid, entry),
    );
  }

  #byEntry(request: Request, pasid: number, entry: PasidContext): Possibility[] {
    const facts = this.#facts;
    const { fpd } = entry;
    const { address, access } = request;
    if ((access & PRIVILEGED) !== 0 && !entry.supervisor) {
      return [certain({ reason: 0x5d, fpd }, 'privilege')];
    }
    if (entry.pgtt === 'pass-through') {
      const reason = address >> BigInt(facts.haw) !== 0n ? 0x83 : inInterruptRange(address) ? 0x87 : 0;
      return [certain(reason === 0 ? identity(address) : { reason, fpd }, 'scalable pass-through')];
    }
    const second: SecondStage = {
      tag: { kind: 'second', domain: entry.domain, pasid: -1 },
      root: entry.secondRoot,
      levels: entry.secondLevels,
      accessedDirty: !entry.secondAccessedDirty ? 'ignored' : entry.snooped ? 'kept' : 'unsnooped',
      reasons: 'scalable',
    };
    if (entry.pgtt === 'second') {
      return this.#paged(request, fpd, second.tag, `second-stage ${second.levels}-level`, (walking, memory) =>
        walkSecond(walking, memory, second, address, access, true),
      );
    }
    const tag: Tag = { kind: entry.pgtt, domain: entry.domain, pasid };
    const first: FirstStage = {
      tag,
      root: entry.firstRoot,
      levels: entry.firstLevels,
      writeProtect: entry.writeProtect,
      extendedAccessed: entry.extendedAccessed,
      snooped: entry.snooped,
      second: entry.pgtt === 'nested' ? second : undefined,
    };
    return this.#paged(
      request,
      fpd,
      tag,
      `${entry.pgtt === 'nested' ? 'nested' : 'first-stage'} ${first.levels}-level`,
      (walking, memory) => walkFirst(walking, memory, first, address, access),
    );
  }

  /** Whether a unit may cache what a lookup found: in caching mode also that it found nothing good, if there was something to read. */
  #isCached(found: object): boolean {
    return !isRefusal(found) || (this.#facts.cachingMode && found.unreadable !== true);
  }

  /** A walk of the tables as they are, or as far as they may be cached, and what pages may be cached for the tag. */
  #paged(
    request: Request,
    fpd: boolean,
    tag: Tag,
    by: string,
    walk: (walking: Walking, memory: Overlay) => Page | number,
  ): Possibility[] {
    const found: Possibility[] = [];
    for (const page of this.shadow.pages(tag, request.address)) {
      if (!permits(page.rights, request.access)) continue;
      found.push({ outcome: this.#answer(page, request), writes: NOTHING, by: 'IOTLB', stale: 'page' });
    }
    const ways = everyWay(choices => {
      const walking = new Walking(this.#facts, this.shadow, choices);
      const memory = new Overlay(this.#memory);
      return { walked: walk(walking, memory), writes: memory.writes, met: walking.met };
    });
    for (const [i, { walked, writes, met }] of ways.entries()) {
      this.shadow.addStructures(met);
      // The last way starts at the root each time.
      const how = { writes, by, ...(i < ways.length - 1 ? { stale: 'table' as const } : {}) };
      if (typeof walked === 'number') {
        found.push({ outcome: { reason: walked, fpd }, ...how });
        continue;
      }
      const page = narrowed(walked, request.address);
      this.shadow.addPage(tag, request.address, page);
      found.push({ outcome: this.#answer(page, request), ...how });
    }
    return found;
  }

  #answer({ base, shift, rights }: Page, { rid, pasid, address, access }: Request): Outcome {
    const write = (access & PRIVILEGED) !== 0 ? rights.privilegedWrite : rights.write;
    // In the interrupt range requests without PASID are not translated: the answer must not reach into it.
    if (pasid === -1 && shift > 12 && overlapsInterrupts((address >> BigInt(shift)) << BigInt(shift), shift)) {
      const offset = address & ((1n << BigInt(shift)) - 1n) & ~0xfffn;
      return this.#answer({ base: base | offset, shift: 12, rights }, { rid, pasid, address, access });
    }
    const granted = (rights.read ? READ : 0) | (write ? WRITE : 0) | (rights.execute ? EXECUTE : 0);
    return { base, shift, access: granted };
  }
}

/** A page that overlaps the interrupt range is answered, and cached, 4 KiB at a time. */
function narrowed(page: Page, address: bigint): Page {
  if (page.shift === 12 || !overlapsInterrupts(page.base, page.shift)) return page;
  const offset = address & ((1n << BigInt(page.shift)) - 1n) & ~0xfffn;
  return { ...page, base: page.base | offset, shift: 12 };
}

/** Whether a cached page permits a request. A zero-length read is a read. */
function permits(rights: Rights, access: number): boolean {
  const privileged = (access & PRIVILEGED) !== 0;
  if (!privileged && !rights.user) return false;
  if ((access & WRITE) !== 0 && !(privileged ? rights.privilegedWrite : rights.write)) return false;
  if (((access & READ) !== 0 || (access & WRITE) === 0) && !rights.read) return false;
  return (access & EXECUTE) === 0 || rights.execute;
}

function identity(address: bigint): Outcome {
  return { base: address & ~0xfffn, shift: 12, access: FULL };
}

/** A lookup was refused: as the tables are now (`current`), or as they were. */
function refused(outcome: Refusal, current: object, by: string): Possibility {
  return outcome === current ? certain(outcome, by) : { ...certain(outcome, by), stale: 'refusal' };
}

function certain(outcome: Outcome, by: string): Possibility {
  return { outcome, writes: NOTHING, by };
}
