/** The VFIO client of @remora/host against this kernel. */
import test, { type ExecutionContext } from 'ava';
import { type Hva, hva } from '@remora/bits';
import { AddressSpace, Errno, Ledger, MemTx, Ram, Region, type Section } from '@remora/core';
import {
  RecordingSyscalls,
  type VfioConnectOptions,
  VfioConnections,
  VfioContainer,
  VfioMemoryListener,
  type VfioQuirks,
} from '@remora/host';
import { type Stage1Config, Stage1Flush } from '@remora/iommu';
import { FaultPlan, owner } from '@remora/testing';
import {
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_NESTING_IOMMU,
  VFIO_TYPE1v2_IOMMU,
} from '@remora/uapi';
import { bench, type Bench, ENGINE, ENGINE_ID, gadget, mapped, SECOND, SECOND_ID } from './bench.test.helper.js';
import type { HostProcess } from './process.js';

const NESTING = { name: 'container', wantsNesting: true };

function stage1(root: number): Stage1Config {
  const attributes = { format: 1 as const, sre: 0, eafe: 0, pcd: 0, pwt: 0, emte: 0, cd: 0, pat: 0, emt: 0 };
  return { rootHi: 0, rootLo: root, addressWidth: 48, attributes };
}

interface Vm extends Bench {
  readonly process: HostProcess;
  readonly plan: FaultPlan;
  /** Guest memory: `ram` at 0, shown through `root`. */
  readonly ram: Ram;
  readonly root: Region;
  readonly space: AddressSpace;
  addressOf(section: Section): Hva | undefined;
}

function vmOn(made: Bench, name = 'vm0', pages = 16): Vm {
  const process = made.host.process(name);
  const memory = mapped(process, pages * 4096);
  const root = Region.container('guest', 2 ** 40);
  root.add(0, Region.ram('ram', memory.ram));
  return {
    ...made,
    process,
    plan: new FaultPlan(process),
    ram: memory.ram,
    root,
    space: new AddressSpace('guest', root),
    addressOf: section => (section.region.ram === memory.ram ? memory.address : undefined),
  };
}

function connectOptions(vm: Vm, wantsNesting = true): VfioConnectOptions {
  return { wantsNesting, space: vm.space, memory: { addressOf: section => vm.addressOf(section) } };
}

function fixture(t: ExecutionContext, options: Parameters<typeof bench>[0] = {}): Vm {
  return vmOn(owner(t)(bench(options)));
}

/** A container with groups `groups`, and the devices of the first two opened. */
function container(vm: Vm, groups: readonly number[] = [1], quirks: VfioQuirks = {}): VfioContainer {
  const made = VfioContainer.open(vm.plan, { ...NESTING, quirks });
  for (const number of groups) made.attachGroup(number).openDevice(number === 1 ? ENGINE : SECOND);
  vm.driver.takeCalls();
  return made;
}

test('a nesting host: one context for the container, with what the host offers', t => {
  const vm = fixture(t);
  const { context, type, info, nestingRefused } = container(vm, [1, 2]);
  t.is(type, VFIO_TYPE1_NESTING_IOMMU);
  t.is(nestingRefused, undefined);
  t.deepEqual([context?.flags, context?.stage1Format, info?.pageSizes], [3, 1, 0x1000]);
});

test('nesting is asked for only if the vIOMMU wants it', t => {
  const vm = fixture(t);
  const plain = VfioContainer.open(vm.process, { name: 'plain', wantsNesting: false });
  plain.attachGroup(1);
  t.is(plain.type, VFIO_TYPE1v2_IOMMU);
  t.is(plain.context, undefined);
  t.is(plain.nestingRefused, undefined);
});

