/** What a fuzzed process asks of /dev/iommu. */
import { REMORA_VTD_EVENTS } from '@remora/iommu';
import type { Fields, StructType, StructValues } from '@remora/uapi';
import * as uapi from '@remora/uapi';
import { type FuzzAction, type FuzzCall, reserved, spoiled } from './call.js';
import { type FuzzIommufd, type FuzzState, type IdKind, U64_MAX } from './state.js';

type Make<F extends Fields> = (state: FuzzState, of: FuzzIommufd) => StructValues<F>;
type Done = (state: FuzzState, of: FuzzIommufd, view: DataView, result: number) => void;

function call<F extends Fields>(request: number, struct: StructType<F>, make: Make<F>, done?: Done): FuzzAction {
  return state => {
    const of = state.iommufd();
    if (of === undefined) return undefined;
    state.lacking = false;
    const bytes = struct.encode({ size: struct.size, ...make(state, of) } as unknown as StructValues<F>);
    if (state.lacking && !state.chance(3)) return undefined;
    reserved(state, struct as unknown as StructType, bytes);
    return {
      fd: state.chance(0.5) ? (state.fd(state.pick(['group', 'eventfd', 'cdev'])) ?? of.fd) : of.fd,
      request,
      argument: spoiled(state, bytes),
      done: (result: number, view: DataView) => done?.(state, of, view, result),
    } satisfies FuzzCall;
  };
}

/** Remembers an id that the kernel gave. */
function made(kind: IdKind, field: { get(view: DataView): number }): Done {
  return (_state, of, view) => {
    of.ids.set(field.get(view), kind);
  };
}

const { FIXED_IOVA, READABLE, WRITEABLE } = uapi.IommuIoasMapFlag;

function mapFlags(state: FuzzState): number {
  const access = state.pick([READABLE, WRITEABLE, READABLE | WRITEABLE, READABLE | WRITEABLE, READABLE | WRITEABLE]);
  return state.mostly((state.chance(70) ? FIXED_IOVA : 0) | access, [
    0,
    FIXED_IOVA,
    8 | FIXED_IOVA | access,
    0x8000_0004,
  ]);
}

function remember(ioas: { get(view: DataView): number }, iova: uapi.WideField, length: uapi.WideField): Done {
  return (_state, of, view) => {
    of.maps.push({ ioas: ioas.get(view), iova: iova.big(view), length: length.big(view) });
    if (of.maps.length > 64) of.maps.shift();
  };
}

/** Something that was mapped, mostly in what `id` shows; or nothing. */
function placeIn(state: FuzzState, of: FuzzIommufd, id: number): { iova: bigint; length: bigint } {
  const there = of.maps.filter(({ ioas }) => ioas === of.shows.get(id));
  return there.length === 0 || state.chance(10) ? place(state, of) : state.pick(there);
}

/** Something that was mapped, or nothing. */
function place(state: FuzzState, of: FuzzIommufd): { ioas: number; iova: bigint; length: bigint } {
  const random = { ioas: state.id(of, 'ioas'), iova: state.iova(), length: state.length() };
  return of.maps.length === 0 || state.chance(10) ? random : state.pick(of.maps);
}

function ranges(state: FuzzState): Uint8Array {
  const list = [0x10_0000n, 0x40_0000n].map(start =>
    uapi.IommuIovaRange.encode({
      start,
      last: state.mostly(start + 0xf_ffffn, [start, 0n, 0xfee0_0fffn, 0xffff_ffffn]),
    }),
  );
  return Uint8Array.from(list.flatMap(bytes => [...bytes]));
}

/** What HWPT_ALLOC takes: a first stage of one vendor or another. */
function stage1(state: FuzzState): { data_type: number; data_len: number; data_uptr: bigint } {
  const vtd = uapi.IommuHwptVtdS1.encode({
    flags: state.mostly(0, [1, 2, 4, 8]),
    pgtbl_addr: 0x10_0000,
    addr_width: state.mostly(48, [0, 57, 30]),
  });
  const smmu = new Uint8Array(16);
  const words = state.pick([
    [0x1, 0],
    [0x9, 0],
    [0x8000_000b, 0xd6],
    [0, 0],
    [0x9, 0x8000_0000],
  ]);
  uapi.viewOf(smmu).setUint32(0, words[0]!, true);
  uapi.viewOf(smmu).setUint32(8, words[1]!, true);
  const [type, bytes] = state.pick([[1, vtd] as const, [2, smmu] as const]);
  return {
    data_type: state.mostly<number>(type, [0, 3, 9]),
    data_len: state.mostly(bytes.length, [0, 1, bytes.length + 1, 5000]),
    data_uptr: state.pointer(bytes),
  };
}

