/** Bindings, policies and flushes as ioctls, in order; and what is in force when one of them is refused. */
import test, { type ExecutionContext } from 'ava';
import { Errno, NO_PASID } from '@remora/core';
import {
  type HostPageRequest,
  PageResponse,
  type Stage1Config,
  Stage1Flush,
  Stage1FlushBatch,
  Stage1Format,
} from '@remora/iommu';
import { IOMMU_HWPT_INVALIDATE, IommuHwptInvalidate, IommuHwptPgfault, viewOf } from '@remora/uapi';
import type { IommufdHostIOMMUContext } from './host-iommu-context.js';
import {
  backendOn,
  connect,
  FIRST,
  guestMemory,
  ScriptedIommufd,
  type ScriptedHardware,
} from './scripted-iommufd.test.helper.js';

const USER = 1;
/** A PRI capability as the only extended one. */
const PRI = { extended: [0x0001_0013] };
/** The device is object 1, its address space 2, the parent 3. */
const PARENT = 3;
const PASID_FLAG = 8;
const FAULT_FLAG = 4;

function contextOn(t: ExecutionContext, hardware: ScriptedHardware = {}) {
  const host = new ScriptedIommufd(hardware);
  const connection = connect(backendOn(host), FIRST, guestMemory());
  t.teardown(() => connection[Symbol.dispose]());
  host.take();
  return { host, connection, context: connection.context! };
}

function config(rootLo: number, attributes: Partial<Stage1Config['attributes']> = {}): Stage1Config {
  const none = { sre: 0, eafe: 0, pcd: 0, pwt: 0, emte: 0, cd: 0, pat: 0, emt: 0 };
  const format = Stage1Format.INTEL_VTD;
  return { rootHi: 0x12, rootLo, addressWidth: 48, attributes: { format, ...none, ...attributes } };
}

function batch(...flushes: Partial<Stage1Flush>[]): Stage1FlushBatch {
  const all = new Stage1FlushBatch();
  for (const flush of flushes) all.add(Object.assign(new Stage1Flush(), flush));
  return all;
}

const payload = (host: ScriptedIommufd, bytes: number): string => {
  const out = new Uint8Array(bytes);
  host.memory.read(0, 0, out);
  return Buffer.from(out).toString('hex');
};

test('bind: a nested table with the root and what the host has of its attributes, attached at the PASID', t => {
  const { host, context } = contextOn(t);
  t.is(
    context.bindStage1(USER, 5, config(0x3000, { sre: 1, eafe: 1, pcd: 1, pwt: 1, cd: 1, emte: 1, pat: 9, emt: 6 })),
    0,
  );
  t.deepEqual(host.take(), [`HWPT_ALLOC 4 on ${PARENT} flags ${PASID_FLAG}`, 'ATTACH 4 pasid 5']);
  t.is(payload(host, 24), '0300000000000000' + '0030000012000000' + '3000000000000000');
});

test('PASID 0 is attached without the PASID flag', t => {
  const { host, context } = contextOn(t);
  t.is(context.bindStage1(USER, 0, config(0x3000)), 0);
  t.deepEqual(host.take(), [`HWPT_ALLOC 4 on ${PARENT} flags ${PASID_FLAG}`, 'ATTACH 4']);
});

test('replace: attach the new one, then destroy the old', t => {
  const { host, context } = contextOn(t);
  context.bindStage1(USER, 5, config(0x3000));
  host.take();
  t.is(context.bindStage1(USER, 5, config(0x4000)), 0);
  t.deepEqual(host.take().slice(1), ['ATTACH 5 pasid 5', 'DESTROY 4']);
  t.deepEqual([...context.bindings], [[5, 5]]);
});