for (const [kernel, why] of [
  [{ nestingType: false }, /does not offer VFIO_TYPE1_NESTING_IOMMU/],
  [{ nestingUapiVersion: 0 }, /uAPI version is 0, at least 1/],
  [{ nestingUapiVersion: -Errno.EINVAL }, /uAPI version is -22/],
] as const) {
  test(`a host without nesting (${JSON.stringify(kernel)}): falls back to version 2 and says why`, t => {
    const vm = fixture(t, { kernel });
    const ledger = new Ledger();
    ledger.on = true;
    const made = VfioContainer.open(vm.process, { ...NESTING, ledger });
    made.attachGroup(1);
    t.is(made.type, VFIO_TYPE1v2_IOMMU);
    t.is(made.context, undefined);
    t.regex(made.nestingRefused!, why);
    t.deepEqual(
      ledger.events.map(event => event.kind),
      ['warning'],
    );
  });
}

test('a newer uAPI version is accepted', t => {
  t.is(container(fixture(t, { kernel: { nestingUapiVersion: 3 } })).type, VFIO_TYPE1_NESTING_IOMMU);
});

test('a nesting container without the capability is refused, and nothing stays open (behaviour 61)', t => {
  const vm = fixture(t, { kernel: { nestingCapability: false } });
  const before = vm.host.dump();
  t.throws(() => new VfioConnections(vm.process, 'vm0').connect(ENGINE, connectOptions(vm)), {
    message: /vm0\/container0: nesting: EINVAL, the host reports no nesting capability/,
  });
  t.deepEqual(vm.host.dump(), before);
  const { context } = container(vm, [1], { missingNestingCap: true });
  t.deepEqual([context?.flags, context?.stage1Format], [2, 0], 'quirk Q12');
});

test('a host of another first-stage format is refused (behaviour 62)', t => {
  const vm = fixture(t, { kernel: { stage1Format: 2 } });
  t.throws(() => container(vm), { message: /first-stage format is 2, only 1/ });
  t.is(container(vm, [1], { anyFormat: true }).context?.stage1Format, 2, 'quirk Q9');
});

test('a kernel without PASID requests: the flag is clear', t => {
  t.is(container(fixture(t, { kernel: { pasidRequests: false } })).context?.flags, 2);
});

test('PASIDs, bind, flush, unbind reach the unit, and errors come back', t => {
  const vm = fixture(t);
  const context = container(vm).context!;
  const pasid = context.pasidAlloc(7, 7);
  t.is(pasid, 7);
  t.is(context.pasidAlloc(7, 7), -Errno.ENOSPC);
  t.is(context.bindStage1(0x18, pasid, stage1(0x5000)), 0);
  const flush = new Stage1Flush();
  flush.pasid = pasid;
  flush.granularity = 'address';
  flush.lo = 0x20_0000;
  flush.granuleShift = 21;
  flush.leaf = true;
  t.is(context.flushStage1Cache(flush), 0);
  t.is(context.pasidFree(pasid), -Errno.EBUSY);
  t.is(context.unbindStage1(0x18, pasid), 0);
  t.is(context.pasidFree(pasid), 0);
  t.is(context.pasidFree(pasid), -Errno.ENOENT);
  t.deepEqual(vm.driver.takeCalls(), [
    'bindPasid 1 0x3f00 7 0x5000',
    'flushStage1 1 0x3f00 7 0x200000 shift 21 x1 leaf',
    'unbindPasid 1 0x3f00 7',
  ]);
});

test('two devices share a PASID of their container: one BIND, one UNBIND (rows 45, 46)', t => {
  const vm = fixture(t);
  const context = container(vm, [1, 2]).context!;
  const calls = vm.plan.arm({ request: VFIO_IOMMU_BIND, when: () => true, result: 0, times: 0 });
  const pasid = context.pasidAlloc(1, 99);
  t.is(context.bindStage1(0x18, pasid, stage1(0x5000)), 0);
  t.is(context.bindStage1(0x20, pasid, stage1(0x5000)), 0);
  t.is(calls.matched, 1);
  t.is(context.bindStage1(0x28, pasid, stage1(0x6000)), -Errno.EBUSY, 'another root cannot be had');
  t.is(calls.matched, 1, 'and the host was not asked');
  t.is(context.unbindStage1(0x18, pasid), 0);
  t.is(context.unbindStage1(0x18, pasid), -Errno.EINVAL, 'gone already');
  t.is(calls.matched, 1);
  t.is(context.unbindStage1(0x20, pasid), 0);
  t.is(calls.matched, 2);
  t.is(context.bindings.size, 0);
});

