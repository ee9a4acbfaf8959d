/**
 * Shadow mapping: what hosts that do not nest map for the functions below a vIOMMU. While a function passes through that is guest-physical
 * memory, and while it is translated by a second-stage table, what this table maps. Under caching mode the guest reports every change of its
 * tables by an invalidation (vtd.md 9, rule 3), so that looking at them there is enough; a change that it does not report is not seen.
 */
import {
  ConfigError,
  errnoName,
  type Inspector,
  type IommuTranslator,
  type Ledger,
  type RegionTranslator,
} from '@remora/core';
import type { AddressSpace } from '@remora/core';
import type { PciBus } from '@remora/pci';
import { Granularity, PasidCacheGranularity } from '../../spec/index.js';
import type { Behaviour } from '../behaviour.js';
import type { Capabilities } from '../capabilities.js';
import { SecondStageMasks } from '../second-stage-masks.js';
import { ALL_FRAMES } from './function-shadow.js';
import { SecondStageRanges } from './second-stage-ranges.js';
import { ShadowedFunction } from './shadowed-function.js';
import type { EntryReader } from './source.js';

const PAGE = 4096;
/** Bits of a source id that a device-selective invalidation ignores, by function mask (vtd.md 5.2). */
const IGNORED_FUNCTION_BITS = [0, 4, 6, 7];

export interface ShadowUnit extends EntryReader {
  readonly capabilities: Capabilities;
  readonly behaviour: Behaviour;
}

export interface ShadowsOptions {
  /** The vIOMMU's name in messages and in the ledger. */
  readonly name: string;
  readonly memory: AddressSpace;
  readonly ledger: Ledger;
  readonly warn: (message: string) => void;
}

/** All calls return 0, or the first negated errno of a host: the descriptor in question fails then. */
export class Shadows {
  readonly #unit: () => ShadowUnit;
  readonly #options: ShadowsOptions;
  readonly #functions: ShadowedFunction[] = [];
  #ranges: SecondStageRanges | undefined;

  constructor(unit: () => ShadowUnit, options: ShadowsOptions) {
    this.#unit = unit;
    this.#options = options;
  }

  /**
   * What a host that does not nest has to map for a function: the same object for the same place. `translator` is how the unit translates its
   * requests.
   * @throws ConfigError if the guest would not say what it maps.
   */
  spaceFor(bus: PciBus, devfn: number, translator: IommuTranslator): AddressSpace {
    const { capabilities } = this.#unit();
    // With a first stage only, caching mode would change nothing: what passes through is all that can be served.
    if (!capabilities.cachingMode && !(capabilities.scalable && capabilities.firstStage)) {
      throw new ConfigError(
        `${this.#options.name}.caching-mode`,
        "a host that does not nest can follow the guest's page tables only if the guest reports what it maps: set caching-mode=on",
      );
    }
    const known = this.#find(bus, devfn) ?? this.#add(bus, devfn, translator);
    // A function that appears has nothing cached.
    known.appear();
    return known.space;
  }

  /** Whether a host asked what to map for a function. */
  has(bus: PciBus, devfn: number): boolean {
    return this.#find(bus, devfn) !== undefined;
  }

