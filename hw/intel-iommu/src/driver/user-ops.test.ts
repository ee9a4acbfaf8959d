/** Page tables of user space on the unit: PASID entries, what is flushed when they change and in which order (vtd.md 11.4, 11.6), and what DMA meets. */
import { Access, Errno, NO_PASID } from '@remora/core';
import { type HostPagingOptions, type PageRequest, PageResponse } from '@remora/iommu';
import { IommuHwInfoVtd, IommuHwptVtdS1, IommuHwptVtdS1Invalidate, viewOf } from '@remora/uapi';
import test from 'ava';
import type { VtdConfig } from '../config/index.js';
import type { VtdPropagation } from '../device/environment.js';
import { Fault } from '../spec/index.js';
import { DEVICE, domainOf, Guest, host, type Host, PASID, succeed } from './host.test.helper.js';
import type { VtdHostOptions } from './host-driver.js';
import type { VtdNestedDomain, VtdPagingDomain } from './user-domains.js';

const OTHER = DEVICE + 8;
const PLAIN: HostPagingOptions = { nestParent: false, dirtyTracking: false, pasid: true, pageRequests: false };
const DIRTY: Partial<VtdConfig> = { 'x-ssads': true, 'x-smpwcs': true };
const MESSAGE = { hi: 0, lo: 0xfee0_2000, data: 0x55 };

interface User extends Host {
  paging(options?: Partial<HostPagingOptions>): VtdPagingDomain;
  nested(parent: VtdPagingDomain, guest: Guest, pageRequests?: boolean): VtdNestedDomain;
  set(requesterId: number, pasid: number, domain: VtdPagingDomain | VtdNestedDomain | undefined): number;
  /** What the driver told the unit in `action`, without the waits. */
  operations(action: () => number): string[];
}

function user(options: Partial<VtdConfig> = {}, more: VtdHostOptions = {}, propagation: VtdPropagation = {}): User {
  const pageResponse = (): void => undefined;
  const endpoint = { invalidate: () => true, pageResponse };
  const made = host(options, propagation, more, { endpoint: () => endpoint });
  const ops = made.driver.user;
  return {
    ...made,
    paging: (asked = {}) => found(ops.createPaging({ ...PLAIN, ...asked })),
    nested: (parent, guest, pageRequests = false) => {
      const data = IommuHwptVtdS1.encode({ pgtbl_addr: guest.config.rootLo, addr_width: 48 });
      return found(ops.createNested(parent, 1, data, { pasid: true, pageRequests }));
    },
    set: (requesterId, pasid, domain) => ops.setDomain(requesterId, pasid, domain),
    operations: action => {
      made.rig.takeOperations();
      if (action() < 0) throw new Error('refused');
      return made.rig.takeOperations().map(operation => operation.replace(', wait sw=1', ''));
    },
  };
}

function found<T>(made: T | number): T {
  if (typeof made === 'number') throw new Error(`refused: ${made}`);
  return made;
}

function entry(addr: number, npages: number | bigint = 1, flags = 0): Uint8Array {
  return IommuHwptVtdS1Invalidate.encode({ addr, npages, flags });
}

const ats = (...requesters: number[]): VtdHostOptions => ({ hasAts: requesterId => requesters.includes(requesterId) });

test('what the hardware says: its registers as they are', t => {
  const { driver, rig } = user();
  const info = found(driver.user.hardwareInfo(DEVICE, 0));
  t.is(info.type, 1);
  const { flags, cap_reg, ecap_reg } = IommuHwInfoVtd.decode(viewOf(info.data));
  t.is(flags, 1, 'ERRATA_772415_SPR17, as Linux has it');
  const words = new Int32Array(2);
  rig.registers.read64(8, words);
  t.is(BigInt(cap_reg), BigInt.asUintN(64, (BigInt(words[1]!) << 32n) | BigInt(words[0]! >>> 0)));
  t.not(ecap_reg, 0);
  t.deepEqual(driver.user.hardwareInfo(DEVICE, 1), info);
  t.is(driver.user.hardwareInfo(DEVICE, 2), -Errno.EOPNOTSUPP);
});

