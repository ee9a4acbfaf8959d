/** The VFIO client of @remora/host against this kernel: who shares what, and devices. */
import test from 'ava';
import { AddressSpace, Errno, MemTx, Region } from '@remora/core';
import { VfioConnections } from '@remora/host';
import { ENGINE, ENGINE_ID, gadget, SECOND, SECOND_ID } from './bench.test.helper.js';

import { connectOptions, fixture } from './vm.test.helper.js';

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
  t.is(vm.process.read(fd, new Uint8Array(8)), 8);
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
