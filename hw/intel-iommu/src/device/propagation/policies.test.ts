/** Hosts that know policies: PASID 0 stands for requests without PASID, and what no first stage translates is said to the host. */
import test from 'ava';
import { Errno, StateError, StateReader, StateWriter } from '@remora/core';
import { HostIommuFlag, type HostPolicy } from '@remora/iommu';
import { Fsts, PasidCacheDescriptor, PasidEntry, PasidIotlbDescriptor, Pgtt, Reg } from '../../spec/index.js';
import { DID, RID } from '../bench.test.helper.js';
import { type Hosted, hosted, PASID, ScriptedContext } from './hosted-bench.test.helper.js';

const SLOT = 32;
/** Of a second function, beside RID's. */
const DEVFN = (RID & 0xff) + 1;

class PolicyContext extends ScriptedContext {
  override flags: number = HostIommuFlag.NESTING | HostIommuFlag.PASID_0;
  /** Result of the next calls of withoutStage1. */
  answer = 0;

  withoutStage1(_user: number, pasid: number, policy: HostPolicy): number {
    this.calls.push(`${policy} ${pasid}`);
    return this.answer;
  }
}

interface Bench extends Hosted {
  readonly policies: PolicyContext;
  /** Puts an entry at a PASID, or takes it away, and tells the unit. */
  enter(pasid: number, type: number | undefined): void;
  /** What the host was asked since the last call. */
  take(): string[];
}

function lent(): Bench {
  const at = hosted();
  const policies = new PolicyContext('policies');
  at.lend(DEVFN, policies);
  const enter = (pasid: number, type: number | undefined): void => {
    const entry = { p: 1, pgtt: type ?? 0, did: DID, fsptptr: at.first, ssptptr: at.first, aw: 2 };
    at.bench.put(at.entryOf(pasid), type === undefined ? new Int32Array(16) : PasidEntry.encode(entry));
    at.queue(PasidCacheDescriptor.encode({ type: 7, g: 1, did: DID, pasid }));
  };
  return { ...at, policies, enter, take: () => policies.calls.splice(0) };
}

test('a host that lends a function is told what differs from how functions begin', t => {
  t.deepEqual(lent().take(), [`bind ${PASID}`], 'PASID 0 passes through, as it did');
});

test('PASID 0 as its entry says: a first stage, pass-through, none, and again', t => {
  const at = lent();
  at.take();
  at.enter(0, Pgtt.FIRST_STAGE);
  t.deepEqual(at.take(), ['bind 0']);
  at.queue(PasidIotlbDescriptor.encode({ type: 6, g: 2, did: DID, pasid: 0 }));
  t.deepEqual(at.take(), ['flush 0']);
  at.enter(0, Pgtt.PASS_THROUGH);
  t.deepEqual(at.take(), ['pass-through 0'], 'in one step');
  at.queue(PasidIotlbDescriptor.encode({ type: 6, g: 2, did: DID, pasid: 0 }));
  t.deepEqual(at.take(), [], 'nothing of a first stage is cached');
  at.enter(0, undefined);
  t.deepEqual(at.take(), ['abort 0']);
  at.enter(0, Pgtt.SECOND_STAGE);
  t.deepEqual(at.take(), [], 'refused already');
  at.enter(0, Pgtt.FIRST_STAGE);
  t.deepEqual(at.take(), ['bind 0']);
});

test('other PASIDs: bound, passed through, refused', t => {
  const at = lent();
  at.take();
  at.enter(PASID, Pgtt.PASS_THROUGH);
  t.deepEqual(at.take(), [`pass-through ${PASID}`]);
  at.enter(PASID, Pgtt.SECOND_STAGE);
  t.deepEqual(at.take(), [`abort ${PASID}`]);
  at.enter(PASID, Pgtt.FIRST_STAGE);
  t.deepEqual(at.take(), [`bind ${PASID}`]);
  at.enter(PASID, undefined);
  t.deepEqual(at.take(), [`abort ${PASID}`]);
});

test('a policy that the host refuses: a queue error at the guest’s descriptor, and another try when it goes on', t => {
  const at = lent();
  at.take();
  const head = at.bench.read32(Reg.IQH) / SLOT;
  at.policies.answer = -Errno.EIO;
  at.enter(0, undefined);
  t.deepEqual(at.take(), ['abort 0']);
  t.is(at.bench.read32(Reg.IQH) / SLOT, head);
  t.not(at.bench.read32(Reg.FSTS) & Fsts.IQE, 0);
  t.deepEqual(
    at.logged('host-failure').map(({ action, pasid, errno }) => [action, pasid, errno]),
    [['abort', 0, -Errno.EIO]],
  );
  at.policies.answer = 0;
  at.bench.write32(Reg.FSTS, Fsts.IQE);
  t.deepEqual(at.take(), ['abort 0']);
  t.is(at.bench.read32(Reg.IQH) / SLOT, head + 1);
});

test('a reset: what was bound ends, and requests without PASID use guest-physical addresses', t => {
  const at = lent();
  at.enter(0, Pgtt.FIRST_STAGE);
  at.take();
  at.bench.unit.reset();
  t.deepEqual(at.take().toSorted(), [`abort ${PASID}`, 'pass-through 0']);
});

for (const [policy, pasid, type] of [
  ['pass-through', PASID, Pgtt.PASS_THROUGH],
  ['abort', 0, Pgtt.SECOND_STAGE],
] as const) {
  test(`a loaded state: ${policy} again, and nothing goes on with a host that does not`, t => {
    const from = lent();
    from.enter(pasid, type);
    const into = new StateWriter();
    from.propagation.save(into);
    const resume = (answer: number): string[] => {
      const at = lent();
      at.take();
      at.policies.answer = answer;
      at.propagation.load(new StateReader(into.section));
      at.propagation.resume();
      return at.take();
    };
    t.true(resume(0).includes(`${policy} ${pasid}`));
    const message = new RegExp(`policies does not pass or refuse PASID ${pasid} of .* again: EIO`);
    t.throws(() => resume(-Errno.EIO), { instanceOf: StateError, message });
  });
}

test('a host that knows no policies is asked for none', t => {
  const at = lent();
  at.host.calls.length = 0;
  for (const type of [Pgtt.FIRST_STAGE, Pgtt.PASS_THROUGH, undefined]) at.enter(0, type);
  t.deepEqual(at.host.calls, []);
  at.enter(PASID, undefined);
  t.deepEqual(at.host.calls, [`unbind ${PASID}`]);
});
