/** vfio-pci on a simulated host, judged by what the host holds, what its device does, and what reaches guest memory. */
import test from 'ava';
import { ConfigError, definePlugin, Errno, MemTx, properties, Region, type Device } from '@remora/core';
import { createHost, createMachine } from '@remora/machine';
import {
  Capability,
  DeviceKinds,
  pciDeviceHostIommuContext,
  PciFunction,
  type DeviceKind,
  type PciDeviceContext,
} from '@remora/pci';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import { ContainerModule } from 'inversify';
import { GuestEngine } from './guest/guest-engine.js';
import { Guest } from './guest/guest.js';
import { ENGINE, lendingHost, SECOND_ENGINE } from './lending-host.js';
import { physicalVtd } from './physical-vtd.js';

import { BAR, RAM_PAGES, mappedPages, own, startedOn } from './vfio-pci.test.helper.js';

test('the guest sees the identity, BARs and capabilities of the host function', t => {
  const host = own(t, lendingHost());
  const vm = own(t, startedOn(host, `vfio-pci,host=${ENGINE},addr=03.0,id=engine`));
  const physical = host.platform.function(ENGINE);
  const [fn] = vm.functions('engine');
  const shape = (of: PciFunction): unknown => [
    of.config.read(0, 4),
    of.config.read(8, 4),
    of.config.read(0x2c, 4),
    [0, 1, 2, 3, 4, 5].map(index => of.bars.region(index)?.size),
    of.capabilities.standard.map(({ id }) => id).sort(),
    of.pasidBits,
    of.expressType,
  ];
  t.deepEqual(shape(fn!), shape(physical));
});

test('the engine of the host moves guest memory and interrupts the guest', t => {
  const host = own(t, lendingHost({ seed: 7 }));
  const vm = own(t, startedOn(host, `vfio-pci,host=${ENGINE},addr=03.0`));
  const engine = new GuestEngine(vm, '00:03.0', BAR);
  const msix = BAR + 0x1_0000;
  for (const [offset, value] of [
    [0, 0xfee0_1000],
    [4, 0],
    [8, 0x4041],
    [12, 0],
  ] as const) {
    const bytes = Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);
    t.is(vm.memory.write(0, msix + offset, bytes), MemTx.OK);
  }
  const at = vm.functions('vfio-pci')[0]!.capabilities.find(Capability.MSIX)!;
  vm.config.write('00:03.0', at + 2, 0x8000, 2);

  const data = Uint8Array.from({ length: 5000 }, (_, index) => index * 7);
  t.is(vm.memory.write(0, 0x12_3456, data), MemTx.OK);
  t.true(engine.copy({ from: 0x12_3456, to: 0x40_0ffe, length: data.length, interrupt: true }).ok);
  const copied = new Uint8Array(data.length);
  t.is(vm.memory.read(0, 0x40_0ffe, copied), MemTx.OK);
  t.deepEqual(copied, data);
  t.deepEqual(vm.messages.messages, [{ requesterId: 0x18, address: 0xfee0_1000, data: 0x4041 }]);

  vm.config.write('00:03.0', at + 2, 0, 2);
  t.true(engine.copy({ from: 0x12_3456, to: 0x40_0ffe, length: 4, interrupt: true }).ok);
  t.is(vm.messages.messages.length, 1);
});

test('bus mastering is what the guest says', t => {
  const host = own(t, lendingHost());
  const vm = own(t, startedOn(host, `vfio-pci,host=${ENGINE},addr=03.0`));
  const engine = new GuestEngine(vm, '00:03.0', BAR);
  t.true(engine.fill({ pattern: 0x1111_1111, to: 0x1000, length: 4 }).ok);
  engine.master(false);
  t.false(engine.fill({ pattern: 0x2222_2222, to: 0x1000, length: 4 }).ok);
  const bytes = new Uint8Array(4);
  vm.memory.read(0, 0x1000, bytes);
  t.deepEqual(bytes, Uint8Array.of(0x11, 0x11, 0x11, 0x11));
  engine.master(true);
  t.true(engine.fill({ pattern: 0x2222_2222, to: 0x1000, length: 4 }).ok);
});

