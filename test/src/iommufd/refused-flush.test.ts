/**
 * A host that takes an array of flushes only in part: the guest's queue stops at the descriptor of the first that was refused, and the
 * device's DMA shows which took effect.
 */
import test from 'ava';
import { Errno } from '@remora/core';
import { ForwardingSyscalls, type HostSyscalls, type IoctlArgument } from '@remora/host';
import { IOMMU_HWPT_INVALIDATE, IommuHwptInvalidate, viewOf } from '@remora/uapi';
import { owner } from '@remora/testing';
import { Fsts, Reg } from '@hw/intel-iommu';
import { LentEngine } from './lent-engine.js';

const PAGE = 4096;
const AT = 0x1_2345_6000;
const PAGES = 5;

/** Refuses entry `entry` of the next array, and what comes after it. */
class PartialHost extends ForwardingSyscalls {
  entry = -1;
  /** Entries of each array, and how many of them were done. */
  readonly arrays: [asked: number, done: number][] = [];

  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    if (request !== IOMMU_HWPT_INVALIDATE) return super.ioctl(fd, request, argument);
    const view = viewOf(argument as Uint8Array);
    const { entry_num } = IommuHwptInvalidate.fields;
    const asked = entry_num.get(view);
    const refuses = this.entry >= 0 && this.entry < asked;
    if (refuses) entry_num.set(view, this.entry);
    const result = super.ioctl(fd, request, argument);
    this.arrays.push([asked, entry_num.get(view)]);
    if (!refuses) return result;
    this.entry = -1;
    return -Errno.EIO;
  }
}

interface Scene {
  readonly at: LentEngine;
  readonly host: PartialHost;
  /** Which pages the device reads anew: `n` new, `o` old. */
  readonly seen: () => string;
  /** One descriptor for each page. */
  readonly flushes: () => Int32Array[];
}

/** The device has read PAGES pages, and then the guest changed them all without a flush. */
function scene(own: <T extends Disposable>(resource: T) => T, asks: boolean): Scene {
  let host: PartialHost | undefined;
  const interpose = (syscalls: HostSyscalls): HostSyscalls => (host = new PartialHost(syscalls));
  const at = own(new LentEngine({ asks, interpose }));
  const { space, rig } = at;
  const all = Array.from({ length: PAGES }, (_, index) => AT + index);
  const fill = (frame: number, letter: string): void => rig.guest.write(frame, Buffer.from(letter));
  const seen = (): string => all.map(page => String.fromCharCode(space.deviceReads(page, 1)![0]!)).join('');
  for (const page of all) fill(space.page(page), 'o');
  seen();
  for (const page of all) fill(space.remap(page), 'n');
  const flushes = (): Int32Array[] =>
    all.map(page => rig.descriptor.pasidIotlb(3, space.did, space.pasid, { address: page * PAGE, leaf: true }));
  return { at, host: host!, seen, flushes };
}

const isStopped = ({ rig }: LentEngine): boolean => (rig.guest.registers.read32(Reg.FSTS) & Fsts.IQE) !== 0;

for (const asks of [false, true]) {
  const title = asks ? 'a device TLB' : 'no device TLB';

  test(`${title}: five flushes are one array`, t => {
    const { at, host, seen, flushes } = scene(owner(t), asks);
    t.is(seen(), 'ooooo');
    t.is(at.rig.guest.iommu.queue.submit(...flushes()), 0);
    t.deepEqual(host.arrays, [[5, 5]]);
    t.is(seen(), 'nnnnn');
  });

  for (let refused = 0; refused < PAGES; refused++) {
    test(`${title}: entry ${refused} is refused`, t => {
      const { at, host, seen, flushes } = scene(owner(t), asks);
      const { rig } = at;
      const { queue } = rig.guest.iommu;
      const first = queue.tail;
      host.entry = refused;
      t.is(queue.submit(...flushes()), -Errno.EINVAL, 'the wait does not complete');
      t.true(isStopped(at));
      t.is(queue.head, first + refused, 'IQH is at the descriptor that was refused');
      t.is(seen(), 'n'.repeat(refused) + 'o'.repeat(PAGES - refused));
      rig.clearError();
      t.false(isStopped(at));
      t.is(queue.head, first + PAGES + 1, 'all are done, and the wait');
      t.is(seen(), 'nnnnn');
      t.deepEqual(host.arrays, [
        [PAGES, refused],
        [PAGES - refused, PAGES - refused],
      ]);
    });
  }
}

test('a descriptor that the guest replaces is never flushed: what was cached under it stays stale', t => {
  const { at, host, seen, flushes } = scene(owner(t), false);
  host.entry = 2;
  at.rig.guest.iommu.queue.submit(...flushes());
  at.rig.goOn();
  t.is(seen(), 'nnonn');
});

test('Q15: the queue goes on, and the rest is flushed all the same', t => {
  const own = owner(t);
  let host: PartialHost | undefined;
  const at = own(
    new LentEngine({
      asks: false,
      iommu: 'device-iotlb=on,svm=on,quirk-failures-invisible=on',
      interpose: syscalls => (host = new PartialHost(syscalls)),
    }),
  );
  const { space, rig } = at;
  rig.machine.ledger.on = true;
  host!.entry = 1;
  const flushes = [0, 1, 2].map(page =>
    rig.descriptor.pasidIotlb(3, space.did, space.pasid, { address: (AT + page) * PAGE }),
  );
  t.is(rig.guest.iommu.queue.submit(...flushes), 0);
  t.deepEqual(host!.arrays, [
    [3, 1],
    [1, 1],
  ]);
  t.is(rig.machine.ledger.events.filter(({ kind }) => kind === 'host-failure').length, 1);
});
