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
  'CCMD 1': 154,
  'CCMD 2': 14,
  'CCMD 3': 14,
  FPD: 892,
  'IOTLB 1': 152,
  'IOTLB 2': 14,
  'IOTLB 3': 14,
  TE: 1436,
  'descriptor 1': 796,
  'descriptor 2': 756,
  'descriptor 3': 142,
  'descriptor 4': 96,
  'descriptor 5': 829,
  'descriptor 6': 320,
  'descriptor 7': 508,
  'descriptor 8': 80,
  'queue error 0': 91,
  'queue error 1': 63,
  'queue error 2': 38,
  'queue error 3': 265,
  'queue error 4': 837,
  'queue error 5': 65,
  'queue error 6': 17,
  'queue error 7': 31,
  'reason 0x01': 159,
  'reason 0x02': 87,
  'reason 0x03': 142,
  'reason 0x04': 303,
  'reason 0x05': 264,
  'reason 0x06': 287,
  'reason 0x07': 175,
  'reason 0x08': 26,
  'reason 0x09': 95,
  'reason 0x0a': 282,
  'reason 0x0b': 186,
  'reason 0x0c': 215,
  'reason 0x0e': 369,
  'reason 0x30': 175,
  'reason 0x31': 113,
  'reason 0x38': 14,
  'reason 0x39': 250,
  'reason 0x3a': 413,
  'reason 0x40': 154,
  'reason 0x41': 128,
  'reason 0x42': 391,
  'reason 0x43': 24,
  'reason 0x45': 305,
  'reason 0x46': 183,
  'reason 0x50': 107,
  'reason 0x51': 167,
  'reason 0x52': 344,
  'reason 0x58': 148,
  'reason 0x59': 100,
  'reason 0x5a': 280,
  'reason 0x5b': 56,
  'reason 0x5d': 253,
  'reason 0x70': 195,
  'reason 0x71': 420,
  'reason 0x72': 299,
  'reason 0x73': 33,
  'reason 0x74': 6,
  'reason 0x75': 25,
  'reason 0x76': 12,
  'reason 0x77': 17,
  'reason 0x78': 137,
  'reason 0x79': 305,
  'reason 0x7a': 165,
  'reason 0x7b': 17,
  'reason 0x7c': 60,
  'reason 0x7d': 11,
  'reason 0x80': 276,
  'reason 0x81': 52,
  'reason 0x82': 48,
  'reason 0x83': 88,
  'reason 0x84': 151,
  'reason 0x85': 41,
  'reason 0x86': 30,
  'reason 0x87': 511,
  'reason 0x90': 262,
  'reason 0x91': 52,
  'stale page': 273,
  'walk first-stage 4-level': 390,
  'walk first-stage 5-level': 85,
  'walk interrupt': 340,
  'walk legacy 3-level': 339,
  'walk legacy 4-level': 237,
  'walk legacy 5-level': 54,
  'walk legacy pass-through': 130,
  'walk nested 4-level': 160,
  'walk nested 5-level': 18,
  'walk off': 224,
  'walk scalable pass-through': 403,
  'walk second-stage 3-level': 183,
  'walk second-stage 4-level': 143,
  'walk second-stage 5-level': 20,
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
  'interrupts are not remapped': [0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29],
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
