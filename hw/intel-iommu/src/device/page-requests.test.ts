/** Page requests: which are taken, the queue, its overflow, its event, and responses (vtd.md 1.11, 4.4, 5.7, 5.9, 7.1 to 7.4). */
import { Access, Ledger, NO_PASID } from '@remora/core';
import { PageResponse, type PageRequest } from '@remora/iommu';
import test from 'ava';
import {
  DescriptorType,
  Fault,
  GlobalCommand,
  PageGroupResponseDescriptor,
  PasidEntry,
  Pgtt,
  Prs,
  QueueError,
  Reg,
  Ttm,
  WaitDescriptor,
} from '../spec/index.js';
import {
  ATS,
  ENABLED,
  FakeFunction,
  firstRecord,
  functions,
  granted,
  pageRequest,
  type Manner,
} from './ats-bench.test.helper.js';
import {
  baseEntry,
  Bench,
  legacyBench,
  NOWHERE,
  RID,
  scalableBench,
  type ScalableTables,
  type Values,
} from './bench.test.helper.js';
import { PAGE_REQUEST_AT } from './fault-recording.js';
import { OVERFLOW_RESPONSE } from './page-requests.js';

const { READ, WRITE, READ_WRITE, EXECUTE, PRIVILEGED } = Access;
const { PPR, PRO } = Prs;
const PAGE = 0x7f_0000n;
const SLOT = 32;
/** First-stage entry: P, R/W, U/S, A, D; and what links tables. */
const PTE = 0x67n;
const LINK = 0x27n;

interface Queue extends ScalableTables {
  readonly fn: FakeFunction;
  /** Byte address of the queue. */
  readonly queue: number;
  /** Hands in a page request; returns whether it was taken. */
  ask(address?: bigint, values?: Partial<PageRequest>): boolean;
  /** The four quadwords of a slot. */
  slot(index: number): bigint[];
}

/** A unit with a queue of one page, and RID as a function. PASID 5 has the first stage. */
function withQueue(context: Values = {}, options: object = {}, entry: Values = {}, manner: Manner = 'at once'): Queue {
  const fn = new FakeFunction();
  fn.manner = manner;
  const tables = scalableBench(
    { ...ATS, ...options },
    entry,
    { ...ENABLED, ...context },
    undefined,
    functions({ [RID]: fn }),
  );
  const { bench, second, first, entryOf } = tables;
  bench.put(entryOf(5), PasidEntry.encode({ ...baseEntry(second, first), pgtt: Pgtt.FIRST_STAGE, pwsnp: 1 } as never));
  const queue = bench.page() * 4096;
  bench.write64(Reg.PQA, queue);
  return {
    ...tables,
    fn,
    queue,
    ask: (address = PAGE, values = {}) => bench.unit.pageRequest(pageRequest(address, values)),
    slot: index => [0, 8, 16, 24].map(at => bench.get64(queue + index * SLOT + at)),
  };
}

test('without page requests the registers are not there; with them they have their masks', t => {
  const registers = [Reg.PQH, Reg.PQT, Reg.PQA, Reg.PECTL, Reg.PEADDR];
  const none = new Bench({ ...ATS, svm: false });
  for (const register of registers) none.write64(register, 0xffff_ffff_ffff_ffffn);
  t.deepEqual(
    registers.map(register => none.read64(register)),
    [0n, 0n, 0n, 0n, 0n],
  );
  const bench = new Bench({ ...ATS, intremap: true, eim: true });
  t.is(bench.read32(Reg.PECTL), 0x8000_0000);
  for (const register of registers) bench.write64(register, 0xffff_ffff_ffff_ffffn);
  t.deepEqual(
    registers.map(register => bench.read64(register)),
    [0x7_ffe0n, 0x7_ffe0n, 0xffff_ffff_ffff_f007n, 0x0000_ffff_8000_0000n, 0xffff_ffff_ffff_fffcn],
  );
  bench.write32(Reg.PRS, 0xffff_ffff);
  t.is(bench.read32(Reg.PRS), 0);
  bench.unit.reset();
  t.deepEqual(
    registers.map(register => bench.read64(register)),
    [0n, 0n, 0n, 0x8000_0000n, 0n],
  );
});

