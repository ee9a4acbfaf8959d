/**
 * The PASID cache: what the host has been told of the guest's PASID tables, brought up to date by one routine (vsva.md 8.1,
 * for A12 to A17). A sync looks again at what is cached, unbinds what vanished, replaces what changed, then walks guest memory
 * for what is new. The cache changes only after the host agreed.
 */
import { errnoName, StateError, type Ledger, type StateReader, type StateWriter } from '@remora/core';
import { hostBindStage1, HostIommuFlag, type HostPolicy, hostUnbindStage1 } from '@remora/iommu';
import type { VtdConfig } from '../../config/index.js';
import { MAX_PASID, PasidEntry, Pgtt } from '../../spec/index.js';
import { CachedPasid, ENTRY_WORDS, hasDomain } from './cached-pasid.js';
import type { HostedFunction, HostedFunctions } from './hosted-functions.js';
import type { PasidTables } from './pasid-tables.js';
import type { SyncScope } from './scope.js';
import { stage1Of } from './stage1.js';

/** After so many global invalidations the generation wraps under quirk Q13 [A12]. */
const MAX_GENERATION = 512;

/** A changed entry between the unbinding of its old form and the binding of its new one. */
interface Replacement {
  readonly hosted: HostedFunction;
  readonly cached: CachedPasid;
  readonly entry: Int32Array;
  readonly wasBound: boolean;
}

export interface PasidCacheReports {
  /** A host call failed: `action` is `bind` or `unbind`, `errno` negative. */
  failed(action: string, hosted: HostedFunction, pasid: number, errno: number): void;
  /** Plain DMA of this function is not translated by its first-stage PASID 0 (decisions). */
  pasid0Unbound(hosted: HostedFunction): void;
}

export class PasidCache {
  readonly #functions: HostedFunctions;
  readonly #tables: PasidTables;
  readonly #config: VtdConfig;
  readonly #reports: PasidCacheReports;
  readonly #ledger: Ledger;
  readonly #source: string;
  readonly #now = new Int32Array(ENTRY_WORDS);
  #generation = 1;
  /** From a loaded state: what had a binding, in order. */
  #unbound: { readonly hosted: HostedFunction; readonly cached: CachedPasid }[] = [];

  constructor(
    functions: HostedFunctions,
    tables: PasidTables,
    config: VtdConfig,
    reports: PasidCacheReports,
    ledger: Ledger,
    source: string,
  ) {
    this.#functions = functions;
    this.#tables = tables;
    this.#config = config;
    this.#reports = reports;
    this.#ledger = ledger;
    this.#source = source;
  }

  get generation(): number {
    return this.#generation;
  }

  /** Whether an entry may be used to filter flushes: stale ones may not. */
  isCurrent(cached: CachedPasid): boolean {
    return cached.generation === this.#generation;
  }

  /**
   * Brings the host in line with guest memory within `scope`. Returns 0, or the first host failure (a negated errno); the sync
   * then stops if `stopAtFailure`, and what it did before stays. What failed is tried again by the next sync.
   */
  sync(scope: SyncScope, stopAtFailure: boolean): number {
    let first = 0;
    const replacements: Replacement[] = [];
    for (const hosted of this.#functions.withDeparted()) {
      if (!scope.rechecks(hosted)) continue;
      const result = this.#recheck(hosted, scope, replacements, stopAtFailure);
      if (result < 0) first ||= result;
      if (first < 0 && stopAtFailure) break;
    }
    this.#functions.settle();
    const replaced = this.#replace(replacements, first < 0 && stopAtFailure);
    first ||= replaced;
    if (first < 0 && stopAtFailure) return first;
    for (const hosted of this.#functions.inBusOrder()) {
      if (!scope.names(hosted)) continue;
      const result = this.#discover(hosted, scope, stopAtFailure) || this.#settlePlain(hosted);
      if (result < 0) first ||= result;
      if (first < 0 && stopAtFailure) return first;
    }
    return first;
  }

  /** A global PASID-cache invalidation as v3.1 literally does it (quirk Q4): everything turns stale and is bound again. */
  rebindAll(): number {
    this.#generation++;
    if (this.#generation > MAX_GENERATION && this.#config['quirk-generation-wraps']) this.#generation = 1;
    let first = 0;
    for (const hosted of this.#functions.inBusOrder()) {
      const result = this.#tables.walk(hosted.requesterId, (pasid, words, at) =>
        this.#fillAgain(hosted, pasid, words, at),
      );
      if (result < 0) first ||= result;
    }
    return first;
  }

