import { Access, Errno, NO_PASID, StateReader, StateWriter, VirtualClock } from '@remora/core';
import { type AtsEndpoint, type PageRequest, PageResponse } from '@remora/iommu';
import test from 'ava';
import { Fsts, Prs, Reg } from '../spec/index.js';
import { firstStagePasid, secondStagePasid } from './entry-values.js';
import { PageTable } from './page-table.js';
import type { PageRequestOptions, VtdPageRequest } from './page-requests.js';
import { Rig } from './rig.test.helper.js';
import { VtdDriver } from './vtd-driver.js';

const DEVICE = 0x0100;
const DOMAIN = 5;
const PASID = 5;
const OPTIONS = { 'x-scalable-mode': 'on', 'x-flts': true, 'device-iotlb': true, svm: true, 'pasid-bits': 20 } as const;

/** A function that notes what it is sent. */
class Endpoint implements AtsEndpoint {
  readonly responses: number[][] = [];
  readonly invalidations: (string | number | boolean)[][] = [];
  completes = true;
  late: (() => void)[] = [];

  invalidate(pasid: number, global: boolean, hi: number, lo: number, shift: number, completed: () => void): boolean {
    this.invalidations.push([pasid, global, hi, lo >>> 0, shift]);
    if (!this.completes) this.late.push(completed);
    return this.completes;
  }

  pageResponse(pasid: number, group: number, code: number): void {
    this.responses.push([pasid, group, code]);
  }
}

function started(options: Partial<PageRequestOptions> = {}, clock?: VirtualClock) {
  const endpoint = new Endpoint();
  const rig = new Rig(
    OPTIONS,
    {},
    {
      endpoint: requesterId => (requesterId === DEVICE ? endpoint : undefined),
      ...(clock === undefined ? {} : { clock }),
    },
  );
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable' });
  const handled: VtdPageRequest[] = [];
  const handler = (request: VtdPageRequest): number => (handled.push(request), PageResponse.SUCCESS);
  const requests = { queue: undefined as unknown as ReturnType<VtdDriver['enablePageRequests']> };
  driver.start(undefined, () => {
    requests.queue = driver.enablePageRequests({ handler, ...options }, { hi: 0, lo: 0xfee0_1000, data: 0x44 });
    driver.attach(DEVICE, { dte: 1, pre: 1 });
  });
  /** A request of the function. */
  const request = (more: Partial<PageRequest> = {}): boolean =>
    rig.unit.pageRequest({
      requesterId: DEVICE,
      pasid: PASID,
      hi: 0,
      lo: 0x7f_0000,
      access: Access.READ_WRITE,
      group: 3,
      last: true,
      ...more,
    });
  rig.takeOperations();
  return { rig, driver, endpoint, handled, queue: requests.queue, request };
}

test('set-up: head, tail, address with the order, then the message and the mask', t => {
  const rig = new Rig(OPTIONS);
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable' });
  driver.enableQueue();
  rig.takeOperations();
  const queue = driver.enablePageRequests({ handler: () => undefined }, { hi: 0, lo: 0xfee0_1000, data: 0x44 });
  t.deepEqual(rig.takeOperations(), ['PQH 0', 'PQT 0', 'PQA pqs=4', 'PEDATA', 'PEADDR', 'PEUADDR', 'PECTL']);
  t.is(queue.entries, 2048);
  const words = new Int32Array(2);
  rig.registers.read64(Reg.PQA, words);
  t.deepEqual([words[1], words[0]! >>> 0], [0, queue.frame * 4096 + 4]);
  driver.stop();
  t.deepEqual(rig.takeOperations().slice(0, 4), ['PECTL im=1', 'PQH 0', 'PQT 0', 'PQA']);
  t.throws(() => driver.pageRequests, { message: /not enabled/ });
});

test('it needs a unit that takes page requests', t => {
  const rig = new Rig({ 'x-scalable-mode': 'on' });
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable' });
  t.throws(() => driver.enablePageRequests({ handler: () => undefined }), { message: /takes no page requests/ });
});

