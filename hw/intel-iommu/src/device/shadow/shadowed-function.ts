/** A function whose map a host follows: what its requests without PASID go through, and the shadow of that. */
import type { AddressSpace, Inspector, RegionTranslator } from '@remora/core';
import type { PciBus } from '@remora/pci';
import type { Capabilities } from '../capabilities.js';
import { ALL_FRAMES, FunctionShadow } from './function-shadow.js';
import type { SecondStageRanges } from './second-stage-ranges.js';
import { type EntryReader, readSource, sameSource, type Source, SourceKind } from './source.js';
import { SwitchedSpace } from './switched-space.js';

export interface FunctionReports {
  /** The host does not have page frames [start, end) as it ought to. */
  failed(start: number, end: number, errno: number): void;
  /** The function goes through a table that cannot be shadowed. */
  unfollowed(): void;
}

export class ShadowedFunction {
  readonly bus: PciBus;
  readonly devfn: number;
  readonly #unit: EntryReader & { readonly capabilities: Capabilities };
  readonly #reports: FunctionReports;
  readonly #shadow: FunctionShadow;
  readonly #switched: SwitchedSpace;
  /** As the guest last reported it: its tables may say otherwise since. */
  #source: Source;
  #warned = false;

  constructor(
    unit: EntryReader & { readonly capabilities: Capabilities },
    bus: PciBus,
    devfn: number,
    ranges: SecondStageRanges,
    translator: RegionTranslator,
    name: string,
    reports: FunctionReports,
  ) {
    this.bus = bus;
    this.devfn = devfn;
    this.#unit = unit;
    this.#reports = reports;
    this.#source = readSource(unit, this.requesterId);
    this.#shadow = new FunctionShadow({
      collect: (start, end, found) => (this.#isFollowed() ? ranges.collect(this.#source, start, end, found) : 0),
      started: () => this.#latch(readSource(unit, this.requesterId)),
      failed: (start, end, errno) => reports.failed(start, end, errno),
    });
    this.#switched = new SwitchedSpace(name, { ...translator, notifiers: this.#shadow.notifiers });
  }

  /** Live: the guest may renumber its buses. */
  get requesterId(): number {
    return (this.bus.number << 8) | this.devfn;
  }

  /** What a host maps for it. */
  get space(): AddressSpace {
    return this.#switched.space;
  }

  /** Domain id of its requests without PASID. */
  get domain(): number {
    return this.#source.domain;
  }

  /**
   * Whether an invalidation of this domain's entries concerns it: by what was reported, or by what its tables say now. An entry that faults
   * has no domain, and need not be remembered.
   */
  concerns(domain: number): boolean {
    return [this.#source, this.#read()].some(source => source.domain === domain || source.kind === SourceKind.BLOCKED);
  }

  /** Whether this PASID's entry stands for requests without PASID. */
  uses(pasid: number): boolean {
    return this.#source.pasid === pasid || this.#read().pasid === pasid;
  }

  /** A host is about to follow it. */
  appear(): void {
    this.#latch(this.#read());
    this.#switched.translated = this.#source.kind !== SourceKind.DIRECT;
  }

  /** Its context or PASID entry may be another now; with `all`, its tables too. Returns 0, or a negated errno of the host. */
  refresh(all = false): number {
    const source = this.#read();
    const same = sameSource(this.#source, source);
    this.#latch(source);
    const translated = source.kind !== SourceKind.DIRECT;
    if (translated !== this.#switched.translated) {
      this.#switched.translated = translated;
      if (!translated) this.#shadow.forget();
      return this.#shadow.takeReplayResult() || this.space.failure;
    }
    const result = all || !same || this.#shadow.owes ? this.sync(0, ALL_FRAMES) : this.sync(0, 0);
    return result || this.space.failure;
  }

  /** What it maps in page frames [start, end) may have changed. Returns 0, or a negated errno of the host. */
  sync(start: number, end: number): number {
    this.space.retry();
    return this.#switched.translated ? this.#shadow.sync(start, end) : 0;
  }

  /** Whether the host does not have all that it ought to. */
  get owed(): boolean {
    return this.#shadow.owes;
  }

  /** Pages that the host was told of; 0 while the function is not translated. */
  get pages(): number {
    return this.#shadow.told.reduce((sum, { pages }) => sum + pages, 0);
  }

  inspect(into: Inspector): void {
    into.value('translated', this.#switched.translated);
    into.value('ranges', this.#shadow.told.length);
    into.value('pages', this.pages);
  }

  #read(): Source {
    return readSource(this.#unit, this.requesterId);
  }

  #latch(source: Source): void {
    this.#source = source;
    const lost =
      source.kind === SourceKind.FIRST_STAGE || (source.kind === SourceKind.SECOND_STAGE && !this.#isFollowed());
    if (lost && !this.#warned) this.#reports.unfollowed();
    this.#warned = lost;
  }

  /** Without caching mode the guest reports only what it takes away. */
  #isFollowed(): boolean {
    return this.#source.kind === SourceKind.SECOND_STAGE && this.#unit.capabilities.cachingMode;
  }
}
