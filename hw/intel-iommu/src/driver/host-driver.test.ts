import { Access, Errno, NO_PASID } from '@remora/core';
import type { Stage1Flush } from '@remora/iommu';
import { type Stage1Config, Stage1Format, type VtdStage1 } from '@remora/iommu';
import test from 'ava';
import { Fault } from '../spec/index.js';
import { VtdHostDriver } from './host-driver.js';
import { DEVICE, domainOf, flush, Guest, host, PASID, succeed } from './host.test.helper.js';
import { Rig } from './rig.test.helper.js';

test('what the unit offers is what a kernel is told', t => {
  const { driver } = host();
  t.is(driver.stage1Format, Stage1Format.INTEL_VTD);
  t.is(driver.pasidBits, 20);
  t.is(driver.pageSizes, 0x4020_1000);
  t.is(driver.addressWidth, 48);
  t.is(host({ 'aw-bits': 39 }).driver.addressWidth, 39);
  t.is(host({ nesting: false, 'x-scalable-mode': 'on' }).driver.stage1Format, 0);
  const rig = new Rig({ 'x-scalable-mode': 'on', 'x-flts': true });
  t.throws(() => new VtdHostDriver(rig.registers, rig.memory, rig.pages), { message: /no second stage/ });
});

for (const cachingMode of [false, true]) {
  test(`a domain decides what a function reaches; without one it is blocked (caching-mode=${cachingMode})`, t => {
    const { rig, driver } = host({ 'caching-mode': cachingMode });
    t.deepEqual(rig.request(DEVICE, 0x1000), { fault: Fault.SRT_2 });
    const domain = domainOf(driver);
    const other = domainOf(driver);
    t.deepEqual([domain.id, other.id], [0x100, 0x101]);
    succeed(t, domain.attach(DEVICE), domain.map(0x10, 0x3010, 4, Access.READ_WRITE), other.map(0x10, 0x3020, 4, 1));
    t.is(other.attach(DEVICE), -Errno.EBUSY);
    t.is(domain.attach(DEVICE), -Errno.EBUSY);
    t.is(domain.map(0x12, 0x3300, 1, Access.READ), -Errno.EEXIST);
    t.like(rig.request(DEVICE, 0x12_345, Access.WRITE), { to: 0x3012345n });
    t.deepEqual(rig.request(DEVICE, 0x14_000, Access.WRITE), { fault: Fault.SSS_2 });
    succeed(t, domain.map(0x14, 0x3014, 1, Access.READ));
    t.like(rig.request(DEVICE, 0x14_000), { to: 0x3014000n });
    succeed(t, domain.unmap(0x11, 2));
    t.deepEqual(rig.request(DEVICE, 0x12_345, Access.WRITE), { fault: Fault.SSS_2 });
    t.like(rig.request(DEVICE, 0x13_000), { to: 0x3013000n });
    succeed(t, domain.unmap(0, 0x100), domain.unmap(0, 0x100));
    t.deepEqual(rig.request(DEVICE, 0x13_000), { fault: Fault.SSS_2 });
    t.is(other.detach(DEVICE), -Errno.EINVAL);
    succeed(t, domain.detach(DEVICE));
    t.deepEqual(rig.request(DEVICE, 0x10_000), { fault: Fault.SRT_2 });
    succeed(t, other.attach(DEVICE));
    t.like(rig.request(DEVICE, 0x10_000), { to: 0x3020000n });
    t.deepEqual(
      driver.takeFaults().map(fault => fault.reason),
      [Fault.SRT_2, Fault.SSS_2, Fault.SSS_2, Fault.SSS_2, Fault.SRT_2],
    );
    t.deepEqual(driver.takeFaults(), []);
  });

  test(`a bound first stage is nested over the domain, until it is unbound (caching-mode=${cachingMode})`, t => {
    const { rig, driver } = host({ 'caching-mode': cachingMode });
    const domain = domainOf(driver);
    const guest = new Guest(rig, domain);
    guest.map(0x77, 0x3100);
    t.is(domain.bindPasid(DEVICE, PASID, guest.config), -Errno.EINVAL);
    succeed(t, domain.attach(DEVICE));
    t.deepEqual(rig.request(DEVICE, 0x77_000, Access.READ, PASID), { fault: Fault.SPD_2 });
    succeed(t, domain.bindPasid(DEVICE, PASID, guest.config));
    t.is(domain.bindPasid(DEVICE, PASID, guest.config), -Errno.EBUSY);
    t.like(rig.request(DEVICE, 0x77_abc, Access.WRITE, PASID), { to: 0x3101abcn });
    // Without PASID the same function is in the domain itself.
    t.like(rig.request(DEVICE, 0x3100_000), { to: 0x3101000n });
    t.deepEqual(rig.request(DEVICE, 0x77_000), { fault: Fault.SSS_2 });
    t.is(domain.detach(DEVICE), -Errno.EBUSY);
    // What the second stage loses is lost to the nested translation too.
    succeed(t, domain.unmap(0x3100, 1));
    t.deepEqual(rig.request(DEVICE, 0x77_000, Access.READ, PASID), { fault: Fault.SSS_2 });
    succeed(t, domain.unbindPasid(DEVICE, PASID));
    t.is(domain.unbindPasid(DEVICE, PASID), -Errno.EINVAL);
    t.deepEqual(rig.request(DEVICE, 0x77_000, Access.READ, PASID), { fault: Fault.SPT_2 });
    succeed(t, domain.detach(DEVICE));
  });
}