test('without a vIOMMU all of guest RAM is mapped, and devices share a container unless they ask for a new one', t => {
  const host = own(t, lendingHost());
  const vm = own(t, startedOn(host, `vfio-pci,host=${ENGINE}`, `vfio-pci,host=${SECOND_ENGINE}`));
  t.deepEqual(mappedPages(host.platform), { '3f00': RAM_PAGES, '3f08': RAM_PAGES });
  t.is(vm.process!.vfio.containers.length, 1);
  t.is(pciDeviceHostIommuContext(vm.functions('vfio-pci')[0]), undefined);

  const apart = own(t, lendingHost());
  const other = own(t, startedOn(apart, `vfio-pci,host=${ENGINE}`, `vfio-pci,host=${SECOND_ENGINE},container=new`));
  t.is(other.process!.vfio.containers.length, 2);
});

test('under a vIOMMU in modern mode the container nests, and its context is the function’s', t => {
  const host = own(t, lendingHost());
  const vm = own(
    t,
    startedOn(host, 'intel-iommu,x-scalable-mode=modern', `vfio-pci,host=${ENGINE}`, `vfio-pci,host=${SECOND_ENGINE}`),
  );
  const [container] = vm.process!.vfio.containers;
  t.is(vm.process!.vfio.containers.length, 1);
  t.true(container!.nested);
  const functions = ['vfio-pci', 'vfio-pci.1'].map(id => vm.functions(id)[0]);
  t.deepEqual(
    functions.map(fn => pciDeviceHostIommuContext(fn) === container!.context),
    [true, true],
  );
  new Guest(vm, { firstFrame: 0x100, frames: 0x100 }).iommu.start();
  t.deepEqual(mappedPages(host.platform), { '3f00': RAM_PAGES, '3f08': RAM_PAGES });
});

test('a host that cannot nest: all RAM while the device is not translated, nothing while it is', t => {
  for (const kernel of [{ nestingType: false }, { nestingUapiVersion: 0 }, { nestingUapiVersion: -Errno.EINVAL }]) {
    const host = own(t, lendingHost({ kernel }));
    const vm = own(t, startedOn(host, 'intel-iommu,x-scalable-mode=modern', `vfio-pci,host=${ENGINE},addr=03.0`));
    t.false(vm.process!.vfio.containers[0]!.nested);
    t.is(pciDeviceHostIommuContext(vm.functions('vfio-pci')[0]), undefined);
    const engine = new GuestEngine(vm, '00:03.0', BAR);
    t.true(engine.fill({ pattern: 1, to: 0x1000, length: 4 }).ok);
    t.deepEqual(mappedPages(host.platform), { '3f00': RAM_PAGES });

    const { iommu } = new Guest(vm, { firstFrame: 0x100, frames: 0x100 });
    iommu.start();
    t.deepEqual(mappedPages(host.platform), { '3f00': 0 });
    t.false(engine.fill({ pattern: 2, to: 0x1000, length: 4 }).ok);
    t.is(host.platform.faults.length, 1);
    iommu.stop();
    t.deepEqual(mappedPages(host.platform), { '3f00': RAM_PAGES });
    t.true(engine.fill({ pattern: 3, to: 0x1000, length: 4 }).ok);
  }
});

test('a host that nests in a way that cannot be used refuses the device', t => {
  for (const [kernel, problem] of [
    [{ nestingCapability: false }, 'vm0/container0: nesting: EINVAL, the host reports no nesting capability'],
    [
      { stage1Format: 2 },
      "vm0/container0: nesting: EINVAL, the host's first-stage format is 2, only 1 (Intel VT-d) is known",
    ],
  ] as const) {
    const host = own(t, lendingHost({ kernel }));
    const before = host.platform.dump();
    const error = t.throws(() => startedOn(host, 'intel-iommu,x-scalable-mode=modern', `vfio-pci,host=${ENGINE}`));
    t.is(error.message, `devices[1].host: ${problem} (vfio-pci)`);
    t.deepEqual(host.platform.dump(), before);
  }
});

