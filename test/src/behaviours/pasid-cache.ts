/** Behaviours 13 to 35: PASID-cache invalidations become binds and unbinds [A11 - A17]. */
import assert from 'node:assert/strict';
import type { Rig } from '../rig/rig.js';
import { OTHER_ROOT, ROOT, type Behaviour, type MakeRig } from './behaviour.js';
import { BIND, bind, unbind } from './host-bytes.js';

/** PASID-cache granularities. */
const DOMAIN = 0;
const PASID = 1;
const GLOBAL = 3;

/** A rig whose host takes whatever first stage it is given: what it is handed is the question, not whether its unit can do it. */
function willing(make: MakeRig): Rig {
  const rig = make();
  rig.plan.arm({ request: BIND, result: 'swallow', times: Infinity });
  return rig;
}

export const pasidCacheBehaviours: readonly Behaviour[] = [
  {
    number: 13,
    title: 'a new entry is bound',
    run(make) {
      const rig = make();
      const pasid = rig.allocate();
      rig.entry(pasid, { did: 7, root: ROOT });
      assert.deepEqual(rig.take(), [], 'writing the entry alone tells nobody');
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
      assert.deepEqual(rig.host.bound(), [pasid]);
    },
  },
  {
    number: 14,
    title: 'five levels: address width 57',
    run(make) {
      const rig = willing(make);
      const pasid = rig.allocate();
      rig.entry(pasid, { did: 7, root: ROOT, fspm: 1 });
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT, width: 57 })]);
    },
  },
  {
    number: 15,
    title: 'each attribute has its own flag',
    run(make) {
      const flags = { sre: 1, eafe: 2, pcd: 4, pwt: 8, emte: 16, cd: 32 };
      for (const [attribute, flag] of Object.entries(flags)) {
        const rig = willing(make);
        const pasid = rig.allocate();
        rig.entry(pasid, { did: 7, root: ROOT, [attribute]: 1 });
        rig.pasidCache(PASID, 7, pasid);
        assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT, flags: flag })], attribute);
      }
    },
  },
  {
    number: 16,
    title: 'PAT and EMT are passed on',
    run(make) {
      const rig = willing(make);
      const pasid = rig.allocate();
      rig.entry(pasid, { did: 7, root: ROOT, pat: 0x8765_4321, emt: 6 });
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT, pat: 0x8765_4321, emt: 6 })]);
    },
  },
  {
    number: 17,
    title: 'an entry that did not change is not bound again',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), []);
      rig.entry(pasid, { did: 7, root: OTHER_ROOT });
      rig.pasidCache(PASID, 7, pasid);
      assert.equal(rig.take().length, 2);
    },
  },
  {
    number: 18,
    title: 'a new entry of another domain than the descriptor names is not bound',
    run(make) {
      const rig = make();
      const pasid = rig.allocate();
      rig.entry(pasid, { did: 7, root: ROOT });
      rig.pasidCache(PASID, 8, pasid);
      assert.deepEqual(rig.take(), []);
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
    },
  },
  {
    number: 19,
    title: 'a new entry of another PASID than the descriptor names is not bound',
    run(make) {
      const rig = make();
      const pasid = rig.allocate();
      const other = rig.allocate();
      rig.entry(pasid, { did: 7, root: ROOT });
      rig.pasidCache(PASID, 7, other);
      assert.deepEqual(rig.take(), []);
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
    },
  },
  {
    number: 20,
    title: 'a changed root: unbound, then bound',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.entry(pasid, { did: 7, root: OTHER_ROOT });
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [unbind(pasid), bind(pasid, { root: OTHER_ROOT })]);
      assert.deepEqual(rig.host.bound(), [pasid]);
    },
  },
  {
    number: 21,
    title: 'an entry that vanished is unbound',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.clearEntry(pasid);
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [unbind(pasid)]);
      assert.deepEqual(rig.host.bound(), []);
    },
  },
  {
    number: 22,
    title: 'another domain id, and the descriptor names the old one',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.entry(pasid, { did: 9, root: ROOT });
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [unbind(pasid), bind(pasid, { root: ROOT })]);
    },
  },
  {
    number: 23,
    title: 'another domain id, and the descriptor names the new one',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.entry(pasid, { did: 9, root: ROOT });
      rig.pasidCache(PASID, 9, pasid);
      assert.deepEqual(rig.take(), [unbind(pasid), bind(pasid, { root: ROOT })]);
    },
  },
  {
    number: 24,
    title: 'a directory entry that vanished takes its PASIDs along',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.clearDirectoryEntry(pasid);
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [unbind(pasid)]);
    },
  },
  {
    number: 25,
    title: 'a context entry that vanished takes its PASIDs along',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.guest.iommu.clearContextEntry(rig.requesterId());
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [unbind(pasid)]);
    },
  },
  {
    number: 26,
    title: "PASID 0's entry does not matter to others; PASIDE does (decisions)",
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.clearEntry(0);
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), []);
      rig.guest.iommu.contextEntry(rig.requesterId(), { paside: 0 });
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [unbind(pasid)]);
    },
  },
  {
    number: 27,
    title: 'PASID 0 is not bound',
    run(make) {
      const rig = make();
      rig.entry(0, { did: 7, root: ROOT });
      rig.pasidCache(PASID, 7, 0);
      assert.deepEqual(rig.take(), []);
      assert.ok(rig.isCached(0), 'the cache has it nevertheless');
      rig.bound(7, ROOT);
    },
  },
  {
    number: 28,
    title: 'PASID 0 is not unbound',
    run(make) {
      const rig = make();
      rig.pasidCache(GLOBAL, 0, 0);
      assert.ok(rig.isCached(0));
      rig.clearEntry(0);
      rig.pasidCache(PASID, 1, 0);
      assert.deepEqual(rig.take(), []);
      assert.ok(!rig.isCached(0));
      rig.bound(7, ROOT);
    },
  },
  {
    number: 29,
    title: 'a domain-selective invalidation binds all that is new, in PASID order',
    run(make) {
      const rig = make();
      const pasids = [rig.allocate(), rig.allocate(), rig.allocate()].sort((a, b) => a - b);
      for (const [index, pasid] of [...pasids].reverse().entries())
        rig.entry(pasid, { did: 7, root: ROOT + index * 4096 });
      rig.pasidCache(DOMAIN, 7, 0);
      assert.deepEqual(
        rig.take(),
        pasids.map((pasid, index) => bind(pasid, { root: ROOT + (2 - index) * 4096 })),
      );
    },
  },
  {
    number: 30,
    title: 'a domain-selective invalidation leaves other domains alone',
    run(make) {
      const rig = make();
      const [one, two, three] = [rig.allocate(), rig.allocate(), rig.allocate()].sort((a, b) => a - b) as [
        number,
        number,
        number,
      ];
      rig.entry(one, { did: 7, root: ROOT });
      rig.entry(two, { did: 8, root: ROOT });
      rig.entry(three, { did: 7, root: OTHER_ROOT });
      rig.pasidCache(DOMAIN, 7, 0);
      assert.deepEqual(rig.take(), [bind(one, { root: ROOT }), bind(three, { root: OTHER_ROOT })]);
    },
  },
  {
    number: 31,
    title: 'a global invalidation with nothing changed',
    run(make) {
      const rig = make();
      const pasid = rig.bound(7, ROOT);
      rig.pasidCache(GLOBAL, 0, 0);
      assert.deepEqual(rig.take(), []);
      rig.entry(pasid, { did: 7, root: OTHER_ROOT });
      rig.pasidCache(GLOBAL, 0, 0);
      assert.deepEqual(rig.take(), [unbind(pasid), bind(pasid, { root: OTHER_ROOT })]);
    },
  },
  {
    number: 32,
    title: 'a global invalidation unbinds what vanished',
    run(make) {
      const rig = make();
      const gone = rig.bound(7, ROOT);
      const stays = rig.bound(8, OTHER_ROOT);
      rig.clearEntry(gone);
      rig.pasidCache(GLOBAL, 0, 0);
      assert.deepEqual(rig.take(), [unbind(gone)]);
      assert.deepEqual(rig.host.bound(), [stays]);
    },
  },
  {
    number: 33,
    title: 'a small directory is not read beyond its end',
    run(make) {
      const rig = make({ pasidBits: 13 });
      rig.plan.arm({ request: BIND, result: 'swallow', times: Infinity });
      const inside = 8191;
      rig.entry(inside, { did: 7, root: ROOT });
      rig.plantBeyondDirectory(8192, { did: 7, root: OTHER_ROOT });
      rig.pasidCache(GLOBAL, 0, 0);
      assert.deepEqual(rig.take(), [bind(inside, { root: ROOT })]);
    },
  },
  {
    number: 34,
    title: 'granularity 2 is a queue error',
    run(make) {
      const rig = make();
      const pasid = rig.allocate();
      rig.entry(pasid, { did: 7, root: ROOT });
      rig.refused(rig.descriptor.pasidCache(2, 7, pasid));
      assert.deepEqual(rig.take(), []);
      rig.goOn();
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
    },
  },
  {
    number: 35,
    title: 'reserved bits are a queue error',
    run(make) {
      const rig = make();
      const pasid = rig.allocate();
      rig.entry(pasid, { did: 7, root: ROOT });
      for (const [word, bit] of [
        [0, 6],
        [0, 15],
        [1, 20],
        [1, 31],
        [2, 0],
        [3, 31],
        [4, 0],
        [7, 31],
      ] as const) {
        const descriptor = rig.descriptor.pasidCache(PASID, 7, pasid);
        descriptor[word]! |= 1 << bit;
        rig.refused(descriptor);
        assert.deepEqual(rig.take(), [], `bit ${bit} of word ${word}`);
        rig.goOn();
      }
      rig.pasidCache(PASID, 7, pasid);
      assert.deepEqual(rig.take(), [bind(pasid, { root: ROOT })]);
    },
  },
];
