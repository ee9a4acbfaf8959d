// Random registers, descriptors, tables and requests for the VT-d unit alone. The oracle in naive/ says what must come of them.
import { Fault, faultName } from '@hw/intel-iommu';
import fc from 'fast-check';
import test from 'ava';
import { anyPrograms } from './any-program.js';
import { AnyUnit } from './any-unit.js';
import { CONFIGURATIONS, QEMU_CONFIGURATIONS } from './configurations.js';
import { Coverage, requireMinimums } from './coverage.js';
import { DEVICE_TLB_REASONS, INTERRUPT_REASONS } from './elsewhere.js';
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
  'CCMD 2': 93,
  'CCMD 3': 89,
  FPD: 1001,
  'IOTLB 1': 155,
  'IOTLB 2': 80,
  'IOTLB 3': 120,
  TE: 1434,
  'descriptor 1': 946,
  'descriptor 2': 950,
  'descriptor 3': 128,
  'descriptor 4': 69,
  'descriptor 5': 814,
  'descriptor 6': 536,
  'descriptor 7': 629,
  'descriptor 8': 77,
  'queue error 0': 69,
  'queue error 1': 81,
  'queue error 2': 38,
  'queue error 3': 222,
  'queue error 4': 817,
  'queue error 5': 68,
  'queue error 6': 21,
  'queue error 7': 34,
  'reason 0x01': 133,
  'reason 0x02': 75,
  'reason 0x03': 127,
  'reason 0x04': 323,
  'reason 0x05': 381,
  'reason 0x06': 396,
  'reason 0x07': 184,
  'reason 0x08': 11,
  'reason 0x09': 82,
  'reason 0x0a': 245,
  'reason 0x0b': 179,
  'reason 0x0c': 203,
  'reason 0x0e': 368,
  'reason 0x30': 145,
  'reason 0x31': 145,
  'reason 0x38': 20,
  'reason 0x39': 201,
  'reason 0x3a': 408,
  'reason 0x40': 139,
  'reason 0x41': 126,
  'reason 0x42': 359,
  'reason 0x43': 21,
  'reason 0x45': 373,
  'reason 0x46': 204,
  'reason 0x50': 95,
  'reason 0x51': 137,
  'reason 0x52': 280,
  'reason 0x58': 135,
  'reason 0x59': 89,
  'reason 0x5a': 262,
  'reason 0x5b': 50,
  'reason 0x5d': 344,
  'reason 0x70': 223,
  'reason 0x71': 494,
  'reason 0x72': 271,
  'reason 0x73': 32,
  'reason 0x74': 6,
  'reason 0x75': 27,
  'reason 0x76': 8,
  'reason 0x77': 16,
  'reason 0x78': 100,
  'reason 0x79': 341,
  'reason 0x7a': 149,
  'reason 0x7b': 17,
  'reason 0x7c': 53,
  'reason 0x7d': 14,
  'reason 0x80': 311,
  'reason 0x81': 232,
  'reason 0x82': 57,
  'reason 0x83': 98,
  'reason 0x84': 173,
  'reason 0x85': 162,
  'reason 0x86': 78,
  'reason 0x87': 567,
  'reason 0x90': 274,
  'reason 0x91': 62,
  'stale page': 605,
  'stale refusal, fault': 108,
  'stale table': 94,
  'stale table, fault': 393,
  'walk first-stage 4-level': 389,
  'walk first-stage 5-level': 83,
  'walk interrupt': 414,
  'walk legacy 3-level': 336,
  'walk legacy 4-level': 237,
  'walk legacy 5-level': 56,
  'walk legacy pass-through': 147,
  'walk nested 4-level': 166,
  'walk nested 5-level': 16,
  'walk off': 213,
  'walk scalable pass-through': 430,
  'walk second-stage 3-level': 197,
  'walk second-stage 4-level': 147,
  'walk second-stage 5-level': 23,
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
  walk: 204,
};

/** Reasons that this model cannot raise, and why. */
const OUT_OF_REACH: Readonly<Record<string, readonly number[]>> = {
  "they are of device TLBs' requests, which vtd-ats.test.ts makes": DEVICE_TLB_REASONS,
  'they are of interrupt requests, which vtd-interrupts.test.ts makes': INTERRUPT_REASONS,
  'what makes an interrupt request malformed with respect to PASID and AT is not known': [Fault.IR_10],
  'abort-DMA mode is not offered (ECAP.ADMS is 0): TTM 3 is RTA.1': [Fault.RTA_4],
  'a RID_PASID beyond the directory is SCT.4, as the reference prefers': [Fault.SCT_9],
  'execute requests have not had an enable bit since VT-d 3.0': [Fault.SPT_5],
  'their meaning is not known': [Fault.SGN_9, Fault.SGN_10],
};

const reasonKey = (reason: number): string => `reason 0x${reason.toString(16).padStart(2, '0')}`;

test('what software sees of the unit is what the reference says, over structured programs', t => {
  const coverage = new Coverage();
  const memory = new FuzzMemory();
  fc.assert(
    fc.property(programs(CONFIGURATIONS.length), program => {
      run(program, memory, coverage);
      coverage.endProgram();
    }),
    { seed: SEED, numRuns: PROGRAMS, includeErrorInReport: true },
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
  const memory = new FuzzMemory();
  const configurations = [...CONFIGURATIONS, ...QEMU_CONFIGURATIONS];
  fc.assert(
    fc.property(anyPrograms(configurations.length), program => {
      memory.clear();
      new AnyUnit(program, configurations[program.configuration]!, memory, coverage).run();
      coverage.endProgram();
    }),
    { seed: SEED, numRuns: ANY_PROGRAMS, includeErrorInReport: true },
  );
  requireMinimums(t, coverage, ANY_MEASURED);
});
