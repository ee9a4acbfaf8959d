import test from 'ava';
import { Access, MemTx, NO_PASID } from '@remora/core';
import { PageResponse } from '@remora/iommu';
import { DeviceTlbChannel, TlbAccess } from './device-tlb-channel.js';
import { Command } from './registers.js';
import { enableAts, enablePri, NOTHING, OK, priState, tlbSetup, type TlbSetup } from './ats.test.helper.js';
import { enable } from './platform.test.helper.js';

const A = 0x1_0000;
const WAITING: [number, number] = [TlbAccess.WAITING, 0];
const REFUSED: [number, number] = [TlbAccess.REFUSED, 0];

const setup = (options: TlbSetup = {}) => tlbSetup({ pri: true, ...options });

/** Further channels of the same TLB, each with how often it was resumed. */
function channels({ fn, tlb }: ReturnType<typeof tlbSetup>, count: number) {
  return Array.from({ length: count }, () => {
    const resumed = { times: 0 };
    const channel = new DeviceTlbChannel(fn, tlb, () => resumed.times++);
    const read = (address: number, pasid = 3): number => channel.read(0, address, new Uint8Array(4), pasid);
    return { channel, resumed, read };
  });
}

test('a page that is not there is requested, the access waits, and goes through when the page came', t => {
  const { iommu, fn, tlb, memory, read, write, resumed } = setup();
  memory(A, 0xaa);
  t.deepEqual(read(0x5010, 3), WAITING);
  t.deepEqual(iommu.requests, [
    { requesterId: 0x18, pasid: 3, hi: 0, lo: 0x5000, access: Access.READ, group: 0, last: true },
  ]);
  t.is(tlb.outstanding, 1);
  t.deepEqual(resumed, []);
  iommu.map(3, 0x5000, { to: A });
  tlb.pageResponse(3, 0, PageResponse.SUCCESS);
  t.deepEqual([resumed.length, tlb.outstanding], [1, 0]);
  t.deepEqual(read(0x5000, 3), [OK, 0xaa]);
  t.is(write(0x6000, 1), TlbAccess.WAITING);
  t.like(iommu.requests[1], { pasid: NO_PASID, lo: 0x6000, access: Access.WRITE, group: 1 }, 'the next index');
  t.deepEqual(priState(fn), { enable: 1, failure: 0, unexpected: 0, stopped: 0 });
});

test('missing permissions are requested, too; modes are told', t => {
  const { iommu, read, write } = setup();
  iommu.map(3, 0x5000, { to: A, access: Access.READ });
  t.is(read(0x5000, 3)[0], OK);
  t.is(write(0x5000, 1, 3), TlbAccess.WAITING);
  t.is(iommu.requests[0]!.access, Access.WRITE);
  const other = setup();
  other.read(0x5000, 3, Access.EXECUTE | Access.PRIVILEGED);
  t.is(other.iommu.requests[0]!.access, Access.READ | Access.EXECUTE | Access.PRIVILEGED);
});

test('"invalid request" ends the access with an error of its own; the next access may ask again', t => {
  const { iommu, fn, tlb, read, resumed } = setup();
  t.deepEqual(read(0x5000, 3), WAITING);
  // A page that came all the same does not help: the answer counts.
  iommu.map(3, 0x5000, { to: A });
  tlb.pageResponse(3, 0, PageResponse.INVALID_REQUEST);
  t.is(resumed.length, 1);
  t.deepEqual(read(0x5000, 3), REFUSED);
  t.is(read(0x5000, 3)[0], OK);
  t.deepEqual(read(0x6000, 3), WAITING);
  t.true(fn.priEnabled);
});

test('"failure", and any reserved code, turns the interface off and fails all that wait', t => {
  for (const code of [PageResponse.FAILURE, 2, 14]) {
    const at = setup();
    const others = channels(at, 2);
    t.deepEqual(at.read(0x5000, 3), WAITING);
    for (const each of others) t.is(each.read(0x6000), TlbAccess.WAITING);
    at.tlb.pageResponse(3, 1, code);
    t.deepEqual(at.read(0x5000, 3), REFUSED);
    for (const { read, resumed } of others) t.deepEqual([resumed.times, read(0x6000)], [1, TlbAccess.REFUSED]);
    t.deepEqual(priState(at.fn), { enable: 1, failure: 1, unexpected: 0, stopped: 0 });
    t.deepEqual(at.read(0x5000, 3), NOTHING, 'no more requests');
    t.is(at.iommu.requests.length, 3);
    enablePri(at.fn, false);
    t.is(priState(at.fn).stopped, 1);
    enablePri(at.fn);
    t.deepEqual(at.read(0x5000, 3), WAITING);
  }
});

