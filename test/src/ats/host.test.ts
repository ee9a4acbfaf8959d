/** A device TLB in an engine of the host, under the physical unit, lent through vfio-pci: whose guests know nothing of it. */
import test, { type ExecutionContext } from 'ava';
import { NO_PASID } from '@remora/core';
import type { SimulatedHost } from '@remora/host-sim';
import { createHost, createMachine, type Host, openState, restoreMachine, saveState } from '@remora/machine';
import {
  ENGINE,
  extendedCapability,
  Guest,
  PHYSICAL_VTD,
  type PhysicalVtd,
  physicalVtd,
  plugins,
  SECOND_ENGINE,
} from '@remora/machines';
import { ExtendedCapability } from '@remora/pci';
import { owner } from '@remora/testing';
import { dmaEngine, type DmaEngineConfig } from '@hw/dma-engine/config';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import { Granularity, PasidIotlbGranularity } from '@hw/intel-iommu';
import { legacyContext, VtdHostDriver } from '@hw/intel-iommu/driver';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';
import type { VfioPci } from '@hw/vfio-pci';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import { SharedSpace } from '../propagation/shared-space.js';
import { hostBytes } from '../propagation/host-memory.js';
import { Rig } from '../rig/rig.js';

const MIB = 0x10_0000;
/** Virtual frame of what is mapped. */
const AT = 0x1_2345_6000;
const FILL = { length: 4, pattern: 0 };
const SECOND = 1_000_000_000;

interface Setup {
  /** Whether the physical unit serves device TLBs; default true. */
  readonly served?: boolean;
  /** Whether the host nests; default true. */
  readonly nests?: boolean;
  readonly engine?: Partial<DmaEngineConfig>;
}

/** A host whose first engine has a device TLB; the second has none. */
function atsHost(t: ExecutionContext, { served = true, nests = true, engine = {} }: Setup = {}): Host<SimulatedHost> {
  return owner(t)(
    createHost({
      memory: 64 * MIB,
      ...(nests ? {} : { kernel: { nestingType: false } }),
      iommu: physicalVtd({ 'device-iotlb': served }),
      plugins: [dmaEnginePlugin],
      devices: [dmaEngine({ addr: ENGINE, ats: true, pri: true, ...engine }), dmaEngine({ addr: SECOND_ENGINE })],
    }),
  );
}

const physical = (host: Host<SimulatedHost>): PhysicalVtd => host.platform.iommu as PhysicalVtd;

/** A guest on it that shares an address space with the engine. */
function sharing(t: ExecutionContext, setup: Setup = {}) {
  const host = atsHost(t, setup);
  const rig = owner(t)(new Rig({ host }));
  const space = new SharedSpace(rig).bind();
  const fill = (value: number): boolean =>
    space.engine.fill({ ...FILL, pasid: space.pasid, to: AT * 4096, pattern: value * 0x0101_0101 }).ok;
  const bytes = (frames: readonly number[]): number[] => frames.map(frame => hostBytes(rig, frame, 1)[0]!);
  return { host, rig, space, fill, bytes };
}

/** DTE in the function's context entry, in the physical unit's tables. */
function deviceTlbEnabled(host: Host<SimulatedHost>, bdf: string): boolean {
  const { driver } = physical(host);
  return driver instanceof VtdHostDriver && driver.driver.hasDeviceTlb(host.platform.function(bdf).requesterId);
}

test('the host lets a function use its device TLB while it is behind a domain, and no longer', t => {
  const host = atsHost(t);
  const [first, second] = [ENGINE, SECOND_ENGINE];
  t.false(host.platform.function(first).atsEnabled);
  const rig = new Rig({ host, functions: [{ addr: '03.0' }, { addr: '04.0' }] });
  t.true(host.platform.function(first).atsEnabled);
  t.deepEqual([deviceTlbEnabled(host, first), deviceTlbEnabled(host, second)], [true, false]);
  t.false(host.platform.function(first).priEnabled);
  rig[Symbol.dispose]();
  t.false(host.platform.function(first).atsEnabled);
  t.false(deviceTlbEnabled(host, first));
});

test('a unit that serves no device TLBs: nothing changes', t => {
  const { host, rig, space, fill, bytes } = sharing(t, { served: false });
  t.false(host.platform.function(ENGINE).atsEnabled);
  t.false(deviceTlbEnabled(host, ENGINE));
  const frames = [space.page(AT)];
  t.true(fill(1));
  frames.push(space.remap(AT));
  space.flushPages(AT);
  t.true(fill(2));
  t.deepEqual(bytes(frames), [1, 2]);
  t.deepEqual(rig.host.platform.takeFaults(), []);
});

