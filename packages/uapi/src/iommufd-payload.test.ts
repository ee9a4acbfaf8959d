import test from 'ava';
import {
  IOMMU_HWPT_ALLOC,
  IOMMU_HWPT_INVALIDATE,
  IOMMU_IOAS_MAP,
  IommuHwptAlloc,
  IommuHwptInvalidate,
  IommuHwptVtdS1,
} from './index.js';
import { decodePayload } from './iommufd-payload.js';

const AT = 0x7000;
const S1 = IommuHwptVtdS1.encode({ flags: 3, pgtbl_addr: 0x4000, addr_width: 57 });
const memory =
  (bytes: Uint8Array) =>
  (address: number, length: number): Uint8Array | undefined =>
    address === AT && length <= bytes.length ? bytes.slice(0, length) : undefined;
const alloc = (values: Parameters<typeof IommuHwptAlloc.encode>[0]): Uint8Array =>
  IommuHwptAlloc.encode({ data_len: 24, data_uptr: AT, ...values });

test('payloads of tables by their type', t => {
  t.deepEqual(decodePayload(IOMMU_HWPT_ALLOC, alloc({ data_type: 1 }), memory(S1)), {
    flags: 3,
    pgtbl_addr: 0x4000,
    addr_width: 57,
  });
  const ste = new Uint8Array(16).fill(1);
  t.deepEqual(decodePayload(IOMMU_HWPT_ALLOC, alloc({ data_type: 2, data_len: 16 }), memory(ste)), {
    ste: [0x0101_0101_0101_0101n, 0x0101_0101_0101_0101n],
  });
});

test('nothing to decode: none, an unknown one, one that is not there, another ioctl, a structure that is too short', t => {
  const read = memory(S1);
  t.is(decodePayload(IOMMU_HWPT_ALLOC, alloc({ data_type: 0, data_len: 0 }), read), undefined);
  t.is(decodePayload(IOMMU_HWPT_ALLOC, alloc({ data_type: 9 }), read), undefined);
  t.is(decodePayload(IOMMU_HWPT_ALLOC, alloc({ data_type: 1, data_len: 0 }), read), undefined);
  t.is(decodePayload(IOMMU_HWPT_ALLOC, alloc({ data_type: 1, data_uptr: 0x8000 }), read), undefined);
  t.is(decodePayload(IOMMU_IOAS_MAP, alloc({ data_type: 1 }), read), undefined);
  t.is(decodePayload(IOMMU_HWPT_ALLOC, alloc({ data_type: 1 }).subarray(0, 40), read), undefined);
});

test('invalidations: each entry, however far apart; none of what claims to be shorter than one', t => {
  const entries = new Uint8Array(64);
  entries[1] = 0x50;
  entries[33] = 0x60;
  const say = (entry_len: number, entry_num: number): Uint8Array =>
    IommuHwptInvalidate.encode({ data_uptr: AT, entry_len, entry_num });
  const decoded = decodePayload(IOMMU_HWPT_INVALIDATE, say(32, 2), memory(entries));
  t.deepEqual(decoded, [
    { addr: 0x5000, npages: 0, flags: 0 },
    { addr: 0x6000, npages: 0, flags: 0 },
  ]);
  t.is(decodePayload(IOMMU_HWPT_INVALIDATE, say(8, 2), memory(entries)), undefined);
  t.is(decodePayload(IOMMU_HWPT_INVALIDATE, say(24, 0), memory(entries)), undefined);
  t.is(decodePayload(IOMMU_HWPT_INVALIDATE, say(24, 3), memory(entries)), undefined);
});
