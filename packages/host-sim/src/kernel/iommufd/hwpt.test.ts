/** HWPT_ALLOC, HWPT_INVALIDATE and GET_HW_INFO over the fake unit (peers.md 3.4; 3.6: 3, 4, 5): each errno, and that nothing else happened. */
import test from 'ava';
import { Errno } from '@remora/core';
import type { FakeNestedDomain } from '@remora/testing';
import {
  IOMMU_GET_HW_INFO,
  IOMMU_HWPT_ALLOC,
  IOMMU_HWPT_INVALIDATE,
  IommuHwCap,
  IommuHwInfo,
  IommuHwInfoFlag,
  IommuHwptAlloc,
  IommuHwptAllocFlag,
  IommuHwptDataType,
  IommuHwptInvalidate,
  IommuHwptVtdS1,
  IommuHwptVtdS1Invalidate,
} from '@remora/uapi';
import { ENGINE, gadget, SECOND } from '../../bench.test.helper.js';
import { IommufdBench, PAGE } from './iommufd.test.helper.js';

const { NEST_PARENT, DIRTY_TRACKING, FAULT_ID_VALID } = IommuHwptAllocFlag;
const STAGE1 = {
  data: IommuHwptVtdS1.encode({ pgtbl_addr: 0x7000, addr_width: 48 }),
  dataType: IommuHwptDataType.VTD_S1,
};
const EVERYTHING = 2n ** 64n - 1n;

function nestedOf(at: IommufdBench): FakeNestedDomain[] {
  return [...at.bench.driver.userOps.domains].filter(domain => domain.kind === 'nested');
}

function entries(...addresses: number[]): Uint8Array[] {
  return addresses.map(addr => IommuHwptVtdS1Invalidate.encode({ addr, npages: 1 }));
}

/** Two nested tables over one parent; the unit knows pages 0 to 4999 of both. */
function nesting(at: IommufdBench): { readonly ids: readonly [number, number]; readonly domains: FakeNestedDomain[] } {
  const { user } = at;
  const { id } = at.bind(0);
  const parent = user.hwpt(id, user.ioas(), { flags: NEST_PARENT });
  const ids = [user.hwpt(id, parent, STAGE1), user.hwpt(id, parent, STAGE1)] as const;
  const domains = nestedOf(at);
  for (const { cached } of domains) for (let page = 0; page < 5000; page++) cached.add(page);
  return { ids, domains };
}

test('3.6/3: an older caller’s structure ends before the data; reserved fields must be zero', t => {
  const at = new IommufdBench(t);
  const { user } = at;
  const { id } = at.bind(0);
  const ioas = user.ioas();
  const alloc = (values: object): number => {
    const { result, out } = user.call(IOMMU_HWPT_ALLOC, IommuHwptAlloc, { dev_id: id, pt_id: ioas, ...values });
    return result < 0 ? result : out.out_hwpt_id;
  };
  t.true(alloc({ size: 24 }) > 0);
  t.is(alloc({ size: 20 }), -Errno.EINVAL);
  for (const at20 of [20, 44]) {
    const bytes = IommuHwptAlloc.encode({ size: 48, dev_id: id, pt_id: ioas });
    bytes[at20] = 1;
    t.is(user.syscalls.ioctl(user.fd, IOMMU_HWPT_ALLOC, bytes), -Errno.EOPNOTSUPP, `byte ${at20}`);
  }
  t.is(alloc({ flags: 0x10 }), -Errno.EOPNOTSUPP);
  t.is(alloc({ flags: NEST_PARENT | FAULT_ID_VALID }), -Errno.EOPNOTSUPP);
  t.is(alloc({ flags: FAULT_ID_VALID, fault_id: 77 }), -Errno.ENOENT);
  t.is(at.bench.driver.userOps.domains.size, 1, 'nothing is left of what was refused');
});

test('3.6/3: a unit that neither nests nor tells of writes says so', t => {
  const at = new IommufdBench(t, { unit: { stage1Format: 0, dirtyTracking: false } });
  const { user } = at;
  const { id } = at.bind(0);
  t.is(user.hwpt(id, user.ioas(), { flags: NEST_PARENT }), -Errno.EOPNOTSUPP);
  t.is(user.hwpt(id, user.ioas(), { flags: DIRTY_TRACKING }), -Errno.EOPNOTSUPP);
});

test('3.6/3: what the data says is copied when it is asked for: a driver keeps none of the caller’s memory', t => {
  const at = new IommufdBench(t);
  const { domains } = nesting(at);
  t.deepEqual(domains[0]!.data, STAGE1.data);
});

test('3.6/4: the place of the error in an array, at its beginning, in its middle, and beyond what is copied at once', t => {
  for (const [count, wrong] of [
    [1, 0],
    [2, 1],
    [100, 63],
    [4000, 3999],
    [4000, 2730],
    [4000, 2731],
  ] as const) {
    const at = new IommufdBench(t);
    const { ids, domains } = nesting(at);
    const pages = Array.from({ length: count }, (_, page) => page * PAGE + (page === wrong ? 8 : 0));
    t.deepEqual(at.user.invalidate(ids[0], 0, entries(...pages)), { result: -Errno.EINVAL, processed: wrong });
    t.deepEqual(
      [...domains[0]!.cached],
      Array.from({ length: 5000 - wrong }, (_, page) => page + wrong),
    );
    t.is(domains[1]!.cached.size, 5000);
  }
});