test('the worked encoding of section 14 lands at the tail, which moves on; PPR is set', t => {
  const { bench, ask, slot } = withQueue();
  const rid = 0x0100;
  const contexts = Number(bench.get64(Number(bench.read64(Reg.RTADDR) & ~0xfffn) + 16) & ~0xfffn);
  bench.put64(contexts, bench.get64(contexts + (RID & 0x7f) * 32));
  t.true(ask(PAGE, { requesterId: rid, pasid: 5, group: 3 }));
  t.deepEqual(slot(0), [0x0000_0005_0100_0101n, 0x0000_0000_007f_001fn, 0n, 0n]);
  t.is(bench.read64(Reg.PQT), 0x20n);
  t.is(bench.read64(Reg.PQH), 0n, 'the unit never writes the head');
  t.is(bench.read32(Reg.PRS), PPR);
});

test('attributes go with a PASID only; a stop marker is queued like a request', t => {
  const { bench, ask, slot, fn } = withQueue();
  const address = 0xffff_8000_1234_5000n;
  t.true(ask(address, { access: READ | EXECUTE | PRIVILEGED, pasid: 0xfff, last: false, group: 511 }));
  t.true(ask(address, { access: WRITE | EXECUTE | PRIVILEGED, last: false, group: 0 }));
  t.true(ask(0n, { access: 0, pasid: 5, group: 9 }));
  t.deepEqual(slot(0).slice(0, 2), [0x0030_0fff_0113_0101n, address | 0xff9n]);
  t.deepEqual(slot(1).slice(0, 2), [0x0000_0000_0113_0001n, address | 2n]);
  t.deepEqual(slot(2).slice(0, 2), [0x0000_0005_0113_0101n, 0x4cn]);
  t.deepEqual(fn.responses, []);
  t.is(bench.read32(Reg.PQT), 0x60);
});

test('executing is reading: a request to execute without reading is refused', t => {
  const { bench, ask } = withQueue();
  t.false(ask(PAGE, { access: EXECUTE, pasid: 5 }));
  t.deepEqual([bench.read32(Reg.PQT), bench.offered], [0, []]);
});

test('every size: the tail wraps at 4096 << PQS, one slot stays empty', t => {
  for (let pqs = 0; pqs <= 7; pqs++) {
    const { bench, ask } = withQueue();
    const bytes = 4096 * 2 ** pqs;
    const queue = bench.page(2 ** pqs) * 4096;
    bench.write64(Reg.PQA, queue + pqs);
    bench.write32(Reg.PQT, bytes - SLOT);
    bench.write32(Reg.PQH, SLOT * 2);
    t.true(ask());
    t.is(bench.read32(Reg.PQT), 0);
    t.not(bench.get64(queue + bytes - SLOT), 0n);
    t.true(ask());
    t.is(bench.read32(Reg.PQT), SLOT);
    t.is(bench.read32(Reg.PRS), PPR);
    t.true(ask(), 'tail + 32 is the head: full');
    t.is(bench.read32(Reg.PQT), SLOT);
    t.is(bench.get64(queue + SLOT), 0n);
    t.is(bench.read32(Reg.PRS), PPR | PRO);
  }
});

test('a queue across 4 GiB; one where no memory is takes nothing', t => {
  const { bench, ask } = withQueue();
  bench.write64(Reg.PQA, 0xffff_f000n + 1n);
  bench.write32(Reg.PQT, 4096);
  bench.write32(Reg.PQH, 0);
  const stored: string[] = [];
  bench.memory.store = (hi, lo) => {
    stored.push(`${hi}:${lo}`);
    return 0;
  };
  t.true(ask());
  t.deepEqual(stored, ['1:0']);
  const none = withQueue();
  none.bench.write64(Reg.PQA, NOWHERE * 4096);
  t.false(none.ask());
  t.deepEqual([none.bench.read32(Reg.PQT), none.bench.read32(Reg.PRS)], [0, 0]);
});

