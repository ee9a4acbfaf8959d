// Broken models in front of Linux's driver of the accelerator: what the device, or the host below the machine, keeps too long shows in what is copied.
import { cachedPeers, cacheFolder, DSA_PEERS, missingCompiler } from '@remora/tools/live';
import test from 'ava';
import { bootIn } from '../live/workshop-boot.js';
import { type Alteration, Workshop } from '../mutants/workshop.js';

const KERNEL = '7.2';

interface BrokenModel {
  readonly name: string;
  readonly mode: string;
  readonly alteration: Alteration;
  /** These fail, whatever else does: the device may write to memory that Linux uses for something else by then. */
  readonly failing: readonly string[];
}

const INVALIDATE = '    #invalidate(pasid, global, hi, lo, shift, completed) {';
const FLUSH = '    flush(flush) {';
const INVALIDATE_ONE = '    #invalidateOne(view, at) {';

const BROKEN_MODELS: readonly BrokenModel[] = [
  {
    name: 'a device TLB that keeps what it should drop',
    mode: 'dsa',
    alteration: { file: 'packages/pci/dist/device-tlb.js', find: INVALIDATE, replace: `${INVALIDATE} return true;` },
    failing: ['kernel copies', 'shared'],
  },
  {
    name: 'a host whose containers take flushes and do nothing',
    mode: 'dsa-vfio',
    alteration: {
      file: 'packages/host-sim/dist/kernel/stage1-bindings.js',
      find: FLUSH,
      replace: `${FLUSH} return 0;`,
    },
    failing: ['kernel copies', 'shared', 'flushes'],
  },
  {
    name: 'a host whose iommufd takes flushes and does nothing',
    mode: 'dsa-iommufd',
    alteration: {
      file: 'hw/intel-iommu/dist/driver/user-domains.js',
      find: INVALIDATE_ONE,
      replace: `${INVALIDATE_ONE} return 0;`,
    },
    failing: ['kernel copies', 'shared', 'flushes'],
  },
];

const unfetched = `"remora live --mode dsa --fetch --kernel ${KERNEL}" gets what it boots`;
const peers = cachedPeers({ folder: cacheFolder(), kernel: KERNEL, ...DSA_PEERS });
const missing = peers === undefined ? unfetched : missingCompiler();
const booted = missing === undefined ? test.serial : test.serial.skip;
const note = missing === undefined ? '' : ` (skipped: ${missing})`;

for (const { name, mode, alteration, failing } of BROKEN_MODELS) {
  booted(`${name}, in mode ${mode}: noticed${note}`, async t => {
    await using workshop = await Workshop.open([alteration], true);
    const failed = (await bootIn(workshop, KERNEL, mode)).filter(({ ok }) => !ok);
    t.log(failed.map(({ name: check, found }) => `${check}: ${found}`).join('\n'));
    const names = failed.map(each => each.name);
    t.deepEqual(
      failing.filter(each => !names.includes(each)),
      [],
    );
  });
}
