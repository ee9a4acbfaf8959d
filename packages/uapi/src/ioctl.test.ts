import { readFileSync } from 'node:fs';
import test from 'ava';
import {
  decodeIoctl,
  formatIoctl,
  IOMMU_GET_HW_INFO,
  IOMMU_IOAS_MAP,
  IommuHwInfo,
  IommuIoasMap,
  ioctlName,
  ioctlType,
  ioctlTypes,
  UAPI_VARIANTS,
  VFIO_DEVICE_SET_IRQS,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_PASID_REQUEST,
  VFIO_SET_IOMMU,
  VfioIommuInfoFlag,
  VfioIommuType1Info,
  VfioIommuType1InfoCapIovaRange,
  VfioIommuType1InfoCapNesting,
  VfioIovaRange,
  VfioIrqSet,
  VfioIrqSetFlag,
} from './index.js';

interface IoctlFixture {
  readonly name: string;
  readonly case: string;
  readonly request: number;
  readonly bytes: string;
}

const { ioctls } = JSON.parse(readFileSync(new URL('../fixtures/fixtures.json', import.meta.url), 'utf8')) as {
  ioctls: IoctlFixture[];
};
const argument = (name: string, which: string): Uint8Array =>
  Uint8Array.from(Buffer.from(ioctls.find(one => one.name === name && one.case === which)!.bytes, 'hex'));

test('numbers mean what the variant says', t => {
  t.deepEqual(
    [0x3b7a, 0x3b7b, 0x3b7c].map(request => ioctlName(request)),
    ['VFIO_IOMMU_PASID_REQUEST', 'VFIO_IOMMU_BIND', 'VFIO_IOMMU_CACHE_INVALIDATE'],
  );
  t.deepEqual(
    [0x3b7a, 0x3b7b, 0x3b7c].map(request => ioctlName(request, 'vmid-rfc-v2')),
    ['VFIO_IOMMU_GET_VMID', 'VFIO_IOMMU_SET_VMID', '0x3b7c'],
  );
  t.is(ioctlType(0x3b7c, 'vmid-rfc-v2'), undefined);
  t.is(ioctlName(0x3b71, 'vmid-rfc-v2'), 'VFIO_IOMMU_MAP_DMA');
  t.is(ioctlTypes().length, 44);
});

test('the requests that the C compiler encoded have names and sizes here', t => {
  for (const { name, request, bytes } of ioctls) {
    const variant = name.endsWith('VMID') ? 'vmid-rfc-v2' : 'vsva-rfc-v3.1';
    t.is(ioctlName(request, variant), name);
    t.false('bytes' in decodeIoctl(request, Uint8Array.from(Buffer.from(bytes, 'hex')), variant), name);
  }
});

test('PASID requests show the arm that their flags select', t => {
  t.deepEqual(decodeIoctl(VFIO_IOMMU_PASID_REQUEST, argument('VFIO_IOMMU_PASID_REQUEST', 'alloc')), {
    argsz: 20,
    flags: 1,
    min: 1,
    max: 0xfffff,
    result: 0,
  });
  t.is(
    formatIoctl(VFIO_IOMMU_PASID_REQUEST, argument('VFIO_IOMMU_PASID_REQUEST', 'free')),
    'VFIO_IOMMU_PASID_REQUEST argsz=0x14 flags=2 free_pasid=5',
  );
});

test('a bind shows its data', t => {
  t.deepEqual(decodeIoctl(VFIO_IOMMU_BIND, argument('VFIO_IOMMU_BIND', 'bind')), {
    argsz: 80,
    flags: 1,
    data: {
      version: 1,
      format: 1,
      flags: 1,
      gpgd: 0x12345000,
      hpasid: 5,
      gpasid: 5,
      addr_width: 48,
      vtd: { flags: 1, pat: 0x00070406, emt: 6 },
    },
  });
  t.deepEqual(decodeIoctl(VFIO_IOMMU_BIND, argument('VFIO_IOMMU_BIND', 'bind').subarray(0, 40)), {
    argsz: 80,
    flags: 1,
  });
});

test('a flush of pages shows its address', t => {
  t.is(
    formatIoctl(0x3b7c, argument('VFIO_IOMMU_CACHE_INVALIDATE', 'pages')),
    'VFIO_IOMMU_CACHE_INVALIDATE argsz=0x38 cache_info={version=1 cache=1 granularity=2 ' +
      'addr_info={flags=5 pasid=5 addr=0x7fff00007000 granule_size=0x1000 nb_granules=1}}',
  );
});

test('interrupt set-up shows file descriptors or bytes, as many as are there', t => {
  t.deepEqual(decodeIoctl(VFIO_DEVICE_SET_IRQS, argument('VFIO_DEVICE_SET_IRQS', 'eventfds'))['data'], [9, -1]);
  const bools = VfioIrqSet.encode({ argsz: 22, flags: VfioIrqSetFlag.DATA_BOOL, count: 0xffffffff });
  t.deepEqual(decodeIoctl(VFIO_DEVICE_SET_IRQS, Uint8Array.of(...bools, 1, 0))['data'], [1, 0]);
  t.false(
    'data' in decodeIoctl(VFIO_DEVICE_SET_IRQS, VfioIrqSet.encode({ argsz: 20, flags: VfioIrqSetFlag.DATA_NONE })),
  );
});

