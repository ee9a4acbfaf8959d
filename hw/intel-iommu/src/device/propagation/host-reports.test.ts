/** What a host reports reaches the guest as its own: page requests, faults, and the responses that go back (decisions 43, 59). */
import test from 'ava';
import { Access, Errno, NO_PASID, StateError, StateWriter } from '@remora/core';
import { HostIommuFlag, PageResponse } from '@remora/iommu';
import { PriLayout } from '@remora/pci';
import { Fault, Fsts, GlobalCommand, PageGroupResponseDescriptor, Prs, Reg } from '../../spec/index.js';
import { NOWHERE, RID, type Values } from '../bench.test.helper.js';
import { type Hosted, hosted, PASID, ScriptedContext } from './hosted-bench.test.helper.js';

const { SUCCESS, INVALID_REQUEST, FAILURE } = PageResponse;
const GROUP = 9;
const SLOTS = 4096 / 32;

/** A page group response of the guest. */
function response(code: number, values: object = {}): Int32Array {
  return PageGroupResponseDescriptor.encode({
    type: 9,
    pp: 1,
    rc: code,
    rid: RID,
    pasid: PASID,
    lpig: 1,
    prgi: GROUP,
    ...values,
  });
}

/** The two quadwords of slot `index` of the guest's page request queue that are not 0. */
function slot({ bench, pages }: Hosted, index: number): bigint[] {
  return [bench.get64(pages + 32 * index), bench.get64(pages + 32 * index + 8)];
}

/** The quadwords of fault record `index`. */
function record({ bench }: Hosted, index = 0): bigint[] {
  const base = bench.unit.capabilities.faultRecordBase + 16 * index;
  return [bench.read64(base), bench.read64(base + 8)];
}

const isStopped = ({ bench }: Hosted): boolean => (bench.read32(Reg.FSTS) & Fsts.IQE) !== 0;
/** What the host was told, since `forget`. */
const answers = ({ host }: Hosted): string[] => host.calls.filter(call => call.startsWith('respond'));

function forget({ host }: Hosted): void {
  host.calls.length = 0;
}

/** Fields of the PRI capability of the guest's function. */
function pri({ fn }: Hosted): { failed: boolean; unexpected: boolean; stopped: boolean } {
  const at = fn.priCapability!.offset / 4;
  const { responseFailure, unexpectedIndex, stopped } = PriLayout.fields;
  const get = (field: typeof stopped): boolean => field.get(fn.config.words, at) !== 0;
  return { failed: get(responseFailure), unexpected: get(unexpectedIndex), stopped: get(stopped) };
}

test('a page request becomes an entry of the guest’s queue, by its own requester id and PASID; an event tells it', t => {
  const at = hosted();
  const { bench, host } = at;
  bench.write32(Reg.PEADDR, 0xfee0_1000);
  bench.write32(Reg.PEDATA, 0x41);
  bench.write32(Reg.PECTL, 0);
  host.ask(GROUP, { access: Access.READ, last: false });
  host.ask(GROUP, { lo: 0x8000 });
  t.deepEqual(slot(at, 0), [0x0005_0113_0101n, 0x7049n]);
  t.deepEqual(slot(at, 1), [0x0005_0113_0101n, 0x804fn]);
  t.is(bench.read32(Reg.PQT), 64);
  t.is(bench.read32(Reg.PRS), Prs.PPR);
  t.deepEqual(bench.messages, [{ address: 0xfee0_1000, data: 0x41 }]);
  t.deepEqual(answers(at), [], 'the guest answers, not the vIOMMU');
  t.deepEqual(
    at.logged('host-page-request').map(({ requesterId, taken }) => [requesterId, taken]),
    [
      [RID, true],
      [RID, true],
    ],
  );
});

test('one without PASID shows none', t => {
  const at = hosted();
  at.host.ask(3, { pasid: NO_PASID });
  t.deepEqual(slot(at, 0), [0x0113_0001n, 0x701fn]);
  at.queue(response(SUCCESS, { pp: 0, pasid: 0, prgi: 3 }));
  t.deepEqual(answers(at), [`respond ${NO_PASID} 3 0`]);
});