test('what cannot be assigned is refused by its place, its name and the reason', t => {
  const host = own(
    t,
    createHost({
      plugins: [dmaEnginePlugin],
      iommu: physicalVtd(),
      devices: ['dma-engine,addr=3f:00.0,bound-to=e1000e', 'dma-engine,addr=3f:01.0,bound-to=none'],
    }),
  );
  const before = host.platform.dump();
  const refused = (device: string, message: string): void => {
    const error = t.throws(() => startedOn(host, 'intel-iommu,caching-mode=on', device), { instanceOf: ConfigError });
    t.is(error.message, message);
    t.deepEqual(host.platform.dump(), before);
  };
  refused(
    'vfio-pci,host=3f:00.0',
    'devices[1].host: 0000:3f:00.0: it is bound to "e1000e", not to vfio-pci (vfio-pci)',
  );
  refused('vfio-pci,host=3f:01.0', 'devices[1].host: 0000:3f:01.0: ENOENT, no driver is bound to it (vfio-pci)');
  refused(
    'vfio-pci,host=40:00.0',
    'devices[1].host: 0000:40:00.0: ENOENT, the host has no such device, or no IOMMU in front of it (vfio-pci)',
  );
  refused(
    'vfio-pci,host=there',
    'devices[1].host: "there" is not a PCI address, as 0000:3f:00.0 or 3f:00.0 (vfio-pci)',
  );
  refused(
    'vfio-pci',
    'devices[1].host: must be given ([dddd:]bb:dd.f): address of the function on the host, as 0000:3f:00.0 (vfio-pci)',
  );
  const alone = t.throws(
    () => {
      using machine = createMachine(undefined, {
        board: 'q35,memory=8M',
        plugins: [q35Plugin, vfioPciPlugin],
        devices: [`vfio-pci,host=${ENGINE}`],
      });
      machine.start();
    },
    { instanceOf: ConfigError },
  );
  t.is(alone.message, "devices[0].host: 0000:3f:00.0 is a host's, and this machine runs on no host (vfio-pci)");
});

test('guest RAM is memory of the host, scattered by the seed', t => {
  const host = own(t, lendingHost({ seed: 11 }));
  const vm = own(t, startedOn(host, `vfio-pci,host=${ENGINE}`));
  vm.memory.write(0, 0x5000, Uint8Array.of(0xca, 0xfe));
  const address = host.platform.hpaOf(vm.board.ram, 5)!;
  const bytes = new Uint8Array(2);
  t.is(host.platform.memory.read(0, address, bytes), MemTx.OK);
  t.deepEqual(bytes, Uint8Array.of(0xca, 0xfe));
  t.not(host.platform.hpaOf(vm.board.ram, 6), address + 4096);
});

/** A function with a capability that nobody emulates, whose second byte counts reads by itself, and two odd BARs. */
class Oddity implements Device {
  readonly name: string;
  readonly fn: PciFunction;
  readonly vendorOffset: number;
  readonly #plug: PciDeviceContext['plug'];
  /** What was last written to BAR 0, with its size. */
  readonly written: [number, number, number][] = [];

  constructor(context: PciDeviceContext) {
    this.name = context.name;
    this.#plug = fn => context.plug(fn);
    this.fn = new PciFunction(context.name, { vendor: 0x1af4, device: 0x1234, classCode: 0x020000 });
    const ops = {
      valid: { min: 1, max: 4 },
      impl: { min: 1, max: 4 },
      read: (offset: number, size: number) => offset * 0x100 + size,
      write: (offset: number, value: number, size: number) => void this.written.push([offset, value, size]),
    };
    this.fn.addBar(0, Region.mmio('odd-registers', 0x4000, ops), { type: 'mem64', prefetchable: true });
    this.fn.addBar(3, Region.mmio('odd-ports', 16, ops), { type: 'io' });
    this.vendorOffset = this.fn.addCapability(Capability.VENDOR, new Uint8Array(10), new Uint8Array(10).fill(0x0f));
    this.fn.enableMsi(4);
  }

  realize(): void {
    this.#plug(this.fn);
  }

