/** What RFC v3.1 literally does where it meant something else: each row marked (L), each quirk of vsva.md section 8, switched on. */
import test from 'ava';
import { ConfigError, Errno } from '@remora/core';
import { owner } from '@remora/testing';
import { Rig, type RigOptions } from '../rig/rig.js';
import { OTHER_ROOT, ROOT } from './behaviour.js';
import { BIND, bind, CACHE_INVALIDATE, flushPages, flushPasid, pasidAlloc, unbind } from './host-bytes.js';
import { twoBuses } from './virtual-command.js';

const PASID = 1;
const GLOBAL = 3;

const BOTH: RigOptions = { functions: [{ addr: '03.0' }, { addr: '04.0' }] };

test('Q1, row 15: any attribute is passed on as SRE', t => {
  const rig = owner(t)(new Rig({ iommu: 'quirk-attributes-collapse=on' }));
  rig.plan.arm({ request: BIND, result: 'swallow', times: Infinity });
  for (const attribute of ['sre', 'eafe', 'pcd', 'pwt', 'emte', 'cd']) {
    const pasid = rig.allocate();
    rig.entry(pasid, { did: 7, root: ROOT, [attribute]: 1 });
    rig.pasidCache(PASID, 7, pasid);
    t.deepEqual(rig.take(), [bind(pasid, { root: ROOT, flags: 1 })], attribute);
  }
});

test('Q2, row 51: a device-selective context invalidation rechecks the others, and only walks the device it names', t => {
  const rig = owner(t)(
    new Rig({
      iommu: 'quirk-device-selective-inverted=on',
      functions: BOTH.functions!.map(each => ({ ...each, container: 'new' })),
    }),
  );
  const pasid = rig.allocate();
  rig.entry(pasid, { did: 7, root: ROOT }, 0);
  rig.entry(pasid, { did: 7, root: ROOT }, 1);
  rig.pasidCache(PASID, 7, pasid);
  rig.take();
  rig.clearEntry(pasid, 0);
  rig.contextCache(3, 0, rig.requesterId(0), 0);
  t.deepEqual(rig.take(), []);
  rig.clearEntry(pasid, 1);
  rig.contextCache(3, 0, rig.requesterId(0), 0);
  t.deepEqual(rig.take(), [unbind(pasid)], 'the other device');
  const fresh = rig.allocate();
  rig.entry(fresh, { did: 7, root: OTHER_ROOT }, 0);
  rig.contextCache(3, 0, rig.requesterId(0), 0);
  t.deepEqual(rig.take(), [bind(fresh, { root: OTHER_ROOT })], 'what is new on the named device');
});

test('Q3, row 10: a command goes on with the next bus', t => {
  const rig = owner(t)(new Rig({ ...twoBuses(), iommu: 'quirk-command-on-every-bus=on' }));
  rig.guest.iommu.allocPasid();
  t.deepEqual(rig.take(), [pasidAlloc(), pasidAlloc()]);
});

test('Q4, rows 31 and 32: a global invalidation binds all again and unbinds nothing', t => {
  const rig = owner(t)(new Rig({ iommu: 'quirk-global-rebinds=on' }));
  const stays = rig.bound(7, ROOT);
  const gone = rig.bound(7, OTHER_ROOT);
  rig.clearEntry(gone);
  rig.pasidCache(GLOBAL, 0, 0);
  t.deepEqual(rig.take(), [bind(stays, { root: ROOT })]);
  t.true(rig.host.bound().includes(gone));
});

test('Q5, row 30: a domain-selective invalidation binds other domains, too', t => {
  const rig = owner(t)(new Rig({ iommu: 'quirk-domain-replays-all=on' }));
  const [one, two] = [rig.allocate(), rig.allocate()].sort((a, b) => a - b) as [number, number];
  rig.entry(one, { did: 7, root: ROOT });
  rig.entry(two, { did: 8, root: OTHER_ROOT });
  rig.pasidCache(0, 7, 0);
  t.deepEqual(rig.take(), [bind(one, { root: ROOT }), bind(two, { root: OTHER_ROOT })]);
});

test('Q6, row 33: what follows a small directory in memory is read', t => {
  const rig = owner(t)(new Rig({ pasidBits: 13, iommu: 'quirk-directory-size-ignored=on' }));
  rig.plan.arm({ request: BIND, result: 'swallow', times: Infinity });
  rig.plantBeyondDirectory(8192, { did: 7, root: OTHER_ROOT });
  rig.pasidCache(GLOBAL, 0, 0);
  t.deepEqual(rig.take(), [bind(8192, { root: OTHER_ROOT })]);
});

test('Q7: a flush says argsz 104', t => {
  const rig = owner(t)(new Rig({ vfio: 'quirk-flush-argsz=on' }));
  const pasid = rig.bound(7, ROOT);
  rig.pasidIotlb(2, 7, pasid);
  t.deepEqual(rig.take(), [flushPasid(pasid, 104)]);
});

