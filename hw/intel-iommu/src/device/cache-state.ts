/**
 * What the unit's caches hold, in its state: software that has not flushed yet finds after a restore what it would have found without.
 * Kept in a canonical order. Which entry a full set gives up next is not kept: an IOMMU may forget any.
 */
import type { StateReader, StateWriter } from '@remora/core';
import type { Iotlb, PagingStructureCache } from '@remora/iommu';
import { Ctx, CTX_WORDS } from './context-cache.js';
import type { InterruptEntryCache } from './interrupt-entry-cache.js';
import type { Lookup } from './lookup.js';
import { Pe, PE_WORDS } from './pasid-entry-cache.js';
import type { PassingRequesters } from './passing-requesters.js';
import type { RequesterIotlb } from './requester-iotlb.js';

export interface UnitCaches {
  readonly lookup: Lookup;
  readonly iotlb: Iotlb;
  readonly byRequester: RequesterIotlb | undefined;
  readonly structures: PagingStructureCache | undefined;
  readonly interruptEntries: InterruptEntryCache;
  readonly passing: PassingRequesters | undefined;
}

/** Words that entries of each cache take. */
const TRANSLATION_WORDS = 10;
const STRUCTURE_WORDS = 10;
const INTERRUPT_WORDS = 5;
const FAULTING_WORDS = 5;
const MAX_WORDS = 2 ** 24;
/** Words that name address spaces of other caches: they are found again when the entry is loaded. */
const UNNAMED = -1;
const NO_REQUESTER = -1;

export function saveCaches(into: StateWriter, caches: UnitCaches): void {
  const { lookup, iotlb, byRequester, structures, interruptEntries, passing } = caches;
  into.words('contexts', packed([...lookup.contexts.records()].map(contextRecord), CTX_WORDS));
  into.words(
    'pasids',
    packed(
      [...lookup.pasids.records()].map(at => pasidRecord(lookup, at)),
      PE_WORDS,
    ),
  );
  const translations = byRequester === undefined ? [...iotlb.entries()] : [...byRequester.entries()];
  into.words(
    'translations',
    packed(
      translations.map(entry => {
        const { domain, pasid, kind, hi, lo, shift, outHi, outLo, access } = entry;
        const requesterId = 'requesterId' in entry ? (entry.requesterId as number) : NO_REQUESTER;
        return Int32Array.of(domain, pasid, kind, hi, lo, shift, outHi, outLo, access, requesterId);
      }),
      TRANSLATION_WORDS,
    ),
  );
  if (structures !== undefined) {
    const entries = [...structures.entries()].map(
      ({ domain, pasid, kind, level, hi, lo, tableHi, tableLo, marks, deadEnd }) =>
        Int32Array.of(domain, pasid, kind, level, hi, lo, tableHi, tableLo, marks, Number(deadEnd)),
    );
    into.words('structures', packed(entries, STRUCTURE_WORDS));
  }
  const { faulting } = lookup;
  if (faulting !== undefined) {
    const refused = [...faulting.contexts.entries(), ...faulting.pasids.entries()].map(
      ({ requesterId, pasid, reason, fpd, domain }) => Int32Array.of(requesterId, pasid, reason, Number(fpd), domain),
    );
    into.words('faulting', packed(refused, FAULTING_WORDS));
  }
  const irtes = interruptEntries.indices().map(index => {
    const entry = new Int32Array(INTERRUPT_WORDS);
    interruptEntries.lookup(index, entry.subarray(1));
    entry[0] = index;
    return entry;
  });
  into.words('interrupts', packed(irtes, INTERRUPT_WORDS));
  if (passing !== undefined) into.words('passing', Int32Array.from(passing.requesters()));
}

