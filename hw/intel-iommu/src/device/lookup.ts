/** Context and PASID entries through the unit's caches: what a missing invalidation leaves stale. */
import type { Iotlb, PagingStructureCache } from '@remora/iommu';
import type { Capabilities } from './capabilities.js';
import {
  ContextEntry,
  Fault,
  pasidLimit,
  PasidEntry,
  Pgtt,
  ScalableContextEntry,
  TranslationType,
} from '../spec/index.js';
import { Ctx, CtxFlag, type ContextCache } from './context-cache.js';
import type { FaultingContexts, FaultingPasids } from './faulting-entries.js';
import * as pasidEntries from './pasid-entry-cache.js';
import type { PasidEntryCache } from './pasid-entry-cache.js';
import type { TableReader } from './table-reader.js';

// The module's own, for speed: see second-stage.ts.
const { Pe, PeFlag } = pasidEntries;

/** Kinds of address space, of the IOTLB and the paging-structure cache. */
export const TlbKind = { SECOND_STAGE: 0, FIRST_STAGE: 1, NESTED: 2 } as const;

const PAGE_MASK = ~0xfff;

export class Lookup {
  readonly contexts: ContextCache;
  readonly pasids: PasidEntryCache;
  /** Where non-leaf paging entries are cached. */
  readonly structures: PagingStructureCache | undefined;
  readonly #caps: Capabilities;
  readonly #reader: TableReader;
  readonly #iotlb: Iotlb;
  readonly #entry = new Int32Array(16);

  constructor(
    caps: Capabilities,
    reader: TableReader,
    contexts: ContextCache,
    pasids: PasidEntryCache,
    iotlb: Iotlb,
    structures: PagingStructureCache | undefined,
  ) {
    this.#caps = caps;
    this.structures = structures;
    this.#reader = reader;
    this.contexts = contexts;
    this.pasids = pasids;
    this.#iotlb = iotlb;
  }

  /** Entries that were refused, where those are cached. */
  get faulting(): { readonly contexts: FaultingContexts; readonly pasids: FaultingPasids } | undefined {
    const contexts = this.contexts.faulting;
    const pasids = this.pasids.faulting;
    return contexts === undefined || pasids === undefined ? undefined : { contexts, pasids };
  }

  /** FPD bits met by the last read that failed. */
  get fpd(): boolean {
    return this.#reader.fpd;
  }

  /** FPD hid what was wrong with the last PASID entry. */
  get hiding(): boolean {
    return this.#reader.hiding;
  }

  /** Brings a requester's legacy context entry into the cache. Returns 0 or the fault reason. */
  fillLegacyContext(requesterId: number): number {
    const refused = this.#refusedContext(requesterId);
    if (refused !== 0) return refused;
    const entry = this.#entry;
    const fields = ContextEntry.fields;
    const reason = this.#reader.legacyContext(requesterId, entry);
    if (reason !== 0) {
      const present = reason === Fault.LCT_3 || reason === Fault.LCT_4;
      this.contexts.faulting?.add(requesterId, reason, this.fpd, present ? fields.did.get(entry, 0) : 0);
      return reason;
    }
    const tt = fields.tt.get(entry, 0);
    const table = this.contexts.fill(requesterId);
    const at = this.contexts.at(requesterId);
    table[at + Ctx.FLAGS] =
      (fields.fpd.get(entry, 0) ? CtxFlag.FPD : 0) |
      (tt === TranslationType.PASS_THROUGH ? CtxFlag.PASS_THROUGH : 0) |
      (tt === TranslationType.ATS ? CtxFlag.DTE : 0);
    table[at + Ctx.DOMAIN] = fields.did.get(entry, 0);
    table[at + Ctx.EXTENT] = fields.aw.get(entry, 0) + 2;
    table[at + Ctx.TABLE_HI] = entry[1]!;
    table[at + Ctx.TABLE_LO] = entry[0]! & PAGE_MASK;
    this.#nameLegacy(table, at);
    return 0;
  }

  /** Brings a requester's scalable-mode context entry into the cache. Returns 0 or the fault reason. */
  fillScalableContext(requesterId: number): number {
    const refused = this.#refusedContext(requesterId);
    if (refused !== 0) return refused;
    const entry = this.#entry;
    const reason = this.#reader.scalableContext(requesterId, entry);
    if (reason !== 0) {
      this.contexts.faulting?.add(requesterId, reason, this.fpd, 0);
      return reason;
    }
    const fields = ScalableContextEntry.fields;
    const table = this.contexts.fill(requesterId);
    const at = this.contexts.at(requesterId);
    table[at + Ctx.FLAGS] =
      (fields.fpd.get(entry, 0) ? CtxFlag.FPD : 0) |
      (fields.dte.get(entry, 0) ? CtxFlag.DTE : 0) |
      (fields.paside.get(entry, 0) ? CtxFlag.PASIDE : 0) |
      (fields.pre.get(entry, 0) ? CtxFlag.PRE : 0) |
      (fields.ridPriv.get(entry, 0) ? CtxFlag.RID_PRIV : 0);
    table[at + Ctx.DOMAIN] = 0;
    table[at + Ctx.EXTENT] = pasidLimit(fields.pdts.get(entry, 0));
    table[at + Ctx.TABLE_HI] = entry[1]!;
    table[at + Ctx.TABLE_LO] = entry[0]! & PAGE_MASK;
    table[at + Ctx.RID_PASID] = fields.ridPasid.get(entry, 0);
    table[at + Ctx.ASID] = -1;
    return 0;
  }