test('the host refuses the table, or its attachment: the old one stays, and no new one is left', t => {
  const { host, context } = contextOn(t);
  context.bindStage1(USER, 5, config(0x3000));
  host.take();
  host.refuse('HWPT_ALLOC', -Errno.EINVAL);
  t.is(context.bindStage1(USER, 5, config(0x4000)), -Errno.EINVAL);
  t.deepEqual(host.take(), ['HWPT_ALLOC refused']);
  host.refuse('ATTACH', -Errno.EIO);
  t.is(context.bindStage1(USER, 5, config(0x4000)), -Errno.EIO);
  t.deepEqual(host.take().slice(1), ['ATTACH refused', 'DESTROY 5']);
  t.deepEqual([...context.bindings], [[5, 4]]);
});

test('an old table that the host would not destroy: the new one serves, and the old goes with the next', t => {
  const { host, context } = contextOn(t);
  context.bindStage1(USER, 5, config(0x3000));
  host.refuse('DESTROY', -Errno.EBUSY);
  t.is(context.bindStage1(USER, 5, config(0x4000)), 0);
  host.take();
  t.is(context.bindStage1(USER, 6, config(0x5000)), 0);
  t.deepEqual(host.take().slice(1), ['ATTACH 6 pasid 6', 'DESTROY 4']);
});

test('unbind: detach, then destroy; refused, it stays bound; of what is not bound, -EINVAL', t => {
  const { host, context } = contextOn(t);
  context.bindStage1(USER, 5, config(0x3000));
  host.take();
  host.refuse('DETACH', -Errno.EIO);
  t.is(context.unbindStage1(USER, 5), -Errno.EIO);
  t.deepEqual([...context.bindings.keys()], [5]);
  host.take();
  t.is(context.unbindStage1(USER, 5), 0);
  t.deepEqual(host.take(), ['DETACH pasid 5', 'DESTROY 4']);
  t.is(context.unbindStage1(USER, 5), -Errno.EINVAL);
  t.deepEqual(host.take(), []);
});

test('policies: guest-physical addresses are the parent, refusal is nothing attached; a bound table is replaced', t => {
  const { host, context } = contextOn(t);
  t.is(context.withoutStage1(USER, 0, 'pass-through'), 0);
  t.deepEqual(host.take(), [], 'as it was attached');
  t.is(context.withoutStage1(USER, 0, 'abort'), 0);
  t.is(context.withoutStage1(USER, 7, 'pass-through'), 0);
  t.deepEqual(host.take(), ['DETACH', `ATTACH ${PARENT} pasid 7`]);
  context.bindStage1(USER, 0, config(0x3000));
  host.take();
  host.refuse('ATTACH', -Errno.EIO);
  t.is(context.withoutStage1(USER, 0, 'pass-through'), -Errno.EIO);
  t.deepEqual([...context.bindings], [[0, 4]]);
  host.take();
  t.is(context.withoutStage1(USER, 0, 'pass-through'), 0);
  t.deepEqual(host.take(), [`ATTACH ${PARENT}`, 'DESTROY 4']);
  t.deepEqual(
    [...context.passThrough].toSorted((a, b) => a - b),
    [0, 7],
  );
});

/** How many entries each HWPT_INVALIDATE had, by table. */
function invalidations(host: ScriptedIommufd): [hwpt: number, entries: number][] {
  const found: [number, number][] = [];
  host.on(IOMMU_HWPT_INVALIDATE, argument => {
    const { hwpt_id, entry_num } = IommuHwptInvalidate.fields;
    const view = viewOf(argument as Uint8Array);
    found.push([hwpt_id.get(view), entry_num.get(view)]);
    return 0;
  });
  return found;
}