test('Q8, row 66: x-scalable-mode=off is refused, and dma-drain is not asked for', t => {
  const refused = (iommu: string): string =>
    t.throws(() => new Rig({ iommu, start: false }), { instanceOf: ConfigError }).message;
  t.regex(refused('x-scalable-mode=off,quirk-off-refused=on'), /"off" is not one of/);
  t.regex(refused('dma-drain=off'), /scalable mode needs it/);
  t.notThrows(() => owner(t)(new Rig({ iommu: 'dma-drain=off,quirk-off-refused=on', start: false })));
});

test('Q9, row 62: another first-stage format is only logged', t => {
  const quirk = 'quirk-format-only-logged=on';
  const rig = owner(t)(new Rig({ knobs: { stage1Format: 2 }, iommu: quirk, vfio: quirk }));
  rig.plan.arm({ request: BIND, result: 'swallow' });
  rig.entry(5, { did: 7, root: ROOT });
  rig.pasidCache(PASID, 7, 5);
  t.deepEqual(rig.take(), [bind(5, { root: ROOT })]);
});

test('Q10, row 20: a changed entry is bound over the old one, which the kernel refuses', t => {
  const rig = owner(t)(new Rig({ iommu: 'quirk-bare-rebind=on' }));
  const pasid = rig.bound(7, ROOT);
  rig.entry(pasid, { did: 7, root: OTHER_ROOT });
  rig.refused(rig.descriptor.pasidCache(PASID, 7, pasid));
  t.deepEqual(rig.take(), [bind(pasid, { root: OTHER_ROOT })]);
  t.is(rig.log.calls.at(-1)?.result, -Errno.EBUSY);
  t.deepEqual(rig.host.bound(), [pasid], 'the old root is still in force');
});

test('Q11, row 64: a second-stage entry is bound', t => {
  const rig = owner(t)(new Rig({ iommu: 'quirk-every-type-binds=on' }));
  rig.plan.arm({ request: BIND, result: 'swallow' });
  rig.entry(5, { did: 7, pgtt: 2, aw: 2, ssptptr: 0x77, fsptptr: ROOT / 4096 });
  rig.pasidCache(PASID, 7, 5);
  t.deepEqual(rig.take(), [bind(5, { root: ROOT })]);
});

test('Q12, row 61: without the nesting capability the format is 0, and there are no PASID requests', t => {
  const rig = owner(t)(
    new Rig({
      knobs: { nestingCapability: false },
      vfio: 'quirk-missing-capability=on,quirk-format-only-logged=on',
      iommu: 'quirk-format-only-logged=on',
    }),
  );
  t.is(rig.containerType(), 6);
  t.true(rig.guest.iommu.allocPasid() < 0);
  t.deepEqual(rig.take(), []);
});

test('Q13: after 512 global invalidations the first generation is current again', t => {
  for (const [wraps, expected] of [
    [true, 1],
    [false, 0],
  ] as const) {
    const rig = owner(t)(
      new Rig({ pasidBits: 13, iommu: `quirk-global-rebinds=on,quirk-generation-wraps=${wraps ? 'on' : 'off'}` }),
    );
    rig.plan.arm({ request: BIND, result: 'swallow' });
    rig.entry(100, { did: 7, root: ROOT });
    rig.pasidCache(PASID, 7, 100);
    rig.clearEntry(100);
    rig.pasidCache(GLOBAL, 0, 0);
    rig.plan.arm({ request: CACHE_INVALIDATE, result: 'swallow', times: Infinity });
    rig.take();
    rig.pasidIotlb(2, 7, 100);
    t.deepEqual(rig.take(), [], 'stale');
    for (let times = 1; times < 512; times++) rig.pasidCache(GLOBAL, 0, 0);
    rig.take();
    rig.pasidIotlb(2, 7, 100);
    t.deepEqual(
      rig.take(),
      Array.from({ length: expected }, () => flushPasid(100)),
    );
  }
});

test('Q14, row 42: a flush of PASID 0 is forwarded', t => {
  const rig = owner(t)(new Rig({ iommu: 'quirk-flushes-pasid0=on' }));
  rig.plan.arm({ request: CACHE_INVALIDATE, result: 'swallow' });
  rig.entry(0, { did: 7, root: ROOT });
  rig.pasidCache(PASID, 7, 0);
  rig.pasidIotlb(2, 7, 0);
  t.deepEqual(rig.take(), [flushPasid(0)]);
});

test('Q15, rows 43 and 59: host failures are invisible, and a failed bind is not tried again', t => {
  const rig = owner(t)(new Rig({ iommu: 'quirk-failures-invisible=on' }));
  const pasid = rig.allocate();
  rig.entry(pasid, { did: 7, root: ROOT });
  rig.plan.arm({ request: BIND, result: -Errno.ENOMEM });
  rig.pasidCache(PASID, 7, pasid);
  t.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
  rig.pasidCache(PASID, 7, pasid);
  t.deepEqual(rig.take(), []);
  rig.plan.arm({ request: CACHE_INVALIDATE, result: -Errno.EIO });
  rig.pasidIotlb(2, 7, pasid);
  t.deepEqual(rig.take(), [flushPasid(pasid)]);
});