  /**
   * Drops everything that is cached of a function and unbinds it, whatever its tables say (reset, unplug). What fails stays.
   */
  drop(hosted: HostedFunction): number {
    let first = 0;
    for (const cached of [...hosted.pasids.values()]) {
      const result = this.#remove(hosted, cached);
      if (result < 0) first ||= result;
    }
    return first || this.#settlePlain(hosted);
  }

  /** What is cached of each function, in the order in which it was bound. Functions that are gone stay with their host. */
  save(into: StateWriter): void {
    into.integer('generation', this.#generation);
    into.list('functions', this.#functions.inBusOrder(), (at, hosted) => {
      at.text('place', hosted.place).flag('warned', hosted.warnedAboutPasid0);
      at.list('pasids', hosted.pasids.values(), (each, { pasid, entry, bound, generation }) => {
        each.integer('pasid', pasid).words('entry', entry).flag('bound', bound).integer('generation', generation);
      });
    });
  }

  load(from: StateReader): void {
    this.#generation = from.integer('generation', { min: 1 });
    this.#unbound = [];
    for (const at of from.list('functions')) {
      const place = at.text('place');
      const hosted = this.#functions.at(place);
      if (hosted === undefined) throw from.problem('functions', `no function of a host is at ${place}`);
      hosted.warnedAboutPasid0 = at.flag('warned');
      for (const each of at.list('pasids', MAX_PASID)) this.#loadCached(hosted, each);
    }
  }