  [Symbol.dispose](): void {}
}

const oddityKind: DeviceKind<object, 'pci'> = {
  id: 'oddity',
  bus: 'pci',
  properties: properties({}),
  create: context => new Oddity(context),
};

const oddityPlugin = definePlugin({
  name: '@test/oddity',
  api: 1,
  module: new ContainerModule(({ bind }) => {
    bind(DeviceKinds).toConstantValue(oddityKind);
  }),
});

test('what the guest’s function has not itself is read and written at the host', t => {
  const options = { plugins: [oddityPlugin], iommu: physicalVtd(), devices: ['oddity,addr=02:05.0'] };
  const host = own(t, createHost(options));
  const vm = own(t, startedOn(host, 'vfio-pci,host=02:05.0,addr=03.0'));
  const odd = host.platform.device<Oddity>('02:05.0');
  const [fn] = vm.functions('vfio-pci');
  const vendor = fn!.capabilities.find(Capability.VENDOR)!;

  odd.fn.config.set(odd.vendorOffset + 4, 0x55, 1);
  t.is(vm.config.read('00:03.0', vendor + 4, 1), 0x55);
  odd.fn.config.set(odd.vendorOffset + 4, 0x66, 1);
  t.is(vm.config.read('00:03.0', vendor + 4, 2), 0x66);
  vm.config.write('00:03.0', vendor + 6, 0xff, 1);
  t.is(odd.fn.config.get8(odd.vendorOffset + 6), 0x0f);
  t.is(vm.config.read('00:03.0', vendor + 6, 1), 0x0f);
  vm.config.write('00:03.0', vendor, 0xabcd_0000, 4);
  t.is(odd.fn.config.get16(odd.vendorOffset + 2), 0x0b0d);
  t.is(vm.config.read('00:03.0', vendor, 1), Capability.VENDOR);

  vm.config.write('00:03.0', 0x14, 0x10, 4);
  vm.config.write('00:03.0', 0x1c, 0xc000, 4);
  vm.config.write('00:03.0', 4, 7, 2);
  const bytes = new Uint8Array(2);
  t.is(vm.memory.read(0x10, 0x2002, bytes), MemTx.OK);
  t.deepEqual(bytes, Uint8Array.of(0x02, 0x02));
  t.is(vm.memory.write(0x10, 0x3001, Uint8Array.of(0x77)), MemTx.OK);
  t.is(vm.ports.write(0, 0xc004, Uint8Array.of(1, 2, 3, 4)), MemTx.OK);
  t.deepEqual(odd.written, [
    [0x3001, 0x77, 1],
    [4, 0x0403_0201, 4],
  ]);
});

test('MSI: the guest’s message for each vector it granted', t => {
  const options = { plugins: [oddityPlugin], iommu: physicalVtd(), devices: ['oddity,addr=02:05.0'] };
  const host = own(t, createHost(options));
  const vm = own(t, startedOn(host, 'vfio-pci,host=02:05.0,addr=03.0'));
  const odd = host.platform.device<Oddity>('02:05.0');
  const msi = vm.functions('vfio-pci')[0]!.capabilities.find(Capability.MSI)!;
  const unconnected = host.platform.dump();
  vm.config.write('00:03.0', msi + 4, 0xfee0_2000, 4);
  vm.config.write('00:03.0', msi + 12, 0x40, 2);
  vm.config.write('00:03.0', 4, 6, 2);
  odd.fn.msi(0);
  t.deepEqual(vm.messages.messages, []);
  vm.config.write('00:03.0', msi + 2, 0x21, 2);
  odd.fn.msi(1);
  odd.fn.msi(0);
  t.deepEqual(
    vm.messages.messages.map(({ address, data }) => [address, data]),
    [
      [0xfee0_2000, 0x41],
      [0xfee0_2000, 0x40],
    ],
  );
  vm.config.write('00:03.0', msi + 2, 0, 2);
  vm.config.write('00:03.0', 4, 0, 2);
  odd.fn.msi(1);
  t.is(vm.messages.messages.length, 2);
  t.deepEqual(host.platform.dump(), unconnected);
});