test('overflow: the last request of a group is told success, others and stop markers nothing, until PRO is cleared', t => {
  t.is(OVERFLOW_RESPONSE, PageResponse.SUCCESS, 'UNCONFIRMED');
  const { bench, ask, fn, slot } = withQueue();
  bench.write32(Reg.PQH, SLOT);
  t.true(ask(PAGE, { last: false }));
  t.is(bench.read32(Reg.PRS), PRO);
  t.deepEqual(fn.responses, []);
  t.true(ask(PAGE, { group: 4, pasid: 5 }));
  t.true(ask(PAGE, { group: 5, access: 0 }));
  bench.write32(Reg.PQH, 0);
  t.true(ask(PAGE, { group: 6 }), 'room again, but PRO still stands');
  t.deepEqual(fn.responses, [
    [5, 4, PageResponse.SUCCESS],
    [NO_PASID, 6, PageResponse.SUCCESS],
  ]);
  t.is(bench.read32(Reg.PQT), 0);
  bench.write32(Reg.PRS, PRO);
  t.true(ask(PAGE, { group: 7 }));
  t.deepEqual([bench.read32(Reg.PQT), bench.read32(Reg.PRS)], [SLOT, PPR]);
  t.is(slot(0)[1]! & 0xff8n, 7n << 3n);
  t.is(fn.responses.length, 2);
});

test('the request that finds the queue full is answered like those after it', t => {
  const { bench, ask, fn } = withQueue();
  bench.write32(Reg.PQH, SLOT);
  t.true(ask(PAGE, { group: 1 }));
  t.deepEqual(fn.responses, [[NO_PASID, 1, PageResponse.SUCCESS]]);
  bench.write32(Reg.PRS, PRO);
  t.true(ask(PAGE, { group: 2 }));
  t.is(bench.read32(Reg.PRS), PRO, 'still full: it overflows again');
  t.is(fn.responses.length, 2);
});

/** Routes the page request event. */
function listen(bench: Bench): void {
  bench.write32(Reg.PEADDR, 0xfee0_3000);
  bench.write32(Reg.PEDATA, 0x44);
  bench.write32(Reg.PECTL, 0);
}

test('event: once when PPR or PRO is set while neither stood', t => {
  const { bench, ask } = withQueue();
  listen(bench);
  ask();
  t.deepEqual(bench.messages, [{ address: 0xfee0_3000, data: 0x44 }]);
  ask();
  bench.write32(Reg.PQH, SLOT * 3);
  ask();
  t.is(bench.read32(Reg.PRS), PPR | PRO);
  t.is(bench.messages.length, 1, 'PPR stands: no more for PPR, none for PRO');
  bench.write32(Reg.PRS, PPR);
  ask();
  t.is(bench.messages.length, 1, 'PRO stands');
  bench.write32(Reg.PRS, PRO);
  ask();
  t.is(bench.messages.length, 2, 'it overflows anew');
  bench.write32(Reg.PRS, PPR | PRO);
  bench.write32(Reg.PQH, 0);
  ask();
  t.is(bench.messages.length, 3);
});

test('event: pending while masked; sent when unmasked; forgotten when both conditions are cleared', t => {
  const { bench, ask } = withQueue();
  listen(bench);
  bench.write32(Reg.PECTL, 0x8000_0000);
  ask();
  t.deepEqual([bench.read32(Reg.PECTL), bench.messages.length], [0xc000_0000, 0]);
  bench.write32(Reg.PECTL, 0);
  t.deepEqual([bench.read32(Reg.PECTL), bench.messages.length], [0, 1]);
  bench.write32(Reg.PRS, PPR);
  bench.write32(Reg.PECTL, 0x8000_0000);
  bench.write32(Reg.PQH, SLOT * 3);
  ask();
  ask();
  t.is(bench.read32(Reg.PRS), PPR | PRO);
  bench.write32(Reg.PRS, PPR);
  t.is(bench.read32(Reg.PECTL), 0xc000_0000, 'PRO still stands');
  bench.write32(Reg.PRS, PRO);
  t.is(bench.read32(Reg.PECTL), 0x8000_0000);
  bench.write32(Reg.PECTL, 0);
  t.is(bench.messages.length, 1);
});

