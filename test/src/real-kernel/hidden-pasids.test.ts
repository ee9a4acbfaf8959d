// A kernel of today does not show a function's PASID capability to who opens it: iommufd tells of its PASIDs, and the guest has them all the same.
import { backEnds, hostOf, runScenario, scenarios } from '@remora/machines';
import test from 'ava';

test('share by iommufd sees the same where the capability is hidden', t => {
  const share = scenarios.get('share')!;
  const shown = backEnds.find(({ name }) => name === 'iommufd-nested')!;
  const hidden = { ...shown, kernel: { ...shown.kernel, release: '7.2' } } as const;
  using first = hostOf(shown);
  using second = hostOf(hidden);
  const expected = runScenario(share, first, shown);
  t.deepEqual(runScenario(share, second, hidden), expected);
  t.true((expected['first'] as { copied: { ok: boolean } }).copied.ok);
});