for (const cachingMode of [false, true]) {
  test(`requests without PASID and each PASID are served on their own (caching-mode=${cachingMode})`, t => {
    const { rig, driver, paging, set } = user({ 'caching-mode': cachingMode });
    const [one, two] = [paging(), paging()];
    const idle = rig.pages.inUse;
    succeed(t, one.map(0x10, 0x3010, 1, Access.READ_WRITE), two.map(0x10, 0x3020, 1, Access.READ));
    const at = (pasid: number, requesterId = DEVICE): unknown => {
      const outcome = rig.request(requesterId, 0x10_000, Access.READ, pasid);
      return 'to' in outcome ? outcome.to : outcome.fault;
    };
    t.is(at(PASID), Fault.SRT_2);
    succeed(t, set(DEVICE, PASID, one));
    t.deepEqual([at(PASID), at(NO_PASID), at(PASID + 1)], [0x301_0000n, Fault.SPD_2, Fault.SPT_2]);
    succeed(t, set(DEVICE, NO_PASID, two), set(OTHER, NO_PASID, one));
    t.deepEqual([at(PASID), at(NO_PASID), at(NO_PASID, OTHER)], [0x301_0000n, 0x302_0000n, 0x301_0000n]);
    t.deepEqual(rig.request(DEVICE, 0x10_000, Access.WRITE), { fault: Fault.SGN_6 });
    succeed(t, set(DEVICE, PASID, two), set(DEVICE, PASID, two));
    t.is(at(PASID), 0x302_0000n, 'replaced');
    succeed(t, set(DEVICE, PASID, undefined), set(DEVICE, PASID, undefined));
    t.deepEqual([at(PASID), at(NO_PASID)], [Fault.SPT_2, 0x302_0000n]);
    succeed(t, set(DEVICE, NO_PASID, undefined), set(OTHER, NO_PASID, undefined));
    t.is(at(NO_PASID), Fault.SRT_2);
    for (const domain of [one, two]) domain[Symbol.dispose]();
    t.is(driver.describe().user, undefined);
    t.true(rig.pages.inUse < idle);
  });
}

test('below a nested table nothing lies that may only be read', t => {
  const { paging } = user();
  const [plain, parent] = [paging(), paging({ nestParent: true })];
  t.is(parent.map(0x10, 0x3010, 1, Access.READ), -Errno.EINVAL);
  t.is(parent.mapFrames(0x10, Int32Array.of(0x3010), Access.READ), -Errno.EINVAL);
  succeed(t, parent.map(0x10, 0x3010, 1, Access.WRITE), plain.map(0x10, 0x3010, 1, Access.READ));
});

test('what cannot be, and what is lent already', t => {
  const { driver, paging, nested, rig, set } = user();
  const ops = driver.user;
  t.is(ops.createPaging({ ...PLAIN, dirtyTracking: true }), -Errno.EOPNOTSUPP);
  const [plain, parent] = [paging(), paging({ nestParent: true })];
  const data = IommuHwptVtdS1.encode({ addr_width: 48 });
  const options = { pasid: true, pageRequests: false };
  t.is(ops.createNested(plain, 1, data, options), -Errno.EINVAL);
  t.is(ops.createNested(paging({ nestParent: true }), 2, data, options), -Errno.EOPNOTSUPP);
  const foreign = user().paging({ nestParent: true });
  t.is(ops.createNested(foreign, 1, data, options), -Errno.EINVAL);
  t.is(set(DEVICE, NO_PASID, foreign), -Errno.EINVAL, 'of another unit');
  t.is(set(DEVICE, 0, plain), -Errno.EINVAL);
  t.is(set(DEVICE, 2 ** 20, plain), -Errno.EINVAL);
  const lent = domainOf(driver);
  succeed(t, set(DEVICE, NO_PASID, plain));
  t.is(lent.attach(DEVICE), -Errno.EBUSY);
  succeed(t, set(DEVICE, NO_PASID, undefined), lent.attach(DEVICE));
  t.is(set(DEVICE, PASID, plain), -Errno.EBUSY);
  t.is(
    user({ nesting: false, 'x-scalable-mode': 'on' }).driver.user.createPaging({ ...PLAIN, nestParent: true }),
    -Errno.EOPNOTSUPP,
  );
  t.is(nested(parent, new Guest(rig, parent)).parent, parent);
});