test('flushes: one array for each run of a PASID, in order', t => {
  const { host, context } = contextOn(t);
  context.bindStage1(USER, 5, config(0x3000));
  context.bindStage1(USER, 6, config(0x4000));
  const seen = invalidations(host);
  const page = { granularity: 'address', hi: 1, lo: 0x2000 } as const;
  const all = batch(
    { pasid: 5, ...page, leaf: true },
    { pasid: 5, granularity: 'pasid' },
    { pasid: 6, ...page, granuleShift: 21, granules: 3 },
    { pasid: 5, ...page },
  );
  t.is(context.flushStage1Caches(all), 0);
  t.is(all.accepted, 4);
  t.deepEqual(seen, [
    [4, 2],
    [5, 1],
    [4, 1],
  ]);
  const two = batch(
    { pasid: 5, ...page, granuleShift: 21, granules: 3, leaf: true },
    { pasid: 5, granularity: 'pasid' },
  );
  context.flushStage1Caches(two);
  t.is(
    payload(host, 48),
    '0020000001000000' +
      '0006000000000000' +
      '0100000000000000' +
      '0000000000000000' +
      'ffffffffffffffff' +
      '0000000000000000',
  );
});

test('a batch that is accepted in part: which entry it was, across the arrays', t => {
  const { host, context } = contextOn(t);
  context.bindStage1(USER, 5, config(0x3000));
  context.bindStage1(USER, 6, config(0x4000));
  const all = batch({ pasid: 6 }, { pasid: 5 }, { pasid: 5 }, { pasid: 5 });
  let calls = 0;
  host.on(IOMMU_HWPT_INVALIDATE, argument => {
    if (calls++ === 0) return 0;
    IommuHwptInvalidate.fields.entry_num.set(viewOf(argument as Uint8Array), 2);
    return -Errno.EINVAL;
  });
  t.is(context.flushStage1Caches(all), -Errno.EINVAL);
  t.is(all.accepted, 3);
  t.is(calls, 2);
});

test('a call that fails without a count has done nothing', t => {
  const { host, context } = contextOn(t);
  context.bindStage1(USER, 5, config(0x3000));
  host.on(IOMMU_HWPT_INVALIDATE, -Errno.EIO);
  const all = batch({ pasid: 5 }, { pasid: 5 });
  t.is(context.flushStage1Caches(all), -Errno.EIO);
  t.is(all.accepted, 0);
});

test('flushes of what is not bound: nothing to do under guest-physical addresses, a mistake otherwise', t => {
  const { host, context } = contextOn(t);
  const seen = invalidations(host);
  t.is(context.flushStage1Caches(batch({ pasid: 0 })), 0);
  const wrong = batch({ pasid: 0 }, { pasid: 9 });
  t.is(context.flushStage1Caches(wrong), -Errno.EINVAL);
  t.is(wrong.accepted, 1);
  t.deepEqual(seen, []);
});

test('PASIDs are the guest’s own: each once, none back while it is bound', t => {
  const { context } = contextOn(t, { pasidBits: 3 });
  t.deepEqual([context.pasidAlloc(1, 0xf_ffff), context.pasidAlloc(1, 0xf_ffff), context.pasidAlloc(6, 6)], [1, 2, 6]);
  t.is(context.pasidAlloc(6, 6), -Errno.ENOSPC);
  t.is(context.pasidAlloc(8, 9), -Errno.EINVAL, 'beyond the device’s bits');
  context.bindStage1(USER, 3, config(0x3000));
  t.is(context.pasidAlloc(1, 7), 4, 'the guest has taken 3 by itself');
  t.is(context.pasidFree(3), -Errno.EINVAL);
  context.bindStage1(USER, 2, config(0x3000));
  t.is(context.pasidFree(2), -Errno.EBUSY);
  context.unbindStage1(USER, 2);
  t.is(context.pasidFree(2), 0);
  t.is(context.pasidFree(2), -Errno.EINVAL);
});

function requestBytes(pasid: number | undefined, group: number, cookie: number, last = true): Uint8Array {
  return IommuHwptPgfault.encode({
    flags: (pasid === undefined ? 0 : 1) | (last ? 2 : 0),
    dev_id: 1,
    pasid: pasid ?? 0,
    grpid: group,
    perm: 3,
    addr: 0x5_0000_7000,
    cookie,
  });
}