test('stale until the guest flushes: its flush of the IOTLB reaches the device TLB, page by page and as a whole', t => {
  const { space, fill, bytes } = sharing(t);
  const frames = [space.page(AT)];
  t.true(fill(1));
  frames.push(space.remap(AT));
  t.true(fill(2));
  t.deepEqual(bytes(frames), [2, 0]);
  space.flushPages(AT);
  t.true(fill(3));
  t.deepEqual(bytes(frames), [2, 3]);
  frames.push(space.remap(AT));
  t.true(fill(4));
  space.flushAll();
  t.true(fill(5));
  t.deepEqual(bytes(frames), [2, 4, 5]);
});

test('what the flush adds: that of the physical IOTLB alone leaves the old page in the device', t => {
  const { host, space, fill, bytes } = sharing(t);
  const frames = [space.page(AT)];
  t.true(fill(1));
  frames.push(space.remap(AT));
  const { driver } = physical(host).driver as VtdHostDriver;
  const [domain] = (physical(host).driver as VtdHostDriver).describe().domains;
  t.is(driver.pasidIotlbInvalidate(PasidIotlbGranularity.PASID, domain!.id, space.pasid), 0);
  t.true(fill(2));
  t.deepEqual(bytes(frames), [2, 0]);
  space.flushPages(AT);
  t.true(fill(3));
  t.deepEqual(bytes(frames), [2, 3]);
});

test('after an unbind the device reaches nothing of the PASID any more', t => {
  const { rig, space, fill, bytes } = sharing(t);
  const frames = [space.page(AT)];
  t.true(fill(1));
  space.unbind();
  t.false(fill(2));
  t.deepEqual(bytes(frames), [1]);
  t.deepEqual(rig.host.bound(), []);
});

test('guest-physical DMA of the engine goes through its device TLB, to the right bytes of the host', t => {
  const { host, rig, space } = sharing(t);
  const frame = rig.guest.page();
  host.ledger.on = true;
  t.true(space.engine.fill({ to: frame * 4096, length: 4, pattern: 0x5a5a_5a5a }).ok);
  t.deepEqual(hostBytes(rig, frame, 5), Uint8Array.of(0x5a, 0x5a, 0x5a, 0x5a, 0));
  const requests = host.ledger.events.filter(({ kind }) => kind === 'dma' || kind === 'translation-request');
  const own = requests.filter(({ source }) => source.includes('3f:00.0'));
  t.deepEqual(
    own.map(({ kind, data }) => [kind, data['pasid'], data['translated']]),
    [
      ['translation-request', NO_PASID, undefined],
      ['dma', NO_PASID, true],
    ],
  );
});

test('what shadow mapping takes away at the host is out of the device TLB, too', t => {
  const host = atsHost(t, { nests: false });
  const vm = createMachine(host, {
    board: 'q35,memory=16M',
    plugins: [q35Plugin, intelIommuPlugin, vfioPciPlugin],
    devices: ['intel-iommu,caching-mode=on', `vfio-pci,host=${ENGINE},addr=03.0`],
  });
  vm.start();
  const guest = new Guest(vm, { mode: 'legacy' });
  const table = guest.secondStage();
  const { iommu } = guest;
  iommu.start(undefined, () => iommu.attach(0x18, legacyContext(table, 5)));
  const engine = guest.engine('00:03.0');
  const page = 0x1234;
  const flush = (): number => iommu.iotlbInvalidate(Granularity.PAGE, 5, { hi: 0, lo: page * 4096, addressMask: 0 });
  const fill = (value: number): boolean => engine.fill({ ...FILL, to: page * 4096, pattern: value * 0x0101_0101 }).ok;
  const [first, second] = [guest.page(), guest.page()];
  const bytes = (): number[] => [first, second].map(frame => guest.read(frame, 1)[0]!);
  t.is(table.map(page, first, 1, 3), 0);
  t.is(flush(), 0);
  t.true(fill(1));
  t.is(table.unmap(page, 1), 0);
  t.true(fill(2), 'the guest has not said so yet');
  t.is(flush(), 0);
  t.false(fill(3));
  t.is(table.map(page, second, 1, 3), 0);
  t.is(flush(), 0);
  t.true(fill(4));
  t.deepEqual(bytes(), [2, 4]);
});

