/** The VFIO client of @remora/host against this kernel: what it maps of an IOMMU region, as a vIOMMU tells it. */
import test, { type ExecutionContext } from 'ava';
import { Access, AddressSpace, Errno, IommuMapEvent, IommuNotifiers, Ledger, Region } from '@remora/core';
import { ForwardingSyscalls, type IoctlArgument, VfioContainer, VfioMemoryListener } from '@remora/host';
import type { ArmedFault } from '@remora/testing';
import { VFIO_CHECK_EXTENSION, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA, VFIO_TYPE1v2_IOMMU } from '@remora/uapi';
import { ENGINE, ENGINE_ID } from './bench.test.helper.js';
import { container, fixture, type Vm } from './vm.test.helper.js';

const RW = Access.READ_WRITE;
const SPAN = 2 ** 40;

/** A kernel without version 2. */
class VersionOne extends ForwardingSyscalls {
  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    const asked = request === VFIO_CHECK_EXTENSION && argument === VFIO_TYPE1v2_IOMMU;
    return asked ? 0 : super.ioctl(fd, request, argument);
  }
}

interface Shadowed {
  readonly vm: Vm;
  readonly made: VfioContainer;
  readonly iommu: Region;
  readonly listener: VfioMemoryListener;
  /** What the listener follows. */
  readonly space: AddressSpace;
  readonly failures: string[];
  readonly ledger: Ledger;
  /** Tells a range: 0, or what the client answers. */
  tell(frame: number, pages: number, outFrame?: number, access?: number): number;
  /** What the host's unit has at a page: the frame of guest RAM and Access bits. */
  at(iovaFrame: number): readonly [number, number] | undefined;
}

/** A translated region at `offset`, above RAM; `replayed` is told when somebody begins to follow. */
function shadowed(
  t: ExecutionContext,
  setup: {
    offset?: number;
    replayed?: readonly (readonly [number, number, number])[];
    made?: (vm: Vm) => VfioContainer;
  } = {},
): Shadowed {
  const vm = fixture(t);
  const event = new IommuMapEvent();
  const fill = (frame: number, pages: number, outFrame = 0, access = 0): IommuMapEvent =>
    Object.assign(event, { frame, pages, outFrame, access });
  const notifiers: IommuNotifiers = new IommuNotifiers(notifier => {
    for (const [frame, pages, outFrame] of setup.replayed ?? []) {
      const result = notifier.notify(fill(frame, pages, outFrame, RW));
      if (result !== 0) return result;
    }
    return 0;
  });
  const iommu = Region.iommu('dmar', SPAN, { translate: () => 1, target: vm.space, notifiers });
  const root = Region.container('device', 2 ** 41);
  root.add(setup.offset ?? 0, iommu);
  const made = (setup.made ?? container)(vm);
  const ledger = new Ledger();
  ledger.on = true;
  const failures: string[] = [];
  const space = new AddressSpace('device', root);
  const listener = new VfioMemoryListener(made, space, {
    addressOf: section => vm.addressOf(section),
    onFailure: error => failures.push(error.message),
    ledger,
  });
  const { pages } = vm.driver.domainOf(ENGINE_ID)!;
  const frames = new Map(Array.from({ length: 16 }, (_, frame) => [vm.ram.backing(frame), frame]));
  return {
    vm,
    made,
    iommu,
    listener,
    space,
    failures,
    ledger,
    tell: (frame, count, outFrame, access) => notifiers.notify(fill(frame, count, outFrame, access)),
    at(iovaFrame) {
      const page = pages.get(iovaFrame);
      return page === undefined ? undefined : [frames.get(page.hostFrame)!, page.access];
    },
  };
}

test('a range is mapped as it is told, and goes as it is told', t => {
  const { tell, at } = shadowed(t);
  t.is(tell(0x100, 4, 2, RW), 0);
  t.deepEqual([0x0ff, 0x100, 0x103, 0x104].map(at), [undefined, [2, RW], [5, RW], undefined]);
  t.is(tell(0x200, 1, 3, Access.READ), 0);
  t.deepEqual(at(0x200), [3, Access.READ]);
  t.is(tell(0x200, 1), 0);
  t.is(at(0x200), undefined);
  t.is(tell(0, 0x1000), 0, 'more than one range at once');
  t.is(at(0x100), undefined);
  t.is(tell(0, 0x1000), 0, 'there is nothing any more');
});

test('a region that is shown elsewhere is mapped where it is shown', t => {
  const { tell, at } = shadowed(t, { offset: 0x10_0000 });
  t.is(tell(5, 2, 1, RW), 0);
  t.deepEqual([at(5), at(0x105), at(0x106)], [undefined, [1, RW], [2, RW]]);
  t.is(tell(2 ** 28 - 1, 2, 3, RW), 0, 'the region ends here');
  t.deepEqual([at(2 ** 28 + 0xff), at(2 ** 28 + 0x100)], [[3, RW], undefined]);
});

