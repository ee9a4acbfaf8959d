/** Every object of an iommufd, and everything that can need it: EBUSY, until that is released (peers.md 3.6, number 2). */
import test, { type ExecutionContext } from 'ava';
import { Errno } from '@remora/core';
import { SmmuType } from '@remora/testing';
import { GuestSte, MEMORY_AT, nested, smmuHost, type SmmuHost, viommuOf } from './smmu-host.test.helper.js';

interface Pair {
  readonly id: number;
  /** Lets go of it; negative if that fails. */
  release(): number;
}

type Made = (host: SmmuHost, t: ExecutionContext) => Pair;

function fine(id: number): number {
  if (id <= 0) throw new Error(`not made: ${id}`);
  return id;
}

function queueOf(t: ExecutionContext, host: SmmuHost, viommu: number): { readonly id: number; readonly fd: number } {
  const queue = host.user.veventq(viommu, SmmuType.EVENT_SMMUV3, 4);
  return typeof queue === 'number' ? t.fail() && { id: queue, fd: queue } : queue;
}

function ring(host: SmmuHost, viommu: number, index: number): number {
  return fine(host.user.hardwareQueue(viommu, SmmuType.HW_QUEUE_CMDQV, index, MEMORY_AT + 0x1000 * index, 0x1000));
}

const PAIRS: Readonly<Record<string, Made>> = {
  'address space, page table': host => ({ id: host.ioas, release: () => host.user.destroy(host.parent) }),
  'address space, attached device': host => {
    const id = fine(host.user.ioas());
    fine(host.user.attach(host.devices[0].fd, id) + 1);
    return { id, release: () => host.user.detach(host.devices[0].fd) };
  },
  'page table, attached device': host => {
    const id = fine(host.user.hwpt(host.devices[0].id, host.ioas));
    host.user.attach(host.devices[0].fd, id);
    return { id, release: () => host.user.detach(host.devices[0].fd) };
  },
  'page table, device that goes': host => {
    const id = fine(host.user.hwpt(host.devices[1].id, host.ioas));
    host.user.attach(host.devices[1].fd, id);
    return { id, release: () => host.vmm.close(host.devices[1].fd) };
  },
  'page table, device that is put elsewhere': host => {
    const id = fine(host.user.hwpt(host.devices[0].id, host.ioas));
    host.user.attach(host.devices[0].fd, id);
    return { id, release: () => host.user.attach(host.devices[0].fd, host.parent) };
  },
  'automatic page table, attached device': host => {
    const id = host.user.ioas();
    host.user.attach(host.devices[0].fd, id);
    return { id: id + 1, release: () => 0 };
  },
  'parent, vIOMMU': (host, t) => {
    const viommu = viommuOf(t, host);
    return { id: host.parent, release: () => host.user.destroy(viommu) };
  },
  'vIOMMU, nested page table': (host, t) => {
    const id = viommuOf(t, host);
    const table = fine(nested(host, id, GuestSte.BYPASS));
    return { id, release: () => host.user.destroy(table) };
  },
  'vIOMMU, virtual device': (host, t) => {
    const id = viommuOf(t, host);
    const vdevice = fine(host.user.vdevice(id, host.devices[0].id, 0x88));
    return { id, release: () => host.user.destroy(vdevice) };
  },
  'vIOMMU, virtual device whose device goes': (host, t) => {
    const id = viommuOf(t, host);
    fine(host.user.vdevice(id, host.devices[0].id, 0x88));
    return { id, release: () => host.vmm.close(host.devices[0].fd) };
  },
  'vIOMMU, queue of events': (host, t) => {
    const id = viommuOf(t, host);
    const queue = queueOf(t, host, id);
    return { id, release: () => host.vmm.close(queue.fd) || host.user.destroy(queue.id) };
  },
  'queue of events, its descriptor': (host, t) => {
    const { id, fd } = queueOf(t, host, viommuOf(t, host));
    return { id, release: () => host.vmm.close(fd) };
  },
  'vIOMMU, hardware queue': (host, t) => {
    const id = viommuOf(t, host, SmmuType.VIOMMU_CMDQV);
    const queue = ring(host, id, 0);
    return { id, release: () => host.user.destroy(queue) };
  },
  'hardware queue, the one above it': (host, t) => {
    const viommu = viommuOf(t, host, SmmuType.VIOMMU_CMDQV);
    const [id, above] = [ring(host, viommu, 0), ring(host, viommu, 1)];
    return { id, release: () => host.user.destroy(above) };
  },
  'fault queue, page table': host => {
    const { id, fd } = host.user.faultQueue();
    const table = fine(host.user.hwpt(host.devices[0].id, host.ioas, { faultId: id }));
    host.vmm.close(fd);
    return { id, release: () => host.user.destroy(table) };
  },
  'fault queue, its descriptor': host => {
    const { id, fd } = host.user.faultQueue();
    return { id, release: () => host.vmm.close(fd) };
  },
  'nested page table, attached device': (host, t) => {
    const id = fine(nested(host, viommuOf(t, host), GuestSte.BYPASS));
    t.true(host.user.attach(host.devices[0].fd, id) >= 0);
    return { id, release: () => host.user.detach(host.devices[0].fd) };
  },
};

for (const [what, make] of Object.entries(PAIRS)) {
  test(`3.6/2: ${what}`, t => {
    const host = smmuHost(t, { queues: 2 });
    const { id, release } = make(host, t);
    t.is(host.user.destroy(id), -Errno.EBUSY);
    t.is(host.user.destroy(id), -Errno.EBUSY, 'it is there');
    if (what.startsWith('automatic')) {
      t.is(host.user.detach(host.devices[0].fd), 0);
      t.is(host.user.destroy(id), -Errno.ENOENT, 'it goes by itself');
      return;
    }
    t.true(release() >= 0);
    t.is(host.user.destroy(id), 0);
    t.is(host.user.destroy(id), -Errno.ENOENT);
  });
}

test('3.6/2: a bound device is destroyed by nobody; its id is free when its descriptor is closed', t => {
  const { user, vmm, devices } = smmuHost(t);
  t.is(user.destroy(devices[0].id), -Errno.EBUSY);
  t.is(vmm.close(devices[0].fd), 0);
  t.is(user.destroy(devices[0].id), -Errno.ENOENT);
  t.is(user.bind('/dev/vfio/devices/vfio0').id, devices[0].id);
});
