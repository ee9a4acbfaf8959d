/** What ends while PASIDs are bound: unplugged devices, reset machines, closed machines. */
import test, { type ExecutionContext } from 'ava';
import { Errno, MemTx } from '@remora/core';
import { createHost } from '@remora/machine';
import { ENGINE, physicalVtd } from '@remora/machines';
import { FailurePoints, owner } from '@remora/testing';
import { dmaEngine } from '@hw/dma-engine/config';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import { bind, BIND, PASID_REQUEST, pasidFree, unbind } from '../behaviours/host-bytes.js';
import { type Placement, Rig, type RigOptions } from '../rig/rig.js';
import { hostBytes } from './host-memory.js';
import { pattern, SharedSpace } from './shared-space.js';

const AT = 0x1_0000_0000;
const FILL = 0xa1b2_c3d4;

interface Named {
  readonly rig: Rig;
  /** The names of the calls that `act` makes. */
  callsOf(act: () => void): string[];
}

function named(t: ExecutionContext, options: RigOptions): Named {
  const points = new FailurePoints();
  const rig = owner(t)(new Rig({ ...options, interpose: syscalls => points.syscalls(syscalls) }));
  return {
    rig,
    callsOf(act) {
      const before = points.names.length;
      act();
      return points.names.slice(before).map(name => name.replace('VFIO_', ''));
    },
  };
}

/** A bound space with a page that the engine has used. */
function used(rig: Rig, data = pattern(16)): SharedSpace {
  const space = new SharedSpace(rig).bind();
  space.page(AT);
  if (!space.deviceWrites(AT, data).ok) throw new Error('the space does not work');
  return space;
}

const places: readonly { title: string; place: Placement; extra: readonly string[] }[] = [
  { title: 'on the root bus', place: { addr: '03.0', later: true }, extra: [] },
  {
    title: 'behind a root port',
    place: { addr: '00.0', bus: 'port', later: true },
    extra: ['pcie-root-port,id=port,addr=05.0'],
  },
];

for (const { title, place, extra } of places) {
  test(`unplugged with live bindings, ${title}: the exact calls, nothing left, no DMA; plugged again, all works again`, t => {
    const { rig, callsOf } = named(t, { functions: [place], extra });
    const { platform } = rig.host;
    const empty = rig.host.dump();
    for (let round = 1; round <= 2; round++) {
      rig.machine.plug(rig.deviceString());
      const spaces = [used(rig, pattern(16, round)), used(rig)];
      const idle = rig.allocate();
      const [one, two] = spaces.map(space => space.pasid);
      const page = spaces[0]!.table.walk(AT).frame;
      rig.take();
      const names = callsOf(() => rig.machine.unplug(rig.deviceId()));
      t.deepEqual(rig.take(), [unbind(one!), unbind(two!), pasidFree(one!), pasidFree(two!), pasidFree(idle)]);
      t.deepEqual(names, [
        ...['IOMMU_BIND', 'IOMMU_BIND', 'IOMMU_PASID_REQUEST', 'IOMMU_PASID_REQUEST', 'IOMMU_PASID_REQUEST'],
        // The device, its mappings, its group, its container.
        ...['close', 'IOMMU_UNMAP_DMA', 'GROUP_UNSET_CONTAINER', 'close', 'close'],
      ]);
      t.deepEqual(rig.host.dump(), empty);

      t.is(spaces[0]!.engine.read(0), 0xffff_ffff, 'the guest finds nobody');
      // Even a device that goes on by itself.
      const engine = platform.function(ENGINE);
      engine.config.write(4, 6, 2);
      t.is(engine.dma.write(0, page * 4096, pattern(16, 9)), MemTx.ACCESS_ERROR);
      t.is(engine.dma.write(AT / 0x10_0000, 0, pattern(16, 9), one), MemTx.ACCESS_ERROR);
      engine.config.write(4, 0, 2);
      t.deepEqual(rig.guest.read(page, 16), pattern(16, round));
      platform.takeFaults();
      for (const pasid of [one!, two!]) rig.clearEntry(pasid);
      rig.pasidCache(3, 0, 0);
      t.deepEqual(rig.take(), [], 'nobody to tell');
    }
  });
}