test('entries go in order: written, then PASID cache, translations, device TLBs; one that replaces another is flushed as that one was', t => {
  const { paging, nested, rig, operations, set } = user({ 'device-iotlb': true }, ats(DEVICE));
  const parent = paging({ nestParent: true });
  const domain = nested(parent, new Guest(rig, parent));
  t.deepEqual([parent.id, domain.id], [0x100, 0x101]);
  const at = `pasid=0x${PASID.toString(16)}`;
  t.deepEqual(
    operations(() => set(DEVICE, PASID, domain)),
    [],
    'nothing was cached of it',
  );
  t.deepEqual(
    operations(() => set(DEVICE, PASID, parent)),
    [
      `IQT pasid-cache g=1 did=0x101 ${at}`,
      `IQT pasid-iotlb g=2 did=0x101 ${at}`,
      'IQT iotlb g=2 dw=1 dr=1 did=0x101',
      `IQT pasid-device-tlb sid=0x18 ${at} s=1`,
    ],
  );
  t.deepEqual(
    operations(() => set(DEVICE, NO_PASID, parent)),
    [],
  );
  t.deepEqual(
    operations(() => set(DEVICE, NO_PASID, domain)),
    [
      'IQT pasid-cache g=1 did=0x100',
      'IQT pasid-iotlb g=2 did=0x100',
      'IQT iotlb g=2 dw=1 dr=1 did=0x100',
      'IQT device-tlb sid=0x18 s=1',
    ],
  );
  t.deepEqual(
    operations(() => parent.unmap(parent.mappings().next().value.iovaFrame, 1)),
    [
      'IQT iotlb g=3 dw=1 dr=1 did=0x100, iotlb g=3 dw=1 dr=1 did=0x101, ' +
        `pasid-device-tlb sid=0x18 ${at}, device-tlb sid=0x18 s=1`,
    ],
  );
  succeed(t, set(DEVICE, PASID, undefined));
  t.deepEqual(
    operations(() => set(DEVICE, NO_PASID, undefined)),
    [
      'IQT pasid-cache g=1 did=0x101',
      'IQT pasid-iotlb g=2 did=0x101',
      'IQT iotlb g=2 dw=1 dr=1 did=0x101',
      'IQT device-tlb sid=0x18 s=1',
      'IQT context-cache g=3 sid=0x18',
      'IQT pasid-cache did=0x101',
      'IQT iotlb g=2 dw=1 dr=1 did=0x101',
      'IQT device-tlb sid=0x18 s=1',
    ],
  );
});

