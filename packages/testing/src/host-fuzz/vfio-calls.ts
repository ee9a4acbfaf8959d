/** What a fuzzed process asks of containers, groups and devices. */
import * as uapi from '@remora/uapi';
import type { Fields, StructType, StructValues } from '@remora/uapi';
import { type FuzzAction, type FuzzCall, spoiled } from './call.js';
import type { FdKind, FuzzState } from './state.js';

type Done = (state: FuzzState, view: DataView, result: number, fd: number) => void;

function call<F extends Fields>(
  kind: FdKind,
  request: number,
  struct: StructType<F>,
  make: (state: FuzzState) => StructValues<F>,
  done?: Done,
  tail: (state: FuzzState) => readonly number[] = () => [],
): FuzzAction {
  return state => {
    const fd = state.fd(kind);
    if (fd === undefined) return undefined;
    const rest = tail(state);
    state.lacking = false;
    const head = struct.encode({ argsz: struct.size + rest.length, ...make(state) } as unknown as StructValues<F>);
    if (state.lacking && !state.chance(3)) return undefined;
    const argument = spoiled(state, Uint8Array.of(...head, ...rest));
    return { fd, request, argument, done: (result, view) => done?.(state, view, result, fd) } satisfies FuzzCall;
  };
}

/** An ioctl whose argument is a number, or nothing. */
function plain(kind: FdKind, request: number, value?: (state: FuzzState) => number): FuzzAction {
  return state => {
    const fd = state.fd(kind);
    if (fd === undefined) return undefined;
    const argument = state.chance(2) ? state.pick([undefined, new Uint8Array(4)]) : value?.(state);
    return { fd, request, argument };
  };
}

/** A container, or an iommufd, which answers the same. */
const either =
  (container: FuzzAction, iommufd: FuzzAction, percent = 65): FuzzAction =>
  state =>
    (state.chance(percent) ? container : iommufd)(state);

function ofContainer<F extends Fields>(
  request: number,
  struct: StructType<F>,
  make: (state: FuzzState) => StructValues<F>,
  done?: Done,
  tail?: (state: FuzzState) => readonly number[],
  percent?: number,
): FuzzAction {
  return either(
    call('typed', request, struct, make, done, tail),
    call('iommufd', request, struct, make, done, tail),
    percent,
  );
}

/** Only VFIO's own container has it. */
const NEARLY_ALWAYS = 97;
const NO_FD = -1;
const DATA = uapi.VfioIrqSetFlag;
const { GET } = uapi.VfioDeviceFeatureFlag;

function setContainer(state: FuzzState): FuzzCall | undefined {
  const fd = state.fd('group');
  if (fd === undefined) return undefined;
  const to = state.mostly(state.fd(state.chance(80) ? 'container' : 'iommufd') ?? NO_FD, [NO_FD, fd, 33]);
  return {
    fd,
    request: uapi.VFIO_GROUP_SET_CONTAINER,
    argument: spoiled(state, uapi.VfioContainerFd.encode({ fd: Math.max(to, NO_FD) })),
    done: () => state.fds.set(fd, 'joined'),
  };
}

function leave(state: FuzzState): FuzzCall | undefined {
  const fd = state.fd('joined');
  if (fd === undefined) return undefined;
  const done = (): unknown => state.fds.set(fd, 'group');
  return { fd, request: uapi.VFIO_GROUP_UNSET_CONTAINER, argument: undefined, done };
}

function setIommu(state: FuzzState): FuzzCall | undefined {
  const fd = state.fd('container');
  if (fd === undefined) return undefined;
  const done = (): unknown => state.fds.set(fd, 'typed');
  return { fd, request: uapi.VFIO_SET_IOMMU, argument: state.pick([1, 3, 6, 6, 6, 6, 8, 0]), done };
}

function getDevice(state: FuzzState): FuzzCall | undefined {
  const fd = state.fd('joined');
  if (fd === undefined) return undefined;
  const name = state.mostly(state.pick(state.names), ['', 'nothing', '0000:00:00.0']);
  const bytes = new TextEncoder().encode(state.chance(2) ? name : `${name}\0`);
  return {
    fd,
    request: uapi.VFIO_GROUP_GET_DEVICE_FD,
    argument: state.chance(2) ? undefined : bytes,
    done: result => state.fds.set(result, 'device'),
  };
}