test('a changed first stage is seen after its flush, not before', t => {
  const { rig, driver } = host();
  const domain = domainOf(driver);
  const guest = new Guest(rig, domain);
  succeed(t, domain.attach(DEVICE), domain.bindPasid(DEVICE, PASID, guest.config));
  const remap = (): void => {
    for (const page of [0x40, 0x41, 0x42]) {
      guest.table.unmap(page, 1);
      guest.map(page, 0x3200 + page);
    }
  };
  const where = (): bigint[] =>
    [0x40, 0x41, 0x42].map(page => {
      const outcome = rig.request(DEVICE, page * 4096, Access.READ, PASID);
      return 'to' in outcome ? outcome.to >> 12n : -1n;
    });
  const [old, fresh] = [
    [0x3141n, 0x3140n, 0x3143n],
    [0x3241n, 0x3240n, 0x3243n],
  ];
  for (const page of [0x40, 0x41, 0x42]) guest.map(page, 0x3100 + page);
  t.deepEqual(where(), old);
  remap();
  t.deepEqual(where(), old);
  succeed(t, domain.flushStage1(DEVICE, flush({ granularity: 'address', lo: 0x40_000, granules: 2, leaf: true })));
  t.deepEqual(where(), [fresh[0]!, fresh[1]!, old[2]!]);
  succeed(t, domain.flushStage1(DEVICE, flush({ granularity: 'pasid' })));
  t.deepEqual(where(), fresh);
});

test('a flush names its range by an address mask, rounded up; what it cannot name is refused', t => {
  const { rig, driver } = host();
  const domain = domainOf(driver);
  const guest = new Guest(rig, domain);
  succeed(t, domain.attach(DEVICE), domain.bindPasid(DEVICE, PASID, guest.config));
  rig.takeOperations();
  const send = (values: Partial<Stage1Flush>): number =>
    domain.flushStage1(DEVICE, flush({ granularity: 'address', ...values }));
  succeed(
    t,
    send({ lo: 0x7000 }),
    send({ lo: 0x4000, granules: 3, leaf: true }),
    send({ lo: 0x20_0000, granuleShift: 21 }),
    send({ hi: 0x4000, lo: 0, granuleShift: 46 }),
    send({ granuleShift: 63, granules: 2 }),
  );
  const did = 'did=0x100 pasid=0x12345';
  t.deepEqual(rig.takeOperations(), [
    `IQT pasid-iotlb g=3 ${did}, wait sw=1`,
    `IQT pasid-iotlb g=3 ${did} am=2 ih=1, wait sw=1`,
    `IQT pasid-iotlb g=3 ${did} am=9, wait sw=1`,
    `IQT pasid-iotlb g=3 ${did} am=0x22, wait sw=1`,
    `IQT pasid-iotlb g=2 ${did}, wait sw=1`,
  ]);
  t.is(send({ lo: 0x1000, granules: 2 }), -Errno.ERANGE);
  t.is(send({ lo: 0x10_0000, granuleShift: 21 }), -Errno.ERANGE);
  t.is(send({ hi: 1, granuleShift: 33 }), -Errno.ERANGE);
  t.is(send({ granuleShift: 11 }), -Errno.EINVAL);
  t.is(send({ granules: 0 }), -Errno.EINVAL);
  t.is(send({ pasid: PASID + 1 }), -Errno.EINVAL);
  t.is(domain.flushStage1(DEVICE + 1, flush({})), -Errno.EINVAL);
  t.deepEqual(rig.takeOperations(), []);
});

