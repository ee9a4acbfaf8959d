// Random registers, descriptors, tables and requests for the VT-d unit alone. The oracle in naive/ says what must come of them.
import { Fault, faultName } from '@hw/intel-iommu';
import fc from 'fast-check';
import test, { type ExecutionContext } from 'ava';
import { anyPrograms } from './any-program.js';
import { AnyUnit } from './any-unit.js';
import { CONFIGURATIONS, QEMU_CONFIGURATIONS } from './configurations.js';
import { Coverage } from './coverage.js';
import { FuzzMemory } from './fuzz-memory.js';
import { run } from './interpreter.js';
import { programs } from './program.js';

/** Fixed, so that the figures below are the same on every run. */
const SEED = 1;
const PROGRAMS = 1500;
const ANY_PROGRAMS = 1000;

/** How many programs saw a thing when this was written; half as many must. */
const MEASURED: Readonly<Record<string, number>> = {
  'CCMD 1': 156,
  'CCMD 2': 10,
  'CCMD 3': 13,
  FPD: 875,
  'IOTLB 1': 155,
  'IOTLB 2': 118,
  'IOTLB 3': 160,
  TE: 1434,
  'descriptor 1': 820,
  'descriptor 2': 990,
  'descriptor 3': 128,
  'descriptor 4': 69,
  'descriptor 5': 710,
  'descriptor 6': 597,
  'descriptor 7': 628,
  'descriptor 8': 77,
  'queue error 0': 69,
  'queue error 1': 81,
  'queue error 2': 38,
  'queue error 3': 222,
  'queue error 4': 817,
  'queue error 5': 68,
  'queue error 6': 21,
  'queue error 7': 34,
  'reason 0x01': 132,
  'reason 0x02': 75,
  'reason 0x03': 126,
  'reason 0x04': 325,
  'reason 0x05': 345,
  'reason 0x06': 356,
  'reason 0x07': 179,
  'reason 0x08': 11,
  'reason 0x09': 79,
  'reason 0x0a': 244,
  'reason 0x0b': 177,
  'reason 0x0c': 202,
  'reason 0x0e': 370,
  'reason 0x30': 145,
  'reason 0x31': 145,
  'reason 0x38': 20,
  'reason 0x39': 203,
  'reason 0x3a': 403,
  'reason 0x40': 138,
  'reason 0x41': 123,
  'reason 0x42': 357,
  'reason 0x43': 21,
  'reason 0x45': 299,
  'reason 0x46': 209,
  'reason 0x50': 98,
  'reason 0x51': 138,
  'reason 0x52': 288,
  'reason 0x58': 138,
  'reason 0x59': 87,
  'reason 0x5a': 261,
  'reason 0x5b': 51,
  'reason 0x5d': 264,
  'reason 0x70': 239,
  'reason 0x71': 486,
  'reason 0x72': 272,
  'reason 0x73': 34,
  'reason 0x74': 6,
  'reason 0x75': 27,
  'reason 0x76': 8,
  'reason 0x77': 15,
  'reason 0x78': 96,
  'reason 0x79': 322,
  'reason 0x7a': 151,
  'reason 0x7b': 17,
  'reason 0x7c': 52,
  'reason 0x7d': 14,
  'reason 0x80': 312,
  'reason 0x81': 39,
  'reason 0x82': 59,
  'reason 0x83': 100,
  'reason 0x84': 171,
  'reason 0x85': 37,
  'reason 0x86': 30,
  'reason 0x87': 571,
  'reason 0x90': 271,
  'reason 0x91': 61,
  'stale page': 711,
  'walk first-stage 4-level': 404,
  'walk first-stage 5-level': 90,
  'walk interrupt': 414,
  'walk legacy 3-level': 343,
  'walk legacy 4-level': 242,
  'walk legacy 5-level': 61,
  'walk legacy pass-through': 146,
  'walk nested 4-level': 168,
  'walk nested 5-level': 18,
  'walk off': 213,
  'walk scalable pass-through': 432,
  'walk second-stage 3-level': 201,
  'walk second-stage 4-level': 153,
  'walk second-stage 5-level': 25,
};

const ANY_MEASURED: Readonly<Record<string, number>> = {
  'QEMU reason 0x08': 88,
  'QEMU reason 0x0e': 25,
  'QEMU reason 0x31': 122,
  QIE: 785,
  TE: 789,
  'accessed or dirty bit': 75,
  fault: 603,
  'status word': 87,
  'store to its own registers': 71,
  walk: 211,
};

/** Reasons that this model cannot raise, and why. */
const OUT_OF_REACH: Readonly<Record<string, readonly number[]>> = {
  'device TLBs make no requests of their own: every request is untranslated': [Fault.LCT_5, Fault.SCT_5],
  'they are of interrupt requests, and these programs make none': [
    0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
  ],
  'page requests are not offered (ECAP.PRS is 0)': [Fault.RTA_3, Fault.SCT_8],
  'abort-DMA mode is not offered (ECAP.ADMS is 0): TTM 3 is RTA.1': [Fault.RTA_4],
  'a RID_PASID beyond the directory is SCT.4, as the reference prefers': [Fault.SCT_9],
  'execute requests have not had an enable bit since VT-d 3.0': [Fault.SPT_5],
  'their meaning is not known': [Fault.SGN_9, Fault.SGN_10],
};

const reasonKey = (reason: number): string => `reason 0x${reason.toString(16).padStart(2, '0')}`;

/** Half of what was measured. */
function requireMinimums(t: ExecutionContext, coverage: Coverage, measured: Readonly<Record<string, number>>): void {
  const share = (what: string): string => `${Math.round((100 * coverage.count(what)) / coverage.programs)} %`;
  t.log(coverage.programs, 'programs,', Object.keys(measured).length, 'things required; TE in', share('TE'));
  for (const [what, figure] of Object.entries(measured)) {
    const count = coverage.count(what);
    const least = Math.ceil(figure / 2);
    t.true(
      count >= least,
      `${what}: in ${count} of ${coverage.programs} programs, at least ${least} wanted (measured: ${figure})`,
    );
  }
}

const memory = (): FuzzMemory => new FuzzMemory();

test('what software sees of the unit is what the reference says, over structured programs', t => {
  const coverage = new Coverage();
  const ram = memory();
  fc.assert(
    fc.property(programs(CONFIGURATIONS.length), program => {
      run(program, ram, coverage);
      coverage.endProgram();
    }),
    { seed: SEED, numRuns: PROGRAMS },
  );
  requireMinimums(t, coverage, MEASURED);
  const unreachable = Object.values(OUT_OF_REACH).flat();
  for (const reason of Object.values(Fault)) {
    if (reason === Fault.NONE) continue;
    const seen = coverage.count(reasonKey(reason)) > 0;
    t.is(seen, !unreachable.includes(reason), `${faultName(reason)}: must be reached, or said to be out of reach`);
  }
});

test('nothing throws and nothing but status words and A/D bits changes, over any programs', t => {
  const coverage = new Coverage();
  const ram = memory();
  const configurations = [...CONFIGURATIONS, ...QEMU_CONFIGURATIONS];
  fc.assert(
    fc.property(anyPrograms(configurations.length), program => {
      ram.clear();
      new AnyUnit(program, configurations[program.configuration]!, ram, coverage).run();
      coverage.endProgram();
    }),
    { seed: SEED, numRuns: ANY_PROGRAMS },
  );
  requireMinimums(t, coverage, ANY_MEASURED);
});