function invalidation(state: FuzzState): {
  data_type: number;
  entry_len: number;
  entry_num: number;
  data_uptr: bigint;
} {
  const count = state.random.below(4);
  const vtd = state.chance(50);
  const length = vtd ? 24 : 16;
  const bytes = new Uint8Array(count * length);
  const view = uapi.viewOf(bytes);
  for (let entry = 0; entry < count; entry++) {
    const at = entry * length;
    view.setUint32(
      at,
      vtd ? 0x1000 * state.random.below(16) : state.pick([0x10, 0x11, 0x12, 0x13, 0x30, 0x05, 0x06, 0x40, 0x99]),
      true,
    );
    view.setUint32(at + 4, vtd ? 0 : state.pick([0x88, 0x99, 0]), true);
    view.setUint32(at + 8, vtd ? 1 + state.random.below(4) : 0, true);
    if (vtd) view.setUint32(at + 16, state.mostly(0, [1, 2]), true);
  }
  return {
    data_type: state.mostly(vtd ? 0 : 1, [7]),
    entry_len: state.mostly(length, [0, 1, length + 1, 5000]),
    entry_num: state.mostly(count, [0, 0x8_0001]),
    data_uptr: state.pointer(bytes),
  };
}

const { fields: HWPT } = uapi.IommuHwptAlloc;
const HWPT_FLAGS = [0, 1, 1, 1, 1, 2, 3, 4, 8, 9, 5, 0x10];