test('what is there already is learnt from a replay; if the host refuses that, nothing stays', t => {
  const ranges = [
    [1, 2, 3],
    [9, 1, 0],
  ] as const;
  const { at, listener, vm } = shadowed(t, { replayed: ranges });
  t.deepEqual(
    [at(1), at(2), at(9)],
    [
      [3, RW],
      [4, RW],
      [0, RW],
    ],
  );
  listener[Symbol.dispose]();
  t.is(vm.driver.domainOf(ENGINE_ID)!.pages.size, 0);

  const refusing = (vm: Vm): VfioContainer => {
    vm.plan.arm({ request: VFIO_IOMMU_MAP_DMA, nth: 2, result: -Errno.ENOMEM });
    return container(vm);
  };
  t.throws(() => shadowed(t, { replayed: ranges, made: refusing }), {
    message: 'container: MAP_DMA 0x9000 +0x1000 (dmar): ENOMEM',
  });
});

test('a region that is hidden takes its mappings along, and brings them back', t => {
  const { iommu, tell, at } = shadowed(t, { replayed: [[7, 1, 1]] });
  t.is(tell(20, 2, 2, RW), 0);
  iommu.enabled = false;
  t.deepEqual([at(7), at(20)], [undefined, undefined]);
  t.is(tell(30, 1, 3, RW), 0, 'nobody listens');
  t.is(at(30), undefined);
  iommu.enabled = true;
  t.deepEqual([at(7), at(20)], [[1, RW], undefined]);
});

test('what could not be unmapped goes later, and takes nothing along that came between', t => {
  const { vm, iommu, space, tell, at, failures } = shadowed(t);
  t.is(tell(1, 1, 1, RW), 0);
  t.is(tell(9, 1, 2, RW), 0);
  vm.plan.arm({ request: VFIO_IOMMU_UNMAP_DMA, result: -Errno.EIO });
  iommu.enabled = false;
  t.deepEqual(failures, ['container: UNMAP_DMA 0x1000 +0x9000 (dmar): EIO']);
  t.deepEqual(at(1), [1, RW]);
  iommu.enabled = true;
  t.is(tell(5, 1, 3, RW), 0);
  t.is(tell(9, 1, 4, RW), -Errno.EEXIST);
  t.true(space.failure < 0);
  space.retry();
  t.is(space.failure, 0);
  t.deepEqual([at(1), at(5), at(9)], [undefined, [3, RW], undefined]);
  t.is(tell(9, 1, 4, RW), 0);
  t.deepEqual(at(9), [4, RW]);
});

test('half of a range that was refused, and could not be taken back, goes later', t => {
  const { vm, space, tell, at } = shadowed(t);
  // A page of registers parts the RAM behind the range in two.
  vm.root.add(0x2000, Region.mmio('registers', 0x1000, { read: () => 0, write: () => {} }), 1);
  vm.plan.arm({ request: VFIO_IOMMU_MAP_DMA, nth: 2, result: -Errno.ENOMEM });
  vm.plan.arm({ request: VFIO_IOMMU_UNMAP_DMA, result: -Errno.EIO });
  t.is(tell(0x100, 4, 1, RW), -Errno.ENOMEM);
  t.deepEqual([at(0x100), at(0x102)], [[1, RW], undefined], 'no better can be done now');
  t.is(tell(0x200, 1, 5, RW), 0);
  space.retry();
  t.deepEqual([at(0x100), at(0x200)], [undefined, [5, RW]]);
  t.is(tell(0x100, 4, 1, RW), 0);
  t.deepEqual([0x100, 0x101, 0x102, 0x103].map(at), [[1, RW], undefined, [3, RW], [4, RW]]);
});

test('RAM that could not be mapped is mapped later', t => {
  const vm = fixture(t);
  const made = container(vm);
  const hole = Region.mmio('hole', 0x4000, { read: () => 0, write: () => {} });
  vm.root.add(0x4000, hole, 1);
  const listener = new VfioMemoryListener(made, vm.space, { addressOf: section => vm.addressOf(section) });
  const { pages } = vm.driver.domainOf(ENGINE_ID)!;
  t.is(pages.size, 12);
  const refuse = (result: number): ArmedFault => vm.plan.arm({ request: VFIO_IOMMU_MAP_DMA, times: 9, result });
  const fault = refuse(-Errno.ENOMEM);
  vm.root.remove(hole);
  t.is(vm.space.failure, -Errno.ENOMEM);
  vm.space.retry();
  t.is(vm.space.failure, -Errno.ENOMEM);
  fault[Symbol.dispose]();
  vm.space.retry();
  t.is(vm.space.failure, 0);
  t.is(pages.size, 16);
  listener[Symbol.dispose]();
  t.is(pages.size, 0);
});

test('a version 1 container maps and unmaps the same', t => {
  const { tell, at } = shadowed(t, {
    made: vm => {
      const made = VfioContainer.open(new VersionOne(vm.process), { name: 'container', wantsNesting: false });
      made.attachGroup(1).openDevice(ENGINE);
      return made;
    },
  });
  t.is(tell(1, 4, 1, RW), 0);
  t.is(tell(5, 4, 1, RW), 0);
  t.is(tell(1, 4), 0);
  t.deepEqual([at(1), at(5), at(8)], [undefined, [1, RW], [4, RW]]);
});