test('a request: event, entry as VT-d has it, handler, response, head', t => {
  const { rig, endpoint, handled, queue, request } = started();
  t.true(request());
  t.deepEqual(rig.messages, [[0xfee0_1000, 0x44]]);
  const entry = new Int32Array(8);
  rig.memory.load(0, queue.frame * 4096, entry, 0, 8);
  t.deepEqual([...entry], [0x0100_0101, 0x5, 0x7f_001f, 0, 0, 0, 0, 0]);
  t.is(queue.handle(), 1);
  t.deepEqual(handled, [
    {
      requesterId: DEVICE,
      pasid: PASID,
      hi: 0,
      lo: 0x7f_0000,
      read: true,
      write: true,
      execute: false,
      privileged: false,
      group: 3,
      last: true,
    },
  ]);
  t.deepEqual(endpoint.responses, [[PASID, 3, PageResponse.SUCCESS]]);
  t.deepEqual(rig.takeOperations(), [
    'PRS 1',
    'IQT page-response pp=1 rid=0x100 pasid=5 lpig=1 prgi=3, wait sw=1',
    'PQH 20',
  ]);
  t.is(queue.handle(), 0);
  request();
  t.is(rig.messages.length, 2, 'PPR was cleared: the next request has an event of its own');
});

test('without a PASID the response has none; one that is not the last of its group gets none', t => {
  const { endpoint, handled, queue, request } = started();
  request({ pasid: NO_PASID, group: 7 });
  request({ last: false, group: 8 });
  t.is(queue.handle(), 2);
  t.deepEqual(
    handled.map(({ pasid, last }) => [pasid, last]),
    [
      [NO_PASID, true],
      [PASID, false],
    ],
  );
  t.deepEqual(endpoint.responses, [[NO_PASID, 7, PageResponse.SUCCESS]]);
});

test('what makes no sense is answered "invalid request" and not passed on', t => {
  const { endpoint, handled, queue, request } = started({ knows: requesterId => requesterId === DEVICE });
  const senseless: Partial<PageRequest>[] = [
    { hi: 0x8000 },
    { hi: -0x1_0000 },
    { access: Access.READ | Access.PRIVILEGED },
    { access: Access.READ | Access.EXECUTE },
  ];
  for (const [group, each] of senseless.entries()) t.true(request({ ...each, group }), `request ${group}`);
  t.is(queue.handle(), senseless.length);
  t.deepEqual(handled, []);
  t.deepEqual(
    endpoint.responses,
    senseless.map((_, group) => [PASID, group, PageResponse.INVALID_REQUEST]),
  );
  request({ hi: 0x7fff });
  request({ hi: -0x8000 });
  queue.handle();
  t.deepEqual(
    handled.map(({ hi }) => hi),
    [0x7fff, -0x8000],
    'canonical addresses are passed on',
  );
  const unknown = started({ knows: () => false });
  unknown.request();
  unknown.queue.handle();
  t.deepEqual(unknown.endpoint.responses, [[PASID, 3, PageResponse.INVALID_REQUEST]]);
});

test('a stop marker is skipped', t => {
  const { endpoint, handled, queue, request } = started();
  t.true(request({ access: 0 }));
  t.is(queue.handle(), 1);
  t.deepEqual([handled, endpoint.responses], [[], []]);
});

test('a response may be withheld, and given later', t => {
  const held: VtdPageRequest[] = [];
  const { endpoint, queue, request } = started({ handler: each => void held.push(each) });
  request();
  t.is(queue.handle(), 1);
  t.deepEqual(endpoint.responses, []);
  t.is(queue.respond(held[0]!, PageResponse.FAILURE), 0);
  t.deepEqual(endpoint.responses, [[PASID, 3, PageResponse.FAILURE]]);
});

