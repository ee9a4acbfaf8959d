/** What is cached, and for whom. */
import { Access } from '@remora/core';
import { ContextCacheDescriptor, GlobalCommand, Reg, TranslationType } from '../../spec/index.js';
import { DID, legacyBench, RID, scalableBench } from '../bench.test.helper.js';
import type { Departures } from './departure.test.helper.js';

const { READ, WRITE, EXECUTE } = Access;
const RW = 3n;
const PAGE = 0x5000n;

export const CACHES: Departures = {
  requesterTranslations: {
    what: 'devices of one domain do not share translations',
    program: profile => {
      const { bench, second, context } = legacyBench(profile);
      const leaf = bench.mapAt(second, 4, PAGE, 0x9003n, RW);
      bench.put64(context + 16, bench.get64(context));
      bench.put64(context + 24, bench.get64(context + 8));
      bench.request(PAGE);
      bench.put64(leaf, 0n);
      return [bench.fault(PAGE), bench.fault(PAGE, READ, -1, RID + 1)];
    },
    spec: [0, 0],
    qemu: [0, 0x06],
  },
  hitsIgnorePermission: {
    what: 'a cached page that may be read answers a write, and grants it nothing',
    program: profile => {
      const { bench, second } = legacyBench(profile);
      bench.mapAt(second, 4, PAGE, 0x9001n, RW);
      const before = bench.fault(PAGE, WRITE);
      bench.request(PAGE);
      return [before, bench.request(PAGE, WRITE)];
    },
    spec: [0x05, { fault: 0x05 }],
    qemu: [0x05, { to: 0x9000, shift: 12, access: READ | EXECUTE }],
  },
  pasidsCached: {
    what: 'a PASID entry counts as it is, without invalidation',
    program: profile => {
      const options = { ...profile, 'x-scalable-mode': 'on' } as const;
      const { bench, entry, second } = scalableBench(options, { fsptptr: 0 });
      bench.mapAt(second, 4, PAGE, 0x9003n, RW);
      const before = bench.fault(PAGE);
      bench.flip(entry, 6);
      return [before, bench.fault(PAGE)];
    },
    spec: [0, 0],
    qemu: [0, 0x5b],
  },
  contextNeedsPasid: {
    what: 'a context entry whose PASID entry is not in order is read again for the next request',
    program: profile => {
      const options = { ...profile, 'x-scalable-mode': 'on' } as const;
      const { bench, context } = scalableBench(options, { p: 0, fsptptr: 0 });
      const before = bench.fault(PAGE);
      bench.put64(context, 0n);
      return [before, bench.fault(PAGE)];
    },
    spec: [0x59, 0x59],
    qemu: [0x59, 0x02],
  },
  pagingStructuresCached: {
    what: 'a non-leaf entry counts as it is, without invalidation',
    program: profile => {
      const { bench, second } = legacyBench(profile);
      const other = bench.page();
      bench.mapAt(second, 4, PAGE, 0x9003n, RW);
      bench.mapAt(second, 4, PAGE + 0x1000n, 0xa003n, RW);
      bench.mapAt(other, 1, PAGE + 0x1000n, 0xb003n, RW);
      bench.request(PAGE);
      bench.mapAt(second, 4, PAGE, (BigInt(other) << 12n) | RW, RW, 2);
      return bench.request(PAGE + 0x1000n, WRITE);
    },
    spec: { to: 0xa000, shift: 12, access: READ | WRITE | EXECUTE },
    qemu: { to: 0xb000, shift: 12, access: READ | WRITE | EXECUTE },
  },
  faultsCached: {
    what: 'with caching mode, a mapping counts without invalidation',
    program: profile => {
      const { bench, second } = legacyBench({ ...profile, 'caching-mode': true });
      const before = bench.fault(PAGE);
      bench.mapAt(second, 4, PAGE, 0x9003n, RW);
      return [before, bench.fault(PAGE)];
    },
    spec: [0x06, 0x06],
    qemu: [0x06, 0],
  },
  contextDomainCompared: {
    what: 'a device-selective context invalidation removes the entry whatever domain it names',
    program: profile => {
      const { bench, context } = legacyBench(profile, { tt: TranslationType.PASS_THROUGH });
      bench.request(PAGE);
      bench.put64(context, 0n);
      bench.enableQueue(false);
      bench.submit(ContextCacheDescriptor, { type: 1, g: 3, did: DID + 1, sid: RID });
      const other = bench.fault(PAGE);
      bench.submit(ContextCacheDescriptor, { type: 1, g: 3, did: DID, sid: RID });
      return [other, bench.fault(PAGE)];
    },
    spec: [0, 0x02],
    qemu: [0x02, 0x02],
  },
  translationChangeFlushes: {
    what: 'turning translation off and on empties the caches',
    program: profile => {
      const { bench, second } = legacyBench(profile);
      const leaf = bench.mapAt(second, 4, PAGE, 0x9003n, RW);
      bench.request(PAGE);
      bench.put64(leaf, 0n);
      bench.write32(Reg.GCMD, 0);
      bench.command(GlobalCommand.TE);
      return bench.fault(PAGE);
    },
    spec: 0,
    qemu: 0x06,
  },
};
