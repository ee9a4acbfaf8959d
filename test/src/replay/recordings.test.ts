// The model answers every shipped recording as the recorded unit did: nothing differs, nothing is excused, nothing is skipped.
import { basename } from 'node:path';
import test from 'ava';
import { replayFile, shippedRecordings } from '@remora/tools';

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

for (const file of shippedRecordings()) {
  const name = basename(file, '.trace.gz');
  test(`${name} replays without a mismatch`, async t => {
    const { operations, compared } = EXPECTED[name]!;
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