for (const code of [SUCCESS, INVALID_REQUEST, FAILURE, 7]) {
  test(`the guest’s response ${code} goes to the host`, t => {
    const at = hosted();
    at.host.ask(GROUP);
    t.false(at.bench.read32(Reg.FSTS) !== 0);
    at.queue(response(code), at.wait());
    t.deepEqual(answers(at), [`respond ${PASID} ${GROUP} ${code}`]);
    t.deepEqual(at.statuses(), [1]);
    const failed = code === FAILURE || code === 7;
    t.is(pri(at).failed, failed);
    at.host.ask(GROUP);
    t.is(at.bench.read32(Reg.PQT), failed ? 32 : 64, 'after a failure nothing is asked until PRI is enabled anew');
    t.is(answers(at).length, failed ? 2 : 1);
  });
}

test('a host that does not take the response: queue error at the response; it can be sent again', t => {
  const at = hosted();
  const { bench, host } = at;
  host.ask(GROUP);
  host.response = -Errno.EIO;
  at.queue(at.wait(), response(SUCCESS), at.wait());
  t.true(isStopped(at));
  t.is(bench.read32(Reg.IQH), 32);
  t.deepEqual(at.statuses(), [1, 0]);
  t.deepEqual(at.logged('host-failure'), [
    { action: 'page response', context: 'host', pasid: PASID, errno: -Errno.EIO },
  ]);
  host.response = 0;
  bench.write32(Reg.FSTS, Fsts.IQE);
  t.deepEqual(answers(at), [`respond ${PASID} ${GROUP} 0`, `respond ${PASID} ${GROUP} 0`]);
  t.deepEqual(at.statuses(), [1, 1]);
  t.false(isStopped(at));
});

test('Q15: it is only logged', t => {
  const at = hosted({ 'quirk-failures-invisible': true });
  at.host.ask(GROUP);
  at.host.response = -Errno.EIO;
  at.queue(response(SUCCESS), at.wait());
  t.deepEqual(at.statuses(), [1]);
  t.is(at.logged('host-failure').length, 1);
});

test('a group that the host has answered itself is no error, and noted', t => {
  const at = hosted();
  at.host.ask(GROUP);
  at.host.response = -Errno.EINVAL;
  at.queue(response(SUCCESS), at.wait());
  t.deepEqual(at.statuses(), [1]);
  t.deepEqual(at.logged('page-response-late'), [
    { context: 'host', requesterId: RID, pasid: PASID, group: GROUP, code: SUCCESS },
  ]);
});

test('a late response to what the host has refused itself does not answer the next request in that group', t => {
  const at = hosted();
  at.host.ask(GROUP);
  at.host.ask(GROUP, { pasid: PASID + 1 });
  at.host.events!.abandoned(PASID);
  at.host.ask(GROUP);
  at.queue(response(INVALID_REQUEST), at.wait());
  t.deepEqual([answers(at), at.statuses()], [[], [1]]);
  t.is(at.logged('page-response-late').length, 1);
  t.false(pri(at).unexpected, 'the guest was asked');
  at.queue(response(SUCCESS), response(SUCCESS, { pasid: PASID + 1 }));
  t.deepEqual(answers(at), [`respond ${PASID} ${GROUP} 0`, `respond ${PASID + 1} ${GROUP} 0`]);
});

test('what the host has refused itself keeps no machine from being saved, nor the function from being stopped', t => {
  const at = hosted();
  at.host.ask(GROUP);
  at.fn.config.write(at.fn.priCapability!.offset + 4, 0, 2);
  at.host.events!.abandoned(PASID);
  t.true(pri(at).stopped);
  t.notThrows(() => at.propagation.save(new StateWriter()));
});

test('a response that nobody waits for does not reach the host: the function says so in its PRI status', t => {
  const at = hosted();
  at.host.ask(GROUP);
  for (const values of [{ prgi: GROUP + 1 }, { pasid: PASID + 1 }, { pp: 0, pasid: 0 }]) {
    at.queue(response(SUCCESS, values), at.wait());
  }
  t.deepEqual([answers(at), at.statuses()], [[], [1, 1, 1]]);
  t.true(pri(at).unexpected);
  t.is(at.logged('unexpected-page-response').length, 3);
  at.queue(response(SUCCESS), response(SUCCESS));
  t.is(answers(at).length, 1, 'and none twice');
});