test('a reset by the guest leaves ATS as the host had it, and the device TLB empty', t => {
  const { host, rig, space, bytes } = sharing(t);
  const frames = [space.page(AT)];
  const { pasid } = space;
  t.true(space.engine.fill({ ...FILL, pasid, to: AT * 4096, pattern: -1 }).ok);
  frames.push(space.remap(AT));
  // Nothing is flushed: only the physical unit's own cache is, so that a new request finds the new page.
  const driver = physical(host).driver as VtdHostDriver;
  t.is(driver.driver.pasidIotlbInvalidate(PasidIotlbGranularity.PASID, driver.describe().domains[0]!.id, pasid), 0);
  rig.machine.device<VfioPci>(rig.deviceId(0)).fn.reset();
  t.true(host.platform.function(ENGINE).atsEnabled);
  t.true(rig.engine().fill({ ...FILL, pasid, to: AT * 4096, pattern: 0x0202_0202 }).ok);
  t.deepEqual(bytes(frames), [0xff, 2]);
});

test('the guest sees neither ATS nor page requests; at the host it sees both as off, and cannot turn them on', t => {
  const { host, rig } = sharing(t);
  for (const id of [ExtendedCapability.ATS, ExtendedCapability.PRI]) {
    t.is(extendedCapability(rig.machine, '00:03.0', id), undefined);
  }
  const fn = host.platform.function(ENGINE);
  const { device } = rig.machine.device<VfioPci>(rig.deviceId(0)).connection!;
  const control = fn.atsCapability!.offset + 6;
  t.is(device.readConfig(control, 2), 0);
  device.writeConfig(control, 0, 2);
  t.true(fn.atsEnabled, 'the host’s setting stands');
  const page = fn.priCapability!.offset;
  device.writeConfig(page + 12, 32, 4);
  device.writeConfig(page + 4, 1, 2);
  t.false(fn.priEnabled);
  t.deepEqual([device.readConfig(page + 4, 2), device.readConfig(page + 12, 4)], [0, 0]);
});

test('a page that is not there is an error, not a page request: those are not offered over VFIO', t => {
  const { space } = sharing(t);
  t.like(space.engine.fill({ ...FILL, pasid: space.pasid, to: AT * 4096 }), { ok: false, busy: false, result: 4 });
});

test('restored on a host where memory is elsewhere, the device begins without translations', t => {
  const { host, rig, space, fill } = sharing(t);
  const frames = [space.page(AT)];
  const plain = rig.guest.page();
  t.true(fill(1));
  t.true(space.engine.fill({ ...FILL, to: plain * 4096, pattern: 0x0101_0101 }).ok);
  const file = openState(saveState(rig.machine));
  const { machine } = restoreMachine(file, { plugins, iommus: { [PHYSICAL_VTD]: physicalVtd }, seed: 77 });
  t.teardown(() => machine.host![Symbol.dispose]());
  const other = machine.host!.platform as SimulatedHost;
  t.true(other.function(ENGINE).atsEnabled);
  t.not(other.hpaOf(machine.board.ram, plain), host.platform.hpaOf(rig.machine.board.ram, plain));
  const guest = new Guest(machine);
  const engine = guest.placedEngine('00:03.0');
  t.true(engine.fill({ ...FILL, pasid: space.pasid, to: AT * 4096, pattern: 0x0202_0202 }).ok);
  t.true(engine.fill({ ...FILL, to: plain * 4096, pattern: 0x0202_0202 }).ok);
  t.deepEqual(
    [...frames, plain].map(frame => guest.read(frame, 1)[0]),
    [2, 2],
  );
});

test('a device that does not complete its invalidation fails the guest’s flush', t => {
  const { rig, space, fill, bytes } = sharing(t, { engine: { 'x-invalidate-latency': SECOND } });
  const frames = [space.page(AT)];
  t.true(fill(1));
  frames.push(space.remap(AT));
  rig.refused(rig.descriptor.pasidIotlb(3, space.did, space.pasid, { address: AT * 4096 }));
  t.true(fill(2));
  t.deepEqual(bytes(frames), [2, 0]);
  rig.hostLevel.clock.step(SECOND);
  rig.goOn();
  t.true(fill(3));
  t.deepEqual(bytes(frames), [2, 3]);
});
