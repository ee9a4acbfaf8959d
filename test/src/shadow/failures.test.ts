/**
 * A host that refuses: the guest sees a queue error at the descriptor in question, what was mapped there before is in force, and it is tried
 * again when the descriptor is, or when the function is looked at for another reason.
 */
import test from 'ava';
import { Errno, errnoName, type Ram, Region } from '@remora/core';
import { owner } from '@remora/testing';
import { VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA } from '@remora/uapi';
import { type MapCall, mapped, PAGE, RW, ShadowRig, unmapped } from './shadow-rig.js';

const AT = 0x8_0000;
const DOMAIN = 7;
const [A, B, C] = [0x100, 0x140, 0x180];
const MAP = { request: VFIO_IOMMU_MAP_DMA };
const UNMAP = { request: VFIO_IOMMU_UNMAP_DMA };

/** How often something in `ram` was read since. */
function countReads(ram: Ram): () => number {
  let count = 0;
  const load = ram.loadInFrame.bind(ram);
  ram.loadInFrame = (...parameters) => {
    count++;
    return load(...parameters);
  };
  return () => count;
}

function failed(call: MapCall, errno: number): MapCall {
  return { ...call, result: -errno };
}

const ERRNOS = [Errno.ENOMEM, Errno.ENOSPC, Errno.EINVAL, Errno.EFAULT, Errno.EEXIST, Errno.EBUSY, Errno.EIO];

for (const errno of ERRNOS) {
  test(`MAP_DMA answers ${errnoName(errno)}: a queue error, nothing mapped, and the same descriptor again`, t => {
    const rig = owner(t)(new ShadowRig());
    const table = rig.table();
    const engine = rig.engine();
    rig.machine.ledger.on = true;
    rig.attach(table, DOMAIN);
    rig.map(table, DOMAIN, AT + 9, B);
    rig.take();
    t.is(table.map(AT, A, 1, RW), 0);
    rig.plan.arm({ ...MAP, result: -errno });
    rig.refused(rig.pagesDescriptor(DOMAIN, AT));
    t.deepEqual(rig.take(), [failed(mapped(AT, A), errno)]);
    t.false(rig.writes(engine, AT, A));
    t.true(rig.writes(engine, AT + 9, B), 'what was mapped before stays');
    const failures = rig.machine.ledger.events.filter(({ kind }) => kind === 'host-failure');
    t.deepEqual(
      failures.map(({ data }) => data),
      [{ action: 'shadow', requesterId: 0x18, frame: AT, pages: 1, errno: -errno }],
    );
    t.true(
      rig.machine.ledger.events.some(
        ({ kind, data }) => kind === 'warning' && String(data['message']).includes('MAP_DMA'),
      ),
    );
    t.true(rig.clearError());
    t.deepEqual(rig.take(), [mapped(AT, A)]);
    t.true(rig.writes(engine, AT, A));
  });

  test(`UNMAP_DMA answers ${errnoName(errno)}: a queue error, still mapped, and the same descriptor again`, t => {
    const rig = owner(t)(new ShadowRig());
    const table = rig.table();
    const engine = rig.engine();
    rig.attach(table, DOMAIN);
    rig.map(table, DOMAIN, AT, A);
    rig.take();
    t.is(table.unmap(AT, 1), 0);
    rig.plan.arm({ ...UNMAP, result: -errno });
    rig.refused(rig.pagesDescriptor(DOMAIN, AT));
    t.deepEqual(rig.take(), [failed(unmapped(AT), errno)]);
    t.true(rig.writes(engine, AT, A));
    t.true(rig.clearError());
    t.deepEqual(rig.take(), [unmapped(AT)]);
    t.false(rig.writes(engine, AT, A));
  });
}