  contextCacheInvalidate(granularity: number, domain: number, sourceId: number, functionMask: number): number {
    if (this.#functions.length === 0) return 0;
    const unit = this.#unit();
    // A context entry of scalable mode has no domain.
    const all = granularity === Granularity.GLOBAL || (granularity === Granularity.DOMAIN && unit.scalable);
    const ignored = IGNORED_FUNCTION_BITS[functionMask] ?? 0;
    return this.#each(fn => {
      if (all) return fn.refresh();
      if (granularity === Granularity.DOMAIN) return fn.concerns(domain) ? fn.refresh() : 0;
      return ((fn.requesterId ^ sourceId) & ~ignored & 0xffff) === 0 ? fn.refresh() : 0;
    });
  }

  pasidCacheInvalidate(granularity: number, domain: number, pasid: number): number {
    if (this.#functions.length === 0) return 0;
    return this.#each(fn => {
      if (granularity === PasidCacheGranularity.GLOBAL) return fn.refresh();
      if (granularity === PasidCacheGranularity.PASID && !fn.uses(pasid)) return 0;
      return fn.concerns(domain) ? fn.refresh() : 0;
    });
  }

  /** `granularity` is a Granularity; the range is 2^mask pages around (hi, lo). */
  iotlbInvalidate(granularity: number, domain: number, hi: number, lo: number, mask: number): number {
    if (this.#functions.length === 0) return 0;
    let start = 0;
    let end = ALL_FRAMES;
    if (granularity === Granularity.PAGE) {
      const pages = 2 ** Math.min(mask, 52);
      start = Math.floor(((hi >>> 0) * 0x10_0000 + (lo >>> 12)) / pages) * pages;
      end = start + pages;
    }
    let result = 0;
    for (const fn of this.#functions) {
      if (granularity !== Granularity.GLOBAL && fn.domain !== domain) continue;
      const failure = fn.sync(start, end);
      if (result === 0) result = failure;
    }
    return result;
  }

  /** Nothing is cached any more: the root pointer is set, translation goes on or off, the unit was reset. */
  everything(): number {
    return this.#each(fn => fn.refresh(true));
  }

  /** Whether any host does not have all that it ought to. */
  get owed(): boolean {
    return this.#functions.some(fn => fn.owed);
  }

  /** The functions that hosts follow. */
  get functions(): readonly Pick<ShadowedFunction, 'requesterId' | 'pages'>[] {
    return this.#functions;
  }

  inspect(into: Inspector): void {
    for (const fn of this.#functions) fn.inspect(into.child(fn.requesterId.toString(16).padStart(4, '0')));
  }

  #find(bus: PciBus, devfn: number): ShadowedFunction | undefined {
    return this.#functions.find(fn => fn.bus === bus && fn.devfn === devfn);
  }

  #each(act: (fn: ShadowedFunction) => number): number {
    let result = 0;
    for (const fn of this.#functions) {
      const failure = act(fn);
      if (result === 0) result = failure;
    }
    return result;
  }

  #add(bus: PciBus, devfn: number, translator: IommuTranslator): ShadowedFunction {
    const { name, memory } = this.#options;
    const unit = this.#unit();
    const masks = new SecondStageMasks(unit.capabilities, unit.behaviour);
    const ranges = (this.#ranges ??= new SecondStageRanges(unit.capabilities, memory, masks));
    const complete = { target: memory, translate: translator.translate.bind(translator) } satisfies RegionTranslator;
    const fn = new ShadowedFunction(unit, bus, devfn, ranges, complete, `${name}-map-${devfn.toString(16)}`, {
      failed: (start, end, errno) => this.#failed(fn, start, end, errno),
      unfollowed: () => this.#unfollowed(fn),
    });
    this.#functions.push(fn);
    return fn;
  }

  #failed({ requesterId }: ShadowedFunction, start: number, end: number, errno: number): void {
    const { name, ledger, warn } = this.#options;
    const [from, bytes] = [start, end - start].map(frames => `0x${(frames * PAGE).toString(16)}`);
    warn(`device ${requesterId.toString(16)}: the host does not follow ${from} +${bytes}: ${errnoName(errno)}`);
    if (ledger.on)
      ledger.add(name, 'host-failure', { action: 'shadow', requesterId, frame: start, pages: end - start, errno });
  }

  #unfollowed({ requesterId }: ShadowedFunction): void {
    const { name, ledger, warn } = this.#options;
    warn(
      `device ${requesterId.toString(16)}: its requests without PASID go through a table that its host can neither nest nor follow: they fault`,
    );
    if (ledger.on) ledger.add(name, 'warning', { what: 'not-shadowed', requesterId });
  }
}