/** Makes the fault queue's descriptor readable. */
function reporting(host: ScriptedIommufd): (...records: Uint8Array[]) => void {
  return (...records) => {
    host.readable.set(100, [Uint8Array.from(records.flatMap(record => [...record]))]);
    host.listeners.get(100)!();
  };
}

function listening(t: ExecutionContext, hardware: ScriptedHardware = PRI) {
  const host = new ScriptedIommufd(hardware);
  const report = reporting(host);
  const connection = connect(backendOn(host), FIRST, guestMemory());
  t.teardown(() => connection[Symbol.dispose]());
  const context: IommufdHostIOMMUContext = connection.context!;
  const requests: HostPageRequest[] = [];
  const abandoned: number[] = [];
  const registration = context.listen(USER, {
    pageRequest: request => requests.push(request),
    fault: () => t.fail(),
    lost: () => t.fail(),
    abandoned: pasid => abandoned.push(pasid),
  });
  host.take();
  const written = (): string[] => host.calls.splice(0).filter(call => call.startsWith('write'));
  return { host, report, context, requests, abandoned, registration, written };
}

test('page requests: out of the queue with their PASID, answered by the cookie of their group', t => {
  const { host, report, context, requests, written } = listening(t);
  t.is(context.bindStage1(USER, 5, config(0x3000)), 0);
  t.deepEqual(host.take(), [`HWPT_ALLOC 5 on ${PARENT} flags ${PASID_FLAG | FAULT_FLAG} fault 4`, 'ATTACH 5 pasid 5']);
  report(requestBytes(5, 8, 71, false), requestBytes(5, 8, 71), requestBytes(undefined, 9, 72));
  t.deepEqual(
    requests.map(({ pasid, group, last, access, hi, lo }) => [pasid, group, last, access, hi, lo]),
    [
      [5, 8, false, 3, 5, 0x7000],
      [5, 8, true, 3, 5, 0x7000],
      [NO_PASID, 9, true, 3, 5, 0x7000],
    ],
  );
  written();
  t.is(context.respondToPage(USER, 5, 9, PageResponse.SUCCESS), -Errno.EINVAL);
  t.is(context.respondToPage(USER, 5, 8, PageResponse.SUCCESS), 0);
  t.is(context.respondToPage(USER, 5, 8, PageResponse.SUCCESS), -Errno.EINVAL, 'once');
  t.is(context.respondToPage(USER, NO_PASID, 9, PageResponse.FAILURE), 0);
  t.deepEqual(written(), ['write 100 4700000000000000', 'write 100 4800000001000000']);
});

test('a response that could not be written: the group waits on; one that the host has given up: it does not', t => {
  const { host, report, context } = listening(t);
  report(requestBytes(5, 8, 71));
  const real = host.write.bind(host);
  host.write = () => -Errno.EIO;
  t.is(context.respondToPage(USER, 5, 8, PageResponse.SUCCESS), -Errno.EIO);
  host.write = real;
  t.is(context.respondToPage(USER, 5, 8, PageResponse.SUCCESS), 0);
  report(requestBytes(5, 8, 73));
  host.write = () => -Errno.EINVAL;
  t.is(context.respondToPage(USER, 5, 8, PageResponse.SUCCESS), -Errno.EINVAL);
  host.write = real;
  t.is(context.respondToPage(USER, 5, 8, PageResponse.SUCCESS), -Errno.EINVAL);
});

