/** Behaviours 49 to 68: context invalidations, pointers, resets, unplug, failures, hosts and options. */
import assert from 'node:assert/strict';
import { ConfigError, Errno } from '@remora/core';
import { OTHER_ROOT, ROOT, type Behaviour } from './behaviour.js';
import { bind, BIND, CACHE_INVALIDATE, flushPasid, pasidFree, unbind, type HostCall } from './host-bytes.js';

/** Context-cache granularities. */
const GLOBAL = 1;
const DOMAIN = 2;
const DEVICE = 3;
/** PASID-cache granularity. */
const PASID = 1;

function sorted(calls: readonly HostCall[]): HostCall[] {
  return [...calls].sort((a, b) => a.request - b.request || a.bytes.localeCompare(b.bytes));
}

export const lifecycleBehaviours: readonly Behaviour[] = [
  {
    number: 49,
    title: 'a global context invalidation binds what is new, without a PASID-cache descriptor',
    run(make) {
      const rig = make();
      const pasid = rig.allocate();
      rig.entry(pasid, { did: 7, root: ROOT });
      rig.contextCache(GLOBAL);
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
    },
  },
  {
    number: 50,
    title: 'a domain-selective context invalidation does, too',
    run(make) {
      const rig = make();
      const pasid = rig.allocate();
      rig.entry(pasid, { did: 7, root: ROOT });
      rig.contextCache(DOMAIN, 3);
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
    },
  },
  {
    number: 51,
    title: 'a device-selective context invalidation unbinds what vanished from that device',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.clearEntry(pasid);
      rig.contextCache(DEVICE, 0, rig.requesterId() + 8, 0);
      assert.deepEqual(rig.take(), [], 'another device');
      rig.contextCache(DEVICE, 0, rig.requesterId(), 0);
      assert.deepEqual(rig.take(), [unbind(pasid)]);
    },
  },
  {
    number: 52,
    title: 'a function mask takes all functions of the slot',
    run(make) {
      const rig = make({
        functions: [
          { addr: '03.0', container: 'new' },
          { addr: '03.1', container: 'new' },
        ],
      });
      const pasid = rig.allocate();
      rig.entry(pasid, { did: 7, root: ROOT }, 0);
      rig.entry(pasid, { did: 7, root: OTHER_ROOT }, 1);
      rig.contextCache(DEVICE, 0, rig.requesterId(0), 3);
      assert.deepEqual(sorted(rig.take()), sorted([bind(pasid, { root: ROOT }), bind(pasid, { root: OTHER_ROOT })]));
      rig.clearEntry(pasid, 0);
      rig.clearEntry(pasid, 1);
      rig.contextCache(DEVICE, 0, rig.requesterId(1), 0);
      assert.deepEqual(rig.take(), [unbind(pasid)], 'without a mask, one');
    },
  },
  {
    number: 53,
    title: 'an emulated device reaches no host',
    run(make) {
      const rig = make({ functions: [], extra: ['dma-engine,addr=03.0'] });
      rig.entry(5, { did: 7, root: ROOT });
      rig.pasidCache(PASID, 7, 5);
      rig.pasidCache(3, 0, 0);
      rig.contextCache(GLOBAL);
      rig.pasidIotlb(2, 7, 5);
      assert.deepEqual(rig.take(), []);
      make().bound(7, ROOT);
    },
  },
  {
    number: 54,
    title: 'a system reset unbinds all, then frees the PASIDs that the guest had',
    run(make) {
      const rig = make();
      const one = rig.bound(7, ROOT);
      const two = rig.bound(7, OTHER_ROOT);
      const idle = rig.allocate();
      rig.machine.reset();
      const calls = rig.take();
      assert.deepEqual(sorted(calls.slice(0, 2)), sorted([unbind(one), unbind(two)]));
      assert.deepEqual(sorted(calls.slice(2)), sorted([pasidFree(one), pasidFree(two), pasidFree(idle)]));
      assert.deepEqual(rig.host.bound(), []);
      assert.deepEqual(rig.host.pasids(), []);
      assert.ok(!rig.isCached(one));
    },
  },
  {
    number: 55,
    title: 'an empty root table unbinds all',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.setRoot(rig.guest.page(), true);
      assert.deepEqual(rig.take(), [unbind(pasid)]);
    },
  },
  {
    number: 56,
    title: 'turning translation off unbinds all; turning it on binds again',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.guest.iommu.disableTranslation();
      assert.deepEqual(rig.take(), [unbind(pasid)]);
      rig.guest.iommu.enableTranslation();
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
    },
  },
  {
    number: 57,
    title: 'a root table in legacy mode unbinds all, and nothing is bound from then on',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.setRoot(rig.guest.iommu.tables.rootFrame, false);
      assert.deepEqual(rig.take(), [unbind(pasid)]);
      rig.setRoot(rig.guest.iommu.tables.rootFrame, true);
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
    },
  },
  {
    number: 58,
    title: 'unplugging a device unbinds and frees; later invalidations reach nobody (decisions)',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.machine.unplug(rig.deviceId());
      assert.deepEqual(rig.take(), [unbind(pasid), pasidFree(pasid)]);
      rig.clearEntry(pasid);
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), []);
      assert.ok(!rig.isCached(pasid));
    },
  },
  {
    number: 59,
    title: 'a bind that the host refuses is a queue error, and tried again when the guest goes on (decisions)',
    run(make) {
      const rig = make();
      const pasid = rig.allocate();
      rig.entry(pasid, { did: 7, root: ROOT });
      rig.plan.arm({ request: BIND, result: -Errno.ENOMEM });
      rig.refused(rig.descriptor.pasidCache(PASID, 7, pasid));
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
      assert.ok(!rig.isCached(pasid));
      rig.clearError();
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
      assert.deepEqual(rig.host.bound(), [pasid]);
    },
  },
  {
    number: 60,
    title: 'a host without the uAPI: type1v2, no context, no bind',
    run(make) {
      for (const nestingUapiVersion of [0, -Errno.EINVAL]) {
        const rig = make({ knobs: { nestingUapiVersion } });
        assert.equal(rig.containerType(), 3, 'VFIO_TYPE1v2_IOMMU');
        rig.entry(5, { did: 7, root: ROOT });
        rig.pasidCache(PASID, 7, 5);
        assert.deepEqual(rig.take(), []);
      }
      make().bound(7, ROOT);
    },
  },
  {
    number: 61,
    title: 'a nesting host without the nesting capability is refused',
    run(make) {
      assert.throws(() => make({ knobs: { nestingCapability: false } }), problem('nesting capability'));
      make().bound(7, ROOT);
    },
  },
  {
    number: 62,
    title: 'another first-stage format is refused',
    run(make) {
      assert.throws(() => make({ knobs: { stage1Format: 2 } }), problem('first-stage format is 2'));
      make().bound(7, ROOT);
    },
  },
  {
    number: 63,
    title: 'a second-stage IOTLB invalidation makes no nesting call',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      for (const granularity of [GLOBAL, DOMAIN, DEVICE]) {
        rig.done(rig.descriptor.iotlb(granularity, 7));
        assert.deepEqual(rig.take(), []);
      }
      rig.pasidIotlb(2, 7, pasid);
      assert.deepEqual(rig.take(), [flushPasid(pasid)]);
      assert.equal(CACHE_INVALIDATE, 0x3b7c);
    },
  },
  {
    number: 64,
    title: 'a second-stage entry is not bound',
    run(make) {
      const rig = make();
      const pasid = rig.allocate();
      rig.entry(pasid, { did: 7, pgtt: 2, aw: 2, ssptptr: 0x1234 });
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), []);
      rig.entry(pasid, { did: 7, root: ROOT });
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
      rig.entry(pasid, { did: 7, pgtt: 4 });
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [unbind(pasid)], 'from first stage to pass-through');
    },
  },
  {
    number: 65,
    title: 'the second-stage width of a first-stage entry does not matter (decisions)',
    run(make) {
      const rig = make();
      for (const aw of [0, 1, 7]) {
        const pasid = rig.allocate();
        rig.entry(pasid, { did: 7, root: ROOT, aw });
        rig.pasidCache(PASID, 7, pasid);
        assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
      }
    },
  },
  {
    number: 66,
    title: 'x-scalable-mode=off is accepted',
    run(make) {
      const rig = make({ iommu: 'x-scalable-mode=off,caching-mode=on', start: false });
      assert.equal(rig.read64(ECAP) & SMTS, 0n);
      assert.equal(make({ start: false }).read64(ECAP) & SMTS, SMTS);
      make().bound(7, ROOT);
    },
  },
  {
    number: 67,
    title: 'x-scalable-mode=Modern is refused',
    run(make) {
      const expected = problem('"Modern" is not one of off, on, legacy, modern');
      assert.throws(() => make({ iommu: 'x-scalable-mode=Modern' }), expected);
      assert.throws(() => make({ iommu: 'x-scalable-mode=' }), problem('"" is not one of off, on, legacy, modern'));
      make().bound(7, ROOT);
    },
  },
  {
    number: 68,
    title: 'ECAP of the modes of the RFC',
    run(make) {
      const modern = make({ iommu: 'pt=off', start: false });
      assert.equal(modern.read64(ECAP), 0x9998_8000_0f02n);
      assert.equal(
        make({ iommu: 'x-scalable-mode=legacy,caching-mode=on,pt=off', start: false }).read64(ECAP),
        0x4800_8000_0f02n,
      );
      assert.equal(make({ start: false }).read64(ECAP), 0x9998_8000_0f42n);
      make().bound(7, ROOT);
    },
  },
];

const ECAP = 0x10;
const SMTS = 1n << 43n;

function problem(text: string): (error: unknown) => boolean {
  return error => error instanceof ConfigError && error.message.includes(text);
}
