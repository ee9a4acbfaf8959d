/** Requests of device TLBs. */
import { AtsStatus } from '@remora/iommu';
import { ask, translated } from '../ats-bench.test.helper.js';
import { legacyBench } from '../bench.test.helper.js';
import type { Departures } from './departure.test.helper.js';

const ATS = { 'device-iotlb': true } as const;
const PAGE = 0x5000n;

export const ATS_REQUESTS: Departures = {
  recoverable: {
    what: 'an output in the interrupt range fails a translation request, and is recorded',
    program: profile => {
      const { bench, second } = legacyBench({ ...profile, ...ATS }, { tt: 1 });
      bench.mapAt(second, 4, PAGE, 0xfee0_1003n, 3n);
      return { answer: ask(bench, PAGE), recorded: bench.offered };
    },
    spec: { answer: { to: 0x5000, shift: 12, access: 0 }, recorded: [] },
    qemu: { answer: AtsStatus.ABORT, recorded: [0x0e] },
  },
  translatedChecked: {
    what: 'a translated request passes whatever the context entry says of device TLBs',
    program: profile => {
      const { bench } = legacyBench({ ...profile, ...ATS }, { tt: 0 });
      return { answer: translated(bench, 0x9000n), recorded: bench.offered };
    },
    spec: { answer: AtsStatus.UNSUPPORTED, recorded: [0x0d] },
    qemu: { answer: AtsStatus.OK, recorded: [] },
  },
};