test('what served a PASID is gone: the host has answered its groups, and gives their cookies to others', t => {
  const { host, report, context, abandoned, written } = listening(t);
  context.bindStage1(USER, 5, config(0x3000));
  context.bindStage1(USER, 55, config(0x3000));
  context.bindStage1(USER, 0, config(0x3000));
  report(requestBytes(5, 8, 1), requestBytes(55, 8, 2), requestBytes(undefined, 8, 3));
  host.refuse('ATTACH', -Errno.ENOMEM);
  context.bindStage1(USER, 5, config(0x4000));
  t.deepEqual(abandoned, [], 'what is refused leaves what was there');
  context.bindStage1(USER, 5, config(0x4000));
  context.withoutStage1(USER, 0, 'abort');
  t.deepEqual(abandoned, [5, NO_PASID]);
  report(requestBytes(55, 9, 1));
  written();
  t.is(context.respondToPage(USER, 5, 8, PageResponse.SUCCESS), -Errno.EINVAL);
  t.is(context.respondToPage(USER, NO_PASID, 8, PageResponse.SUCCESS), -Errno.EINVAL);
  t.deepEqual(written(), [], 'the first of them would have answered another group');
  t.is(context.respondToPage(USER, 55, 8, PageResponse.SUCCESS), 0);
  t.is(context.respondToPage(USER, 55, 9, PageResponse.SUCCESS), 0);
});

test('nobody listens any more: what waits is refused, and so is what comes', t => {
  const { report, requests, registration, written } = listening(t);
  report(requestBytes(5, 8, 71));
  written();
  registration[Symbol.dispose]();
  t.deepEqual(written(), ['write 100 4700000001000000']);
  report(requestBytes(5, 8, 74, false), requestBytes(5, 8, 74));
  t.deepEqual(written(), ['write 100 4a00000001000000']);
  t.is(requests.length, 1);
});

test('a report that comes within an operation waits until that is done', t => {
  const { host, report, context, requests } = listening(t);
  context.bindStage1(USER, 5, config(0x3000));
  let within = -1;
  host.on(IOMMU_HWPT_INVALIDATE, () => {
    report(requestBytes(5, 1, 1));
    within = requests.length;
    return 0;
  });
  t.is(context.flushStage1Caches(batch({ pasid: 5 })), 0);
  t.deepEqual([within, requests.length], [0, 1]);
});

test('a kernel that has not enabled page requests of the device: bound without, from then on', t => {
  const { host, context } = listening(t);
  host.refuse('ATTACH', -Errno.ENODEV);
  t.is(context.bindStage1(USER, 5, config(0x3000)), 0);
  t.deepEqual(host.take(), [
    `HWPT_ALLOC 5 on ${PARENT} flags ${PASID_FLAG | FAULT_FLAG} fault 4`,
    'ATTACH refused',
    'DESTROY 5',
    `HWPT_ALLOC 6 on ${PARENT} flags ${PASID_FLAG}`,
    'ATTACH 6 pasid 5',
  ]);
});

test('closing: what is bound, the queue’s file, the queue, the device, then what it was attached to', t => {
  const host = new ScriptedIommufd(PRI);
  const connection = connect(backendOn(host), FIRST, guestMemory());
  connection.context!.bindStage1(USER, 5, config(0x3000));
  connection.context!.bindStage1(USER, 0, config(0x4000));
  connection.context!.withoutStage1(USER, 9, 'pass-through');
  host.take();
  connection[Symbol.dispose]();
  t.deepEqual(host.take(), [
    'DETACH pasid 5',
    'DESTROY 5',
    'DETACH',
    'DESTROY 6',
    'DETACH pasid 9',
    'DESTROY 4',
    'IOAS_UNMAP',
    'DETACH',
    'DESTROY 3',
    'DESTROY 2',
  ]);
});

test('closing: what the host would not destroy before, it is asked to once more', t => {
  const host = new ScriptedIommufd();
  const connection = connect(backendOn(host), FIRST, guestMemory());
  connection.context!.bindStage1(USER, 5, config(0x3000));
  host.refuse('DESTROY', -Errno.EBUSY);
  connection.context!.bindStage1(USER, 5, config(0x4000));
  host.take();
  connection[Symbol.dispose]();
  t.deepEqual(host.take().slice(0, 3), ['DETACH pasid 5', 'DESTROY 5', 'DESTROY 4']);
});
