import test from 'ava';
import { bootReports } from './console.js';

test('each boot has its own reports and messages', t => {
  const reports = bootReports([
    'SeaBIOS (version rel-1.17.0)',
    '[    0.000000] Linux version 6.1.0 (gcc)\r',
    '[    0.004000] DMAR: Host address width 48\r',
    '[    0.012000] DMAR-IR: Enabled IRQ remapping in xapic mode',
    '[    1.000000] iommu: Default domain type: Translated',
    '[   12.262138] remora: group 0000:00:04.0 1 DMA-FQ',
    '[   12.280397] remora: group 0000:00:05.0 2 DMA-FQ\r',
    '[   13.280397] remora: done',
    '',
    '[    0.000000] Linux version 6.1.0 (gcc)',
    '[    9.280397] remora: no disk',
    '[    9.380397] DMAR: [DMA Read NO_PASID] Request device [00:05.0] fault addr 0x2345000',
  ]);
  t.deepEqual(
    reports.map(({ said, dmar }) => [Object.fromEntries(said), dmar]),
    [
      [
        { group: ['0000:00:04.0 1 DMA-FQ', '0000:00:05.0 2 DMA-FQ'], done: [''] },
        ['DMAR: Host address width 48', 'DMAR-IR: Enabled IRQ remapping in xapic mode'],
      ],
      [{ no: ['disk'] }, ['DMAR: [DMA Read NO_PASID] Request device [00:05.0] fault addr 0x2345000']],
    ],
  );
});

test('what comes before the first boot, and half lines, count for nothing', t => {
  t.deepEqual(bootReports(['[    1.0] remora: done', 'remora: done', '[    2.0']), []);
});