/** Into empty caches. */
export function loadCaches(from: StateReader, caches: UnitCaches): void {
  const { lookup, iotlb, byRequester, structures, interruptEntries, passing } = caches;
  for (const record of unpacked(from, 'contexts', CTX_WORDS)) loadContext(lookup, record);
  for (const record of unpacked(from, 'pasids', PE_WORDS)) loadPasid(lookup, record);
  for (const entry of unpacked(from, 'translations', TRANSLATION_WORDS)) {
    const [domain = 0, pasid = 0, kind = 0, hi = 0, lo = 0, shift = 0, outHi = 0, outLo = 0, access = 0] = entry;
    if (!isSpace(domain, pasid, kind) || shift < 12 || shift > 64) throw from.problem('translations', 'no translation');
    if (byRequester !== undefined) {
      byRequester.insert(entry[9]!, pasid, domain, kind, hi, lo, shift, outHi, outLo, access);
    } else {
      iotlb.insert(iotlb.asid(domain, pasid, kind), hi, lo, shift, outHi, outLo, access);
    }
  }
  if (structures !== undefined) {
    for (const entry of unpacked(from, 'structures', STRUCTURE_WORDS)) loadStructure(from, structures, entry);
  }
  const { faulting } = lookup;
  if (faulting !== undefined) {
    for (const [requesterId = 0, pasid = 0, reason = 0, fpd = 0, domain = 0] of unpacked(
      from,
      'faulting',
      FAULTING_WORDS,
    )) {
      if (reason < 1 || reason > 0xff || domain < 0 || domain > 0xffff)
        throw from.problem('faulting', 'no refused entry');
      if (pasid < 0) faulting.contexts.add(requesterId & 0xffff, reason, fpd === 1, domain);
      else faulting.pasids.add(requesterId & 0xffff, pasid & 0xf_ffff, reason, fpd === 1);
    }
  }
  for (const entry of unpacked(from, 'interrupts', INTERRUPT_WORDS)) {
    if (entry[0]! < 0) throw from.problem('interrupts', 'no interrupt index');
    interruptEntries.insert(entry[0]!, entry.subarray(1));
  }
  passing?.load(from.anyWords('passing', MAX_WORDS));
}

/** Only records of legacy mode name address spaces. */
function contextRecord(record: Int32Array): Int32Array {
  if (record[Ctx.ASID] !== UNNAMED) record[Ctx.ASID] = record[Ctx.SECOND_SPACE] = 0;
  return record;
}

function pasidRecord(lookup: Lookup, at: number): Int32Array {
  const record = lookup.pasids.words.slice(at, at + PE_WORDS);
  record[Pe.STAMP] = 0;
  for (const name of [Pe.ASID, Pe.SECOND_SPACE, Pe.FIRST_SPACE]) record[name] = UNNAMED;
  return record;
}

/** In a record, the first word is the requester id. */
function loadContext(lookup: Lookup, record: Int32Array): void {
  const requesterId = record[0]! & 0xffff;
  const table = lookup.contexts.fill(requesterId);
  const at = lookup.contexts.at(requesterId);
  table.set(record.subarray(1), at + 1);
  if (record[Ctx.ASID] === UNNAMED) return;
  table[at + Ctx.ASID] = UNNAMED;
  lookup.renewLegacy(table, at);
}

function loadPasid(lookup: Lookup, record: Int32Array): void {
  const at = lookup.pasids.fill(record[Pe.REQUESTER]!, record[Pe.PASID]!);
  lookup.pasids.words.set(record.subarray(Pe.PASID + 1), at + Pe.PASID + 1);
  lookup.renewPasid(at);
}

function loadStructure(from: StateReader, structures: PagingStructureCache, entry: Int32Array): void {
  const [domain = 0, pasid = 0, kind = 0, level = 0, hi = 0, lo = 0, tableHi = 0, tableLo = 0, marks = 0] = entry;
  if (!isSpace(domain, pasid, kind) || level < 1 || level > 5) throw from.problem('structures', 'no paging entry');
  const space = structures.space(domain, pasid, kind);
  if (entry[9] === 1) structures.insertDeadEnd(space, level, hi, lo, marks);
  else structures.insert(space, level, hi, lo, tableHi, tableLo, marks);
}

function isSpace(domain: number, pasid: number, kind: number): boolean {
  return domain >= 0 && domain < 2 ** 30 && pasid >= -1 && pasid < 2 ** 20 && kind >= 0 && kind < 4;
}

/** The entries one after the other, in ascending order. */
function packed(entries: readonly Int32Array[], words: number): Int32Array {
  const sorted = entries.toSorted((a, b) => {
    const different = a.findIndex((word, index) => word !== b[index]);
    return different < 0 ? 0 : a[different]! - b[different]!;
  });
  const all = new Int32Array(entries.length * words);
  for (const [index, entry] of sorted.entries()) all.set(entry, index * words);
  return all;
}

function unpacked(from: StateReader, name: string, words: number): Int32Array[] {
  const all = from.anyWords(name, MAX_WORDS);
  if (all.length % words !== 0) throw from.problem(name, `${all.length} words found, a multiple of ${words} expected`);
  return Array.from({ length: all.length / words }, (_, index) => all.subarray(index * words, (index + 1) * words));
}