  /**
   * Binds what was bound; what was passed or refused is so again. The root is that of the entry as the guest last invalidated it: nearly always what its table says now, and
   * otherwise what the host still had. Calls `done` after each; `current` if its table says the same.
   * @throws StateError if a host refuses.
   */
  bindAgain(done: (hosted: HostedFunction, pasid: number, current: boolean) => void): void {
    const unbound = this.#unbound;
    this.#unbound = [];
    for (const { hosted, cached } of unbound) {
      const { pasid, entry } = cached;
      expectAgain('bind', hosted, pasid, this.#bind(hosted, pasid, entry, 0));
      cached.bound = true;
      done(hosted, pasid, this.#resolve(hosted, pasid) && cached.holds(this.#now, 0));
    }
    for (const hosted of this.#functions.inBusOrder()) {
      for (const { pasid, entry, bound } of hosted.pasids.values()) {
        if (!bound) expectAgain('pass or refuse', hosted, pasid, this.#bind(hosted, pasid, entry, 0));
      }
      expectAgain('pass or refuse', hosted, 0, this.#settlePlain(hosted));
    }
  }

  #loadCached(hosted: HostedFunction, from: StateReader): void {
    const pasid = from.integer('pasid', { max: MAX_PASID });
    const entry = new Int32Array(ENTRY_WORDS);
    from.words('entry', entry);
    const bound = from.flag('bound');
    const cached = new CachedPasid(pasid, 0);
    cached.fill(entry, 0, from.integer('generation'));
    hosted.pasids.set(pasid, cached);
    if (bound) this.#unbound.push({ hosted, cached });
  }

  #recheck(hosted: HostedFunction, scope: SyncScope, replacements: Replacement[], stopAtFailure: boolean): number {
    let first = 0;
    for (const cached of [...hosted.pasids.values()]) {
      if (!this.isCurrent(cached)) continue;
      const present = !hosted.departed && this.#resolve(hosted, cached.pasid);
      const now = present && !this.#config['quirk-cached-domain-only'] ? this.#now : undefined;
      if (!scope.includes(cached, now)) continue;
      let result = 0;
      if (!present) result = this.#remove(hosted, cached);
      else if (!cached.holds(this.#now, 0)) result = this.#beginReplacement(hosted, cached, replacements);
      if (result < 0) first ||= result;
      if (first < 0 && stopAtFailure) break;
    }
    return first;
  }

  #beginReplacement(hosted: HostedFunction, cached: CachedPasid, replacements: Replacement[]): number {
    const wasBound = cached.bound;
    const entry = this.#now.slice();
    const binds = this.#binds(hosted, cached.pasid, entry, 0);
    const atomically = hosted.context.replacesAtomically && (binds || hasPolicies(hosted));
    const inPlace = atomically || (this.#config['quirk-bare-rebind'] && binds);
    if (wasBound && !inPlace) {
      const result = this.#unbind(hosted, cached);
      if (result < 0) return result;
    }
    replacements.push({ hosted, cached, entry, wasBound });
    return 0;
  }

  /** All old forms are unbound by now, so two functions that share a PASID in one container can both move to its new root. */
  #replace(replacements: readonly Replacement[], abandoned: boolean): number {
    let first = 0;
    for (const { hosted, cached, entry, wasBound } of replacements) {
      const result = abandoned || first < 0 ? first : this.#bind(hosted, cached.pasid, entry, 0);
      if (!abandoned && first === 0 && result === 0) {
        cached.fill(entry, 0, this.#generation);
        cached.bound = this.#binds(hosted, cached.pasid, entry, 0);
        continue;
      }
      first ||= result;
      if (wasBound && !cached.bound) this.#restore(hosted, cached);
    }
    return first;
  }

  /** Binds the old root again after its replacement failed; if the host refuses even that, nothing is bound any more. */
  #restore(hosted: HostedFunction, cached: CachedPasid): void {
    if (this.#bind(hosted, cached.pasid, cached.entry, 0) === 0) cached.bound = true;
    else hosted.pasids.delete(cached.pasid);
  }

  #discover(hosted: HostedFunction, scope: SyncScope, stopAtFailure: boolean): number {
    if (scope.pasid >= 0) return this.#discoverOne(hosted, scope);
    let first = 0;
    const walked = this.#tables.walk(
      hosted.requesterId,
      (pasid, words, at) => {
        const cached = hosted.pasids.get(pasid);
        if (cached !== undefined)
          return scope.inverted && !cached.holds(words, at) ? this.#fillAgain(hosted, pasid, words, at) : 0;
        if (scope.domain >= 0 && !this.#config['quirk-domain-replays-all'] && !hasDomain(words, at, scope.domain))
          return 0;
        const result = this.#add(hosted, pasid, words, at);
        if (result < 0) first ||= result;
        return stopAtFailure ? result : 0;
      },
      hasPolicies(hosted),
    );
    return first || walked;
  }

  #discoverOne(hosted: HostedFunction, scope: SyncScope): number {
    if (hosted.pasids.has(scope.pasid)) return 0;
    if (this.#resolve(hosted, scope.pasid)) {
      return hasDomain(this.#now, 0, scope.domain) ? this.#add(hosted, scope.pasid, this.#now, 0) : 0;
    }
    if (this.#config['quirk-absent-objects']) hosted.pasids.set(scope.pasid, new CachedPasid(scope.pasid, 0));
    return 0;
  }

  #fillAgain(hosted: HostedFunction, pasid: number, words: Int32Array, at: number): number {
    const cached = hosted.pasids.get(pasid);
    if (cached === undefined) return this.#add(hosted, pasid, words, at);
    const result = this.#bind(hosted, pasid, words, at);
    if (result < 0) return result;
    cached.fill(words, at, this.#generation);
    cached.bound = this.#binds(hosted, pasid, words, at);
    return 0;
  }

  #add(hosted: HostedFunction, pasid: number, words: Int32Array, at: number): number {
    const result = this.#bind(hosted, pasid, words, at);
    if (result < 0) return result;
    const cached = new CachedPasid(pasid, this.#generation);
    cached.fill(words, at, this.#generation);
    cached.bound = this.#binds(hosted, pasid, words, at);
    hosted.pasids.set(pasid, cached);
    return 0;
  }

  #remove(hosted: HostedFunction, cached: CachedPasid): number {
    const result = cached.bound
      ? this.#unbind(hosted, cached)
      : this.#apply(hosted, cached.pasid, this.#absent(cached.pasid));
    if (result === 0) hosted.pasids.delete(cached.pasid);
    return result;
  }

  /** Entries without a first stage are cached, so that flushes can be filtered, but never bound; nor is PASID 0 where the host cannot [A17]. */
  #binds(hosted: HostedFunction, pasid: number, words: Int32Array, at: number): boolean {
    if (pasid === 0 && (hosted.context.flags & HostIommuFlag.PASID_0) === 0) return false;
    const type = PasidEntry.fields.pgtt.get(words, at);
    return type === Pgtt.FIRST_STAGE || type === Pgtt.NESTED || this.#config['quirk-every-type-binds'];
  }

  #bind(hosted: HostedFunction, pasid: number, words: Int32Array, at: number): number {
    if (!this.#binds(hosted, pasid, words, at)) {
      this.#considerPasid0(hosted, pasid, words, at);
      // A second stage of the guest's own is nothing that such a host could walk.
      const passes = PasidEntry.fields.pgtt.get(words, at) === Pgtt.PASS_THROUGH;
      return this.#apply(hosted, pasid, passes ? 'pass-through' : 'abort');
    }
    const id = this.#open('bind', hosted, pasid);
    const result = hostBindStage1(
      hosted.context,
      hosted.user,
      pasid,
      stage1Of(words, at, this.#config['quirk-attributes-collapse']),
    );
    if (pasid === 0 && result === 0) hosted.plain = undefined;
    return this.#close(id, 'bind', hosted, pasid, result);
  }

  #unbind(hosted: HostedFunction, cached: CachedPasid): number {
    const { context, user } = hosted;
    const { pasid } = cached;
    const id = this.#open('unbind', hosted, pasid);
    const answer = context.withoutStage1?.(user, pasid, this.#absent(pasid)) ?? hostUnbindStage1(context, user, pasid);
    const result = this.#close(id, 'unbind', hosted, pasid, answer);
    if (result < 0) return result;
    cached.bound = false;
    if (pasid === 0) hosted.plain = this.#absent(0);
    return result;
  }

  /** What holds for requests whose PASID has no entry: without translation, those without PASID use guest-physical addresses. */
  #absent(pasid: number): HostPolicy {
    return pasid === 0 && !this.#tables.translating ? 'pass-through' : 'abort';
  }

  /** A host that knows policies is told; for others nothing is to be done. */
  #apply(hosted: HostedFunction, pasid: number, policy: HostPolicy): number {
    const { context, user } = hosted;
    if (context.withoutStage1 === undefined || (pasid === 0 && hosted.plain === policy)) return 0;
    const id = this.#open(policy, hosted, pasid);
    const result = this.#close(id, policy, hosted, pasid, context.withoutStage1(user, pasid, policy));
    if (pasid === 0 && result === 0) hosted.plain = policy;
    return result;
  }

  /** Requests without PASID, where there is no entry for them. */
  #settlePlain(hosted: HostedFunction): number {
    return hosted.pasids.has(0) ? 0 : this.#apply(hosted, 0, this.#absent(0));
  }

