// The model answers every shipped recording as the recorded unit did: nothing differs, nothing is excused, nothing is skipped.
import { basename } from 'node:path';
import test from 'ava';
import { randomRecordings, replayFile, shippedRecordings } from '@remora/tools';
import { linesOf } from './altered-recording.js';

interface Expected {
  readonly operations: number;
  readonly compared: Readonly<Record<string, number>>;
}

const EXPECTED: Readonly<Record<string, Expected>> = {
  A61: { operations: 6393, compared: { RESET: 1, R: 14, T: 3712, MW: 2652 } },
  B72: { operations: 5014, compared: { RESET: 1, R: 14, T: 3945, MW: 1040 } },
  C61: { operations: 3091, compared: { RESET: 1, R: 14, T: 3037, MW: 25 } },
  D61: { operations: 8745, compared: { RESET: 1, R: 19, T: 3718, I: 4878, MW: 111 } },
  E61leg: { operations: 404, compared: { RESET: 1, R: 50, T: 202, TF: 38, F: 38, IRQ: 10, MW: 79 } },
  E72flt: { operations: 329, compared: { RESET: 1, R: 50, T: 202, TF: 38, F: 38, IRQ: 10, MW: 4 } },
  F72ats: { operations: 9092, compared: { RESET: 1, R: 17, T: 3763, I: 4736, MW: 558, N: 181 } },
  P72pt: { operations: 29, compared: { RESET: 1, R: 14 } },
  'Q-intel-iommu-test': { operations: 144, compared: { RESET: 2, R: 142 } },
  'Q-iommu-intel-test-legacy-trans': { operations: 16, compared: { RESET: 1, R: 4, T: 1 } },
  'Q-iommu-intel-test-scalable-flt': { operations: 16, compared: { RESET: 1, R: 4, T: 1 } },
  V61leg: { operations: 678, compared: { RESET: 1, R: 95, T: 324, TF: 52, F: 52, IRQ: 25, MW: 142 } },
  V72flt: { operations: 660, compared: { RESET: 1, R: 95, T: 323, TF: 52, F: 52, IRQ: 25, MW: 125 } },
};

/** What remora live recorded of this project's own unit. */
const LIVE: Readonly<Record<string, Expected>> = {
  'dsa-7.2': {
    operations: 18965,
    compared: { RESET: 3, R: 372, A: 9067, D: 9138, N: 453, MW: 296, P: 33, IRQ: 33, PR: 33 },
  },
  'dsa-faults-7.2': {
    operations: 469,
    compared: { RESET: 3, H: 694, R: 207, MW: 233, HF: 1, F: 1, IRQ: 1 },
  },
  'dsa-iommufd-7.2': {
    operations: 743,
    compared: { RESET: 3, H: 924, R: 346, MW: 304, N: 453, P: 33, IRQ: 33, PR: 33 },
  },
  'ir-6.1': {
    operations: 15462,
    compared: { RESET: 3, T: 13101, TF: 1, R: 133, I: 1992, F: 1, IRQ: 1, MW: 213 },
  },
  'scalable-7.2': { operations: 13395, compared: { RESET: 3, T: 13107, TF: 1, R: 105, F: 1, IRQ: 1, MW: 164 } },
  'vcmd-6.1': { operations: 75, compared: { RESET: 3, H: 11, R: 32, MW: 4, VC: 12 } },
};

/** Programs of 350 random cases each. */
const RANDOM: Readonly<Record<string, Expected>> = {
  'flt-1': {
    operations: 12957,
    compared: { RESET: 1, R: 5169, T: 320, TF: 826, I: 31, IF: 94, F: 907, FPD: 1, IRQ: 283, MW: 826 },
  },
  'leg-1': {
    operations: 14163,
    compared: { RESET: 1, R: 5966, T: 580, TF: 1132, F: 1086, FPD: 46, IRQ: 179, MW: 611 },
  },
  'leg39dt-1': {
    operations: 10228,
    compared: { RESET: 1, R: 4445, T: 390, TF: 636, I: 34, IF: 89, F: 708, FPD: 13, IRQ: 281, MW: 484 },
  },
  'legcm-1': {
    operations: 10678,
    compared: { RESET: 1, R: 4609, T: 360, TF: 722, I: 37, IF: 80, F: 735, FPD: 61, IRQ: 164, MW: 489 },
  },
  'slt-1': {
    operations: 19101,
    compared: { RESET: 1, R: 8055, T: 433, TF: 1389, F: 1361, FPD: 28, IRQ: 446, MW: 934 },
  },
  'snoop-1': {
    operations: 17256,
    compared: { RESET: 1, R: 7091, T: 531, TF: 1211, F: 1167, FPD: 44, IRQ: 409, MW: 763 },
  },
};

test('the recordings of random programs are the ones listed here', t => {
  t.deepEqual(
    randomRecordings().map(file => basename(file, '.trace.gz')),
    Object.keys(RANDOM),
  );
});

for (const file of shippedRecordings()) {
  const name = basename(file, '.trace.gz');
  test(`${name} replays without a mismatch`, async t => {
    const { operations, compared } = { ...EXPECTED, ...RANDOM, ...LIVE }[name]!;
    t.deepEqual(await replayFile(file), {
      file,
      operations,
      compared: Object.values(compared).reduce((sum, count) => sum + count, 0),
      comparedByKind: compared,
      mismatches: 0,
      differences: [],
      excused: {},
      skipped: {},
    });
  });
}

test('an accelerator that Linux answers page requests goes on before it comes back from the answer', async t => {
  const lines = await linesOf('dsa-7.2');
  const asked = lines.filter(line => /^ *P /.test(line)).length;
  t.is(asked, 33);
  t.is(lines.filter(line => line.startsWith(' PR ')).length, asked);
  const within = lines.filter((line, at) => line.startsWith('  A ') && lines[at - 1]!.startsWith(' PR '));
  t.is(within.length, asked);
  t.true(
    within.every(line => / -> [0-9a-f]+ fff rw$/.test(line)),
    'each has the page that it asked for',
  );
});