test('invalidations reach every function and PASID that the table serves; without one the unit goes on as it was', t => {
  const { rig, paging, nested, operations, set } = user({ 'device-iotlb': true }, ats(DEVICE));
  const parent = paging({ nestParent: true });
  const guest = new Guest(rig, parent);
  const domain = nested(parent, guest);
  guest.map(4, 0x3100);
  guest.map(5, 0x3102);
  succeed(t, set(DEVICE, 1, domain), set(DEVICE, NO_PASID, domain), set(OTHER, 1, domain));
  const at = (page: number, pasid: number, requesterId = DEVICE): unknown =>
    (rig.request(requesterId, page * 0x1000, Access.READ, pasid) as { to?: bigint }).to;
  t.deepEqual([at(4, 1), at(4, NO_PASID), at(4, 1, OTHER)], [0x3101000n, 0x3101000n, 0x3101000n]);
  guest.table.unmap(4, 1);
  guest.map(4, 0x3104);
  t.deepEqual([at(4, 1), at(4, NO_PASID), at(4, 1, OTHER)], [0x3101000n, 0x3101000n, 0x3101000n], 'stale');
  const flush = (...entries: Uint8Array[]): string[] =>
    operations(() => {
      const bytes = Uint8Array.from(entries.flatMap(each => [...each]));
      const { processed, result } = domain.invalidate(0, 24, bytes, entries.length);
      t.is(processed, entries.length);
      return result;
    });
  t.deepEqual(flush(entry(0x4000, 1, 1)), [
    'IQT pasid-iotlb g=3 did=0x101 pasid=1 ih=1, pasid-iotlb g=3 did=0x101 ih=1, ' +
      'pasid-device-tlb sid=0x18 pasid=1, device-tlb sid=0x18',
  ]);
  t.deepEqual([at(4, 1), at(4, NO_PASID), at(4, 1, OTHER)], [0x3105000n, 0x3105000n, 0x3105000n]);
  t.regex(
    flush(entry(0x5000, 3))[0]!,
    /am=2/,
    'three pages across a boundary: the eight around them would do, four do',
  );
  t.regex(flush(entry(0, 2n ** 64n - 1n))[0]!, /^IQT pasid-iotlb g=2 did=0x101 pasid=1, pasid-iotlb g=2 did=0x101, /);
  t.deepEqual(flush(entry(0x5000, 0)), [], 'no pages');
  succeed(t, set(DEVICE, 1, undefined), set(DEVICE, NO_PASID, undefined), set(OTHER, 1, undefined));
  t.deepEqual(flush(entry(0, 2n ** 64n - 1n)), [], 'it serves nobody');
});

test('a table’s id is given again, and what the unit knew of the parent below the first one is forgotten', t => {
  const { rig, paging, nested, set } = user();
  // The function goes on: its context entry, with which everything would be forgotten, stays.
  succeed(t, set(DEVICE, NO_PASID, paging()));
  const parents = [paging({ nestParent: true }), paging({ nestParent: true })];
  const serve = (parent: VtdPagingDomain, hostPage: number): bigint | undefined => {
    const guest = new Guest(rig, parent, hostPage);
    guest.map(4, hostPage + 0x80);
    const domain = nested(parent, guest);
    succeed(t, set(DEVICE, PASID, domain));
    const outcome = rig.request(DEVICE, 0x4000, Access.READ, PASID) as { to?: bigint };
    succeed(t, set(DEVICE, PASID, undefined));
    t.is(domain.id, 0x103);
    domain[Symbol.dispose]();
    return outcome.to;
  };
  t.is(serve(parents[0]!, 0x2000), 0x2081000n);
  t.is(serve(parents[1]!, 0x2100), 0x2181000n);
});

test('when the unit refuses a flush, what was there is there still', t => {
  let refuse = '';
  const answer = (name: string) => (): number => (refuse === name ? -Errno.EIO : 0);
  const { rig, driver, paging, nested, set } = user(
    {},
    {},
    {
      contextCacheInvalidate: answer('context-cache'),
      pasidCacheInvalidate: answer('pasid-cache'),
      pasidIotlbInvalidate: answer('pasid-iotlb'),
      iotlbInvalidate: answer('iotlb'),
    },
  );
  const parent = paging({ nestParent: true });
  const guest = new Guest(rig, parent);
  guest.map(4, 0x3100);
  const domain = nested(parent, guest);
  succeed(t, set(DEVICE, PASID, domain));
  const before = JSON.stringify(driver.describe());
  for (const name of ['pasid-cache', 'pasid-iotlb', 'iotlb']) {
    for (const next of [undefined, parent]) {
      refuse = name;
      t.is(set(DEVICE, PASID, next), -Errno.EINVAL, name);
      refuse = '';
      t.is(JSON.stringify(driver.describe()), before);
      t.like(rig.request(DEVICE, 0x4000, Access.READ, PASID), { to: 0x3101000n }, name);
    }
  }
  refuse = 'pasid-iotlb';
  const { processed, result } = domain.invalidate(0, 24, Uint8Array.of(...entry(0x4000), ...entry(0x5000)), 2);
  t.deepEqual([processed, result], [0, -Errno.EINVAL]);
  refuse = '';
  succeed(t, set(DEVICE, PASID, undefined));
});