test('event: the message has the upper address with EIM', t => {
  const { bench, ask } = withQueue({}, { intremap: true, eim: true });
  listen(bench);
  bench.write32(Reg.PEUADDR, 0x100);
  ask();
  t.deepEqual(bench.messages, [{ address: 0x100_fee0_3000, data: 0x44 }]);
});

/** [reason, what is wrong, PASID of the request]. */
const REFUSED: readonly (readonly [reason: number, damage: (tables: Queue) => void, pasid?: number])[] = [
  [Fault.RTA_1, ({ bench }) => bench.setRoot(bench.page(), Ttm.RESERVED)],
  [Fault.RTA_3, ({ bench }) => bench.setRoot(bench.page(), Ttm.LEGACY)],
  [Fault.RTA_3, ({ bench }) => bench.setRoot(bench.page(), Ttm.LEGACY), 5],
  [Fault.SRT_1, ({ bench }) => bench.setRoot(NOWHERE, Ttm.SCALABLE)],
  [Fault.SRT_2, ({ bench, rootEntry }) => bench.put64(rootEntry, 0n)],
  [Fault.SRT_3, ({ bench, rootEntry }) => bench.flip(rootEntry, 1)],
  [Fault.SCT_1, ({ bench, rootEntry }) => bench.put64(rootEntry, (BigInt(NOWHERE) << 12n) | 1n)],
  [Fault.SCT_2, ({ bench, context }) => bench.flip(context, 0)],
  [Fault.SCT_3, ({ bench, context }) => bench.flip(context, 5)],
  [Fault.SCT_4, ({ bench, context }) => bench.flip(context, 64 + 19)],
  [Fault.SCT_6, ({ bench, context }) => bench.flip(context, 3), 5],
  [Fault.SCT_7, () => undefined, 0x2000],
  [Fault.SCT_8, ({ bench, context }) => bench.flip(context, 4)],
  [Fault.SCT_8, ({ bench, context }) => bench.flip(context, 4), 5],
];

for (const [reason, damage, pasid = NO_PASID] of REFUSED) {
  test(`0x${reason.toString(16)}, PASID ${pasid}: refused, and recorded as a page request`, t => {
    const tables = withQueue({}, { 'x-rps': true });
    damage(tables);
    const { bench, ask } = tables;
    t.false(ask(PAGE, { pasid }));
    t.deepEqual(bench.offered, [reason]);
    t.like(firstRecord(bench), { fr: reason, t1: 0, t2: 1, at: 0, sid: RID, fi: Number(PAGE >> 12n) });
    t.is(firstRecord(bench)['pp'], pasid === NO_PASID ? 0 : 1);
    t.deepEqual([bench.read32(Reg.PQT), bench.read32(Reg.PRS)], [0, 0]);
  });
}

test('0x45 comes before 0x46, and 0x46 before 0x47; DTE does not matter', t => {
  const { bench, ask } = withQueue({ dte: 0, paside: 0, pre: 0 });
  t.false(ask(PAGE, { pasid: 0x2000 }));
  const beyond = withQueue({ dte: 0, pre: 0 });
  t.false(beyond.ask(PAGE, { pasid: 0x2000 }));
  t.deepEqual([...bench.offered, ...beyond.bench.offered], [Fault.SCT_6, Fault.SCT_7]);
  t.true(withQueue({ dte: 0 }).ask());
  t.is(PAGE_REQUEST_AT, 0, 'UNCONFIRMED');
});

test('FPD suppresses the record of a refused request', t => {
  const { bench, ask } = withQueue({ pre: 0, fpd: 1 });
  t.false(ask());
  t.deepEqual([bench.offered, bench.suppressed], [[], [Fault.SCT_8]]);
});

test('while translation is off, and without ECAP.PRS, requests are refused and nothing is recorded', t => {
  const { bench, ask } = withQueue();
  bench.write32(Reg.GCMD, 0);
  t.false(ask());
  bench.command(GlobalCommand.TE);
  t.true(ask());
  const without = legacyBench({ 'device-iotlb': true }, { tt: 1 }).bench;
  t.false(without.unit.pageRequest(pageRequest(PAGE)));
  t.deepEqual([...bench.offered, ...without.offered], []);
});