test('plugged again without having been cleaned up: the old PASID is not its own any more, and is refused', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = used(rig);
  rig.machine.unplug(rig.deviceId());
  rig.take();
  rig.machine.plug(rig.deviceString());
  t.deepEqual(rig.take(), [bind(space.pasid, { root: space.root })]);
  t.is(rig.log.calls.findLast(({ request }) => request === BIND)!.result, -Errno.ENOENT);
  t.deepEqual(rig.host.bound(), []);
  rig.refused(rig.descriptor.pasidCache(1, 7, space.pasid));
  rig.clearEntry(space.pasid);
  rig.clearError();
  used(rig);
});

for (const { title, place, extra } of places) {
  test(`a system reset with live bindings, ${title}: the exact calls, and the host as before the guest bound anything`, t => {
    const { addr, bus } = place;
    const { rig, callsOf } = named(t, { functions: [bus === undefined ? { addr } : { addr, bus }], extra });
    // Once round: a table of the host's, once made, stays as long as the device. It holds 64 PASIDs, also those to come.
    while (rig.allocate() % 64 > 32);
    used(rig);
    rig.machine.reset();
    const before = rig.host.dump();

    rig.boot();
    const spaces = [used(rig), used(rig)];
    const [one, two] = spaces.map(({ pasid }) => pasid);
    const page = spaces[0]!.table.walk(AT).frame;
    rig.take();
    const names = callsOf(() => rig.machine.reset());
    t.deepEqual(rig.take(), [unbind(one!), unbind(two!), pasidFree(one!), pasidFree(two!)]);
    t.deepEqual(names, [
      // The device stops before its translations go: bus mastering off, then the reset.
      ...['pwrite', 'DEVICE_RESET'],
      ...['IOMMU_BIND', 'IOMMU_BIND', 'IOMMU_PASID_REQUEST', 'IOMMU_PASID_REQUEST'],
    ]);
    t.deepEqual(rig.host.dump(), before);

    t.deepEqual(rig.guest.read(page, 16), pattern(16));
    rig.boot();
    const engine = rig.engine();
    t.false(engine.fill({ pasid: one!, to: AT * 4096, length: 4, pattern: FILL }).ok);
    t.is(rig.host.platform.takeFaults().length, 1);
    used(rig, pattern(16, 2));
  });
}

test('a reset while a command runs: it moves nothing any more', t => {
  const own = owner(t);
  const latency = 1000;
  const host = own(
    createHost({ plugins: [dmaEnginePlugin], iommu: physicalVtd(), devices: [dmaEngine({ addr: ENGINE, latency })] }),
  );
  const rig = own(new Rig({ host }));
  const space = new SharedSpace(rig).bind();
  const frame = space.page(AT);
  const begin = (engine = space.engine): void => {
    engine.fill({ pasid: space.pasid, to: AT * 4096, length: 16, pattern: FILL });
  };
  begin();
  t.deepEqual(hostBytes(rig, frame, 4), new Uint8Array(4));
  host.clock.step(latency);
  t.deepEqual(hostBytes(rig, frame, 4), Uint8Array.of(0xd4, 0xc3, 0xb2, 0xa1));
  rig.guest.write(frame, new Uint8Array(16));

  begin();
  rig.machine.reset();
  host.clock.step(2 * latency);
  t.deepEqual(hostBytes(rig, frame, 4), new Uint8Array(4));
  t.deepEqual(host.platform.takeFaults(), [], 'it was stopped before its translation went');
});

test('a reset while the queue is stopped at a refused bind, and with entries that were never announced', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const bound = used(rig);
  const refused = new SharedSpace(rig, { engine: bound.engine });
  const unannounced = new SharedSpace(rig, { engine: bound.engine });
  refused.enter();
  rig.plan.arm({ request: BIND, result: -Errno.ENOMEM });
  rig.refused(rig.descriptor.pasidCache(1, 7, refused.pasid));
  unannounced.enter();
  rig.take();
  rig.machine.reset();
  t.deepEqual(rig.take(), [unbind(bound.pasid), ...[bound, refused, unannounced].map(({ pasid }) => pasidFree(pasid))]);
  t.deepEqual([rig.host.bound(), rig.host.pasids()], [[], []]);
  rig.boot();
  t.deepEqual(rig.take(), [], 'the tables of before are not the guest’s any more');
  used(rig, pattern(16, 2));
});