test('an unmapping that the unit refuses needs no page to be undone: what it may have read of the tables is true still', t => {
  let refuse = false;
  const { rig, ration, paging, set } = user({}, {}, { iotlbInvalidate: () => (refuse ? -Errno.EIO : 0) });
  const domain = paging();
  // The last page of one table, and the first of the next.
  succeed(t, domain.mapFrames(0x1ff, Int32Array.of(0x3010, 0x3020), Access.READ_WRITE), set(DEVICE, PASID, domain));
  const reads = (page: number): unknown => rig.request(DEVICE, page * 0x1000, Access.READ, PASID);
  t.like([reads(0x1ff), reads(0x200)], [{ to: 0x301_0000n }, { to: 0x302_0000n }]);
  const idle = rig.pages.inUse;
  refuse = true;
  ration.left = 0;
  t.is(domain.unmap(0x1ff, 2), -Errno.EINVAL);
  refuse = false;
  t.is(rig.pages.inUse, idle);
  t.deepEqual(
    [...domain.mappings()].map(({ iovaFrame, frame }) => [iovaFrame, frame]),
    [
      [0x1ff, 0x3010],
      [0x200, 0x3020],
    ],
  );
  t.like([reads(0x1ff), reads(0x200)], [{ to: 0x301_0000n }, { to: 0x302_0000n }]);
  succeed(t, domain.unmap(0x1ff, 2));
  t.true(rig.pages.inUse < idle);
});

test('a table that the unit would not let go of when it should have been blocked is taken away before its pages are', t => {
  let refuse = false;
  const answer = (): number => (refuse ? -Errno.EIO : 0);
  const { rig, driver, paging, set } = user({}, {}, { pasidCacheInvalidate: answer, iotlbInvalidate: answer });
  const [one, two] = [paging(), paging()];
  succeed(t, one.map(0x10, 0x3010, 1, Access.READ), set(DEVICE, PASID, one), set(DEVICE, NO_PASID, two));
  refuse = true;
  t.is(set(DEVICE, PASID, undefined), -Errno.EINVAL);
  one[Symbol.dispose]();
  refuse = false;
  t.deepEqual(rig.request(DEVICE, 0x10_000, Access.READ, PASID), { fault: Fault.SPT_2 });
  succeed(t, set(DEVICE, NO_PASID, undefined));
  two[Symbol.dispose]();
  t.is(driver.describe().user, undefined);
});

test('when nobody takes a function’s page requests any more it makes none, even if the unit would not let go', t => {
  let refuse = false;
  const pri: boolean[] = [];
  const { paging, set } = user(
    { 'device-iotlb': true, svm: true },
    { ...ats(DEVICE), hasPri: () => true, enablePri: (_, on) => pri.push(on), pageRequests: MESSAGE },
    { pasidCacheInvalidate: () => (refuse ? -Errno.EIO : 0) },
  );
  const [taken, other] = [paging({ pageRequests: true }), paging()];
  succeed(t, set(DEVICE, 1, taken), set(DEVICE, 2, other));
  t.true(pri.at(-1));
  refuse = true;
  taken[Symbol.dispose]();
  t.false(pri.at(-1));
  refuse = false;
  succeed(t, set(DEVICE, 2, undefined));
});

test('no tag, no page: nothing is left over', t => {
  const { rig, driver, ration, set, paging } = user();
  const { user: ops } = driver;
  const idle = rig.pages.inUse;
  ration.left = 0;
  t.is(ops.createPaging(PLAIN), -Errno.ENOMEM);
  ration.left = Infinity;
  const domain = paging();
  const made = rig.pages.inUse;
  for (let left = 0; left < 3; left++) {
    ration.left = left;
    t.is(set(DEVICE, PASID, domain), -Errno.ENOMEM, `${left} pages`);
    t.is(rig.pages.inUse, made);
  }
  ration.left = Infinity;
  succeed(t, set(DEVICE, PASID, domain), set(DEVICE, PASID, undefined));
  domain[Symbol.dispose]();
  t.is(rig.pages.inUse, idle);
  const all = user({}, { firstDomainId: 0xfffe });
  t.deepEqual([all.paging().id, all.paging().id, all.driver.user.createPaging(PLAIN)], [0xfffe, 0xffff, -Errno.ENOSPC]);
});