  /**
   * Brings a PASID entry into the cache; `table[at ..]` is the requester's context record; `trusted` as TableReader.pasidEntry has it.
   * Returns the record's index, or the negated fault reason.
   */
  fillPasid(requesterId: number, pasid: number, table: Int32Array, at: number, trusted = false): number {
    const { faulting } = this.pasids;
    if (faulting !== undefined) {
      const key = faulting.key(requesterId, pasid);
      this.#reader.fpd = faulting.fpd(key);
      if (faulting.reason(key) !== 0) return -faulting.reason(key);
    }
    const entry = this.#entry;
    this.#reader.fpd = (table[at + Ctx.FLAGS]! & CtxFlag.FPD) !== 0;
    const reason = this.#reader.pasidEntry(table[at + Ctx.TABLE_HI]!, table[at + Ctx.TABLE_LO]!, pasid, entry, trusted);
    if (reason !== 0) {
      faulting?.add(requesterId, pasid, reason, this.fpd);
      return -reason;
    }
    const fields = PasidEntry.fields;
    const caps = this.#caps;
    const record = this.pasids.fill(requesterId, pasid);
    const words = this.pasids.words;
    words[record + Pe.FLAGS] =
      (this.#reader.fpd ? PeFlag.FPD : 0) |
      (caps.supervisorRequests && fields.sre.get(entry, 0) ? PeFlag.SRE : 0) |
      (fields.wpe.get(entry, 0) ? PeFlag.WPE : 0) |
      (caps.extendedAccessed && fields.eafe.get(entry, 0) ? PeFlag.EAFE : 0) |
      (caps.secondStageAccessedDirty && fields.ssade.get(entry, 0) ? PeFlag.SSADE : 0) |
      (caps.pageWalkSnoop && fields.pwsnp.get(entry, 0) ? PeFlag.PWSNP : 0);
    words[record + Pe.DOMAIN] = fields.did.get(entry, 0);
    words[record + Pe.PGTT] = fields.pgtt.get(entry, 0);
    words[record + Pe.SS_HI] = entry[1]!;
    words[record + Pe.SS_LO] = entry[0]! & PAGE_MASK;
    words[record + Pe.SS_LEVELS] = fields.aw.get(entry, 0) + 2;
    words[record + Pe.FS_HI] = entry[5]!;
    words[record + Pe.FS_LO] = entry[4]! & PAGE_MASK;
    words[record + Pe.FS_LEVELS] = fields.fspm.get(entry, 0) + 4;
    this.#namePasid(record);
    return record;
  }

  /** The reason for which a context entry was refused, where that is cached; the FPD of then is `fpd`. */
  #refusedContext(requesterId: number): number {
    const { faulting } = this.contexts;
    if (faulting === undefined) return 0;
    this.#reader.fpd = faulting.fpd(requesterId);
    return faulting.reason(requesterId);
  }

  /** Interns a legacy context record's address space anew where a cache has run out of ids since. */
  renewLegacy(table: Int32Array, at: number): void {
    if (this.#iotlb.isCurrent(table[at + Ctx.ASID]!) && this.#isNamed(table[at + Ctx.SECOND_SPACE]!)) return;
    this.#nameLegacy(table, at);
  }

  /** The same for a PASID record. */
  renewPasid(record: number): void {
    const words = this.pasids.words;
    const named = this.#isNamed(words[record + Pe.SECOND_SPACE]!) && this.#isNamed(words[record + Pe.FIRST_SPACE]!);
    if (!named || !this.#iotlb.isCurrent(words[record + Pe.ASID]!)) this.#namePasid(record);
  }

  #isNamed(space: number): boolean {
    return this.structures === undefined || this.structures.isCurrent(space);
  }

  #nameLegacy(table: Int32Array, at: number): void {
    const domain = table[at + Ctx.DOMAIN]!;
    table[at + Ctx.ASID] = this.#iotlb.asid(domain, -1, TlbKind.SECOND_STAGE);
    table[at + Ctx.SECOND_SPACE] = this.structures?.space(domain, -1, TlbKind.SECOND_STAGE) ?? 0;
  }

  #namePasid(record: number): void {
    const words = this.pasids.words;
    const domain = words[record + Pe.DOMAIN]!;
    const pasid = words[record + Pe.PASID]!;
    words[record + Pe.ASID] = this.#pasidAsid(record);
    // Second-stage tables belong to the domain whoever walks them.
    words[record + Pe.SECOND_SPACE] = this.structures?.space(domain, -1, TlbKind.SECOND_STAGE) ?? 0;
    const kind = words[record + Pe.PGTT] === Pgtt.NESTED ? TlbKind.NESTED : TlbKind.FIRST_STAGE;
    words[record + Pe.FIRST_SPACE] = this.structures?.space(domain, pasid, kind) ?? 0;
  }

  /** The IOTLB's id for a PASID record: second-stage translations belong to the domain, others to the PASID in it. */
  #pasidAsid(record: number): number {
    const words = this.pasids.words;
    const domain = words[record + Pe.DOMAIN]!;
    const pasid = words[record + Pe.PASID]!;
    switch (words[record + Pe.PGTT]) {
      case Pgtt.FIRST_STAGE:
        return this.#iotlb.asid(domain, pasid, TlbKind.FIRST_STAGE);
      case Pgtt.NESTED:
        return this.#iotlb.asid(domain, pasid, TlbKind.NESTED);
      default:
        return this.#iotlb.asid(domain, -1, TlbKind.SECOND_STAGE);
    }
  }
}
