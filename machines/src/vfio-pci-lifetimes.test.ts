/** How vfio-pci comes and goes, judged by what stays on the host. */
import test, { type ExecutionContext } from 'ava';
import { ConfigError, Errno, Leaks } from '@remora/core';
import { ForwardingSyscalls, type HostSyscalls, type IoctlArgument, type MappedMemory } from '@remora/host';
import type { SimulatedHost } from '@remora/host-sim';
import { guestOf, type Host, type Machine } from '@remora/machine';
import { Capability, pciDeviceHostIommuContext } from '@remora/pci';
import { VFIO_DEVICE_RESET, VFIO_GROUP_UNSET_CONTAINER, VFIO_IOMMU_BIND } from '@remora/uapi';
import { GuestEngine } from './guest/guest-engine.js';
import { ENGINE, lendingHost, SECOND_ENGINE } from './lending-host.js';
import { vsva, vsvaMachine } from './vsva.js';

import { BAR, RAM_PAGES, ioctls, machineOn, mappedPages, own, startedOn } from './vfio-pci.test.helper.js';

test('a device that another machine has is refused, and free again when that machine is gone', t => {
  const host = own(t, lendingHost());
  const first = startedOn(host, `vfio-pci,host=${ENGINE}`);
  t.throws(() => startedOn(host, `vfio-pci,host=${ENGINE}`), { instanceOf: ConfigError, message: /EBUSY/ });
  first[Symbol.dispose]();
  const second = own(t, startedOn(host, `vfio-pci,host=${ENGINE}`));
  t.deepEqual(second.ids, ['vfio-pci']);
});

/** Lets `allowed` calls through; the next one fails, and whatever comes after it succeeds again. */
class FailingOnce extends ForwardingSyscalls {
  calls = 0;
  readonly #allowed: number;

  constructor(next: HostSyscalls, allowed: number) {
    super(next);
    this.#allowed = allowed;
  }

  get failed(): boolean {
    return this.calls > this.#allowed;
  }

  override open(path: string): number {
    return this.#fails() ? -Errno.EACCES : super.open(path);
  }

  override readlink(path: string): string | number {
    return this.#fails() ? -Errno.ENOENT : super.readlink(path);
  }

  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    return this.#fails() ? -Errno.EIO : super.ioctl(fd, request, argument);
  }

  override pread(fd: number, buffer: Uint8Array, offset: number): number {
    return this.#fails() ? -Errno.EIO : super.pread(fd, buffer, offset);
  }

  override mmap(length: number): MappedMemory | number {
    return this.#fails() ? -Errno.ENOMEM : super.mmap(length);
  }

  #fails(): boolean {
    return this.calls++ === this.#allowed;
  }
}

test('whichever call of the host fails while the machine starts, nothing stays on the host', t => {
  const host = own(t, lendingHost());
  const before = host.platform.dump();
  const outcomes = { refused: 0, started: 0 };
  for (let allowed = 0; ; allowed++) {
    let syscalls: FailingOnce | undefined;
    const interpose = (next: HostSyscalls): HostSyscalls => (syscalls = new FailingOnce(next, allowed));
    Leaks.check(() => {
      try {
        using machine = machineOn(
          host,
          ['intel-iommu,x-scalable-mode=modern', `vfio-pci,host=${ENGINE}`, `vfio-pci,host=${SECOND_ENGINE}`],
          { interpose },
        );
        machine.start();
        outcomes.started++;
      } catch (error) {
        outcomes.refused++;
        t.true(error instanceof ConfigError, String(error));
      }
    });
    t.deepEqual(host.platform.dump(), before, `after call ${allowed}`);
    if (!syscalls!.failed) break;
  }
  t.true(outcomes.refused > 20, `refused ${outcomes.refused} times`);
});

test('unplug gives the device back; plug takes it again', t => {
  const host = own(t, lendingHost());
  const vm = own(t, startedOn(host, 'intel-iommu,x-scalable-mode=modern'));
  const before = host.platform.dump();
  const id = vm.plug(`vfio-pci,host=${ENGINE},addr=03.0`);
  t.deepEqual(mappedPages(host.platform), { '3f00': RAM_PAGES });
  vm.unplug(id);
  t.deepEqual(host.platform.dump(), before);

  t.is(vm.plug(`vfio-pci,host=${ENGINE},addr=03.0`), id);
  const engine = new GuestEngine(vm, '00:03.0', BAR);
  t.true(engine.fill({ pattern: 5, to: 0x1000, length: 4 }).ok);
  t.throws(() => vm.plug(`vfio-pci,host=${ENGINE}`), {
    instanceOf: ConfigError,
    message: 'device.host: 0000:3f:00.0: it is attached to this machine already (vfio-pci)',
  });
  t.deepEqual(vm.ids, ['intel-iommu', id]);
  const msix = vm.functions(id)[0]!.capabilities.find(Capability.MSIX)!;
  vm.config.write('00:03.0', msix + 2, 0x8000, 2);
  vm.unplug(id);
  t.deepEqual(host.platform.dump(), before);
});

test('the last device out closes the container, the one before it does not', t => {
  const host = own(t, lendingHost());
  const vm = own(t, startedOn(host));
  const before = host.platform.dump();
  vm.plug(`vfio-pci,host=${ENGINE},id=a`);
  const one = host.platform.dump();
  vm.plug(`vfio-pci,host=${SECOND_ENGINE},id=b`);
  vm.unplug('b');
  t.deepEqual(host.platform.dump(), one);
  vm.unplug('a');
  t.deepEqual(host.platform.dump(), before);
});