test('a guest that goes on: what failed is tried again with whatever it reports next', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  rig.take();
  t.is(table.map(AT, A, 1, RW), 0);
  const fault = rig.plan.arm({ ...MAP, times: 2, result: -Errno.ENOMEM });
  rig.refused(rig.pagesDescriptor(DOMAIN, AT));
  rig.goOn();
  t.is(rig.flushDomain(DOMAIN + 1), 0);
  t.is(fault.struck, 1, 'another domain');
  t.is(rig.flushPages(DOMAIN, AT + 100), 0, 'that it fails again does not concern this descriptor');
  t.is(fault.struck, 2);
  t.false(rig.writes(engine, AT, A));
  t.is(rig.flushPages(DOMAIN, AT + 100), 0);
  t.true(rig.writes(engine, AT, A));
  rig.take();
  t.is(rig.flushPages(DOMAIN, AT + 100), 0);
  t.deepEqual(rig.take(), []);
});

test('one of several ranges is refused: the others are mapped', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  for (const [index, frame] of [A, B, C].entries()) t.is(table.map(AT + 2 * index, frame, 1, RW), 0);
  rig.plan.arm({ ...MAP, nth: 2, result: -Errno.EINVAL });
  rig.refused(rig.pagesDescriptor(DOMAIN, AT, 8));
  t.deepEqual(
    [A, B, C].map((frame, index) => rig.writes(engine, AT + 2 * index, frame)),
    [true, false, true],
  );
});

test('a host without room is not asked for each of many ranges', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  rig.attach(table, DOMAIN);
  for (let page = 0; page < 20; page++) t.is(table.map(AT + 2 * page, A, 1, RW), 0);
  rig.take();
  const fault = rig.plan.arm({ ...MAP, nth: 5, times: 100, result: -Errno.ENOMEM });
  rig.refused(rig.pagesDescriptor(DOMAIN, AT, 64));
  t.deepEqual(
    rig.take().map(({ iova, result }) => [iova - AT, result]),
    [
      [0, undefined],
      [2, undefined],
      [4, undefined],
      [6, undefined],
      [8, -Errno.ENOMEM],
    ],
  );
  fault[Symbol.dispose]();
  t.true(rig.clearError());
  t.is(rig.held()!.length, 20);
});

test('a remap whose new page is refused: the old page is back', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  rig.map(table, DOMAIN, AT, A);
  rig.take();
  t.is(table.unmap(AT, 1), 0);
  t.is(table.map(AT, B, 1, RW), 0);
  rig.plan.arm({ ...MAP, result: -Errno.ENOMEM });
  rig.refused(rig.pagesDescriptor(DOMAIN, AT));
  t.deepEqual(rig.take(), [unmapped(AT), failed(mapped(AT, B), Errno.ENOMEM), mapped(AT, A)]);
  t.true(rig.writes(engine, AT, A));
  t.true(rig.clearError());
  t.true(rig.writes(engine, AT, B));
});

test('a run that cannot be mapped again in parts: it is back as a whole, or at least nobody believes it is', t => {
  const own = owner(t);
  // The second part is refused; then the first one, and the whole as well.
  for (const [nth, times, back] of [
    [2, 1, true],
    [1, 2, false],
  ] as const) {
    const rig = own(new ShadowRig());
    const table = rig.table();
    const engine = rig.engine();
    rig.attach(table, DOMAIN);
    rig.map(table, DOMAIN, AT, A, 9);
    t.is(table.unmap(AT + 4, 1), 0);
    rig.plan.arm({ ...MAP, nth, times, result: -Errno.ENOMEM });
    rig.refused(rig.pagesDescriptor(DOMAIN, AT + 4));
    for (const page of [0, 4, 8]) t.is(rig.writes(engine, AT + page, A + page), back, `page ${page}`);
    t.true(rig.clearError());
    t.deepEqual(rig.held(), [
      { iova: AT, pages: 4, to: A, access: RW },
      { iova: AT + 5, pages: 4, to: A + 5, access: RW },
    ]);
  }
});