test('what a unit cannot do is not bound', t => {
  const { rig, driver } = host();
  const domain = domainOf(driver);
  succeed(t, domain.attach(DEVICE));
  const { config } = new Guest(rig, domain);
  const bind = (change: Partial<Stage1Config>, attributes: Partial<VtdStage1> = {}, pasid = PASID): number =>
    domain.bindPasid(DEVICE, pasid, { ...config, ...change, attributes: { ...config.attributes, ...attributes } });
  for (const attributes of [{ eafe: 1 }, { pcd: 1 }, { pwt: 1 }, { emte: 1 }, { cd: 1 }, { format: 2 as 1 }]) {
    t.is(bind({}, attributes), -Errno.EINVAL, JSON.stringify(attributes));
  }
  t.is(bind({ addressWidth: 57 }), -Errno.EINVAL);
  t.is(bind({ addressWidth: 39 }), -Errno.EINVAL);
  t.is(bind({ rootLo: config.rootLo + 8 }), -Errno.EINVAL);
  for (const pasid of [0, -1, 2 ** 20]) t.is(bind({}, {}, pasid), -Errno.EINVAL);
  t.deepEqual(
    driver.describe().functions[0]?.pasids.map(({ pasid }) => pasid),
    [0],
  );
  // Memory types without their flag mean nothing; supervisor requests are offered.
  succeed(t, bind({}, { sre: 1, pat: 0x0007_0406, emt: 6 }, 2 ** 20 - 1));
  const bound = driver.describe().functions[0]?.pasids.find(({ pasid }) => pasid === 2 ** 20 - 1);
  const rootFrame = config.rootLo / 4096;
  const { rootFrame: ssptptr } = domain;
  t.deepEqual(bound?.entry, { p: 1, aw: 2, pgtt: 3, ssptptr, did: 0x100, sre: 1, fsptptr: rootFrame });
});

test('five-level first stages need FS5LP', t => {
  const { rig, driver } = host({ 'aw-bits': 57 });
  const domain = domainOf(driver);
  succeed(t, domain.attach(DEVICE));
  const { config } = new Guest(rig, domain);
  succeed(t, domain.bindPasid(DEVICE, PASID, { ...config, addressWidth: 57 }));
  t.deepEqual(
    driver.describe().functions[0]!.pasids.map(({ pasid, entry }) => [pasid, entry['pgtt'], entry['fspm']]),
    [
      [0, 2, undefined],
      [PASID, 3, 1],
    ],
  );
});

test('functions, PASIDs and domains do not touch each other', t => {
  const { rig, driver } = host();
  const [left, right] = [domainOf(driver), domainOf(driver)];
  const [one, two] = [new Guest(rig, left), new Guest(rig, right, 0x2100)];
  one.map(5, 0x3100);
  two.map(5, 0x3200);
  succeed(t, left.attach(0x18), left.attach(0x20), right.attach(0x28));
  succeed(
    t,
    left.bindPasid(0x18, 1, one.config),
    left.bindPasid(0x20, 1, one.config),
    right.bindPasid(0x28, 1, two.config),
  );
  const at = (requesterId: number): unknown => rig.request(requesterId, 0x5000, Access.READ, 1);
  t.like(at(0x18), { to: 0x3101000n });
  t.like(at(0x28), { to: 0x3201000n });
  succeed(t, left.unbindPasid(0x18, 1));
  t.deepEqual(at(0x18), { fault: Fault.SPT_2 });
  t.like(at(0x20), { to: 0x3101000n });
  succeed(t, left.unbindPasid(0x20, 1), left.detach(0x18), left.detach(0x20));
  left[Symbol.dispose]();
  t.like(at(0x28), { to: 0x3201000n });
  t.deepEqual(
    driver.describe().domains.map(({ id }) => id),
    [0x101],
  );
  t.is(domainOf(driver).id, 0x100);
});

test('faults name function, PASID, address and kind', t => {
  const { rig, driver } = host({}, {}, { faults: { hi: 0, lo: 0xfee0_1004, data: 0x31 } });
  const domain = domainOf(driver);
  const guest = new Guest(rig, domain);
  succeed(t, domain.attach(DEVICE), domain.bindPasid(DEVICE, PASID, guest.config));
  rig.request(DEVICE, 0x7f12_3456_7890n, Access.WRITE, PASID);
  rig.request(DEVICE, 0x9000);
  t.deepEqual(driver.takeFaults(), [
    { requesterId: DEVICE, pasid: PASID, hi: 0x7f12, lo: 0x3456_7000, write: true, reason: Fault.SFS_2 },
    { requesterId: DEVICE, pasid: NO_PASID, hi: 0, lo: 0x9000, write: false, reason: Fault.SSS_2 },
  ]);
  t.deepEqual(rig.messages, [[0xfee0_1004, 0x31]]);
});