test('a device that joins later gets the bindings by a further BIND', t => {
  const vm = fixture(t);
  const made = container(vm, [1]);
  const context = made.context!;
  const pasid = context.pasidAlloc(1, 99);
  context.bindStage1(0x18, pasid, stage1(0x5000));
  made.attachGroup(2).openDevice(SECOND);
  const bound = (): boolean => vm.driver.domainOf(SECOND_ID)!.attached.get(SECOND_ID)!.has(pasid);
  t.false(bound());
  t.is(context.bindStage1(0x20, pasid, stage1(0x5000)), 0);
  t.true(bound());
  const calls = vm.plan.arm({ request: VFIO_IOMMU_BIND, result: 0, times: 0 });
  t.is(context.bindStage1(0x28, pasid, stage1(0x5000)), 0);
  t.is(calls.matched, 0, 'nobody joined since');
});

test('quirk Q-PERDEV: one call for each device', t => {
  const vm = fixture(t);
  const context = container(vm, [1, 2], { perDevice: true }).context!;
  const calls = vm.plan.arm({ request: VFIO_IOMMU_BIND, result: 0, times: 0 });
  const pasid = context.pasidAlloc(1, 99);
  t.deepEqual(
    [0x18, 0x20].map(user => context.bindStage1(user, pasid, stage1(0x5000))),
    [0, 0],
  );
  t.is(calls.matched, 2);
  t.deepEqual(
    [0x18, 0x20].map(user => context.unbindStage1(user, pasid)),
    [0, 0],
  );
  t.is(calls.matched, 4);
});

test('the host refuses a bind or an unbind: the state before is in force', t => {
  const vm = fixture(t);
  const context = container(vm).context!;
  const pasid = context.pasidAlloc(1, 99);
  vm.plan.arm({ request: VFIO_IOMMU_BIND, result: -Errno.ENOMEM });
  t.is(context.bindStage1(0x18, pasid, stage1(0x5000)), -Errno.ENOMEM);
  t.is(context.bindings.size, 0);
  t.is(context.bindStage1(0x18, pasid, stage1(0x5000)), 0);
  vm.plan.arm({ request: VFIO_IOMMU_BIND, result: -Errno.EIO });
  t.is(context.unbindStage1(0x18, pasid), -Errno.EIO);
  t.is(context.bindings.size, 1);
  t.is(context.bindStage1(0x18, pasid, stage1(0x6000)), -Errno.EBUSY, 'the host decides about its only user');
  t.is(context.bindings.get(pasid)?.config.rootLo, 0x5000);
  t.is(context.unbindStage1(0x18, pasid), 0);
});

test('RAM and ROM are mapped page by page as the address space shows them', t => {
  const vm = fixture(t);
  const rom = mapped(vm.process, 0x2000);
  vm.root.add(0x8000, Region.ram('rom', rom.ram, { readonly: true }), 1);
  const registers = Region.mmio('registers', 0x1000, { read: () => 0, write: () => {} });
  vm.root.add(0xc000, registers, 1);
  const made = container(vm);
  const listener = new VfioMemoryListener(made, vm.space, {
    addressOf: section => (section.region.ram === rom.ram ? rom.address : vm.addressOf(section)),
  });
  const { pages } = vm.driver.domainOf(ENGINE_ID)!;
  const seen = (frame: number): unknown => pages.get(frame);
  t.deepEqual(seen(0), { hostFrame: vm.ram.backing(0), access: 3 });
  t.deepEqual(seen(9), { hostFrame: rom.ram.backing(1), access: 1 });
  t.is(seen(12), undefined, 'registers');
  t.deepEqual(seen(13), { hostFrame: vm.ram.backing(13), access: 3 });
  t.deepEqual(listener.mapped, [
    { frame: 0, pages: 8 },
    { frame: 8, pages: 2 },
    { frame: 10, pages: 2 },
    { frame: 13, pages: 3 },
  ]);
  vm.root.remove(registers);
  t.deepEqual(seen(12), { hostFrame: vm.ram.backing(12), access: 3 });
  listener[Symbol.dispose]();
  t.is(pages.size, 0);
});