function infoWith(first: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const info = VfioIommuType1Info.encode({ flags: VfioIommuInfoFlag.CAPS, cap_offset: first });
  return Uint8Array.from([info, ...parts].flatMap(part => [...part]));
}

test('the chain behind GET_INFO is shown, and a broken one ends', t => {
  const ranges = [
    ...VfioIommuType1InfoCapIovaRange.encode({ header: { id: 1, version: 1, next: 56 }, nr_iovas: 1 }),
    ...VfioIovaRange.encode({ end: 0xfffff }),
  ];
  const nesting = VfioIommuType1InfoCapNesting.encode({
    header: { id: 2, version: 1 },
    nesting_capabilities: 1,
    stage1_format: 1,
  });
  t.deepEqual(decodeIoctl(VFIO_IOMMU_GET_INFO, infoWith(24, Uint8Array.from(ranges), nesting))['capabilities'], [
    { header: { id: 1, version: 1, next: 56 }, nr_iovas: 1, iova_ranges: [{ start: 0, end: 0xfffff }] },
    { header: { id: 2, version: 1, next: 0 }, nesting_capabilities: 1, stage1_format: 1 },
  ]);
  const circle = VfioIommuType1InfoCapNesting.encode({ header: { id: 2, version: 1, next: 24 } });
  t.is((decodeIoctl(VFIO_IOMMU_GET_INFO, infoWith(24, circle))['capabilities'] as unknown[]).length, 1);
  t.deepEqual(decodeIoctl(VFIO_IOMMU_GET_INFO, infoWith(4000, nesting))['capabilities'], []);
  const cut = decodeIoctl(VFIO_IOMMU_GET_INFO, infoWith(24, nesting.subarray(0, 8)));
  t.deepEqual(cut['capabilities'], [{ header: { id: 2, version: 1, next: 0 } }]);
  const many = VfioIommuType1InfoCapIovaRange.encode({ header: { id: 1, version: 1 }, nr_iovas: 0xffffffff });
  t.deepEqual(decodeIoctl(VFIO_IOMMU_GET_INFO, infoWith(24, many))['capabilities'], [
    { header: { id: 1, version: 1, next: 0 }, nr_iovas: 0xffffffff, iova_ranges: [] },
  ]);
});

test('arguments that are no structure, and bytes that are too short, are shown as they are', t => {
  t.deepEqual(decodeIoctl(VFIO_SET_IOMMU, 6), { value: 6 });
  t.is(formatIoctl(VFIO_SET_IOMMU, 6), 'VFIO_SET_IOMMU value=6');
  t.is(formatIoctl(0x3b6f, undefined), 'VFIO_DEVICE_RESET');
  t.is(
    formatIoctl(VFIO_GROUP_GET_DEVICE_FD, Uint8Array.from(Buffer.from('0000:3f:00.0\0'))),
    'VFIO_GROUP_GET_DEVICE_FD text="0000:3f:00.0"',
  );
  t.deepEqual(decodeIoctl(VFIO_IOMMU_PASID_REQUEST, Uint8Array.of(20, 0, 0)), { bytes: Uint8Array.of(20, 0, 0) });
  t.deepEqual(decodeIoctl(0x1234, Uint8Array.of(1)), { bytes: Uint8Array.of(1) });
});

test("iommufd's ioctls are the same in every variant, and show what goes in and comes out", t => {
  const map = IommuIoasMap.encode({
    size: 40,
    flags: 7,
    ioas_id: 2,
    user_va: 0x7f00_0000_1000,
    length: 0x1000,
    iova: 2n ** 63n,
  });
  for (const variant of UAPI_VARIANTS) {
    t.is(
      formatIoctl(IOMMU_IOAS_MAP, map, variant),
      'IOMMU_IOAS_MAP size=0x28 flags=7 ioas_id=2 user_va=0x7f0000001000 length=0x1000 iova=0x8000000000000000',
    );
  }
  const info = { size: 40, dev_id: 1, data_len: 24 };
  t.like(decodeIoctl(IOMMU_GET_HW_INFO, IommuHwInfo.encode({ ...info, out_data_type: 1 })), { out_data_type: 1 });
  const asked = decodeIoctl(IOMMU_GET_HW_INFO, IommuHwInfo.encode({ ...info, flags: 1, in_data_type: 2 }));
  t.like(asked, { flags: 1, in_data_type: 2 });
  t.false('out_data_type' in asked);
  t.is(ioctlName(0x3b95), 'IOMMU_IOAS_NOIOMMU_GET_PA');
  t.is(ioctlName(0x3b78), 'VFIO_DEVICE_DETACH_IOMMUFD_PT');
});