test('3.6/4: an error of the unit itself: what it did before counts', t => {
  const at = new IommufdBench(t);
  const { ids, domains } = nesting(at);
  at.bench.driver.fail('invalidate', Errno.EIO, 3);
  t.deepEqual(at.user.invalidate(ids[0], 0, entries(0, PAGE, 2 * PAGE, 3 * PAGE)), {
    result: -Errno.EIO,
    processed: 2,
  });
  t.deepEqual([...domains[0]!.cached].slice(0, 2), [2, 3]);
});

test('3.6/5: everything of one, nothing of the other', t => {
  const at = new IommufdBench(t);
  const { ids, domains } = nesting(at);
  const all = IommuHwptVtdS1Invalidate.encode({ npages: EVERYTHING });
  t.deepEqual(at.user.invalidate(ids[0], 0, [all]), { result: 0, processed: 1 });
  t.deepEqual(
    domains.map(({ cached }) => cached.size),
    [0, 5000],
  );
});

test('3.6/4: entry_num is 0 whenever nothing was looked at', t => {
  const at = new IommufdBench(t);
  const { ids } = nesting(at);
  const { user } = at;
  const data_uptr = user.pointer(entries(0)[0]!);
  const good = { hwpt_id: ids[0], data_uptr, entry_len: 24, entry_num: 1 };
  for (const [values, result] of [
    [{ hwpt_id: 77 }, -Errno.ENOENT],
    [{ hwpt_id: 1 }, -Errno.EINVAL],
    [{ entry_len: 0 }, -Errno.EINVAL],
    [{ entry_num: 2 ** 19 + 1 }, -Errno.EINVAL],
    [{ data_type: 1 }, -Errno.EINVAL],
    [{ data_uptr: 8 }, -Errno.EFAULT],
  ] as const) {
    const answer = user.call(IOMMU_HWPT_INVALIDATE, IommuHwptInvalidate, { ...good, ...values });
    t.deepEqual([answer.result, answer.out.entry_num], [result, 0], JSON.stringify(values));
  }
  const reserved = IommuHwptInvalidate.encode({ size: 32, ...good });
  reserved[28] = 1;
  t.is(user.syscalls.ioctl(user.fd, IOMMU_HWPT_INVALIDATE, reserved), -Errno.EOPNOTSUPP);
});

test('GET_HW_INFO: as much as there is room for, zeroes behind it, and how much there is', t => {
  const at = new IommufdBench(t, { devices: [gadget(ENGINE), gadget(SECOND, { pasidBits: 0 })] });
  const { user } = at;
  const [one, two] = [at.bind(0), at.bind(1)];
  const { address, ram } = user.memory(PAGE);
  const ask = (values: object): { result: number; length: number; type: number; pasids: number; caps: unknown } => {
    ram.write(0, 0, new Uint8Array(64).fill(0x5a));
    const { result, out } = user.call(IOMMU_GET_HW_INFO, IommuHwInfo, {
      dev_id: one.id,
      data_len: 24,
      data_uptr: address,
      ...values,
    });
    return {
      result,
      length: out.data_len,
      type: out.out_data_type ?? out.in_data_type ?? 0,
      pasids: out.out_max_pasid_log2,
      caps: out.out_capabilities,
    };
  };
  const written = (): number[] => {
    const bytes = new Uint8Array(64);
    ram.read(0, 0, bytes);
    return [...bytes];
  };
  const caps = IommuHwCap.DIRTY_TRACKING | IommuHwCap.PCI_ATS_NOT_SUPPORTED;
  t.deepEqual(ask({}), { result: 0, length: 24, type: 1, pasids: 20, caps });
  t.deepEqual(written().slice(8, 12), [0xa9, 0x0c, 0, 0], 'CAP');
  t.deepEqual(ask({ data_len: 10 }).length, 24);
  t.deepEqual(written().slice(8, 12), [0xa9, 0x0c, 0x5a, 0x5a]);
  t.is(ask({ data_len: 40 }).length, 24);
  t.deepEqual(written().slice(24, 42), [...new Array<number>(16).fill(0), 0x5a, 0x5a]);
  t.is(ask({ data_len: 0, data_uptr: 0 }).length, 24);
  t.is(ask({ data_uptr: 0 }).result, -Errno.EFAULT);
  t.is(ask({ data_len: 2 * PAGE }).result, -Errno.EFAULT, 'the room that is said to be there is not');
  t.is(ask({ data_len: 0xffff_ffff }).result, -Errno.EFAULT);
  t.is(ask({ flags: 2 }).result, -Errno.EOPNOTSUPP);
  t.is(ask({ dev_id: 77 }).result, -Errno.ENOENT);
  const asked = (in_data_type: number): number => ask({ flags: IommuHwInfoFlag.INPUT_TYPE, in_data_type }).result;
  t.deepEqual([asked(0), asked(1), asked(2)], [0, 0, -Errno.EOPNOTSUPP]);
  t.is(ask({ in_data_type: 2 }).result, 0, 'without the flag nothing is asked');
  t.deepEqual(ask({ dev_id: two.id }), { result: 0, length: 24, type: 1, pasids: 0, caps }, 'no PASIDs');
  t.is(ask({ size: 32 }).result, 0, 'an older caller');
});
