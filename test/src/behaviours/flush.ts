/** Behaviours 36 to 48: PASID-IOTLB and PASID device-TLB invalidations [A18 - A21]. */
import assert from 'node:assert/strict';
import { Errno } from '@remora/core';
import { OTHER_ROOT, ROOT, type Behaviour } from './behaviour.js';
import { bind, CACHE_INVALIDATE, flushPages, flushPasid, unbind } from './host-bytes.js';

/** PASID-IOTLB granularities. */
const WHOLE_PASID = 2;
const PAGES = 3;

export const flushBehaviours: readonly Behaviour[] = [
  {
    number: 36,
    title: 'all of a PASID is flushed',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.pasidIotlb(WHOLE_PASID, 7, pasid);
      assert.deepEqual(rig.take(), [flushPasid(pasid)]);
    },
  },
  {
    number: 37,
    title: 'one page is flushed',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.pasidIotlb(PAGES, 7, pasid, { address: 0x7000 });
      assert.deepEqual(rig.take(), [flushPages(pasid, 0x7000, 4096)]);
    },
  },
  {
    number: 38,
    title: '512 pages, leaves only; an unaligned address is aligned first (decisions)',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.pasidIotlb(PAGES, 7, pasid, { address: 0x40_0000, addressMask: 9, leaf: true });
      assert.deepEqual(rig.take(), [flushPages(pasid, 0x40_0000, 0x20_0000, true)]);
      rig.pasidIotlb(PAGES, 7, pasid, { address: 0x40_3000, addressMask: 9 });
      assert.deepEqual(rig.take(), [flushPages(pasid, 0x40_0000, 0x20_0000)]);
    },
  },
  {
    number: 39,
    title: 'large address masks are computed in 64 bits, and clipped to the address width',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.pasidIotlb(PAGES, 7, pasid, { address: 0x1_8000_0000, addressMask: 19 });
      assert.deepEqual(rig.take(), [flushPages(pasid, 0x1_8000_0000, 0x8000_0000)]);
      rig.pasidIotlb(PAGES, 7, pasid, { address: 0x7000, addressMask: 63 });
      assert.deepEqual(rig.take(), [flushPages(pasid, 0, 2 ** 48)]);
    },
  },
  {
    number: 40,
    title: 'a flush of another domain is not forwarded',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.pasidIotlb(WHOLE_PASID, 8, pasid);
      rig.pasidIotlb(PAGES, 8, pasid, { address: 0x7000 });
      assert.deepEqual(rig.take(), []);
      rig.pasidIotlb(WHOLE_PASID, 7, pasid);
      assert.deepEqual(rig.take(), [flushPasid(pasid)]);
    },
  },
  {
    number: 41,
    title: 'a flush of a PASID that is not bound is not forwarded, and succeeds',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      const unbound = rig.allocate();
      rig.entry(unbound, { did: 7, root: OTHER_ROOT });
      rig.pasidIotlb(WHOLE_PASID, 7, unbound);
      assert.deepEqual(rig.take(), []);
      rig.pasidIotlb(WHOLE_PASID, 7, pasid);
      assert.deepEqual(rig.take(), [flushPasid(pasid)]);
    },
  },
  {
    number: 42,
    title: 'a flush of PASID 0 stays in the vIOMMU (decisions)',
    run(make) {
      const rig = make();
      rig.entry(0, { did: 7, root: ROOT });
      rig.pasidCache(1, 7, 0);
      rig.pasidIotlb(WHOLE_PASID, 7, 0);
      assert.deepEqual(rig.take(), []);
      const pasid = rig.bound(7, ROOT);
      rig.pasidIotlb(WHOLE_PASID, 7, pasid);
      assert.deepEqual(rig.take(), [flushPasid(pasid)]);
    },
  },
  {
    number: 43,
    title: 'a flush that the host refuses is a queue error at its descriptor (decisions)',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.plan.arm({ request: CACHE_INVALIDATE, result: -Errno.EIO });
      rig.refused(rig.descriptor.pasidIotlb(WHOLE_PASID, 7, pasid));
      assert.deepEqual(rig.take(), [flushPasid(pasid)]);
      rig.goOn();
      rig.pasidIotlb(WHOLE_PASID, 7, pasid);
      assert.deepEqual(rig.take(), [flushPasid(pasid)]);
    },
  },
  {
    number: 44,
    title: 'granularities 0 and 1, and reserved bits, are queue errors',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      for (const granularity of [0, 1]) {
        rig.refused(rig.descriptor.pasidIotlb(granularity, 7, pasid));
        rig.goOn();
      }
      for (const bit of [7, 8, 9, 10, 11]) {
        const descriptor = rig.descriptor.pasidIotlb(PAGES, 7, pasid, { address: 0x7000 });
        descriptor[2]! |= 1 << bit;
        rig.refused(descriptor);
        rig.goOn();
      }
      assert.deepEqual(rig.take(), []);
      rig.pasidIotlb(WHOLE_PASID, 7, pasid);
      assert.deepEqual(rig.take(), [flushPasid(pasid)]);
    },
  },
  {
    number: 45,
    title: 'one PASID on two devices of one container: one call each way (decisions)',
    run(make) {
      const rig = make({ functions: [{ addr: '03.0' }, { addr: '04.0' }] });
      const pasid = rig.allocate();
      rig.entry(pasid, { did: 7, root: ROOT }, 0);
      rig.entry(pasid, { did: 7, root: ROOT }, 1);
      rig.pasidCache(1, 7, pasid);
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
      rig.pasidIotlb(WHOLE_PASID, 7, pasid);
      assert.deepEqual(rig.take(), [flushPasid(pasid)]);
      rig.clearEntry(pasid, 0);
      rig.pasidCache(1, 7, pasid);
      assert.deepEqual(rig.take(), [], 'the other device still uses it');
      rig.clearEntry(pasid, 1);
      rig.pasidCache(1, 7, pasid);
      assert.deepEqual(rig.take(), [unbind(pasid)]);
    },
  },
  {
    number: 46,
    title: 'one PASID on two devices in two containers: one call on each',
    run(make) {
      const rig = make({
        functions: [
          { addr: '03.0', container: 'new' },
          { addr: '04.0', container: 'new' },
        ],
      });
      const pasid = rig.allocate();
      rig.entry(pasid, { did: 7, root: ROOT }, 0);
      rig.entry(pasid, { did: 7, root: ROOT }, 1);
      rig.pasidCache(1, 7, pasid);
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT }), bind(pasid, { root: ROOT })]);
      rig.pasidIotlb(WHOLE_PASID, 7, pasid);
      assert.equal(new Set(rig.descriptorsOf(CACHE_INVALIDATE)).size, 2, 'two container fds');
      assert.deepEqual(rig.take(), [flushPasid(pasid), flushPasid(pasid)]);
    },
  },
  {
    number: 47,
    title: 'a PASID device-TLB flush reaches no host',
    run(make) {
      const rig = make({ iommu: 'device-iotlb=on' });
      const pasid = rig.bound(7, ROOT);
      rig.done(rig.descriptor.pasidDeviceTlb(rig.requesterId(), pasid));
      assert.deepEqual(rig.take(), []);
      rig.pasidIotlb(WHOLE_PASID, 7, pasid);
      assert.deepEqual(rig.take(), [flushPasid(pasid)]);
    },
  },
  {
    number: 48,
    title: 'a PASID device-TLB flush without device TLBs is a queue error',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.refused(rig.descriptor.pasidDeviceTlb(rig.requesterId(), pasid));
      assert.deepEqual(rig.take(), []);
      rig.goOn();
      rig.pasidIotlb(WHOLE_PASID, 7, pasid);
      assert.deepEqual(rig.take(), [flushPasid(pasid)]);
    },
  },
];
