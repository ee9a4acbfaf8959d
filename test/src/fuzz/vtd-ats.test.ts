// Random translation requests, translated requests and page requests. The oracle in naive/ats.ts says what must come of them.
import fc from 'fast-check';
import test from 'ava';
import { atsPrograms } from './ats-program.js';
import { ATS_CONFIGURATIONS, runAts } from './ats-run.js';
import { Coverage, requireMinimums } from './coverage.js';
import { DEVICE_TLB_REASONS, missing } from './elsewhere.js';
import { FuzzMemory } from './fuzz-memory.js';

/** Fixed, so that the figures below are the same on every run. */
const SEED = 1;
const PROGRAMS = 600;

/** How many programs saw a thing when this was written; half as many must. */
const MEASURED: Readonly<Record<string, number>> = {
  FPD: 340,
  'granted 0': 428,
  'granted 0 privileged': 162,
  'granted 0 untranslatedOnly': 243,
  'granted 1': 143,
  'granted 1 privileged': 31,
  'granted 2': 82,
  'granted 3': 440,
  'granted 3 privileged': 94,
  'granted 5': 10,
  'granted 5 privileged': 6,
  'granted 7': 29,
  'granted 7 privileged': 24,
  'page 0x30': 25,
  'page 0x32': 60,
  'page 0x39': 37,
  'page 0x3a': 100,
  'page 0x40': 70,
  'page 0x41': 30,
  'page 0x42': 79,
  'page 0x43': 6,
  'page 0x45': 40,
  'page 0x46': 17,
  'page 0x47': 20,
  'page overflows': 23,
  'page queued': 247,
  'page size 12': 478,
  'page size 21': 152,
  'page size 30': 129,
  'page stop marker': 55,
  'page while overflowing': 9,
  'translated 0x01': 41,
  'translated 0x02': 17,
  'translated 0x03': 20,
  'translated 0x04': 38,
  'translated 0x09': 59,
  'translated 0x0a': 107,
  'translated 0x0b': 62,
  'translated 0x0d': 94,
  'translated 0x0e': 57,
  'translated 0x30': 48,
  'translated 0x31': 20,
  'translated 0x39': 52,
  'translated 0x3a': 117,
  'translated 0x40': 67,
  'translated 0x41': 29,
  'translated 0x42': 78,
  'translated 0x43': 9,
  'translated 0x44': 57,
  'translated 0x45': 42,
  'translated 0x83': 39,
  'translated 0x87': 69,
  'translated abort': 481,
  'translated ok': 451,
  'translated unsupported': 216,
  'translation 0x01': 70,
  'translation 0x02': 44,
  'translation 0x03': 63,
  'translation 0x04': 101,
  'translation 0x07': 76,
  'translation 0x09': 86,
  'translation 0x0a': 159,
  'translation 0x0b': 103,
  'translation 0x0c': 93,
  'translation 0x0d': 142,
  'translation 0x30': 136,
  'translation 0x31': 71,
  'translation 0x39': 73,
  'translation 0x3a': 166,
  'translation 0x40': 109,
  'translation 0x41': 49,
  'translation 0x42': 134,
  'translation 0x43': 12,
  'translation 0x44': 115,
  'translation 0x45': 95,
  'translation 0x46': 76,
  'translation 0x50': 37,
  'translation 0x52': 94,
  'translation 0x58': 43,
  'translation 0x5a': 45,
  'translation 0x5b': 9,
  'translation 0x75': 13,
  'translation 0x77': 10,
  'translation 0x78': 34,
  'translation 0x7a': 47,
  'translation 0x7c': 23,
  'translation 0x7d': 9,
  'translation 0x83': 24,
  'translation 0x90': 38,
  'translation 0x91': 21,
};

test('every reason that only these programs can reach has a minimum', t => {
  t.deepEqual(missing(DEVICE_TLB_REASONS, MEASURED), []);
});

test('what device TLBs are answered is what the reference says, over structured programs', t => {
  const coverage = new Coverage();
  const memory = new FuzzMemory();
  fc.assert(
    fc.property(atsPrograms(ATS_CONFIGURATIONS.length), program => {
      runAts(program, memory, coverage);
      coverage.endProgram();
    }),
    { seed: SEED, numRuns: PROGRAMS, includeErrorInReport: true },
  );
  requireMinimums(t, coverage, MEASURED);
});
