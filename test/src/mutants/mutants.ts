/**
 * Ways to get the model wrong, and who must notice. Each is a small change to the compiled code; recordings are those of QEMU, so that
 * they judge what the compatible profile shares with the specification.
 */
import type { Judge } from './judges.js';
import type { Alteration } from './workshop.js';

export interface Mutant {
  readonly name: string;
  readonly alterations: readonly Alteration[];
  readonly judge: Judge;
}

export const DEVICE = 'hw/intel-iommu/dist/device/';
const IOMMU = 'packages/iommu/dist/';

/** A mutant by one alteration of `file`. */
export function mutant(name: string, file: string, find: string, replace: string, judge: Judge): Mutant {
  return { name, alterations: [{ file, find, replace }], judge };
}

const recording = (name: string): Judge => ({ recording: name });
/** Unit tests of the device model: those of `file` whose title matches. */
export const unit = (file: string, match: string): Judge => ({ tests: `${DEVICE}${file}.test.js`, match });

export const MUTANTS: readonly Mutant[] = [
  mutant(
    'reserved bits of second-stage entries are not checked',
    `${DEVICE}second-stage.js`,
    'if ((low & reserved) !== 0 || (high & reservedHi) !== 0)',
    'if (false)',
    unit('legacy', '0x0C*'),
  ),
  mutant(
    'reserved bits of descriptors are not checked',
    `${DEVICE}descriptors.js`,
    'if (IotlbDescriptor.hasReserved(words, 0) || granularity === 0)',
    'if (granularity === 0)',
    unit('queue', 'each reserved bit of vtd.inv-iotlb*'),
  ),
  mutant(
    'the address mask of an invalidation is ignored',
    `${DEVICE}invalidate.js`,
    'Math.min(PAGE_SHIFT + mask, WHOLE_SPACE)',
    'PAGE_SHIFT',
    recording('A61'),
  ),
  mutant(
    'the IOTLB is never invalidated',
    `${DEVICE}invalidate.js`,
    'iotlb(granularity, domain, hi, lo, mask, leaf) {',
    'iotlb(granularity, domain, hi, lo, mask, leaf) { return 0;',
    recording('V61leg'),
  ),
  mutant(
    'the context cache is never invalidated',
    `${DEVICE}context-cache.js`,
    'if (this.#generation++ < LAST_GENERATION)',
    'if (this.#generation < LAST_GENERATION)',
    unit('registers', 'SRTP sets RTPS*'),
  ),
  mutant(
    'the PASID cache is never invalidated',
    `${DEVICE}invalidate.js`,
    'pasidCache(granularity, domain, pasid) {',
    'pasidCache(granularity, domain, pasid) { return 0;',
    unit('caches', 'a PASID entry'),
  ),
  mutant(
    'a read without permission is reported as a write',
    `${DEVICE}behaviour.js`,
    'notPresentRead: Fault.LGN_3',
    'notPresentRead: Fault.LGN_2',
    recording('E61leg'),
  ),
  mutant(
    'a domain flush hits another domain',
    `${DEVICE}invalidate.js`,
    'this.#byRequester?.invalidateDomain(domain);',
    'this.#byRequester?.invalidateDomain(domain ^ 1);',
    recording('V61leg'),
  ),
  mutant(
    'permissions count in the last table only',
    `${DEVICE}second-stage.js`,
    'granted &= low;',
    'granted = low & PERMISSIONS;',
    unit('legacy', '0x05, 0x06*'),
  ),
  mutant(
    'the offset within a large page is that within a small one',
    `${DEVICE}address.js`,
    'return 3 + 9 * level;',
    'return 12;',
    recording('V61leg'),
  ),
  mutant(
    'a wait descriptor does not write its status',
    `${DEVICE}descriptors.js`,
    'if (statusWrite) {',
    'if (false) {',
    recording('E61leg'),
  ),
  mutant(
    'accessed and dirty bits are not set in the first stage',
    `${DEVICE}first-stage.js`,
    'if (present === wanted || ',
    'if (true || ',
    unit('accessed-dirty', 'a cached translation*'),
  ),
  mutant('FPD is ignored', `${DEVICE}fault-recording.js`, 'if (fpd && ', 'if (false && ', unit('faults', 'FPD*')),
  mutant(
    'the size of the PASID directory is ignored',
    `${DEVICE}translate.js`,
    'if (pasid >= table[at + Ctx.EXTENT])',
    'if (false)',
    unit('scalable', '0x45*'),
  ),
  mutant(
    'requests are translated although translation is off',
    `${DEVICE}translate.js`,
    '!state.translationEnabled || (pasid === NO_PASID',
    '(pasid === NO_PASID',
    unit('registers', 'level commands*'),
  ),
  mutant(
    'the high dword of a table address is dropped',
    `${DEVICE}second-stage.js`,
    'tableHi = high & ADDRESS_HI;',
    'tableHi = 0;',
    unit('high-memory', 'legacy mode*'),
  ),
  mutant(
    'a root table counts before SRTP',
    `${DEVICE}global-command.js`,
    'if ((command & bit) === 0)',
    'if (false)',
    unit('registers', 'the root table pointer*'),
  ),
  mutant(
    'a full fault record is overwritten',
    `${DEVICE}fault-recording.js`,
    'if (this.#isPending(this.#next)) {',
    'if (false) {',
    unit('faults', 'records are a ring*'),
  ),
  mutant(
    'a masked event is sent',
    `${DEVICE}event-interrupt.js`,
    '& (IM | IP)) !== IP',
    '& IP) !== IP',
    unit('faults', 'while masked*'),
  ),
  mutant(
    'a stopped queue goes on before IQE is cleared',
    `${DEVICE}invalidation-queue.js`,
    'return this.#state.queueEnabled && (this.#registers.get(Reg.FSTS) & (Fsts.IQE | Fsts.ITE)) === 0;',
    'return this.#state.queueEnabled;',
    unit('queue', 'a corrected descriptor*'),
  ),
  mutant(
    'a translation of one domain answers for another',
    `${IOMMU}iotlb-spaces.js`,
    'const key = (domain * KINDS + kind) * PASID_VALUES',
    'const key = kind * PASID_VALUES',
    unit('legacy', 'devices of one domain*'),
  ),
  mutant(
    'a page-selective flush leaves larger pages',
    `${IOMMU}iotlb.js`,
    'const wider = shift > size ? shift : size;',
    'if (size > shift) continue; const wider = shift;',
    { tests: `${IOMMU}iotlb.test.js`, match: 'a page-selective flush takes*' },
  ),
  mutant(
    'nested first-stage tables are read at their guest addresses',
    `${DEVICE}first-stage.js`,
    'result = memory.load(this.#atHi, this.#atLo, entry, 0, 2);',
    'result = memory.load(tableHi, entryLo, entry, 0, 2);',
    unit('nested', 'the smaller page*'),
  ),
  mutant(
    'an invalidation leaves tables as if IH were always set',
    `${DEVICE}invalidate.js`,
    'structures?.invalidateDomainPages(domain, TlbKind.SECOND_STAGE, hi, lo, rangeShift(mask), leaf);',
    'structures?.invalidateDomainPages(domain, TlbKind.SECOND_STAGE, hi, lo, rangeShift(mask), true);',
    unit('paging-structures', 'legacy, 4 levels: an entry of level 2'),
  ),
  mutant(
    'IH is ignored: tables always go',
    `${DEVICE}invalidate.js`,
    'if (structures === undefined || (pages && leaf))',
    'if (structures === undefined)',
    unit('paging-structures', 'first, 4 levels: an entry of level 2'),
  ),
  mutant(
    'what is not present is cached without caching mode',
    `${DEVICE}second-stage.js`,
    'behaviour.faultsCached && caps.cachingMode',
    'behaviour.faultsCached',
    unit('caching-mode', 'legacy: a second-stage entry of level 1*'),
  ),
  mutant(
    'a page that was not present stays so whatever is flushed',
    `${IOMMU}paging-structure-cache.js`,
    '(!deadEnds || this.isDeadEnd(slot))',
    '!this.isDeadEnd(slot)',
    unit('caching-mode', 'legacy: a second-stage entry of level 1*'),
  ),
  mutant(
    'a flush of leaves leaves pages that were not present',
    `${IOMMU}paging-structure-cache.js`,
    'const last = leavesOnly ? this.#leafLevels : MAX_LEVEL;',
    'const last = leavesOnly ? 0 : MAX_LEVEL;',
    unit('caching-mode', 'legacy: a second-stage entry of level 1*'),
  ),
  mutant(
    'a context entry that was refused is never forgotten',
    `${DEVICE}context-cache.js`,
    'this.faulting?.invalidateDevice(sourceId, functionMask, domain, anyDomain);',
    '',
    unit('caching-mode', 'legacy: a context entry that is not present'),
  ),
  mutant(
    'a PASID entry that was refused belongs to one domain only',
    `${DEVICE}pasid-entry-cache.js`,
    'this.faulting?.invalidatePasid(pasid);',
    'if (domain === 7) this.faulting?.invalidatePasid(pasid);',
    unit('caching-mode', 'a PASID entry that is not present'),
  ),
];
