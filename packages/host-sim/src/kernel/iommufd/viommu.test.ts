/** peers.md 3.6, 2, 3 and 9: virtual IOMMUs, what is nested through them, and virtual devices. */
import test from 'ava';
import { Errno, MemTx, NO_PASID } from '@remora/core';
import { SmmuType, smmuEvent } from '@remora/testing';
import {
  IOMMU_VIOMMU_ALLOC,
  IommuHwptAllocFlag,
  IommufdVeventHeader,
  IommuViommuAlloc,
  IommuViommuTegra241Cmdqv,
  viewOf,
} from '@remora/uapi';
import { ENGINE } from '../../bench.test.helper.js';
import {
  GuestSte,
  MEMORY_AT,
  MEMORY_BYTES,
  nested,
  servedBy,
  smmuHost,
  type SmmuHost,
  viommuOf,
  words,
} from './smmu-host.test.helper.js';

const TRANSLATION_FAULT = 0x10;
const HEADER = IommufdVeventHeader.size;
const EVENT_BYTES = 32;

/** Bytes of the VM's memory, as the device reads them; undefined if its request was refused. */
function dma({ bench, vmm, address }: SmmuHost): number | undefined {
  const fn = bench.host.function(ENGINE);
  fn.config.write(4, 4, 2);
  const out = new Uint8Array(1);
  vmm.memory.write(address + 0x123, Uint8Array.of(0x5a));
  return fn.dma.read(0, MEMORY_AT + 0x123, out) === MemTx.OK ? out[0] : undefined;
}

test('VIOMMU_ALLOC: what is refused', t => {
  const host = smmuHost(t, { serves: requesterId => requesterId === 0x3f00 });
  const { user, devices, parent, ioas } = host;
  const [device, elsewhere] = devices;
  const smmu = SmmuType.VIOMMU_SMMUV3;
  t.is(user.viommu(device.id, parent, 0), -Errno.EOPNOTSUPP);
  t.is(user.viommu(device.id, parent, 77), -Errno.EOPNOTSUPP);
  t.is(user.viommu(device.id, parent, SmmuType.VIOMMU_CMDQV), -Errno.EOPNOTSUPP, 'the unit has no queues');
  t.is(user.viommu(999, parent, smmu), -Errno.ENOENT);
  t.is(user.viommu(device.id, 999, smmu), -Errno.ENOENT);
  t.is(user.viommu(device.id, ioas, smmu), -Errno.ENOENT, 'an object of another kind');
  const flat = user.hwpt(device.id, ioas);
  t.is(user.viommu(device.id, flat, smmu), -Errno.EINVAL, 'not a nesting parent');
  t.is(user.viommu(elsewhere.id, parent, smmu), -Errno.EINVAL, 'behind another unit');
  const { result } = user.call(IOMMU_VIOMMU_ALLOC, IommuViommuAlloc, {
    flags: 1,
    type: smmu,
    dev_id: device.id,
    hwpt_id: parent,
  });
  t.is(result, -Errno.EOPNOTSUPP);
  t.is(user.destroy(parent), 0, 'nothing of all that is left');
});

test('VIOMMU_ALLOC with a payload: the driver’s answer is written into it, or nothing is left', t => {
  const host = smmuHost(t, { queues: 2 });
  const { user, devices, parent } = host;
  const type = SmmuType.VIOMMU_CMDQV;
  const { address, ram } = user.memory(16);
  const ask = (data_uptr: number, data_len: number) =>
    user.call(IOMMU_VIOMMU_ALLOC, IommuViommuAlloc, {
      type,
      dev_id: devices[0].id,
      hwpt_id: parent,
      data_len,
      data_uptr,
    });
  t.is(ask(0x1000, 16).result, -Errno.EFAULT);
  t.is(ask(address, 8).result, -Errno.EINVAL);
  t.is(ask(address, 0x1001).result, -Errno.EINVAL);
  const { result, out } = ask(address, 16);
  t.is(result, 0);
  const bytes = new Uint8Array(16);
  ram.read(0, 0, bytes);
  t.deepEqual(IommuViommuTegra241Cmdqv.decode(viewOf(bytes)), {
    out_vintf_mmap_offset: 0x1_0000,
    out_vintf_mmap_length: 0x1_0000,
  });
  t.is(user.destroy(parent), -Errno.EBUSY);
  t.is(user.destroy(out.out_viommu_id), 0);
  t.is(user.destroy(parent), 0);
});

