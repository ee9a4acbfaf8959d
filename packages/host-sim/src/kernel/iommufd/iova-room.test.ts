/** Room in I/O address spaces: what is told, what is chosen, what keeps a device out (peers.md 3.6, number 13). */
import test from 'ava';
import { Errno } from '@remora/core';
import * as uapi from '@remora/uapi';
import { IommufdBench, PAGE, U64_MAX } from './iommufd.test.helper.js';

const { SET, GET } = uapi.IommuOptionOp;
const { HUGE_PAGES } = uapi.IommuOptionId;
/** What a message to the interrupt controller takes of every device's addresses. */
const MSI = [0xfee0_0000, 0xfeef_ffff] as const;
const LAST_48 = 2 ** 48 - 1;

test('3.6/13: a fresh address space is all of 64 bits and knows no alignment; a device narrows it, and gives it back', t => {
  const b = new IommufdBench(t);
  const { user } = b;
  const ioas = user.ioas();
  t.deepEqual(b.ranges(ioas), { result: 0, count: 1, ranges: [[0, U64_MAX]], alignment: 1 });
  const device = b.bind(0);
  t.true(user.attach(device.fd, ioas) >= 0);
  t.deepEqual(b.ranges(ioas), {
    result: 0,
    count: 2,
    ranges: [
      [0, MSI[0] - 1],
      [MSI[1] + 1, LAST_48],
    ],
    alignment: PAGE,
  });
  t.is(user.detach(device.fd), 0);
  t.deepEqual(b.ranges(ioas), { result: 0, count: 1, ranges: [[0, U64_MAX]], alignment: 1 });
});

test('3.6/13: a list that is too short is EMSGSIZE with the needed count, and filled as far as it goes', t => {
  const b = new IommufdBench(t);
  const { user } = b;
  const ioas = user.ioas();
  user.attach(b.bind(0).fd, ioas);
  t.deepEqual(b.ranges(ioas, 1), { result: -Errno.EMSGSIZE, count: 2, ranges: [[0, MSI[0] - 1]], alignment: PAGE });
  t.deepEqual(b.ranges(ioas, 0), { result: -Errno.EMSGSIZE, count: 2, ranges: [], alignment: PAGE });
  const nowhere = user.call(uapi.IOMMU_IOAS_IOVA_RANGES, uapi.IommuIoasIovaRanges, {
    ioas_id: ioas,
    num_iovas: 2,
    allowed_iovas: 0x1000,
  });
  t.is(nowhere.result, -Errno.EFAULT);
  t.is(nowhere.out.num_iovas, 2, 'nothing was written back');
});

test('3.6/13: automatic IOVAs are as aligned as the memory, up to a huge page, and lie where nothing is', t => {
  const b = new IommufdBench(t);
  const { user } = b;
  const ioas = user.ioas();
  t.deepEqual(b.map(ioas, { user_va: 0, length: PAGE }), { iova: 0x1000 }, 'page 0 is never given');
  t.deepEqual(b.map(ioas, { user_va: 0x1234, length: 1 }), { iova: 0x2234 }, 'the place in the page stays');
  t.deepEqual(b.map(ioas, { user_va: 0x4000_0000, length: 0x20_0000 }), { iova: 0x20_0000 });
  t.deepEqual(b.map(ioas, { user_va: 0x4000_0000, length: 0x80_0000 }), { iova: 0x40_0000 }, 'no more than 2 MiB');
  t.deepEqual(b.map(ioas, { user_va: 0x4000_3000, length: 0x2000 }), { iova: 0x3000 }, 'as little as the address');
  t.deepEqual(b.map(ioas, { user_va: 0x4001_0000, length: 0x1_0000 }), { iova: 0x1_0000 });
  t.is(b.map(ioas, { user_va: 0, length: 2n ** 63n }), -Errno.EOVERFLOW);
  t.deepEqual(b.map(ioas, { user_va: 0, length: 2n ** 63n - 2n }), { iova: 0xc0_0000 });
  t.is(b.map(ioas, { user_va: 0, length: 2n ** 63n - 2n }), -Errno.ENOSPC, 'there is no such room any more');
});

test('3.6/13: automatic IOVAs keep out of what is reserved, and within what is allowed', t => {
  const b = new IommufdBench(t);
  const { user } = b;
  const ioas = user.ioas();
  user.attach(b.bind(0).fd, ioas);
  const memory = user.memory(4 * PAGE);
  t.is(b.allow(ioas, [0xfed0_0000, 0xfed0_0fff], [0xfef0_0000, 0xfef0_1fff]), 0);
  const placed = [1, 2, 3].map(() => b.map(ioas, { user_va: memory.address, length: PAGE }));
  t.deepEqual(placed, [{ iova: 0xfed0_0000 }, { iova: 0xfef0_0000 }, { iova: 0xfef0_1000 }]);
  t.is(b.map(ioas, { user_va: memory.address, length: PAGE }), -Errno.ENOSPC);
  t.true(b.dmaWrite(0xfef0_1000, 0x5a));
  t.deepEqual(b.map(ioas, { user_va: memory.address, length: PAGE, iova: 0x10_0000 }), { iova: 0x10_0000 }, 'by name');
  t.is(b.allow(ioas), 0, 'everything again');
  t.deepEqual(b.map(ioas, { user_va: memory.address, length: PAGE }), { iova: 0x1000 });
  t.is(b.allow(ioas, MSI), -Errno.EADDRINUSE, 'reserved');
  t.is(b.allow(ioas, [0x1000, 0x1000]), -Errno.EINVAL, 'one byte or none');
  t.is(b.allow(ioas, [0x1000, 0x2fff], [0x2000, 0x3fff]), -Errno.EINVAL, 'overlapping');
  t.deepEqual(
    b.map(ioas, { user_va: memory.address, length: PAGE }),
    { iova: 0x2000 },
    'what was refused is not in force',
  );
});