  #resolve(hosted: HostedFunction, pasid: number): boolean {
    return this.#tables.resolve(hosted.requesterId, pasid, this.#now, hasPolicies(hosted));
  }

  #considerPasid0(hosted: HostedFunction, pasid: number, words: Int32Array, at: number): void {
    if (pasid !== 0 || hosted.warnedAboutPasid0 || hasPolicies(hosted)) return;
    if (PasidEntry.fields.pgtt.get(words, at) !== Pgtt.FIRST_STAGE) return;
    hosted.warnedAboutPasid0 = true;
    this.#reports.pasid0Unbound(hosted);
  }

  #open(action: string, hosted: HostedFunction, pasid: number): number {
    if (!this.#ledger.on) return 0;
    return this.#ledger.open(this.#source, 'decision', { action, requesterId: hosted.requesterId, pasid });
  }

  #close(id: number, action: string, hosted: HostedFunction, pasid: number, result: number): number {
    if (id !== 0) this.#ledger.close(id, { result });
    if (result >= 0) return 0;
    this.#reports.failed(action, hosted, pasid, result);
    return this.#config['quirk-failures-invisible'] ? 0 : result;
  }
}

/** @throws StateError if the host does not do for a loaded state what the one before did. */
function expectAgain(action: string, { context, place }: HostedFunction, pasid: number, result: number): void {
  if (result >= 0) return;
  throw new StateError(
    'bindings',
    `${context.name} does not ${action} PASID ${pasid} of ${place} again: ${errnoName(result)}`,
  );
}

/** Whether the host can do for requests with a PASID, and without one, what an entry says that it cannot bind, or that is absent. */
function hasPolicies({ context }: HostedFunction): boolean {
  return context.withoutStage1 !== undefined;
}