test('the function is not stopped while a response is due', t => {
  const at = hosted();
  const control = at.fn.priCapability!.offset + 4;
  at.host.ask(GROUP);
  at.fn.config.write(control, 0, 2);
  t.false(pri(at).stopped);
  at.queue(response(SUCCESS));
  t.true(pri(at).stopped);
});

/** What refuses page requests, and the reason that the guest reads; 0: none. */
const REFUSALS: Record<
  string,
  { readonly prepare: (at: Hosted) => void; readonly context?: Values; readonly reason: number }
> = {
  'PRI is off in the function': {
    prepare: at => at.fn.config.write(at.fn.priCapability!.offset + 4, 0, 2),
    reason: 0,
  },
  'translation is off': {
    prepare: ({ bench }) => bench.write32(Reg.GCMD, bench.read32(Reg.GSTS) & 0x96ff_ffff & ~GlobalCommand.TE),
    reason: 0,
  },
  'PRE is clear': { prepare: () => undefined, context: { pre: 0 }, reason: Fault.SCT_8 },
  'PASIDE is clear': { prepare: () => undefined, context: { paside: 0 }, reason: Fault.SCT_6 },
  'the context entry is not present': {
    prepare: ({ bench, context }) => bench.put64(context, 0n),
    reason: Fault.SCT_2,
  },
  'the queue is in no memory': { prepare: ({ bench }) => bench.write64(Reg.PQA, NOWHERE * 4096), reason: 0 },
};
for (const [name, { prepare, context, reason }] of Object.entries(REFUSALS)) {
  test(`refused, and the host told so: ${name}`, t => {
    const at = hosted({}, context);
    prepare(at);
    forget(at);
    at.host.ask(GROUP, { last: false });
    t.deepEqual(answers(at), [], 'only the last of a group has a response');
    at.host.ask(GROUP);
    t.deepEqual(answers(at), [`respond ${PASID} ${GROUP} ${INVALID_REQUEST}`]);
    t.is(at.bench.read32(Reg.PQT), 0);
    const said = record(at)[1]!;
    t.is(Number((said >> 32n) & 0xffn), reason);
    // T1 = 0, T2 = 1: a page request.
    if (reason !== 0) t.is(Number((said >> 62n) & 1n) * 2 + Number((said >> 28n) & 1n), 1);
  });
}

test('an unknown PASID is the guest’s to refuse; one beyond its directory is refused by the tables', t => {
  const at = hosted();
  at.host.ask(GROUP, { pasid: 44 });
  t.deepEqual(slot(at, 0), [0x002c_0113_0101n, 0x704fn]);
  at.host.ask(GROUP, { pasid: 0x4_0000 });
  t.deepEqual(answers(at), [`respond ${0x4_0000} ${GROUP} ${INVALID_REQUEST}`]);
  t.is(Number((record(at)[1]! >> 32n) & 0xffn), Fault.SCT_7);
});

test('a request that asks for nothing would be a stop marker: it is refused', t => {
  const at = hosted();
  at.host.ask(GROUP, { access: 0 });
  t.deepEqual(answers(at), [`respond ${PASID} ${GROUP} ${INVALID_REQUEST}`]);
  t.is(at.bench.read32(Reg.PQT), 0);
});

test('overflow: the last of a group is told to try again, and queueing goes on once PRO is cleared', t => {
  const at = hosted();
  const { bench, host } = at;
  for (let group = 0; group < SLOTS - 1; group++) host.ask(group);
  t.deepEqual(answers(at), []);
  t.is(bench.read32(Reg.PRS), Prs.PPR);
  host.ask(500, { last: false });
  t.is(bench.read32(Reg.PRS), Prs.PPR | Prs.PRO);
  host.ask(500);
  t.deepEqual(answers(at), [`respond ${PASID} 500 ${SUCCESS}`]);
  bench.write32(Reg.PQH, bench.read32(Reg.PQT));
  bench.write32(Reg.PRS, Prs.PRO | Prs.PPR);
  host.ask(500);
  t.is(bench.read32(Reg.PQT), 0);
  t.is(answers(at).length, 1);
});