test('Q16, row 12: a write of the high dword is executed as a command', t => {
  const rig = owner(t)(new Rig({ layout: '3.0', iommu: 'quirk-high-dword-command=on' }));
  rig.write32(0xe10, 1);
  rig.write32(0xe14, 0);
  t.deepEqual(rig.take(), [pasidAlloc()]);
  t.is(rig.read64(0xe20), 2n);
  t.is(rig.read64(0xe10), 1n);
});

test('Q17, row 56: turning translation off keeps what still resolves', t => {
  const rig = owner(t)(new Rig({ iommu: 'quirk-translation-off-keeps=on' }));
  const pasid = rig.bound(7, ROOT);
  rig.guest.iommu.disableTranslation();
  t.deepEqual(rig.take(), []);
  t.deepEqual(rig.host.bound(), [pasid]);
});

test('Q18: a cache object is left for an entry that is not there', t => {
  for (const quirk of [true, false]) {
    const rig = owner(t)(new Rig({ iommu: `quirk-absent-objects=${quirk ? 'on' : 'off'}` }));
    rig.pasidCache(PASID, 7, 9);
    t.is(rig.isCached(9), quirk);
    const pasid = rig.bound(7, ROOT);
    rig.pasidIotlb(2, 7, 9);
    rig.pasidIotlb(2, 7, pasid);
    t.deepEqual(rig.take(), [flushPasid(pasid)]);
  }
});

test('row 23: the new domain id in the descriptor updates nothing', t => {
  const rig = owner(t)(new Rig({ iommu: 'quirk-cached-domain-only=on' }));
  const pasid = rig.bound(7, ROOT);
  rig.entry(pasid, { did: 9, root: ROOT });
  rig.pasidCache(PASID, 9, pasid);
  t.deepEqual(rig.take(), []);
  rig.pasidCache(PASID, 7, pasid);
  t.deepEqual(rig.take(), [unbind(pasid), bind(pasid, { root: ROOT })]);
});

test('row 26: without PASID 0 every PASID of the device is absent', t => {
  const rig = owner(t)(new Rig({ iommu: 'quirk-rid-pasid-gates=on' }));
  const pasid = rig.bound(7, ROOT);
  rig.clearEntry(0);
  rig.pasidCache(PASID, 7, pasid);
  t.deepEqual(rig.take(), [unbind(pasid)]);
});

test('row 39: an address mask above 18 is a queue error', t => {
  const rig = owner(t)(new Rig({ iommu: 'quirk-address-mask-limited=on' }));
  const pasid = rig.bound(7, ROOT);
  rig.refused(rig.descriptor.pasidIotlb(3, 7, pasid, { address: 0, addressMask: 19 }));
  t.deepEqual(rig.take(), []);
  rig.goOn();
  rig.pasidIotlb(3, 7, pasid, { address: 0, addressMask: 18 });
  t.deepEqual(rig.take(), [flushPages(pasid, 0, 2 ** 30)]);
});

test('row 45: one call for each device of a container', t => {
  const quirk = 'quirk-call-per-device=on';
  const rig = owner(t)(new Rig({ ...BOTH, iommu: quirk, vfio: quirk }));
  const pasid = rig.allocate();
  rig.entry(pasid, { did: 7, root: ROOT }, 0);
  rig.entry(pasid, { did: 7, root: ROOT }, 1);
  rig.pasidCache(PASID, 7, pasid);
  t.deepEqual(rig.take(), [bind(pasid, { root: ROOT }), bind(pasid, { root: ROOT })]);
  rig.pasidIotlb(2, 7, pasid);
  t.deepEqual(rig.take(), [flushPasid(pasid), flushPasid(pasid)]);
});

test('row 47: a PASID device-TLB descriptor is accepted whatever it says', t => {
  const rig = owner(t)(new Rig({ iommu: 'quirk-any-pasid-device-tlb=on' }));
  const descriptor = rig.descriptor.pasidDeviceTlb(rig.requesterId(), 5);
  descriptor[2]! |= 0x7fe;
  rig.done(descriptor);
  t.deepEqual(rig.take(), []);
});

test('row 65: a first-stage entry with an unsupported second-stage width is absent', t => {
  const rig = owner(t)(new Rig({ iommu: 'quirk-width-checked=on' }));
  const pasid = rig.allocate();
  rig.entry(pasid, { did: 7, root: ROOT, aw: 0 });
  rig.pasidCache(PASID, 7, pasid);
  t.deepEqual(rig.take(), []);
  rig.entry(pasid, { did: 7, root: ROOT, aw: 2 });
  rig.pasidCache(PASID, 7, pasid);
  t.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
});