export const IOMMUFD_ACTIONS: readonly (readonly [weight: number, action: FuzzAction])[] = [
  [
    6,
    call(
      uapi.IOMMU_DESTROY,
      uapi.IommuDestroy,
      (state, of) => ({
        id: of.ids.size > 0 && state.chance(90) ? state.pick([...of.ids.keys()]) : state.random.below(50),
      }),
      (_state, of, view) => of.ids.delete(uapi.IommuDestroy.fields.id.get(view)),
    ),
  ],
  [
    3,
    call(
      uapi.IOMMU_IOAS_ALLOC,
      uapi.IommuIoasAlloc,
      state => ({ flags: state.mostly(0, [1, 0x8000_0000]) }),
      (_state, of, view) => of.ids.set(uapi.IommuIoasAlloc.fields.out_ioas_id.get(view), 'ioas'),
    ),
  ],
  [
    4,
    call(uapi.IOMMU_IOAS_ALLOW_IOVAS, uapi.IommuIoasAllowIovas, (state, of) => ({
      ioas_id: state.id(of, 'ioas'),
      num_iovas: state.mostly(state.random.below(3), [0xffff_ffff]),
      allowed_iovas: state.pointer(ranges(state)),
    })),
  ],
  [
    5,
    call(uapi.IOMMU_IOAS_IOVA_RANGES, uapi.IommuIoasIovaRanges, (state, of) => ({
      ioas_id: state.id(of, 'ioas'),
      num_iovas: state.mostly(8, [0, 1, 0xffff_ffff], 20),
      allowed_iovas: state.address(),
    })),
  ],
  [
    16,
    call(
      uapi.IOMMU_IOAS_MAP,
      uapi.IommuIoasMap,
      (state, of) => ({
        ioas_id: state.id(of, 'ioas'),
        flags: mapFlags(state),
        user_va: state.address(),
        length: state.length(),
        iova: state.iova(),
      }),
      remember(uapi.IommuIoasMap.fields.ioas_id, uapi.IommuIoasMap.fields.iova, uapi.IommuIoasMap.fields.length),
    ),
  ],
  [
    5,
    call(
      uapi.IOMMU_IOAS_MAP_FILE,
      uapi.IommuIoasMapFile,
      (state, of) => ({
        ioas_id: state.id(of, 'ioas'),
        flags: mapFlags(state),
        fd: state.mostly(state.fd('memfd') ?? -1, [-1, of.fd, 77]),
        start: BigInt(state.random.below(10)) * 0x1000n,
        length: state.length(),
        iova: state.iova(),
      }),
      remember(
        uapi.IommuIoasMapFile.fields.ioas_id,
        uapi.IommuIoasMapFile.fields.iova,
        uapi.IommuIoasMapFile.fields.length,
      ),
    ),
  ],
  [
    6,
    call(
      uapi.IOMMU_IOAS_COPY,
      uapi.IommuIoasCopy,
      (state, of) => {
        const from = place(state, of);
        return {
          dst_ioas_id: state.id(of, 'ioas'),
          src_ioas_id: from.ioas,
          flags: mapFlags(state),
          length: from.length,
          src_iova: from.iova,
          dst_iova: state.iova(),
        };
      },
      remember(
        uapi.IommuIoasCopy.fields.dst_ioas_id,
        uapi.IommuIoasCopy.fields.dst_iova,
        uapi.IommuIoasCopy.fields.length,
      ),
    ),
  ],
  [
    10,
    call(uapi.IOMMU_IOAS_UNMAP, uapi.IommuIoasUnmap, (state, of) => {
      const { ioas, iova, length } = place(state, of);
      if (state.chance(6)) return { ioas_id: ioas, iova: 0, length: U64_MAX };
      return {
        ioas_id: ioas,
        iova,
        length: state.mostly(length, [BigInt.asUintN(64, length + 0x1000n), length / 2n, 0n, U64_MAX]),
      };
    }),
  ],
  [
    4,
    call(uapi.IOMMU_OPTION, uapi.IommuOption, (state, of) => {
      const huge = state.chance(70);
      return {
        option_id: state.mostly(huge ? 1 : 0, [2, 0xffff]),
        op: state.mostly(state.random.below(2), [2, 9]),
        object_id: huge ? state.id(of, 'ioas') : state.mostly(0, [1]),
        val64: state.mostly(BigInt(state.random.below(2)), [2n, U64_MAX]),
      };
    }),
  ],
  [
    3,
    call(uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas, (state, of) => ({
      ioas_id: state.id(of, 'ioas'),
      op: state.mostly(state.random.below(3), [3, 0xffff]),
    })),
  ],
  [2, call(uapi.IOMMU_IOAS_CHANGE_PROCESS, uapi.IommuIoasChangeProcess, () => ({}))],
  [
    2,
    call(uapi.IOMMU_IOAS_NOIOMMU_GET_PA, uapi.IommuIoasNoiommuGetPa, (state, of) => {
      const { ioas, iova, length } = place(state, of);
      return { ioas_id: ioas, flags: state.mostly(0, [1]), iova, length: state.mostly(length, [0n, U64_MAX]) };
    }),
  ],
  [
    16,
    call(
      uapi.IOMMU_HWPT_ALLOC,
      uapi.IommuHwptAlloc,
      (state, of) => {
        const nested = state.chance(50);
        return {
          flags: nested ? state.pick([0, 0, 0, 4, 8, 1]) : state.pick(HWPT_FLAGS),
          dev_id: state.id(of, 'device'),
          pt_id: nested ? state.id(of, 'parent', 'viommu') : state.id(of, 'ioas'),
          fault_id: state.id(of, 'fault'),
          ...(nested ? stage1(state) : {}),
        };
      },
      (_state, of, view) => {
        const flags = HWPT.flags.get(view);
        const nested = HWPT.data_type.get(view) !== 0;
        const kind = nested ? 'nested' : (flags & 2) !== 0 ? 'dirty' : (flags & 1) !== 0 ? 'parent' : 'hwpt';
        const id = HWPT.out_hwpt_id.get(view);
        of.ids.set(id, kind);
        of.shows.set(id, HWPT.pt_id.get(view));
      },
    ),
  ],
  [
    4,
    call(uapi.IOMMU_GET_HW_INFO, uapi.IommuHwInfo, (state, of) => ({
      flags: state.mostly(state.random.below(2), [2]),
      dev_id: state.id(of, 'device'),
      in_data_type: state.pick([0, 1, 2, 3, 9]),
      data_len: state.mostly(64, [0, 8, 0x1_0000]),
      data_uptr: state.address(),
    })),
  ],
  [
    6,
    call(uapi.IOMMU_HWPT_SET_DIRTY_TRACKING, uapi.IommuHwptSetDirtyTracking, (state, of) => ({
      flags: state.mostly(state.random.below(2), [2]),
      hwpt_id: state.id(of, 'dirty', 'hwpt', 'parent'),
    })),
  ],
  [
    8,
    call(uapi.IOMMU_HWPT_GET_DIRTY_BITMAP, uapi.IommuHwptGetDirtyBitmap, (state, of) => {
      const id = state.id(of, 'dirty', 'dirty', 'hwpt', 'parent');
      const { iova, length } = placeIn(state, of, id);
      return {
        hwpt_id: id,
        flags: state.mostly(state.random.below(2), [2]),
        iova,
        length,
        page_size: state.mostly(0x1000n, [0n, 1n, 3n, 0x2000n, U64_MAX]),
        data: BigInt.asUintN(64, state.address() + BigInt(state.random.below(3))),
      };
    }),
  ],
  [
    12,
    call(uapi.IOMMU_HWPT_INVALIDATE, uapi.IommuHwptInvalidate, (state, of) => ({
      hwpt_id: state.id(of, 'nested', 'viommu'),
      ...invalidation(state),
    })),
  ],
  [
    2,
    call(
      uapi.IOMMU_FAULT_QUEUE_ALLOC,
      uapi.IommuFaultAlloc,
      state => ({ flags: state.mostly(0, [1]) }),
      (state, of, view) => {
        of.ids.set(uapi.IommuFaultAlloc.fields.out_fault_id.get(view), 'fault');
        state.fds.set(uapi.IommuFaultAlloc.fields.out_fault_fd.get(view), 'fault');
      },
    ),
  ],
  [
    8,
    call(
      uapi.IOMMU_VIOMMU_ALLOC,
      uapi.IommuViommuAlloc,
      (state, of) => ({
        flags: state.mostly(0, [1]),
        type: state.pick([1, 2, 2, 2, REMORA_VTD_EVENTS, 0, 9]),
        dev_id: state.id(of, 'device'),
        hwpt_id: state.id(of, 'parent'),
        data_len: state.mostly(16, [0, 5000]),
        data_uptr: state.pointer(new Uint8Array(16)),
      }),
      (_state, of, view) => {
        const { out_viommu_id, hwpt_id } = uapi.IommuViommuAlloc.fields;
        of.ids.set(out_viommu_id.get(view), 'viommu');
        of.shows.set(out_viommu_id.get(view), of.shows.get(hwpt_id.get(view)) ?? 0);
      },
    ),
  ],
  [
    6,
    call(
      uapi.IOMMU_VDEVICE_ALLOC,
      uapi.IommuVdeviceAlloc,
      (state, of) => ({
        viommu_id: state.id(of, 'viommu'),
        dev_id: state.id(of, 'device'),
        virt_id: state.mostly(state.pick([0x88n, 0x99n]), [U64_MAX, 0n]),
      }),
      made('vdevice', uapi.IommuVdeviceAlloc.fields.out_vdevice_id),
    ),
  ],
  [
    6,
    call(
      uapi.IOMMU_VEVENTQ_ALLOC,
      uapi.IommuVeventqAlloc,
      (state, of) => ({
        flags: state.mostly(0, [1]),
        viommu_id: state.id(of, 'viommu'),
        type: state.pick([1, 1, 2, REMORA_VTD_EVENTS, 0, 9]),
        veventq_depth: state.mostly(8, [0, 1, 0x8_0000, 0x8_0001]),
      }),
      (state, of, view) => {
        of.ids.set(uapi.IommuVeventqAlloc.fields.out_veventq_id.get(view), 'veventq');
        state.fds.set(uapi.IommuVeventqAlloc.fields.out_veventq_fd.get(view), 'events');
      },
    ),
  ],
  [
    10,
    call(
      uapi.IOMMU_HW_QUEUE_ALLOC,
      uapi.IommuHwQueueAlloc,
      (state, of) => {
        const viommu = state.id(of, 'viommu');
        return {
          flags: state.mostly(0, [1]),
          viommu_id: viommu,
          type: state.mostly(1, [0, 9]),
          index: state.random.below(4),
          nesting_parent_iova: state.chance(80) ? placeIn(state, of, viommu).iova : state.iova(),
          length: state.mostly(0x1000n, [0n, 0x2000n, U64_MAX]),
        };
      },
      made('hwqueue', uapi.IommuHwQueueAlloc.fields.out_hw_queue_id),
    ),
  ],
];