test('what is cached of the page is dropped before the request is queued: only that page, of that PASID', t => {
  const { bench, ask, first } = withQueue({}, {}, { pgtt: Pgtt.FIRST_STAGE, pwsnp: 1 });
  const other = PAGE + 0x1000n;
  const remap = (frame: bigint): void => {
    bench.mapAt(first, 4, PAGE, (frame << 12n) | PTE, LINK);
    bench.mapAt(first, 4, other, (frame << 12n) | PTE, LINK);
  };
  const seen = (): unknown[] =>
    [NO_PASID, 5]
      .flatMap(pasid => [PAGE, other].map(at => bench.request(at, READ, pasid)))
      .map(each => 'to' in each && each.to);
  remap(9n);
  t.deepEqual(seen(), [0x9000, 0x9000, 0x9000, 0x9000]);
  remap(10n);
  t.deepEqual(seen(), [0x9000, 0x9000, 0x9000, 0x9000], 'stale, as nothing was invalidated');
  t.true(ask(PAGE + 0x123n, { pasid: 5 }));
  t.deepEqual(seen(), [0x9000, 0x9000, 0xa000, 0x9000]);
  t.true(ask(PAGE));
  t.deepEqual(seen(), [0xa000, 0x9000, 0xa000, 0x9000]);
});

test('the same for second-stage translations', t => {
  const { bench, ask, second } = withQueue();
  bench.mapAt(second, 4, PAGE, 0x9001n, 3n);
  t.is(granted(bench, PAGE, READ), READ);
  bench.mapAt(second, 4, PAGE, 0xa001n, 3n);
  t.is(bench.fault(PAGE), 0);
  t.like(bench.request(PAGE), { to: 0x9000 });
  t.true(ask());
  t.like(bench.request(PAGE), { to: 0xa000 });
});

/** Submits a page group response. */
function respond(bench: Bench, values: Values): boolean {
  return bench.submit(PageGroupResponseDescriptor, { type: DescriptorType.PAGE_GROUP_RESPONSE, ...values });
}

test('a page group response goes to the function that it names, whatever its code', t => {
  const { bench, fn } = withQueue();
  bench.enableQueue(true);
  t.true(respond(bench, { pp: 1, rid: RID, pasid: 5, prgi: 3 }));
  t.true(respond(bench, { pp: 1, rid: RID, pasid: 0xf_ffff, prgi: 511, rc: 15, lpig: 1 }));
  t.true(respond(bench, { rid: RID, pasid: 5, prgi: 1, rc: 1 }), 'no PASID: the field does not count');
  t.true(respond(bench, { rid: RID, prgi: 1, rc: 7 }));
  t.true(respond(bench, { rid: RID + 1, prgi: 1 }), 'nobody there');
  t.deepEqual(fn.responses, [
    [5, 3, PageResponse.SUCCESS],
    [0xf_ffff, 511, PageResponse.FAILURE],
    [NO_PASID, 1, PageResponse.INVALID_REQUEST],
    [NO_PASID, 1, 7],
  ]);
});

test('each reserved bit of a page group response is an error; so is its type without ECAP.PRS', t => {
  const layout = PageGroupResponseDescriptor;
  let checked = 0;
  for (let bit = 0; bit < 256; bit++) {
    if ((layout.reserved[bit >>> 5]! & (1 << (bit & 31))) === 0) continue;
    const { bench, fn } = withQueue();
    bench.enableQueue(true);
    const words = layout.encode({ type: 9, pp: 1, rid: RID, pasid: 5, prgi: 3 });
    words[bit >>> 5]! |= 1 << (bit & 31);
    t.false(bench.submitWords(words), `bit ${bit}`);
    t.is(bench.read32(Reg.IQERCD) & 0xf, QueueError.RESERVED_FIELD);
    t.deepEqual(fn.responses, []);
    checked++;
  }
  // vtd.md 5.9: q0 0xFFF00000000001E0, q1 0xFFFFFFFFFFFFF003, q2, q3.
  t.is(checked, 4 + 12 + 2 + 52 + 128);
  const without = new Bench({ ...ATS, svm: false });
  without.setRoot(without.page(), Ttm.SCALABLE);
  without.enableQueue(true);
  t.false(respond(without, { rid: RID }));
  t.is(without.read32(Reg.IQERCD) & 0xf, QueueError.INVALID_TYPE);
});

