/** The VFIO client of @remora/host against this kernel: what it maps. */
import test from 'ava';
import { hva } from '@remora/bits';
import { Errno, Ram, Region } from '@remora/core';
import { VfioMemoryListener } from '@remora/host';
import { VFIO_IOMMU_MAP_DMA } from '@remora/uapi';
import { ENGINE_ID, mapped } from './bench.test.helper.js';

import { container, fixture } from './vm.test.helper.js';

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
