/**
 * Bugs of the model that `remora diff` must find: each is a small change to the compiled code, and shows in the programs of `config`
 * that CI runs.
 */
import type { Alteration } from '../mutants/workshop.js';

export interface SeededBug {
  readonly name: string;
  readonly alteration: Alteration;
  readonly config: string;
}

const DEVICE = 'hw/intel-iommu/dist/device/';

function bug(name: string, config: string, file: string, find: string, replace: string): SeededBug {
  return { name, config, alteration: { file: `${DEVICE}${file}.js`, find, replace } };
}

export const SEEDED_BUGS: readonly SeededBug[] = [
  bug(
    'reserved bits of second-stage entries are not checked',
    'legacy',
    'second-stage',
    'if ((low & reserved) !== 0 || (high & reservedHi) !== 0)',
    'if (false)',
  ),
  bug(
    'the offset within a large page is that within a small one',
    'legacy',
    'address',
    'return 3 + 9 * level;',
    'return 12;',
  ),
  bug(
    'a read without permission is reported as a write',
    'legacy',
    'behaviour',
    'notPresentRead: Fault.LGN_3',
    'notPresentRead: Fault.LGN_2',
  ),
  bug('the width of the tables does not limit addresses', 'first-stage', 'first-stage', 'return Fault.SGN_1;', ';'),
  bug(
    'accessed and dirty bits are not set in the first stage',
    'first-stage',
    'first-stage',
    'if (present === wanted || ',
    'if (true || ',
  ),
  bug('FPD is ignored', 'legacy', 'fault-recording', 'if (fpd && ', 'if (false && '),
  bug(
    'a full fault record is overwritten',
    'legacy',
    'fault-recording',
    'if (this.#isPending(this.#next)) {',
    'if (false) {',
  ),
  bug(
    'a domain-selective flush hits another domain',
    'legacy',
    'invalidate',
    'this.#byRequester?.invalidateDomain(domain);',
    'this.#byRequester?.invalidateDomain(domain ^ 1);',
  ),
  bug(
    'a page-selective flush ignores the address mask',
    'legacy',
    'invalidate',
    'Math.min(PAGE_SHIFT + mask, WHOLE_SPACE)',
    'PAGE_SHIFT',
  ),
  bug(
    'a page-selective flush by PASID takes nothing',
    'first-stage',
    'invalidate',
    'byRequester.invalidatePasidPages(domain, pasid, TlbKind.FIRST_STAGE, hi, lo, rangeShift(mask));',
    '',
  ),
  bug(
    'a global flush leaves the context cache',
    'legacy',
    'context-cache',
    'if (this.#generation++ < LAST_GENERATION)',
    'if (this.#generation < LAST_GENERATION)',
  ),
  bug(
    'a device-selective flush leaves the context cache',
    'legacy',
    'context-cache',
    'const mask = FUNCTION_MASKS[functionMask];',
    'return;',
  ),
  bug(
    'PASID entries are cached where they should be read again',
    'scalable-second-stage',
    'behaviour',
    'pasidsCached: false',
    'pasidsCached: true',
  ),
  bug('a wait does not write its status', 'legacy', 'descriptors', 'if (statusWrite) {', 'if (false) {'),
  bug(
    'the queue goes on behind its end',
    'legacy',
    'invalidation-queue',
    'next >= this.#bytes ? 0 : next',
    'next > this.#bytes ? 0 : next',
  ),
  bug(
    'the queue of wide descriptors has room for twice as many',
    'scalable-second-stage',
    'invalidation-queue',
    'const next = this.#registers.get(Reg.IQH) + this.#descriptorBytes;',
    'const next = this.#registers.get(Reg.IQH) + 16;',
  ),
];