test('dirty pages: the entry’s SSADE, for the table and for what is nested over it; what is cleared is noted again', t => {
  const { rig, paging, nested, operations, set } = user(DIRTY);
  const parent = paging({ nestParent: true, dirtyTracking: true });
  const guest = new Guest(rig, parent);
  guest.map(4, 0x3100);
  succeed(
    t,
    parent.map(0x10, 0x3010, 2, Access.READ_WRITE),
    set(DEVICE, NO_PASID, parent),
    set(OTHER, 1, nested(parent, guest)),
  );
  const write = (): void => {
    t.like(rig.request(DEVICE, 0x10_000, Access.WRITE), { to: 0x301_0000n });
    t.like(rig.request(OTHER, 0x4000, Access.WRITE, 1), { to: 0x310_1000n });
  };
  const dirty = (clear: boolean): number[] => {
    const pages: number[] = [];
    succeed(
      t,
      parent.readDirty(0, 0x4000, clear, (page, count) =>
        pages.push(...Array.from({ length: count }, (_, i) => page + i)),
      ),
    );
    return pages.filter(page => page < 0x100 || page >= 0x3000);
  };
  write();
  t.deepEqual(dirty(false), [], 'tracking is off');
  t.deepEqual(
    operations(() => parent.setDirtyTracking(true)).filter(each => each.startsWith('IQT pasid-cache')),
    ['IQT pasid-cache g=1 did=0x100', 'IQT pasid-cache g=1 did=0x101 pasid=1'],
  );
  t.deepEqual(dirty(true), []);
  write();
  t.deepEqual([dirty(false), dirty(true), dirty(true)], [[0x10, 0x3100], [0x10, 0x3100], []]);
  write();
  succeed(t, parent.setDirtyTracking(false));
  t.deepEqual(dirty(true), [0x10, 0x3100], 'the unit had forgotten that they were written; what was noted stays noted');
  t.is(paging().setDirtyTracking(true), -Errno.EOPNOTSUPP);
});

test('page requests: only while somebody takes them; the message comes, the requests are handed on, answers go out', t => {
  const pri: (readonly [number, boolean])[] = [];
  const { rig, driver, paging, nested, set } = user(
    { 'device-iotlb': true, svm: true },
    {
      ...ats(DEVICE, OTHER),
      hasPri: requesterId => requesterId === DEVICE,
      enablePri: (requesterId, on) => pri.push([requesterId, on]),
      pageRequests: MESSAGE,
    },
  );
  const parent = paging({ nestParent: true });
  const domain = nested(parent, new Guest(rig, parent), true);
  t.is(set(OTHER, 1, domain), -Errno.ENODEV, 'a function without page requests');
  succeed(t, set(DEVICE, 1, domain));
  t.deepEqual(pri, [[DEVICE, true]]);
  const asked: PageRequest = {
    requesterId: DEVICE,
    pasid: 1,
    hi: 0,
    lo: 0x7000,
    access: Access.WRITE,
    group: 3,
    last: true,
  };
  t.true(rig.unit.pageRequest(asked));
  t.deepEqual(rig.messages, [[MESSAGE.lo, MESSAGE.data]]);
  t.deepEqual(driver.user.takePageRequests(), [asked]);
  t.deepEqual(driver.user.takePageRequests(), []);
  rig.takeOperations();
  t.is(driver.user.respond(asked, PageResponse.SUCCESS), 0);
  t.deepEqual(rig.takeOperations(), ['IQT page-response pp=1 rid=0x18 pasid=1 lpig=1 prgi=3, wait sw=1']);
  t.true(rig.unit.pageRequest({ ...asked, group: 4 }));
  succeed(t, set(DEVICE, 1, parent));
  t.deepEqual(
    driver.user.takePageRequests().map(({ group }) => group),
    [4],
    'drained, not lost',
  );
  t.deepEqual(pri.at(-1), [DEVICE, false]);
});