test('a queue that runs full: what does not fit is answered by the unit, until the driver has emptied it', t => {
  const { rig, endpoint, handled, queue, request } = started({ order: 0 });
  t.is(queue.entries, 128);
  for (let group = 0; group < 127; group++) t.true(request({ group }));
  t.false(queue.overflowing);
  t.deepEqual(endpoint.responses, []);
  request({ group: 127 });
  t.true(queue.overflowing);
  request({ group: 128 });
  t.deepEqual(
    endpoint.responses.map(([, group]) => group),
    [127, 128],
  );
  t.is(rig.messages.length, 1);
  t.is(queue.handle(), 127);
  t.deepEqual([handled.length, queue.overflowing, queue.overflows], [127, false, 1]);
  t.is(rig.registers.read32(Reg.PRS), 0);
  t.is(endpoint.responses.length, 2 + 127);
  // Around the end of the queue.
  for (let group = 200; group < 210; group++) t.true(request({ group }));
  t.is(queue.handle(), 10);
  t.is(handled.at(-1)!.group, 209);
  t.is(rig.messages.length, 2);
});

test('an overflow is not over while requests are queued', t => {
  const { rig, queue, request } = started({
    order: 0,
    handler: () => {
      rig.registers.write32(Reg.PRS, Prs.PPR);
      return PageResponse.SUCCESS;
    },
  });
  for (let group = 0; group < 128; group++) request({ group });
  t.true(queue.overflowing);
  t.is(queue.handle(), 127);
  t.false(queue.overflowing);
});

test('when a PASID goes: entry, flushes, then a fence and a drain; what was queued is handled', t => {
  const { rig, driver, endpoint, handled, request } = started();
  const first = new PageTable(rig.memory, rig.pages, { stage: 'first', levels: 4 });
  t.is(driver.addPasid(DEVICE, PASID, firstStagePasid(first, DOMAIN)), 0);
  request();
  rig.takeOperations();
  t.is(driver.removePasid(DEVICE, PASID), 0);
  t.deepEqual(rig.takeOperations(), [
    'IQT pasid-cache g=1 did=5 pasid=5, wait sw=1',
    'IQT pasid-iotlb g=2 did=5 pasid=5, wait sw=1',
    'IQT pasid-device-tlb sid=0x100 pasid=5 s=1, wait sw=1',
    'PRS 1',
    'IQT page-response pp=1 rid=0x100 pasid=5 lpig=1 prgi=3, wait sw=1',
    'PQH 20',
    'IQT wait fn=1, pasid-iotlb g=2 did=5 pasid=5, pasid-device-tlb sid=0x100 pasid=5 s=1, wait sw=1 pd=1',
    'PRS 1',
    'PQH 20',
  ]);
  t.is(handled.length, 1);
  t.deepEqual(endpoint.invalidations, [
    [PASID, false, 0, 0, 64],
    [PASID, false, 0, 0, 64],
  ]);
});

test('without PRE nothing is drained', t => {
  const { rig, driver } = started();
  t.is(driver.attach(DEVICE, { dte: 1 }), 0);
  t.is(driver.drainPageRequests(DEVICE, DOMAIN, PASID), 0);
  t.deepEqual(rig.takeOperations(), []);
});

test('a second-stage entry is drained with a flush of its domain', t => {
  const { rig, driver } = started();
  const second = new PageTable(rig.memory, rig.pages, { stage: 'second', levels: 4 });
  t.is(driver.addPasid(DEVICE, PASID, secondStagePasid(second, DOMAIN)), 0);
  rig.takeOperations();
  t.is(driver.removePasid(DEVICE, PASID), 0);
  t.true(
    rig
      .takeOperations()
      .includes('IQT wait fn=1, iotlb g=2 dw=1 dr=1 did=5, pasid-device-tlb sid=0x100 pasid=5 s=1, wait sw=1 pd=1'),
  );
});