test('3.6/2: what needs what: -EBUSY until it is gone', t => {
  const host = smmuHost(t, { queues: 1 });
  const { user, devices, parent, ioas } = host;
  const viommu = viommuOf(t, host, SmmuType.VIOMMU_CMDQV);
  t.is(user.destroy(parent), -Errno.EBUSY);
  t.is(user.destroy(ioas), -Errno.EBUSY);
  t.is(user.destroy(devices[0].id), -Errno.EBUSY);

  const hwpt = nested(host, viommu, GuestSte.BYPASS);
  t.is(user.destroy(viommu), -Errno.EBUSY);
  t.is(user.attach(devices[0].fd, hwpt), 0);
  t.is(user.destroy(hwpt), -Errno.EBUSY);
  t.is(user.detach(devices[0].fd), 0);
  t.is(user.destroy(hwpt), 0);

  const vdevice = user.vdevice(viommu, devices[0].id, 1);
  t.is(user.destroy(viommu), -Errno.EBUSY);
  t.is(user.destroy(vdevice), 0);

  const queue = user.veventq(viommu, SmmuType.EVENT_SMMUV3, 4);
  t.true(typeof queue === 'object');
  if (typeof queue === 'number') return;
  t.is(user.destroy(viommu), -Errno.EBUSY);
  t.is(user.destroy(queue.id), -Errno.EBUSY, 'its descriptor is open');
  t.is(user.syscalls.close(queue.fd), 0);
  t.is(user.destroy(viommu), -Errno.EBUSY);
  t.is(user.destroy(queue.id), 0);

  const ring = user.hardwareQueue(viommu, SmmuType.HW_QUEUE_CMDQV, 0, MEMORY_AT, 0x1000);
  t.true(ring > 0);
  t.is(user.destroy(viommu), -Errno.EBUSY);
  t.is(user.destroy(ring), 0);

  t.is(user.destroy(viommu), 0);
  t.is(user.destroy(viommu), -Errno.ENOENT);
  t.is(user.destroy(parent), 0);
  t.is(user.unmap(ioas, MEMORY_AT, MEMORY_BYTES), 0);
  t.is(user.destroy(ioas), 0);
});

test('3.6/3: nesting through a vIOMMU: what is refused', t => {
  const host = smmuHost(t);
  const { user, devices, parent } = host;
  const viommu = viommuOf(t, host);
  const device = devices[0].id;
  const ask = (data: Uint8Array, dataType: number, flags = 0): number =>
    user.hwpt(device, viommu, { flags, data, dataType });
  const smmu = SmmuType.HWPT_SMMUV3;
  t.is(ask(GuestSte.BYPASS, 1), -Errno.EOPNOTSUPP, 'another vendor’s payload');
  t.is(ask(GuestSte.BYPASS.subarray(0, 8), smmu), -Errno.EINVAL, 'too short');
  for (const flag of [
    IommuHwptAllocFlag.PASID,
    IommuHwptAllocFlag.DIRTY_TRACKING,
    IommuHwptAllocFlag.NEST_PARENT,
    0x10,
  ]) {
    t.is(ask(GuestSte.BYPASS, smmu, flag), -Errno.EOPNOTSUPP, `flag ${flag}`);
  }
  t.is(user.hwpt(device, parent, { data: GuestSte.BYPASS, dataType: smmu }), -Errno.EOPNOTSUPP, 'without a vIOMMU');
  const bad = (...values: [number, number, number, number]): number => ask(words(...values), smmu);
  t.is(bad(0x8000_000d, 0, 0, 0), -Errno.EIO, 'stage 2 is the host’s');
  t.is(bad(0x8000_000b, 0, 0x1000_0000 * 2, 0), -Errno.EIO, 'EATS 2');
  // One bit at a time, all those that are not V, Config, S1Fmt, S1ContextPtr, S1CDMax; S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS.
  let refused = 0;
  for (let bit = 0; bit < 128; bit++) {
    const entry = Uint32Array.from([0x1, 0, 0, 0]);
    entry[bit >> 5] = entry[bit >> 5]! | (1 << (bit & 31));
    const result = ask(new Uint8Array(entry.buffer), smmu);
    if (result === -Errno.EIO) refused++;
    else t.is(user.destroy(result), 0, `bit ${bit}`);
  }
  // 7 reserved bits of the first double word, 53 of the second; Config 1 and 2 alone are illegal, too, and so is EATS 2.
  t.is(refused, 7 + 53 + 2 + 1);
  t.is(user.destroy(viommu), 0);
});