const arrangements: readonly { title: string; functions: readonly Placement[]; calls: readonly string[] }[] = [
  {
    title: 'one device',
    functions: [{ addr: '03.0' }],
    calls: [
      ...['IOMMU_BIND', 'IOMMU_PASID_REQUEST', 'close'],
      ...['IOMMU_UNMAP_DMA', 'GROUP_UNSET_CONTAINER', 'close', 'close', 'munmap'],
    ],
  },
  {
    title: 'two devices in one container',
    functions: [{ addr: '03.0' }, { addr: '04.0' }],
    calls: [
      ...['close', 'GROUP_UNSET_CONTAINER', 'close'],
      ...['IOMMU_BIND', 'IOMMU_PASID_REQUEST', 'close'],
      ...['IOMMU_UNMAP_DMA', 'GROUP_UNSET_CONTAINER', 'close', 'close', 'munmap'],
    ],
  },
  {
    title: 'two devices in two containers',
    functions: [
      { addr: '03.0', container: 'new' },
      { addr: '04.0', container: 'new' },
    ],
    calls: [
      ...['IOMMU_BIND', 'close', 'IOMMU_UNMAP_DMA', 'GROUP_UNSET_CONTAINER', 'close', 'close'],
      ...['IOMMU_BIND', 'IOMMU_PASID_REQUEST', 'close'],
      ...['IOMMU_UNMAP_DMA', 'GROUP_UNSET_CONTAINER', 'close', 'close', 'munmap'],
    ],
  },
];

for (const { title, functions, calls } of arrangements) {
  test(`a machine that is closed with live bindings, ${title}: the exact calls, and the host as before`, t => {
    using host = createHost({
      plugins: [dmaEnginePlugin],
      iommu: physicalVtd(),
      devices: [dmaEngine({ addr: ENGINE }), dmaEngine({ addr: '3f:01.0' })],
    });
    const before = host.platform.dump();
    const { rig, callsOf } = named(t, { host, functions });
    const space = used(rig);
    if (functions.length > 1) space.bind(1);
    t.deepEqual(rig.host.bound(), [space.pasid]);
    t.deepEqual(
      callsOf(() => rig[Symbol.dispose]()),
      calls,
    );
    t.deepEqual(host.platform.dump(), before);
  });
}

test('one of two devices is unplugged and the host refuses to unbind: tried again until it does', t => {
  const own = owner(t);
  const rig = own(new Rig({ functions: [{ addr: '03.0' }, { addr: '04.0' }] }));
  const space = used(rig);
  const staying = rig.engine(1);
  t.true(space.deviceWrites(AT, pattern(16, 2), 0, staying).ok);
  rig.plan.arm({ request: BIND, result: -Errno.EIO });
  rig.machine.unplug(rig.deviceId(0));
  t.deepEqual(rig.host.bound(), [space.pasid], 'it is still there');
  rig.take();
  rig.clearEntry(space.pasid, 0);
  rig.pasidCache(3, 0, 0);
  t.deepEqual(rig.take(), [unbind(space.pasid)]);
  t.deepEqual(rig.host.bound(), []);
  t.false(space.deviceWrites(AT, pattern(16, 3), 0, staying).ok);
  t.is(rig.guest.iommu.freePasid(space.pasid), 0);

  const next = new SharedSpace(rig, { device: 1, engine: staying }).bind();
  next.page(AT);
  t.true(next.deviceWrites(AT, pattern(16)).ok);
  rig.take();
  next.unbind();
  t.deepEqual(rig.take(), [unbind(next.pasid)]);
});

test('the last device of a container is unplugged and the host takes a PASID not back: freed through the other container', t => {
  const own = owner(t);
  const functions: readonly Placement[] = [
    { addr: '03.0', container: 'new' },
    { addr: '04.0', container: 'new' },
  ];
  const rig = own(new Rig({ functions }));
  const pasid = rig.allocate();
  rig.plan.arm({ request: PASID_REQUEST, result: -Errno.EIO });
  rig.machine.unplug(rig.deviceId(0));
  t.deepEqual(rig.host.pasids(), [pasid]);
  rig.take();
  rig.machine.reset();
  t.deepEqual(rig.take(), [pasidFree(pasid)]);
  t.deepEqual(rig.host.pasids(), []);
});