test('an overflow at a drain: drained again, once the queue is empty', t => {
  const { rig, driver, queue, endpoint, request } = started({ order: 0 });
  const first = new PageTable(rig.memory, rig.pages, { stage: 'first', levels: 4 });
  t.is(driver.addPasid(DEVICE, PASID, firstStagePasid(first, DOMAIN)), 0);
  // The function goes on requesting until its device TLB is invalidated.
  const { invalidate } = endpoint;
  let flooded = false;
  endpoint.invalidate = (...sent) => {
    if (endpoint.invalidations.length === 1 && !flooded) {
      flooded = true;
      for (let group = 0; group < 130; group++) request({ group });
    }
    return invalidate.apply(endpoint, sent);
  };
  t.is(driver.removePasid(DEVICE, PASID), 0);
  t.is(queue.overflows, 1);
  t.is(rig.takeOperations().filter(each => each.includes('wait sw=1 pd=1')).length, 2);
});

test('a function that is detached loses PRE before its entry goes; what it had requested is answered', t => {
  const { rig, driver, endpoint, request } = started();
  request();
  rig.takeOperations();
  t.is(driver.detach(DEVICE, DOMAIN), 0);
  t.deepEqual(rig.takeOperations(), [
    'IQT context-cache g=3 sid=0x100, wait sw=1',
    'PRS 1',
    'IQT page-response pp=1 rid=0x100 pasid=5 lpig=1 prgi=3, wait sw=1',
    'PQH 20',
    'IQT context-cache g=3 sid=0x100, wait sw=1',
    'IQT pasid-cache did=5, wait sw=1',
    'IQT iotlb g=2 dw=1 dr=1 did=5, wait sw=1',
    'IQT device-tlb sid=0x100 s=1, wait sw=1',
  ]);
  t.is(endpoint.responses.length, 1);
  t.false(request());
});

test('a driver that is saved and loaded goes on with the queue as it was', t => {
  const { rig, driver, endpoint, queue, request } = started({ order: 1 });
  request({ group: 1 });
  t.is(queue.handle(), 1);
  request({ group: 2 });
  const into = new StateWriter();
  driver.save(into);
  const other = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable' });
  const from = new StateReader(into.section);
  other.load(from);
  from.done();
  rig.takeOperations();
  const handled: number[] = [];
  const again = other.enablePageRequests({ handler: ({ group }) => (handled.push(group), PageResponse.SUCCESS) });
  t.deepEqual(rig.takeOperations(), []);
  t.deepEqual([again.frame, again.entries], [queue.frame, 256]);
  t.is(again.handle(), 1);
  t.deepEqual(handled, [2]);
  t.is(endpoint.responses.length, 2);
});

test('a function that is not there lets its invalidation time out: the queue goes on, and names it', t => {
  const { rig, driver } = started();
  t.is(driver.deviceTlbInvalidate(0x0200), -Errno.ETIMEDOUT);
  t.is(driver.queue.timedOut, 0x0200);
  t.is(rig.registers.read32(Reg.FSTS) & (Fsts.ITE | Fsts.IQE), 0);
  t.is(driver.wait(), 0);
  t.is(driver.deviceTlbInvalidate(DEVICE), 0);
  t.is(driver.attach(0x0200, { dte: 1 }), 0);
  t.is(driver.detach(0x0200, DOMAIN), 0, 'its tables go all the same');
  t.false(driver.queue.recoverFromTimeout());
});

test('a time-out in virtual time, and the completion that comes too late', t => {
  const clock = new VirtualClock();
  const { rig, driver, endpoint } = started({}, clock);
  endpoint.completes = false;
  driver.queue.recovers = false;
  t.is(driver.deviceTlbInvalidate(DEVICE), -Errno.EIO, 'the wait is not completed');
  clock.step(60_000_000_000);
  t.not(rig.registers.read32(Reg.FSTS) & Fsts.ITE, 0);
  t.is(driver.wait(), -Errno.EIO, 'the queue is stopped');
  t.true(driver.queue.recoverFromTimeout());
  t.is(driver.queue.timedOut, DEVICE);
  t.is(driver.wait(), 0);
  endpoint.late[0]!();
  t.not(rig.registers.read32(Reg.FSTS) & Fsts.ICE, 0);
  driver.queue.recovers = true;
  t.is(driver.wait(), 0);
  t.true(driver.queue.recoverFromTimeout());
  t.is(rig.registers.read32(Reg.FSTS) & Fsts.ICE, 0);
});