test('3.6/13: what is allowed, or mapped, keeps a device out that cannot have it', t => {
  const b = new IommufdBench(t);
  const { user, bench } = b;
  const [allowed, used] = [user.ioas(), user.ioas()];
  const device = b.bind(0);
  const before = bench.host.dump();
  t.is(b.allow(allowed, [0xfee0_0000, 0xfeff_ffff]), 0);
  t.is(user.attach(device.fd, allowed), -Errno.EADDRINUSE);
  t.deepEqual(b.map(used, { user_va: user.memory(PAGE).address, length: PAGE, iova: 2 ** 50 }), { iova: 2 ** 50 });
  t.is(user.attach(device.fd, used), -Errno.EADDRINUSE, 'beyond what the unit translates');
  t.is(b.unmap(used, 2 ** 50, PAGE), PAGE);
  t.true(user.attach(device.fd, used) >= 0);
  t.is(user.detach(device.fd), 0);
  t.is(b.allow(allowed), 0);
  t.deepEqual({ ...bench.host.dump(), processes: 0, frames: 0 }, { ...before, processes: 0, frames: 0 });
});

test('3.6/13: without huge pages IOVAs are page-aligned; too late once something is mapped somewhere', t => {
  const b = new IommufdBench(t);
  const { user } = b;
  const ioas = user.ioas();
  const option = (op: number, val64 = 0): unknown => b.option({ option_id: HUGE_PAGES, op, object_id: ioas, val64 });
  t.is(option(GET), 1);
  t.deepEqual(b.map(ioas, { user_va: 0x1001, length: 3, iova: 0x7001 }), { iova: 0x7001 });
  t.is(option(SET, 0), -Errno.EADDRINUSE, 'something is mapped that is not aligned');
  b.unmap(ioas, 0, U64_MAX);
  t.is(option(SET, 0), 0);
  t.is(option(GET), 0);
  t.is(b.ranges(ioas).alignment, PAGE);
  t.is(b.map(ioas, { user_va: 0x1001, length: 3, iova: 0x7001 }), -Errno.EINVAL);
  t.is(option(SET, 2), -Errno.EINVAL);
  t.is(option(SET, 1), 1);
  t.is(b.ranges(ioas).alignment, 1);
  user.attach(b.bind(0).fd, ioas);
  b.map(ioas, { user_va: user.memory(PAGE).address, length: PAGE, iova: 0x7000 });
  t.is(option(SET, 0), -Errno.EINVAL);
  t.is(option(2), -Errno.EOPNOTSUPP);
  t.is(b.option({ option_id: 9, op: GET }), -Errno.EOPNOTSUPP);
});

test('NOIOMMU_GET_PA: nothing where no device is lent without an IOMMU; else where pages are, as far as they follow each other', t => {
  const b = new IommufdBench(t);
  const { user, bench, process } = b;
  const ioas = user.ioas();
  const ask = (iova: number, length: number | bigint, values: object = {}): unknown => {
    const { result, out } = user.call(uapi.IOMMU_IOAS_NOIOMMU_GET_PA, uapi.IommuIoasNoiommuGetPa, {
      ioas_id: ioas,
      iova,
      length,
      ...values,
    });
    return result === 0 ? [out.out_phys, out.length] : result;
  };
  t.is(ask(0x1_0000, PAGE), -Errno.EOPNOTSUPP);
  bench.host.knobs.noiommu = true;
  const { address } = user.memory(2 * PAGE);
  b.map(ioas, { user_va: address, length: 2 * PAGE, iova: 0x1_0000 });
  t.is(ask(0x1_0000, PAGE), -Errno.ENOENT, 'not pinned');
  user.attach(b.bind(0).fd, ioas);
  const [first, second] = process.memory.framesAt(address, 2)!;
  const follow = second === first! + 1;
  t.deepEqual(ask(0x1_0123, 0x10), [first! * PAGE + 0x123, 0x10]);
  t.deepEqual(ask(0x1_0123, 5 * PAGE), [first! * PAGE + 0x123, (follow ? 2 : 1) * PAGE - 0x123]);
  t.is(ask(0x1_2000, PAGE), -Errno.ENOENT);
  t.is(ask(0x1_0000, 0), -Errno.EINVAL);
  t.is(ask(0x1_0000, PAGE, { flags: 1 }), -Errno.EOPNOTSUPP);
  t.is(ask(0x1_0000, U64_MAX), -Errno.EOVERFLOW);
  t.is(ask(0x1_0000, PAGE, { ioas_id: 99 }), -Errno.ENOENT);
});