test('a function with a device TLB has it flushed with everything else', t => {
  const { rig, driver } = host({ 'device-iotlb': true }, {}, { hasAts: requesterId => requesterId === DEVICE });
  const domain = domainOf(driver);
  const guest = new Guest(rig, domain);
  guest.map(1, 0x3100);
  succeed(t, domain.attach(DEVICE), domain.attach(DEVICE + 1));
  succeed(t, domain.bindPasid(DEVICE, PASID, guest.config), domain.bindPasid(DEVICE + 1, PASID, guest.config));
  const operations = (action: () => number): string[] => {
    rig.takeOperations();
    succeed(t, action());
    return rig.takeOperations().map(operation => operation.replace(', wait sw=1', ''));
  };
  const pasid = 'did=0x100 pasid=0x12345';
  t.deepEqual(
    operations(() => domain.flushStage1(DEVICE, flush({ granularity: 'address', lo: 0x1000 }))),
    [`IQT pasid-iotlb g=3 ${pasid}, pasid-device-tlb sid=0x18 pasid=0x12345`],
  );
  t.deepEqual(
    operations(() => domain.flushStage1(DEVICE + 1, flush({}))),
    [`IQT pasid-iotlb g=2 ${pasid}`],
  );
  t.deepEqual(
    operations(() => domain.unmap(0x3100, 1)),
    ['IQT iotlb g=3 dw=1 dr=1 did=0x100', 'IQT device-tlb sid=0x18 s=1', 'IQT pasid-device-tlb sid=0x18 g=1 s=1'].map(
      (operation, index) => (index === 0 ? operation : operation),
    ),
  );
  t.deepEqual(
    operations(() => domain.unbindPasid(DEVICE, PASID)),
    [
      `IQT pasid-cache g=1 ${pasid}`,
      `IQT pasid-iotlb g=2 ${pasid}`,
      'IQT iotlb g=2 dw=1 dr=1 did=0x100',
      'IQT pasid-device-tlb sid=0x18 pasid=0x12345 s=1',
    ],
  );
  t.deepEqual(
    operations(() => domain.detach(DEVICE)),
    [
      'IQT context-cache g=3 sid=0x18',
      'IQT pasid-cache did=0x100',
      'IQT iotlb g=2 dw=1 dr=1 did=0x100',
      'IQT device-tlb sid=0x18 s=1',
    ],
  );
});

test('an unmapping is flushed by pages where one descriptor covers them, else by domain; nothing mapped, nothing flushed', t => {
  const { rig, driver } = host();
  const domain = domainOf(driver);
  succeed(t, domain.attach(DEVICE));
  const operations = (iovaFrame: number, pages: number): string[] => {
    succeed(t, domain.map(iovaFrame, 0x3000, 1, Access.READ));
    rig.takeOperations();
    succeed(t, domain.unmap(iovaFrame, pages));
    return rig.takeOperations();
  };
  t.deepEqual(operations(0x1ff, 2), ['IQT iotlb g=3 dw=1 dr=1 did=0x100 am=0xa, wait sw=1']);
  // The table of another page stays, so only a leaf changed.
  succeed(t, domain.map(0x1f0, 0x3000, 1, Access.READ));
  t.deepEqual(operations(0x1f8, 8), ['IQT iotlb g=3 dw=1 dr=1 did=0x100 am=3 ih=1, wait sw=1']);
  t.deepEqual(operations(0x200, 2 ** 18 + 1), ['IQT iotlb g=2 dw=1 dr=1 did=0x100, wait sw=1']);
  succeed(t, domain.unmap(0x300, 1));
  t.deepEqual(rig.takeOperations(), []);
});

test('disposing of a domain blocks its functions; disposing of the driver returns every page', t => {
  const { rig, driver } = host();
  const [domain, other] = [domainOf(driver), domainOf(driver)];
  const guest = new Guest(rig, domain);
  guest.map(1, 0x3100);
  succeed(t, domain.attach(DEVICE), domain.bindPasid(DEVICE, PASID, guest.config), other.attach(DEVICE + 1));
  t.true('to' in rig.request(DEVICE, 0x1000, Access.READ, PASID));
  domain[Symbol.dispose]();
  domain[Symbol.dispose]();
  t.deepEqual(rig.request(DEVICE, 0x1000, Access.READ, PASID), { fault: Fault.SCT_2 });
  driver[Symbol.dispose]();
  t.is(rig.pages.inUse, 0);
  t.deepEqual(driver.describe(), { domains: [], functions: [] });
});

test('domain ids end where the unit says', t => {
  const { driver } = host({}, {}, { firstDomainId: 0xffff });
  t.is(domainOf(driver).id, 0xffff);
  t.is(driver.createDomain(), -Errno.ENOSPC);
});
