/** Devices that join and leave while PASIDs are bound, and what else happens to a function: groups, bus numbers, resets. */
import test from 'ava';
import { ConfigError, Errno } from '@remora/core';
import { createHost } from '@remora/machine';
import { GuestEngine, physicalVtd } from '@remora/machines';
import { Capability, Config } from '@remora/pci';
import { owner } from '@remora/testing';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import { bind, BIND, unbind } from '../behaviours/host-bytes.js';
import { type Placement, Rig } from '../rig/rig.js';
import { pattern, place, SharedSpace, seenBy } from './shared-space.js';

const AT = 0x1_0000_0000;
const ONE_CONTAINER: readonly Placement[] = [{ addr: '03.0' }, { addr: '04.0' }];
const TWO_CONTAINERS: readonly Placement[] = [
  { addr: '03.0', container: 'new' },
  { addr: '04.0', container: 'new' },
];
const HOT_PLUG: readonly Placement[] = [{ addr: '03.0' }, { addr: '04.0', later: true }];
/** Device control in the PCI Express capability, and the bit of it that resets the function. */
const DEVICE_CONTROL = 8;
const INITIATE_FLR = 0x8000;
const OLD = pattern(16, 1);
const NEW = pattern(16, 2);

test('a device plugged into a container with bound PASIDs gets those that its tables bind, and only those', t => {
  const own = owner(t);
  const rig = own(new Rig({ functions: HOT_PLUG }));
  const shared = new SharedSpace(rig);
  const alone = new SharedSpace(rig, { engine: shared.engine });
  place(AT, shared, OLD);
  place(AT, alone, NEW);
  shared.bind(0);
  alone.bind(0);
  shared.enter(1);
  shared.sync();
  rig.take();
  rig.machine.plug(rig.deviceString(1));
  t.deepEqual(rig.take(), [bind(shared.pasid, { root: shared.root })], 'issued again');
  const joined = rig.engine(1);
  t.deepEqual(shared.deviceReads(AT, 16, 0, joined), OLD);
  t.is(alone.deviceReads(AT, 16, 0, joined), undefined);

  // Bound later, by a descriptor.
  alone.bind(1);
  t.deepEqual(rig.take(), [bind(alone.pasid, { root: alone.root })]);
  t.deepEqual(alone.deviceReads(AT, 16, 0, joined), NEW);

  rig.machine.unplug(rig.deviceId(1));
  t.deepEqual(rig.take(), [], 'the first device still uses both');
  t.deepEqual([shared.deviceReads(AT, 16), alone.deviceReads(AT, 16)], [OLD, NEW]);
  shared.unbind(0, 1);
  t.deepEqual(rig.take(), [unbind(shared.pasid)]);
});

test('a device plugged into a container whose PASID it has with another root is refused that PASID only', t => {
  const own = owner(t);
  const rig = own(new Rig({ functions: HOT_PLUG }));
  const one = new SharedSpace(rig);
  const other = new SharedSpace(rig, { pasid: one.pasid, engine: one.engine });
  const free = new SharedSpace(rig, { engine: one.engine });
  place(AT, one, OLD);
  place(AT, free, NEW);
  one.bind(0);
  other.enter(1);
  free.enter(1);
  rig.take();
  rig.machine.plug(rig.deviceString(1));
  t.deepEqual(rig.take(), [bind(free.pasid, { root: free.root })]);
  t.deepEqual(one.deviceReads(AT, 16), OLD);
  t.deepEqual(free.deviceReads(AT, 16, 0, rig.engine(1)), NEW);
  t.false(rig.isCached(one.pasid, 1));
});

test('a bind that fails while a device is plugged is made up for at the next sync', t => {
  const own = owner(t);
  const rig = own(new Rig({ functions: HOT_PLUG }));
  const space = new SharedSpace(rig);
  place(AT, space, OLD);
  space.bind(0);
  space.enter(1);
  rig.plan.arm({ request: BIND, result: -Errno.ENOMEM });
  rig.machine.plug(rig.deviceString(1));
  const joined = rig.engine(1);
  t.deepEqual([space.deviceReads(AT, 16), space.deviceReads(AT, 16, 0, joined)], [OLD, undefined]);
  rig.take();
  rig.pasidCache(3, 0, 0);
  t.deepEqual(rig.take(), [bind(space.pasid, { root: space.root })]);
  t.deepEqual(space.deviceReads(AT, 16, 0, joined), OLD);
});

test('two functions of one IOMMU group: they share a container, and one of them can go', t => {
  const own = owner(t);
  const devices = ['3f:00.0', '3f:01.0'].map(addr => `dma-engine,addr=${addr},group=pair`);
  const host = own(createHost({ plugins: [dmaEnginePlugin], iommu: physicalVtd(), devices }));
  t.throws(() => new Rig({ host, functions: TWO_CONTAINERS }), { instanceOf: ConfigError });
  const rig = own(new Rig({ host, functions: ONE_CONTAINER }));
  const space = new SharedSpace(rig);
  const engines = [space.engine, rig.engine(1)];
  place(AT, space, OLD);
  space.bind(0, 1);
  t.deepEqual(seenBy(AT, space, engines), [OLD, OLD]);
  rig.machine.unplug(rig.deviceId(1));
  t.deepEqual(space.deviceReads(AT, 16), OLD);
  rig.machine.plug(rig.deviceString(1));
  t.deepEqual(space.deviceReads(AT, 16, 0, rig.engine(1)), OLD);
  rig.take();
  space.unbind(0, 1);
  t.deepEqual(rig.take(), [unbind(space.pasid)]);
});

test('a reset of the function alone: the engine forgets, its bindings stay', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  place(AT, space, OLD);
  const [fn] = rig.machine.functions(rig.deviceId());
  const express = fn!.capabilities.find(Capability.EXPRESS)!;
  rig.take();
  rig.machine.config.write(fn!.bdf, express + DEVICE_CONTROL, INITIATE_FLR, 2);
  t.deepEqual(rig.take(), []);
  t.is(rig.machine.config.read(fn!.bdf, Config.COMMAND, 2), 0);
  t.deepEqual(space.deviceReads(AT, 16, 0, rig.engine()), OLD);
});

test('buses are numbered anew: bindings follow the tables of the new requester id, not the device', t => {
  const own = owner(t);
  const rig = own(new Rig({ functions: [{ addr: '00.0', bus: 'port' }], extra: ['pcie-root-port,id=port,addr=05.0'] }));
  const space = new SharedSpace(rig).bind();
  place(AT, space, OLD);
  const { iommu } = rig.guest;
  rig.take();
  for (const register of [Config.SECONDARY_BUS, Config.SUBORDINATE_BUS])
    rig.machine.config.write('00:05.0', register, 2, 1);
  const engine = new GuestEngine(rig.machine, '02:00.0', 0xd010_0000);
  iommu.contextEntry(0x200, {});
  iommu.pasidEntry(0x200, 0, { did: 1, pgtt: 4 });
  iommu.pasidEntry(0x200, space.pasid, { did: 7, pgtt: 1, fsptptr: space.root / 4096 });
  rig.pasidCache(3, 0, 0);
  t.deepEqual(rig.take(), [], 'the same entry at the new place');
  t.deepEqual(space.deviceReads(AT, 16, 0, engine), OLD);
  iommu.clearPasidEntry(0x200, space.pasid);
  rig.pasidCache(1, 7, space.pasid);
  t.deepEqual(rig.take(), [unbind(space.pasid)], 'what is left at the old place is nobody’s');
  t.is(space.deviceReads(AT, 16, 0, engine), undefined);
});
