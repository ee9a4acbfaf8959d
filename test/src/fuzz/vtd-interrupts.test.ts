// Random interrupt requests, entries and posted descriptors. The oracle in naive/interrupts.ts says what must come of them.
import fc from 'fast-check';
import test from 'ava';
import { Coverage, requireMinimums } from './coverage.js';
import { INTERRUPT_REASONS, missing } from './elsewhere.js';
import { FuzzMemory } from './fuzz-memory.js';
import { interruptPrograms } from './interrupt-program.js';
import { INTERRUPT_CONFIGURATIONS, runInterrupts } from './interrupt-run.js';

/** Fixed, so that the figures below are the same on every run. */
const SEED = 1;
const PROGRAMS = 600;

/** How many programs saw a thing when this was written; half as many must. */
const MEASURED: Readonly<Record<string, number>> = {
  FPD: 210,
  'descriptor 4': 592,
  'interrupt cached posted': 10,
  'interrupt cached posted silently': 59,
  'interrupt cached remapped': 116,
  'interrupt compatibility': 94,
  'interrupt off': 101,
  'interrupt table posted': 169,
  'interrupt table posted silently': 262,
  'interrupt table remapped': 471,
  'queue error 4': 109,
  'reason 0x01': 99,
  'reason 0x20': 223,
  'reason 0x21': 366,
  'reason 0x22': 277,
  'reason 0x23': 75,
  'reason 0x24': 361,
  'reason 0x25': 148,
  'reason 0x26': 493,
  'reason 0x27': 162,
  'reason 0x28': 220,
};

test('every reason that only these programs can reach has a minimum', t => {
  t.deepEqual(missing(INTERRUPT_REASONS, MEASURED), []);
});

test('what becomes of interrupt requests is what the reference says, over structured programs', t => {
  const coverage = new Coverage();
  const memory = new FuzzMemory();
  fc.assert(
    fc.property(interruptPrograms(INTERRUPT_CONFIGURATIONS.length), program => {
      runInterrupts(program, memory, coverage);
      coverage.endProgram();
    }),
    { seed: SEED, numRuns: PROGRAMS, includeErrorInReport: true },
  );
  requireMinimums(t, coverage, MEASURED);
});