test('a response that nothing waits for, or with another PASID, is noted and otherwise ignored', t => {
  const { fn, tlb, read, resumed } = setup();
  tlb.pageResponse(3, 0, PageResponse.SUCCESS);
  t.is(priState(fn).unexpected, 1);
  fn.config.write(fn.priCapability!.offset + 6, 2, 2);
  read(0x5000, 3);
  for (const pasid of [NO_PASID, 4]) tlb.pageResponse(pasid, 0, PageResponse.SUCCESS);
  tlb.pageResponse(3, 1, PageResponse.FAILURE);
  t.like(priState(fn), { unexpected: 1, failure: 0 });
  t.deepEqual([resumed.length, tlb.outstanding], [0, 1]);
  tlb.pageResponse(3, 0, PageResponse.SUCCESS);
  t.is(resumed.length, 1);
});

test('a refused request is as one answered "invalid"', t => {
  const { iommu, tlb, read, resumed } = setup();
  iommu.onPageRequest = () => false;
  t.deepEqual(read(0x5000, 3), REFUSED);
  t.deepEqual([resumed.length, tlb.outstanding], [0, 0]);
});

test('an answer from within the request: the access is done when it returns', t => {
  const { iommu, tlb, memory, read, resumed } = setup();
  memory(A, 0xaa);
  iommu.onPageRequest = ({ group }) => {
    iommu.map(3, 0x5000, { to: A });
    tlb.pageResponse(3, group, PageResponse.SUCCESS);
    return true;
  };
  t.deepEqual(read(0x5000, 3), [OK, 0xaa]);
  iommu.onPageRequest = ({ group }) => {
    tlb.pageResponse(3, group, PageResponse.INVALID_REQUEST);
    return true;
  };
  t.deepEqual(read(0x6000, 3), REFUSED);
  t.deepEqual(resumed, []);
});

test('a driver that answers "success" and maps nothing does not keep the device busy for ever', t => {
  const { iommu, tlb, read } = setup();
  for (let round = 0; round < 16; round++) {
    t.deepEqual(read(0x5000, 3), WAITING, `round ${round}`);
    tlb.pageResponse(3, round, PageResponse.SUCCESS);
  }
  t.deepEqual(read(0x5000, 3), REFUSED);
  t.is(iommu.requests.length, 16);
  t.deepEqual(read(0x5000, 3), WAITING, 'another access begins anew');
  const within = setup({ clocked: false });
  within.iommu.onPageRequest = ({ group }) => (within.tlb.pageResponse(3, group, PageResponse.SUCCESS), true);
  t.deepEqual(within.read(0x5000, 3), REFUSED);
  t.is(within.iommu.requests.length, 16);
});

test('an IOMMU that says "try again" by itself is asked again after a while', t => {
  const { iommu, tlb, clock, channel, memory, read, resumed } = setup();
  memory(A, 0xaa);
  iommu.onPageRequest = ({ group }) => (tlb.pageResponse(3, group, PageResponse.SUCCESS), true);
  for (let round = 1; round <= 3; round++) {
    t.deepEqual(read(0x5000, 3), WAITING);
    t.is(iommu.requests.length, round);
    clock.step(999_999);
    t.is(resumed.length, round - 1);
    clock.step(1);
    t.is(resumed.length, round);
  }
  iommu.map(3, 0x5000, { to: A });
  t.deepEqual(read(0x5000, 3), [OK, 0xaa]);
  t.deepEqual(read(0x6000, 3), WAITING);
  channel.cancel();
  t.is(clock.next(), undefined);
  let rounds = 0;
  for (; read(0x6000, 3)[0] === TlbAccess.WAITING; rounds++) clock.step(1_000_000);
  t.is(rounds, 15, 'and not for ever');
});

test('no more are outstanding than software allows; the others wait for room', t => {
  const at = setup({ allocation: 2 });
  const all = channels(at, 4);
  for (const [index, { read }] of all.entries()) t.is(read(0x5000 + index * 0x1000), TlbAccess.WAITING);
  const asked = (): number[] => at.iommu.requests.map(({ lo }) => lo);
  t.deepEqual(asked(), [0x5000, 0x6000]);
  at.tlb.pageResponse(3, 1, PageResponse.SUCCESS);
  t.deepEqual(asked(), [0x5000, 0x6000, 0x7000]);
  t.deepEqual(
    all.map(({ resumed }) => resumed.times),
    [0, 1, 0, 0],
  );
  all[3]!.channel.cancel();
  at.tlb.pageResponse(3, 0, PageResponse.SUCCESS);
  at.tlb.pageResponse(3, 2, PageResponse.SUCCESS);
  t.deepEqual(asked(), [0x5000, 0x6000, 0x7000]);
  t.is(at.tlb.outstanding, 0);
});

