/** A lent function's trace events, as a machine in TypeScript tells them. */
import test from 'ava';
import { formatTraced, MemTx, Trace, type Traced } from '@remora/core';
import { createMachine } from '@remora/machine';
import { ENGINE, GuestEngine, lendingHost } from '@remora/machines';
import { Capability } from '@remora/pci';
import { Reg, VTD_BASE } from '@hw/intel-iommu';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';

const BAR = 0xe000_0000;
const plugins = [q35Plugin, intelIommuPlugin, vfioPciPlugin];

test('from the start of a machine to its end: device, memory, registers, interrupts, reset', t => {
  const host = lendingHost();
  t.teardown(() => host[Symbol.dispose]());
  const trace = new Trace();
  const seen: Traced[] = [];
  trace.watch(['vfio_*'], event => seen.push(event));
  const since = (): string[] => seen.splice(0).map(formatTraced);
  const names = (): string[] => [...new Set(since().map(line => line.split(' ')[0]!))];
  const vm = createMachine(host, {
    board: 'q35,memory=8M',
    plugins,
    trace,
    devices: [`vfio-pci,host=${ENGINE},addr=03.0`],
  });
  t.deepEqual(since(), []);
  vm.start();
  const start = since();
  const first = (name: string): string => start.find(line => line.startsWith(`${name} `)) ?? '';
  t.regex(first('vfio_get_device'), new RegExp(` name=${ENGINE} flags=0x[0-9a-f]+ regions=0x9 irqs=0x5$`));
  t.regex(first('vfio_listener_region_add_ram'), / start=0x0 end=0x[0-9a-f]*fff vaddr=0x[0-9a-f]+$/);
  t.regex(
    first('vfio_region_setup'),
    new RegExp(` name=${ENGINE} index=0x0 region=\\S+ flags=0x[0-9a-f]+ offset=0x0 size=0x`),
  );
  t.regex(first('vfio_attach_device'), new RegExp(` name=${ENGINE} group=0x`));
  t.is(start.at(-1), `vfio_pci_reset name=${ENGINE}`);

  const engine = new GuestEngine(vm, '00:03.0', BAR);
  t.true(names().includes('vfio_pci_write_config'));
  t.is(vm.memory.write(0, BAR + 0x10, Uint8Array.of(1, 2, 3, 4)), MemTx.OK);
  const [written] = since();
  t.regex(written!, /^vfio_region_write region=\S+ addr=0x10 data=0x4030201 size=0x4$/);
  t.is(vm.memory.write(0, BAR + 0x1_0000, Uint8Array.of(0, 0x10, 0xe0, 0xfe)), MemTx.OK);
  t.is(vm.memory.write(0, BAR + 0x1_000c, new Uint8Array(4)), MemTx.OK);
  const at = vm.functions('vfio-pci')[0]!.capabilities.find(Capability.MSIX)!;
  vm.config.write('00:03.0', at + 2, 0x8000, 2);
  t.true(since().includes(`vfio_msix_enable name=${ENGINE}`));
  t.true(engine.fill({ pattern: 1, to: 0x1000, length: 4, interrupt: true }).ok);
  const transfer = since();
  t.true(transfer.includes(`vfio_msi_interrupt name=${ENGINE} vector=0x0`));
  t.true(transfer.some(line => line.startsWith('vfio_region_read ')));

  vm[Symbol.dispose]();
  t.deepEqual(names(), [
    'vfio_msix_disable',
    'vfio_detach_device',
    'vfio_put_base_device',
    'vfio_listener_region_del',
    'vfio_put_group',
    'vfio_disconnect_container',
  ]);
});

test('what nobody watches is not told; under a vIOMMU, memory goes and the IOMMU comes with translation', t => {
  const host = lendingHost();
  t.teardown(() => host[Symbol.dispose]());
  const devices = ['intel-iommu,caching-mode=on', `vfio-pci,host=${ENGINE},addr=03.0`];
  const vm = createMachine(host, { board: 'q35,memory=8M', plugins, devices });
  const seen: string[] = [];
  const watching = vm.trace.watch(['vfio_listener_*', 'vfio_iommu_map_notify'], ({ name }) => seen.push(name));
  vm.start();
  t.true(seen.includes('vfio_listener_region_add_ram'));
  seen.length = 0;
  vm.memory.write(0, VTD_BASE + Reg.GCMD, Uint8Array.of(0, 0, 0, 0x80));
  t.true(seen.includes('vfio_listener_region_del') && seen.includes('vfio_listener_region_add_iommu'), seen.join());
  watching[Symbol.dispose]();
  seen.length = 0;
  vm[Symbol.dispose]();
  t.deepEqual(seen, []);
});
