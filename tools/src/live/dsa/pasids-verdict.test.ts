// Each check fails on a report that is spoilt in that one respect.
import test from 'ava';
import { bootReports } from '../console.js';
import { PASID_QUOTA, pasidsVerdict } from './pasids-verdict.js';

const SAID = [
  'DMAR: Register custom PASID allocator',
  ...Array.from({ length: PASID_QUOTA }, (_, at) => `remora: pasid_given ${7 + at}`),
  'DMAR: IOMMU: dmar0: No PASID available',
  'remora: pasid_again 12',
  'remora: done',
];
const REQUESTS = { made: 12, refused: 1 };

function failing(said: readonly string[], requests = REQUESTS, pasids: readonly number[] = [12]): string[] {
  const lines = ['Linux version 6.1.0', ...said].map(each => `[    1.000000] ${each}`);
  return pasidsVerdict(bootReports(lines)[0], { calls: new Map([['VFIO_IOMMU_PASID_REQUEST', requests]]), pasids })
    .filter(({ ok }) => !ok)
    .map(({ name }) => name);
}

const without = (words: string): string[] => SAID.filter(each => !each.includes(words));
const instead = (words: string, other: string): string[] => SAID.map(each => each.replace(words, other));

test('as it should be, and spoilt', t => {
  t.deepEqual(failing(SAID), []);
  t.deepEqual(failing(without('done')), ['finished']);
  t.deepEqual(failing(without('Register')), ['allocator']);
  t.deepEqual(failing(without('pasid_given 9')), ['given']);
  t.deepEqual(failing(instead('pasid_given 9', 'pasid_given 8')), ['given']);
  t.deepEqual(failing(instead('pasid_given 9', 'pasid_given 1048576')), ['given']);
  t.deepEqual(failing(without('No PASID')), ['none left']);
  t.deepEqual(failing(SAID, { made: 11, refused: 1 }), ['requests']);
  t.deepEqual(failing(SAID, { made: 12, refused: 2 }), ['requests']);
  t.deepEqual(failing(SAID, REQUESTS, []), ["host's"]);
  t.deepEqual(failing(SAID, REQUESTS, [11]), ["host's"]);
  t.deepEqual(failing(instead('pasid_again 12', 'pasid_again 4294967295')), ["host's"]);
});