function where(state: FuzzState): { iova: bigint; length: bigint } {
  return state.mapped.length > 0 && state.chance(80)
    ? state.pick(state.mapped)
    : { iova: state.iova(), length: state.length() };
}

function bindData(state: FuzzState): readonly number[] {
  const pasid = 5 + state.random.below(3);
  return [
    ...uapi.IommuGpasidBindData.encode({
      version: state.mostly(1, [0, 2]),
      format: state.mostly(1, [0, 9]),
      flags: state.mostly(1, [0]),
      gpgd: 0x1234_5000,
      hpasid: pasid,
      gpasid: state.mostly(pasid, [0]),
      addr_width: 48,
      vtd: { flags: 1, pat: 0x0007_0406, emt: 6 },
    }),
  ];
}

const pasidRequest = ofContainer(
  uapi.VFIO_IOMMU_PASID_REQUEST,
  uapi.VfioIommuType1PasidRequest,
  state =>
    state.chance(60)
      ? { flags: state.mostly(1, [3, 0]), min: 5, max: state.mostly(9, [2, 0xfff_ffff]) }
      : { flags: 2, free_pasid: 5 + state.random.below(6) },
  undefined,
  undefined,
  NEARLY_ALWAYS,
);

const flush = ofContainer(
  uapi.VFIO_IOMMU_CACHE_INVALIDATE,
  uapi.VfioIommuType1CacheInvalidate,
  state => ({
    flags: state.mostly(0, [1]),
    cache_info: {
      version: state.mostly(1, [0]),
      cache: state.mostly(1, [2, 4, 0]),
      granularity: state.mostly(1, [0, 2, 9]),
      pasid_info: { flags: 1, pasid: 5 + state.random.below(3) },
    },
  }),
  undefined,
  undefined,
  NEARLY_ALWAYS,
);

/** A page of a BAR. */
function dmaBuf(state: FuzzState): readonly number[] {
  const region_index = state.mostly(0, [2, 7, 9]);
  const body = uapi.VfioDeviceFeatureDmaBuf.encode({ region_index, nr_ranges: state.mostly(1, [0, 2]) });
  return [...body, ...uapi.VfioRegionDmaRange.encode({ offset: state.mostly(0n, [1n, 0x1000n]), length: 0x1000 })];
}

const setIrqs = call(
  'device',
  uapi.VFIO_DEVICE_SET_IRQS,
  uapi.VfioIrqSet,
  state => ({
    flags:
      state.pick([DATA.DATA_EVENTFD, DATA.DATA_NONE, DATA.DATA_BOOL]) |
      state.mostly(DATA.ACTION_TRIGGER, [DATA.ACTION_MASK, 0]),
    index: state.mostly(1 + state.random.below(2), [0, 9]),
    start: state.mostly(0, [1, 99]),
    count: state.mostly(1, [0, 2, 0xffff_ffff]),
  }),
  undefined,
  state => {
    const fd = state.fd('eventfd') ?? NO_FD;
    return [fd & 0xff, (fd >> 8) & 0xff, (fd >> 16) & 0xff, (fd >> 24) & 0xff];
  },
);