test('a guest’s abort and bypass need no virtual device; what translates does, and a refusal leaves what was', t => {
  const host = smmuHost(t);
  const { user, devices, driver } = host;
  const [device] = devices;
  const viommu = viommuOf(t, host);
  const [abort, bypass, translate, invalid] = [
    GuestSte.ABORT,
    GuestSte.BYPASS,
    GuestSte.TRANSLATE,
    GuestSte.INVALID,
  ].map(entry => nested(host, viommu, entry));
  t.is(dma(host), undefined, 'nothing serves it');
  t.is(user.attach(device.fd, bypass!), 0);
  t.deepEqual([servedBy(driver, device.requesterId), dma(host)], ['bypass', 0x5a]);
  t.is(user.attach(device.fd, translate!), -Errno.ENOENT);
  t.deepEqual([servedBy(driver, device.requesterId), dma(host)], ['bypass', 0x5a]);
  t.is(user.attach(device.fd, abort!), 0);
  t.deepEqual([servedBy(driver, device.requesterId), dma(host)], ['abort', undefined]);
  t.is(user.attach(device.fd, invalid!), 0);
  t.deepEqual([servedBy(driver, device.requesterId), dma(host)], ['abort', undefined]);
  const vdevice = user.vdevice(viommu, device.id, 0x42);
  t.true(vdevice > 0);
  t.is(user.attach(device.fd, translate!), 0);
  t.is(servedBy(driver, device.requesterId), 'translate');
  t.is(user.attach(device.fd, bypass!), 0);
  t.is(dma(host), 0x5a);
});

test('3.6/9: VDEVICE_ALLOC: one for each device, and one for each number', t => {
  const host = smmuHost(t);
  const { user, devices } = host;
  const [first, second] = devices;
  const viommu = viommuOf(t, host);
  const another = viommuOf(t, host);
  t.is(user.vdevice(999, first.id, 1), -Errno.ENOENT);
  t.is(user.vdevice(viommu, 999, 1), -Errno.ENOENT);
  t.is(user.vdevice(viommu, host.parent, 1), -Errno.ENOENT);
  t.is(user.vdevice(viommu, first.id, 0x1_0000_0000n), -Errno.EINVAL, 'a StreamID has 32 bits');
  const vdevice = user.vdevice(viommu, first.id, 0x99);
  t.true(vdevice > 0);
  t.is(user.vdevice(viommu, first.id, 0x88), -Errno.EEXIST, 'the device has one');
  t.is(user.vdevice(another, first.id, 0x88), -Errno.EEXIST, 'wherever');
  t.is(user.vdevice(viommu, second.id, 0x99), -Errno.EEXIST, 'the number is taken');
  t.true(user.vdevice(another, second.id, 0x99) > 0, 'numbers are a VM’s own');
  t.is(user.destroy(vdevice), 0);
  t.true(user.vdevice(viommu, first.id, 0x88) > 0);
});

test('a device behind another unit is nobody of this VM', t => {
  const host = smmuHost(t, { serves: requesterId => requesterId === 0x3f00 });
  const { user, devices } = host;
  const viommu = viommuOf(t, host);
  t.is(user.vdevice(viommu, devices[1].id, 1), -Errno.EINVAL);
  t.is(nested(host, viommu, GuestSte.BYPASS, 1), -Errno.EINVAL);
  const hwpt = nested(host, viommu, GuestSte.BYPASS);
  t.is(user.attach(devices[1].fd, hwpt), -Errno.EINVAL);
  t.is(servedBy(host.driver, devices[1].requesterId), undefined);
});