test('the allocation is cut at the capacity; with none, nothing is requested', t => {
  const at = setup({ capacity: 1, allocation: 100 });
  const [first, second] = channels(at, 2);
  t.is(first!.read(0x5000), TlbAccess.WAITING);
  t.is(second!.read(0x6000), TlbAccess.WAITING);
  t.is(at.iommu.requests.length, 1);
  const none = setup({ allocation: 0 });
  t.deepEqual(none.read(0x5000, 3), NOTHING);
});

test('an index is used again only after all others', t => {
  const at = setup({ allocation: 512 });
  at.read(0x5000, 3);
  const [other] = channels(at, 1);
  for (let round = 1; round < 600; round++) {
    t.is(other!.read(0x6000), TlbAccess.WAITING);
    const { group } = at.iommu.requests.at(-1)!;
    if (group !== (round < 512 ? round : (round - 511) % 512)) t.fail(`round ${round}: group ${group}`);
    at.tlb.pageResponse(3, group, PageResponse.INVALID_REQUEST);
    other!.channel.cancel();
  }
  t.is(at.tlb.outstanding, 1);
});

test('a cancelled access is not resumed; its response is still expected', t => {
  const { fn, tlb, channel, read, resumed } = setup();
  read(0x5000, 3);
  channel.cancel();
  t.is(tlb.outstanding, 1);
  tlb.pageResponse(3, 0, PageResponse.SUCCESS);
  t.deepEqual([tlb.outstanding, resumed.length, priState(fn).unexpected], [0, 0, 0]);
  read(0x5000, 3);
  enablePri(fn, false);
  channel.cancel();
  tlb.pageResponse(3, 1, PageResponse.SUCCESS);
  t.is(resumed.length, 0, 'also when page requests were disabled meanwhile');
});

test('disabled, it stops when the last response came; those who wait for room are refused', t => {
  const at = setup({ allocation: 1 });
  const [first, second] = channels(at, 2);
  first!.read(0x5000);
  second!.read(0x6000);
  enablePri(at.fn, false);
  t.is(priState(at.fn).stopped, 0);
  at.tlb.pageResponse(3, 0, PageResponse.SUCCESS);
  t.is(priState(at.fn).stopped, 1);
  t.deepEqual([first!.resumed.times, second!.resumed.times], [1, 1]);
  t.is(first!.read(0x5000), TlbAccess.REFUSED, 'there is no more asking');
  t.is(second!.read(0x6000), TlbAccess.REFUSED);
  t.is(at.iommu.requests.length, 1);
});

test('a reset of the interface fails what waits; it does nothing while enabled', t => {
  const { fn, tlb, read, resumed } = setup();
  read(0x5000, 3);
  const control = fn.priCapability!.offset + 4;
  fn.config.write(control, 3, 2);
  t.deepEqual([tlb.outstanding, resumed.length], [1, 0]);
  fn.config.write(control, 2, 2);
  t.deepEqual([tlb.outstanding, resumed.length], [0, 1]);
  t.is(priState(fn).stopped, 1);
  t.deepEqual(read(0x5000, 3), REFUSED);
});

test('ATS taken away: what waits goes on untranslated', t => {
  const { fn, tlb, read, resumed } = setup();
  read(0x5000, 3);
  enableAts(fn, false);
  t.deepEqual([tlb.outstanding, resumed.length], [0, 1]);
  t.is(read(0x5000, 3)[0], MemTx.DECODE_ERROR);
});

test('a reset of the function forgets its page requests without a word; a late response is unexpected', t => {
  const { fn, tlb, channel, read, resumed } = setup();
  read(0x5000, 3);
  fn.reset();
  channel.cancel();
  t.deepEqual([tlb.outstanding, resumed.length], [0, 0]);
  t.deepEqual(priState(fn), { enable: 0, failure: 0, unexpected: 0, stopped: 1 });
  tlb.pageResponse(3, 0, PageResponse.SUCCESS);
  t.deepEqual([resumed.length, priState(fn).unexpected], [0, 1]);
});

test('bus mastering taken away while it waits: the repeated access is refused', t => {
  const { iommu, fn, tlb, read, memory } = setup();
  read(0x5000, 3);
  iommu.map(3, 0x5000, { to: A });
  enable(fn, Command.MEMORY);
  tlb.pageResponse(3, 0, PageResponse.SUCCESS);
  t.deepEqual(read(0x5000, 3), NOTHING);
  t.is(memory(A), 0);
});