test('what is left of a page that registers cover in part is not mapped', t => {
  const vm = fixture(t);
  vm.root.add(0x2100, Region.mmio('small', 0x10, { read: () => 0, write: () => {} }), 1);
  const listener = new VfioMemoryListener(container(vm), vm.space, { addressOf: section => vm.addressOf(section) });
  t.deepEqual(listener.mapped, [
    { frame: 0, pages: 2 },
    { frame: 3, pages: 13 },
  ]);
});

test('memory that an alias shifts within a page, or that the process has not got, is not mapped', t => {
  const vm = fixture(t);
  const strange = Region.ram('strange', Ram.allocate(0x1000));
  vm.root.add(0x10_0000, strange);
  vm.root.add(0x20_0000, Region.alias('shifted', Region.ram('same', vm.ram), 0x80, 0x2000));
  const listener = new VfioMemoryListener(container(vm), vm.space, { addressOf: section => vm.addressOf(section) });
  t.deepEqual(listener.mapped, [{ frame: 0, pages: 16 }]);
});

test('a mapping that fails at set-up: nothing stays mapped, and the error says what', t => {
  const vm = fixture(t);
  vm.root.add(0x4000, Region.mmio('hole', 0x1000, { read: () => 0, write: () => {} }), 1);
  const made = container(vm);
  vm.plan.arm({ request: VFIO_IOMMU_MAP_DMA, nth: 2, result: -Errno.ENOSPC });
  t.throws(() => new VfioMemoryListener(made, vm.space, { addressOf: section => vm.addressOf(section) }), {
    message: /MAP_DMA 0x5000 \+0xb000 \(ram\): ENOSPC/,
  });
  t.is(vm.driver.domainOf(ENGINE_ID)!.pages.size, 0);
});

test('a mapping that fails later is reported, the rest works on', t => {
  const vm = fixture(t);
  const made = container(vm);
  const errors: string[] = [];
  const listener = new VfioMemoryListener(made, vm.space, {
    addressOf: section => vm.addressOf(section),
    onFailure: error => errors.push(error.message),
  });
  vm.plan.arm({ request: VFIO_IOMMU_MAP_DMA, result: -Errno.ENOMEM });
  const registers = Region.mmio('registers', 0x1000, { read: () => 0, write: () => {} });
  vm.root.add(0x4000, registers, 1);
  t.deepEqual(errors, ['container: MAP_DMA 0x0 +0x4000 (ram): ENOMEM']);
  t.deepEqual(listener.mapped, [{ frame: 5, pages: 11 }]);
  vm.root.remove(registers);
  t.deepEqual(listener.mapped, [{ frame: 0, pages: 16 }]);
});

test('connections: devices of one address space share a container, and the last one closes it', t => {
  const vm = fixture(t);
  const before = vm.host.dump();
  const connections = new VfioConnections(vm.process, 'vm0');
  const one = connections.connect(ENGINE, connectOptions(vm));
  const two = connections.connect(SECOND, connectOptions(vm));
  t.is(one.container, two.container);
  t.is(one.container.name, 'vm0/container0');
  t.is(vm.driver.domainOf(SECOND_ID)!.pages.size, 16);
  one[Symbol.dispose]();
  t.is(connections.containers.length, 1);
  t.is(vm.driver.domainOf(SECOND_ID)!.pages.size, 16);
  two[Symbol.dispose]();
  t.is(connections.containers.length, 0);
  t.deepEqual(vm.host.dump(), before);
});

test('connections: a container of its own, and one for each address space', t => {
  const vm = fixture(t);
  const connections = new VfioConnections(vm.process, 'vm0');
  const one = connections.connect(ENGINE, { ...connectOptions(vm), fresh: true });
  const two = connections.connect(SECOND, connectOptions(vm));
  t.not(one.container, two.container);
  t.not(vm.driver.domainOf(ENGINE_ID), vm.driver.domainOf(SECOND_ID));
  two[Symbol.dispose]();
  const other = new AddressSpace('other', Region.container('other', 0x1000));
  const three = connections.connect(SECOND, { ...connectOptions(vm), space: other });
  t.not(three.container, one.container);
});