test('3.6/9: events carry the number that the device has now; without one the host keeps them', t => {
  const host = smmuHost(t);
  const { user, devices, driver } = host;
  const [device] = devices;
  const viommu = viommuOf(t, host);
  const queue = user.veventq(viommu, SmmuType.EVENT_SMMUV3, 8);
  if (typeof queue === 'number') throw new Error(`VEVENTQ_ALLOC: ${queue}`);
  const event = (address: number, more = {}): void =>
    driver.raise(smmuEvent({ type: TRANSLATION_FAULT, sid: device.requesterId, ssid: 5, address, ...more }));
  /** StreamIDs and addresses of the events that are there. */
  const read = (): [number, number][] => {
    const bytes = user.read(queue.fd, 8 * (HEADER + EVENT_BYTES));
    if (typeof bytes === 'number') throw new Error(`read: ${bytes}`);
    const view = viewOf(bytes);
    const events = Array.from({ length: bytes.length / (HEADER + EVENT_BYTES) }, (_, index) => index);
    return events.map(index => {
      const at = index * (HEADER + EVENT_BYTES) + HEADER;
      return [view.getUint32(at + 4, true), view.getUint32(at + 16, true)];
    });
  };
  const bypass = nested(host, viommu, GuestSte.BYPASS);
  t.is(user.attach(device.fd, bypass), 0);
  event(0x1000);
  t.deepEqual(read(), [], 'no virtual device');
  t.like(host.bench.host.takeFaults(), [{ requesterId: device.requesterId, pasid: 5, lo: 0x1000, write: false }]);

  const first = user.vdevice(viommu, device.id, 0x99);
  event(0x2000);
  event(0x3000, { read: false });
  t.deepEqual(read(), [
    [0x99, 0x2000],
    [0x99, 0x3000],
  ]);
  event(0x4000, { stage2: true });
  t.deepEqual(read(), [], 'stage 2 is the host’s');
  t.is(host.bench.host.takeFaults().length, 1);

  t.is(user.destroy(first), 0);
  event(0x5000);
  t.deepEqual(read(), []);
  t.true(user.vdevice(viommu, device.id, 0x88) > 0);
  event(0x6000);
  t.deepEqual(read(), [[0x88, 0x6000]]);

  t.is(user.detach(device.fd), 0);
  event(0x7000);
  t.deepEqual(read(), [], 'not behind the VM’s tables any more');
  t.deepEqual(
    host.bench.host.takeFaults().map(({ lo }) => lo),
    [0x5000, 0x7000],
  );
});

test('3.6/9: the device goes first: its virtual device is a tombstone, whose id comes back with a new /dev/iommu only', t => {
  const host = smmuHost(t);
  const { user, devices, driver, vmm } = host;
  const [device, other] = devices;
  const viommu = viommuOf(t, host);
  const vdevice = user.vdevice(viommu, device.id, 0x99);
  const translate = nested(host, viommu, GuestSte.TRANSLATE);
  t.is(user.attach(device.fd, translate), 0);
  t.is(user.syscalls.close(device.fd), 0);
  t.is(driver.streams.get(device.requesterId)?.get(NO_PASID), undefined, 'it is blocked');
  t.is(user.destroy(vdevice), -Errno.ENOENT);
  const again = user.vdevice(viommu, other.id, 0x99);
  t.true(again > 0, 'the number is free');
  t.not(again, vdevice);
  const made = Array.from({ length: 4 }, () => user.ioas());
  t.false(made.includes(vdevice), 'and the id is not');
  t.is(user.destroy(again), 0);
  t.is(user.destroy(translate), 0);
  t.is(user.destroy(viommu), 0, 'a tombstone needs nobody');
  t.is(user.syscalls.close(other.fd), 0);
  t.is(user.close(), 0);
  t.deepEqual(vmm.state(), { ...(vmm.state() as object), files: [] });
  t.is(driver.domains.size, 0);
});
