/** The VFIO client of @remora/host against this kernel: containers and what they bind. */
import test from 'ava';
import { Errno, Ledger } from '@remora/core';
import { RecordingSyscalls, VfioConnections, VfioContainer } from '@remora/host';
import { Stage1Flush, Stage1FlushBatch } from '@remora/iommu';
import {
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_GET_INFO,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_NESTING_IOMMU,
  VFIO_TYPE1v2_IOMMU,
} from '@remora/uapi';
import { ENGINE, SECOND, SECOND_ID } from './bench.test.helper.js';

import { connectOptions, container, fixture, NESTING, stage1 } from './vm.test.helper.js';

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
  const batch = new Stage1FlushBatch();
  batch.add(flush);
  t.is(context.flushStage1Caches(batch), 0);
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