test('the requester id is that of the bus now, and a response finds the function by it', t => {
  const at = hosted();
  const other = new ScriptedContext('other');
  at.lend((RID & 0xff) + 8, other);
  other.ask(GROUP);
  t.deepEqual(slot(at, 0), [0x0005_011b_0101n, 0x704fn]);
  at.queue(response(SUCCESS, { rid: RID }));
  t.deepEqual(at.host.calls.at(-1), `bind ${PASID}`, 'not this one');
  at.queue(response(SUCCESS, { rid: RID + 8 }));
  t.is(other.calls.at(-1), `respond ${PASID} ${GROUP} 0`);
});

test('unplug: what is due is answered before anything is unbound, and nobody listens any more', t => {
  const at = hosted();
  at.host.ask(GROUP);
  at.host.ask(GROUP + 1, { pasid: NO_PASID });
  forget(at);
  at.propagation.detach(at.bus, RID & 0xff);
  t.deepEqual(at.host.calls, [
    `respond ${PASID} ${GROUP} ${INVALID_REQUEST}`,
    `respond ${NO_PASID} ${GROUP + 1} ${INVALID_REQUEST}`,
    `unbind ${PASID}`,
  ]);
  t.is(at.host.events, undefined);
  forget(at);
  at.queue(response(SUCCESS), at.wait());
  t.deepEqual([at.host.calls, at.statuses()], [[], [1]]);
});

test('reset: what is due is answered, and the guest’s later response is unexpected', t => {
  const at = hosted();
  at.host.ask(GROUP);
  forget(at);
  at.bench.unit.reset();
  t.deepEqual(at.host.calls, [`respond ${PASID} ${GROUP} ${INVALID_REQUEST}`, `unbind ${PASID}`]);
  at.host.ask(GROUP);
  t.is(answers(at).length, 2, 'a unit that is off takes none');
  t.is(at.bench.read32(Reg.PQT), 0);
});

test('reset: a response that fails is tried again by the next', t => {
  const at = hosted();
  at.host.ask(GROUP);
  at.host.response = -Errno.EIO;
  at.bench.unit.reset();
  at.host.response = 0;
  forget(at);
  at.bench.unit.reset();
  t.deepEqual(answers(at), [`respond ${PASID} ${GROUP} ${INVALID_REQUEST}`]);
  t.is(at.logged('host-failure').length, 1);
});

test('a context without reports is not listened to, and responses for its functions do nothing', t => {
  const at = hosted();
  const plain = new ScriptedContext('plain');
  plain.flags = HostIommuFlag.NESTING;
  at.lend((RID & 0xff) + 8, plain);
  t.is(plain.events, undefined);
  at.queue(response(SUCCESS, { rid: RID + 8 }), at.wait());
  t.deepEqual([plain.calls, at.statuses()], [[`bind ${PASID}`], [1]]);
});

test('lost reports are in the ledger', t => {
  const at = hosted();
  at.host.events!.lost(3);
  at.host.events!.lost(0);
  t.deepEqual(
    at.logged('host-reports-lost').map(({ count }) => count),
    [3, 0],
  );
  t.is(at.warnings.length, 2);
});

test('while the host waits for an answer the machine is not saved', t => {
  const at = hosted();
  const save = (): void => at.propagation.save(new StateWriter());
  t.notThrows(save);
  at.host.ask(GROUP);
  t.throws(save, { instanceOf: StateError, message: /host waits for the guest's answer to 1 page requests/ });
  at.queue(response(SUCCESS));
  t.notThrows(save);
});

test('a unit without page requests refuses what a host asks', t => {
  const at = hosted({ svm: false });
  at.host.ask(GROUP);
  t.deepEqual(answers(at), [`respond ${PASID} ${GROUP} ${INVALID_REQUEST}`]);
});