test('of a range in two blocks of memory the second is refused: the first goes again', t => {
  const rig = owner(t)(new ShadowRig());
  const { machine } = rig;
  // Neighbours by address that are not neighbours in memory.
  const ram = Region.ram('same', machine.board.ram);
  const alias = (at: number, frame: number): void =>
    machine.memory.root.add(at * PAGE, Region.alias(`page ${frame}`, ram, frame * PAGE, PAGE), 5);
  alias(0x9_0000, A);
  alias(0x9_0001, C);
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  rig.take();
  t.is(table.map(AT, 0x9_0000, 2, RW), 0);
  rig.plan.arm({ ...MAP, nth: 2, result: -Errno.EIO });
  rig.refused(rig.pagesDescriptor(DOMAIN, AT, 2));
  t.deepEqual(rig.take(), [mapped(AT, A), failed(mapped(AT + 1, C), Errno.EIO), unmapped(AT)]);
  t.deepEqual(rig.held(), []);
  t.true(rig.clearError());
  t.deepEqual(rig.take(), [mapped(AT, A), mapped(AT + 1, C)]);
  t.true(rig.writes(engine, AT + 1, C));
  t.is(rig.unmap(table, DOMAIN, AT, 2), 0);
  t.deepEqual(rig.take(), [unmapped(AT, 2)]);
});

test('refused where no descriptor can say so: in the ledger, and done at the next occasion', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  const engine = rig.engine();
  rig.machine.ledger.on = true;
  t.is(table.map(AT, A, 1, RW), 0);
  rig.guest.iommu.disableTranslation();
  rig.guest.iommu.contextEntry(rig.requesterId(), { tt: 0, ssptptr: table.rootFrame, aw: 2, did: DOMAIN });
  rig.plan.arm({ ...MAP, result: -Errno.ENOMEM });
  rig.guest.iommu.enableTranslation();
  t.false(rig.writes(engine, AT, A));
  t.false(rig.writes(engine, A, A), 'and it does not go on as before, either');
  t.deepEqual(
    rig.machine.ledger.events.filter(({ kind }) => kind === 'host-failure').map(({ data }) => data['errno']),
    [-Errno.ENOMEM],
  );
  t.is(rig.guest.iommu.contextCacheInvalidate(1), 0);
  t.true(rig.writes(engine, AT, A));
});

test('a context entry whose table is refused is a queue error, too', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  t.is(table.map(AT, A, 1, RW), 0);
  t.is(table.map(AT + 4, B, 1, RW), 0);
  t.is(rig.passThrough(1), 0);
  rig.plan.arm({ ...MAP, result: -Errno.EINVAL });
  t.is(rig.attach(table, DOMAIN), -Errno.EINVAL, 'the function was passed through before');
  rig.goOn();
  t.is(rig.attach(table, DOMAIN), 0);
  t.is(rig.held()!.length, 2);
});

test('tables that lead in a circle end in a queue error, long before all of their pages were seen', t => {
  const rig = owner(t)(new ShadowRig());
  const table = rig.table();
  const engine = rig.engine();
  rig.attach(table, DOMAIN);
  rig.map(table, DOMAIN, AT, A);
  rig.take();
  // Each entry of each table is this table: 2^36 pages, none of which continues another.
  const entry = Uint8Array.of(3, (table.rootFrame & 0xf) << 4, (table.rootFrame >>> 4) & 0xff, 0, 0, 0, 0, 0);
  const keep = rig.guest.read(table.rootFrame, 4096);
  for (let index = 0; index < 512; index++) rig.guest.write(table.rootFrame, entry, index * 8);
  const reads = countReads(rig.machine.board.ram);
  t.is(rig.flushDomain(DOMAIN), -Errno.EINVAL);
  t.log(`${reads()} reads`);
  t.true(reads() > 0 && reads() < 2 ** 20, `${reads()} reads`);
  t.deepEqual(rig.take(), []);
  t.true(rig.writes(engine, AT, A));
  rig.guest.write(table.rootFrame, keep);
  t.true(rig.clearError());
  t.is(rig.flushDomain(DOMAIN), 0);
  t.true(rig.writes(engine, AT, A));
});