test('software may answer from within the event: the response arrives while the request is being made', t => {
  const { bench, ask, fn } = withQueue();
  bench.enableQueue(true);
  listen(bench);
  bench.messages.push = () => {
    t.is(bench.read32(Reg.PQT), SLOT, 'the request is there already');
    bench.write32(Reg.PRS, PPR);
    bench.write32(Reg.PQH, SLOT);
    return Number(respond(bench, { pp: 1, rid: RID, pasid: 5, prgi: 3 }));
  };
  t.true(ask(PAGE, { pasid: 5 }));
  t.deepEqual(fn.responses, [[5, 3, PageResponse.SUCCESS]]);
});

test('drain: a wait with PD completes when every earlier request is in the queue; PD is reserved without ECAP.PDS', t => {
  const { bench, ask } = withQueue();
  bench.enableQueue(true);
  const status = bench.page() * 4096;
  ask();
  ask(PAGE, { last: false });
  t.true(bench.submit(WaitDescriptor, { type: 5, sw: 1, pd: 1, statusData: 2, statusAddressLow: status / 4 }));
  t.is(bench.get64(status), 2n);
  t.is(bench.read32(Reg.PQT), 2 * SLOT);
  const without = withQueue({}, { 'x-pds': false }).bench;
  without.enableQueue(true);
  t.false(without.submit(WaitDescriptor, { type: 5, fn: 1, pd: 1 }));
  t.is(without.read32(Reg.IQERCD) & 0xf, QueueError.RESERVED_FIELD);
});

test('the ledger tells of each request, and what became of it', t => {
  const ledger = new Ledger();
  ledger.on = true;
  const { bench } = scalableBench(ATS, {}, ENABLED, undefined, { ledger });
  bench.write64(Reg.PQA, bench.page() * 4096);
  bench.write32(Reg.PQH, 2 * SLOT);
  for (let n = 0; n < 2; n++) t.true(bench.unit.pageRequest(pageRequest(PAGE)));
  bench.write32(Reg.PRS, PRO);
  bench.write64(Reg.PQA, NOWHERE * 4096);
  bench.write32(Reg.PQH, 3 * SLOT);
  t.false(bench.unit.pageRequest(pageRequest(PAGE)));
  const told = ledger.events.filter(({ kind }) => kind === 'page-request').map(({ data }) => data);
  const request = {
    requesterId: RID,
    pasid: NO_PASID,
    hi: 0,
    lo: Number(PAGE),
    access: READ_WRITE,
    group: 3,
    last: true,
  };
  const outcomes = ['queued', 'overflow', 'no-memory'];
  t.deepEqual(
    told,
    outcomes.map(outcome => ({ ...request, outcome })),
  );
});

test('reset: the queue is as after power-on, and takes requests again once software has set it up', t => {
  const { bench, ask } = withQueue();
  bench.write32(Reg.PQH, SLOT);
  ask();
  t.is(bench.read32(Reg.PRS), PRO);
  bench.unit.reset();
  t.deepEqual(
    [Reg.PQH, Reg.PQT, Reg.PQA, Reg.PRS, Reg.PECTL].map(each => bench.read32(each)),
    [0, 0, 0, 0, 0x8000_0000],
  );
  t.false(ask(), 'translation is off');
});

test('the recorded attributes of a refused request are those of a page request, not of a DMA', t => {
  const { bench, ask } = withQueue({ pre: 0 });
  t.false(ask(PAGE, { pasid: 5, access: READ_WRITE | EXECUTE | PRIVILEGED }));
  t.like(firstRecord(bench), { pp: 1, pv: 5, exe: 1, priv: 1, t1: 0, t2: 1 });
});