test('a reset of the machine, and one that the guest asks of the function, reset the device of the host', t => {
  const host = own(t, lendingHost());
  const vm = own(t, vsvaMachine(host));
  vm.ledger.on = true;
  vm.start();
  const resets = (): number => ioctls(vm.ledger, VFIO_DEVICE_RESET);
  t.is(resets(), 1);
  const started = host.platform.dump();

  const engine = new GuestEngine(vm, '00:03.0', BAR);
  engine.write(0x0c, 0x123);
  t.is(engine.read(0x0c), 0x123);
  const [fn] = vm.functions('vfio-pci');
  const express = fn!.capabilities.find(Capability.EXPRESS)!;
  const msix = fn!.capabilities.find(Capability.MSIX)!;
  vm.config.write('00:03.0', msix + 2, 0x8000, 2);
  vm.config.write('00:03.0', express + 8, 0x8000, 2);
  t.is(resets(), 2);
  t.deepEqual(host.platform.dump(), started);

  new GuestEngine(vm, '00:03.0', BAR).write(0x0c, 0x456);
  vm.reset();
  t.is(resets(), 3);
  t.deepEqual(host.platform.dump(), started);
  t.is(new GuestEngine(vm, '00:03.0', BAR).read(0x0c), 0);
});

test('a machine that is closed, or whose host is, leaves nothing', t => {
  const host = lendingHost();
  const before = host.platform.dump();
  const first = startedOn(host, 'intel-iommu,x-scalable-mode=modern', `vfio-pci,host=${ENGINE},addr=03.0`);
  new GuestEngine(first, '00:03.0', BAR).fill({ pattern: 1, to: 0, length: 8192 });
  first[Symbol.dispose]();
  t.deepEqual(host.platform.dump(), before);

  Leaks.check(() => {
    const closed = lendingHost();
    const vm = startedOn(closed, 'intel-iommu,x-scalable-mode=modern', `vfio-pci,host=${ENGINE}`);
    closed[Symbol.dispose]();
    t.throws(() => vm.reset(), { message: 'vm0 is closed, not started' });
  });
  host[Symbol.dispose]();
});

/** A guest that has bound its page table at a PASID of its own: the host holds both. */
function bound(t: ExecutionContext, host: Host<SimulatedHost>): Machine {
  const vm = own(t, vsvaMachine(host));
  vm.start();
  for (const step of guestOf(vsva, vm, { seed: 3 })!.steps) {
    step.run();
    if (step.id === 'bind') break;
  }
  const { iommu } = host.platform.dump() as { iommu: { functions: { pasids: unknown[] }[] } };
  t.is(iommu.functions[0]!.pasids.length, 2);
  return vm;
}

test('with a live binding: unplug, reset and the end of the machine leave nothing on the host', t => {
  const host = own(t, lendingHost());
  const empty = host.platform.dump();

  const reset = bound(t, host);
  const started = (): Record<string, unknown> => {
    const { pasids, iommu, devices } = host.platform.dump();
    return { pasids, iommu, devices };
  };
  reset.reset();
  const afterReset = started();
  reset[Symbol.dispose]();
  t.deepEqual(host.platform.dump(), empty);
  const fresh = own(t, vsvaMachine(host));
  fresh.start();
  t.deepEqual(withoutFrames(afterReset), withoutFrames(started()));
  fresh[Symbol.dispose]();

  const unplugged = bound(t, host);
  unplugged.unplug('vfio-pci');
  const { pasids, groups, iommu } = host.platform.dump();
  t.deepEqual({ pasids, groups, iommu }, { pasids: empty['pasids'], groups: empty['groups'], iommu: empty['iommu'] });
  unplugged.reset();
  unplugged[Symbol.dispose]();
  t.deepEqual(host.platform.dump(), empty);

  bound(t, host)[Symbol.dispose]();
  t.deepEqual(host.platform.dump(), empty);
});

test('unplug makes the vIOMMU unbind while the context is there, though the container stays', t => {
  const host = own(t, lendingHost());
  const vm = own(t, vsvaMachine(host));
  vm.start();
  const neighbour = vm.plug(`vfio-pci,host=${SECOND_ENGINE}`);
  for (const step of guestOf(vsva, vm, { seed: 3 })!.steps) {
    step.run();
    if (step.id === 'bind') break;
  }
  vm.ledger.on = true;
  const [fn] = vm.functions('vfio-pci');
  vm.unplug('vfio-pci');
  t.is(pciDeviceHostIommuContext(fn), undefined);
  const calls = vm.ledger.events.filter(({ kind, source }) => kind === 'ioctl' && source === 'vm0/host-syscalls');
  t.deepEqual(
    calls.map(({ data }) => data['number']),
    [VFIO_IOMMU_BIND, VFIO_GROUP_UNSET_CONTAINER],
  );
  t.deepEqual((calls[0]!.data['bytes'] as Uint8Array).slice(4, 8), Uint8Array.of(2, 0, 0, 0));
  t.deepEqual(vm.ids, ['intel-iommu', neighbour]);
  t.is(vm.process!.vfio.containers.length, 1);
});

/** Which host frames hold a table depends on what was there before. */
function withoutFrames(dump: unknown): unknown {
  return JSON.parse(JSON.stringify(dump, (key, value: unknown) => (/frame|slptptr/i.test(key) ? undefined : value)));
}