test('connections: devices of one group go to one container, or not at all', t => {
  const vm = fixture(t, {
    devices: [
      { ...gadget(ENGINE), group: 'x' },
      { ...gadget(SECOND), group: 'x' },
    ],
  });
  const connections = new VfioConnections(vm.process, 'vm0');
  const one = connections.connect(ENGINE, connectOptions(vm));
  t.throws(() => connections.connect(SECOND, { ...connectOptions(vm), fresh: true }), {
    message: /must share a container/,
  });
  const two = connections.connect(SECOND, connectOptions(vm));
  t.is(two.container, one.container);
  t.is(one.container.groups.size, 1);
  one[Symbol.dispose]();
  t.is(two.device.readConfig(0, 2), 0x1af4);
  two[Symbol.dispose]();
  t.is(connections.containers.length, 0);
});

test('connections: what cannot be lent is named', t => {
  const vm = fixture(t, { devices: [gadget(ENGINE), { ...gadget(SECOND), boundTo: 'e1000e' }] });
  const connections = new VfioConnections(vm.process, 'vm0');
  const options = connectOptions(vm);
  t.throws(() => connections.connect('0000:00:01.0', options), {
    message: /0000:00:01.0: ENOENT, the host has no such device/,
  });
  t.throws(() => connections.connect(SECOND, options), { message: /it is bound to "e1000e", not to vfio-pci/ });
  const other = new VfioConnections(vm.host.process('other'), 'other');
  const theirs = connections.connect(ENGINE, options);
  t.throws(() => other.connect(ENGINE, options), { message: /open \/dev\/vfio\/1: EBUSY/ });
  theirs[Symbol.dispose]();
});

test('every call of connecting fails once: an error each time, and nothing is left on the host', t => {
  const vm = fixture(t);
  const before = vm.host.dump();
  const sweep = (op: 'ioctl' | 'open' | 'readlink', skip: (request: number) => boolean): number => {
    let failed = 0;
    for (let nth = 1; ; nth++) {
      const fault = vm.plan.arm({ op, nth, when: call => !skip(call.request), result: -Errno.EIO });
      try {
        new VfioConnections(vm.plan, 'vm0').connect(ENGINE, connectOptions(vm))[Symbol.dispose]();
        t.is(fault.struck, 0);
        return failed;
      } catch (error) {
        t.regex(String(error), /^VfioError: .*EIO/, `call ${nth}`);
        t.deepEqual(vm.host.dump(), before, `call ${nth} of ${op}`);
        failed++;
      } finally {
        fault[Symbol.dispose]();
      }
    }
  };
  // Extensions that are not answered are not there; regions and interrupts that are not described are none; teardown goes on.
  const tolerated = new Set([0x3b65, 0x3b6c, 0x3b6d, 0x3b69, 0x3b72]);
  t.is(
    sweep('open', () => false),
    2,
  );
  t.is(
    sweep('readlink', () => false),
    2,
  );
  t.is(
    sweep('ioctl', request => tolerated.has(request)),
    9,
  );
});

test('a device through the client: configuration, registers, interrupts, reset', t => {
  const vm = fixture(t);
  const { device } = new VfioConnections(vm.process, 'vm0').connect(ENGINE, connectOptions(vm));
  t.true(device.resettable);
  t.deepEqual(
    device.regions.map(({ size }) => size),
    [0x1000, 0, 0x1000, 0, 0, 0, 0, 0x1000, 0],
  );
  t.deepEqual(
    device.irqs.map(({ count }) => count),
    [0, 4, 8, 0, 0],
  );
  t.is(device.readConfig(0, 4), 0x10ff_1af4);
  t.is(device.writeConfig(4, 0x6, 2), 0);
  t.is(device.writeRegion(0, 0x10, Uint8Array.of(1, 2, 3, 4)), 0);
  const out = new Uint8Array(4);
  t.is(device.readRegion(0, 0x10, out), 0);
  t.deepEqual([...out], [1, 2, 3, 4]);
  t.is(device.readRegion(0, 0xffe, out), -Errno.EIO, 'reaches beyond the region');
  t.throws(() => device.readRegion(12, 0, out), { message: /no region 12/ });
  const fd = vm.process.eventfd();
  t.is(device.setEventFds(2, 0, [fd]), 0);
  vm.host.function(ENGINE).msi(0);
  t.is(vm.process.pread(fd, new Uint8Array(8), 0), 8);
  t.is(device.disableIrqs(2), 0);
  t.is(device.reset(), 0);
  t.is(device.readConfig(4, 2) & 4, 0);
});