export const VFIO_ACTIONS: readonly (readonly [weight: number, action: FuzzAction])[] = [
  [1, either(plain('container', uapi.VFIO_GET_API_VERSION), plain('iommufd', uapi.VFIO_GET_API_VERSION))],
  [
    2,
    either(
      plain('container', uapi.VFIO_CHECK_EXTENSION, state => state.random.below(12)),
      plain('iommufd', uapi.VFIO_CHECK_EXTENSION, state => state.random.below(12)),
    ),
  ],
  [
    6,
    either(
      setIommu,
      plain('iommufd', uapi.VFIO_SET_IOMMU, state => state.pick([1, 3, 3, 9])),
    ),
  ],
  [
    3,
    ofContainer(
      uapi.VFIO_IOMMU_GET_INFO,
      uapi.VfioIommuType1Info,
      () => ({}),
      undefined,
      state => new Array<number>(state.pick([0, 0, 40, 200])).fill(0),
    ),
  ],
  [
    8,
    ofContainer(
      uapi.VFIO_IOMMU_MAP_DMA,
      uapi.VfioIommuType1DmaMap,
      state => ({
        flags: state.mostly(1 + state.random.below(3), [0, 8]),
        vaddr: state.address(),
        iova: state.iova(),
        size: state.length(),
      }),
      (state, view) => {
        const { iova, size } = uapi.VfioIommuType1DmaMap.fields;
        state.mapped.push({ iova: iova.big(view), length: size.big(view) });
        if (state.mapped.length > 32) state.mapped.shift();
      },
    ),
  ],
  [
    5,
    ofContainer(uapi.VFIO_IOMMU_UNMAP_DMA, uapi.VfioIommuType1DmaUnmap, state => {
      const { iova, length } = where(state);
      return state.chance(5)
        ? { flags: 2 }
        : { flags: state.mostly(0, [1, 4]), iova, size: state.mostly(length, [length / 2n, 0n]) };
    }),
  ],
  [4, pasidRequest],
  [
    4,
    ofContainer(
      uapi.VFIO_IOMMU_BIND,
      uapi.VfioIommuType1Bind,
      state => ({ flags: state.mostly(1 + state.random.below(2), [0, 3]) }),
      undefined,
      bindData,
      NEARLY_ALWAYS,
    ),
  ],
  [3, flush],
  [2, call('group', uapi.VFIO_GROUP_GET_STATUS, uapi.VfioGroupStatus, () => ({}))],
  [6, setContainer],
  [1, leave],
  [6, getDevice],
  [2, call('device', uapi.VFIO_DEVICE_GET_INFO, uapi.VfioDeviceInfo, () => ({}))],
  [
    2,
    call('device', uapi.VFIO_DEVICE_GET_REGION_INFO, uapi.VfioRegionInfo, state => ({ index: state.random.below(10) })),
  ],
  [2, call('device', uapi.VFIO_DEVICE_GET_IRQ_INFO, uapi.VfioIrqInfo, state => ({ index: state.random.below(6) }))],
  [4, setIrqs],
  [1, plain('device', uapi.VFIO_DEVICE_RESET)],
  [
    3,
    call(
      'device',
      uapi.VFIO_DEVICE_FEATURE,
      uapi.VfioDeviceFeature,
      state => ({ flags: state.mostly(GET | uapi.VFIO_DEVICE_FEATURE_DMA_BUF, [0x4_000b, 0x2_000b]) }),
      (state, _view, result) => {
        if (result > 0) state.fds.set(result, 'memfd');
      },
      dmaBuf,
    ),
  ],
  [
    2,
    call(
      'device',
      uapi.VFIO_DEVICE_FEATURE,
      uapi.VfioDeviceFeature,
      state => ({ flags: state.pick([0x1_0001, 0x1_0002, 0x2_0002, 0x4_0001, 0x4_0009, 0]) }),
      undefined,
      () => new Array<number>(8).fill(0),
    ),
  ],
  [
    4,
    call(
      'cdev',
      uapi.VFIO_DEVICE_BIND_IOMMUFD,
      uapi.VfioDeviceBindIommufd,
      state => ({
        flags: state.mostly(0, [1, 2]),
        iommufd: state.mostly(state.iommufd()?.fd ?? NO_FD, [NO_FD, 44, state.fd('cdev') ?? 2]),
        token_uuid_ptr: state.address(),
      }),
      (state, view, _result, fd) => {
        state.fds.set(fd, 'bound');
        const { iommufd, out_devid } = uapi.VfioDeviceBindIommufd.fields;
        state.iommufds.get(iommufd.get(view))?.ids.set(out_devid.get(view), 'device');
      },
    ),
  ],
  [
    8,
    call('bound', uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, uapi.VfioDeviceAttachIommufdPt, state => {
      const of = state.iommufd();
      const pasid = state.chance(30);
      return {
        flags: state.mostly(pasid ? 1 : 0, [2, 3]),
        pt_id: of === undefined ? 1 : state.id(of, 'ioas', 'hwpt', 'parent', 'nested'),
        pasid: pasid ? state.mostly(1 + state.random.below(4), [0, 0x10_0000, 0xffff_ffff]) : 0,
      };
    }),
  ],
  [
    2,
    call('bound', uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT, uapi.VfioDeviceDetachIommufdPt, state => ({
      flags: state.mostly(state.random.below(2), [2]),
      pasid: state.random.below(5),
    })),
  ],
];