test('a DMA of the lent device lands in guest memory, at the right page', t => {
  const vm = fixture(t);
  const { device } = new VfioConnections(vm.process, 'vm0').connect(ENGINE, connectOptions(vm, false));
  device.writeConfig(4, 0x6, 2);
  t.is(vm.host.function(ENGINE).dma.write(0, 0x7ffe, Uint8Array.of(0xaa, 0xbb, 0xcc)), MemTx.OK);
  const bytes = new Uint8Array(3);
  vm.ram.read(0, 0x7ffe, bytes);
  t.deepEqual([...bytes], [0xaa, 0xbb, 0xcc]);
});

test('the ledger has every ioctl with its bytes, and what the kernel did because of it', t => {
  const vm = fixture(t);
  const ledger = vm.host.ledger;
  const recorded = new RecordingSyscalls(vm.process, ledger, 'vm0/host-syscalls');
  const made = VfioContainer.open(recorded, NESTING);
  made.attachGroup(1);
  ledger.on = true;
  const pasid = made.context!.pasidAlloc(5, 5);
  made.context!.bindStage1(0x18, pasid, stage1(0x5000));
  ledger.on = false;
  const [alloc, allocated, bind, bound] = ledger.events;
  t.is(ledger.events.length, 4);
  t.like(alloc, { kind: 'ioctl', source: 'vm0/host-syscalls', cause: 0 });
  t.like(alloc!.data, { number: 0x3b7a, name: 'VFIO_IOMMU_PASID_REQUEST', argsz: 20, result: 0 });
  t.like(alloc!.data['fields'], { min: 5, max: 5, result: 0 });
  t.is(Buffer.from(alloc!.data['bytes'] as Uint8Array).toString('hex'), '1400000001000000050000000500000000000000');
  t.is(Buffer.from(alloc!.data['answer'] as Uint8Array).toString('hex'), '1400000001000000050000000500000005000000');
  t.like(allocated, { kind: 'kernel', cause: alloc!.id });
  t.like(bind!.data, { name: 'VFIO_IOMMU_BIND', argsz: 80, result: 0 });
  t.false('answer' in bind!.data, 'the host wrote nothing back');
  t.like(bound, { kind: 'kernel', cause: bind!.id });
  t.like(bound!.data, { operation: 'bind', pasid: 5, devices: [ENGINE] });
});

test('a host that answers GET_INFO or SET_IOMMU with an error is refused by name', t => {
  const vm = fixture(t);
  vm.plan.arm({ request: VFIO_SET_IOMMU, result: -Errno.EBUSY });
  t.throws(() => container(vm), { message: 'container: VFIO_SET_IOMMU VFIO_TYPE1_NESTING_IOMMU: EBUSY' });
  vm.plan.arm({ request: VFIO_IOMMU_GET_INFO, nth: 2, result: -Errno.EIO });
  t.throws(() => container(vm), { message: 'container: VFIO_IOMMU_GET_INFO: EIO' });
});

test('mapping by hand: sizes and errors as the kernel has them', t => {
  const vm = fixture(t);
  const made = container(vm);
  const memory = mapped(vm.process, 0x4000);
  t.is(made.mapDma(2 ** 30, 4, memory.address), 0);
  t.is(made.mapDma(2 ** 30 + 1, 1, memory.address), -Errno.EEXIST);
  t.is(made.mapDma(0, 1, hva(0x1000)), -Errno.EFAULT);
  t.is(made.unmapDma(2 ** 30, 4), 4);
  t.is(made.unmapDma(2 ** 30, 4), 0);
  t.is(made.unmapDma(2 ** 30, 0), -Errno.EINVAL);
});
