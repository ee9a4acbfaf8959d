/** An open /dev/iommu: its ioctls as a VMM makes them. Each returns what it asks for (an id, mostly), or a negated errno. */
import { frameHi, frameLo, frameOf, type Hva } from '@remora/bits';
import { Access, Errno, trackDisposable, untrackDisposable } from '@remora/core';
import {
  IOMMU_DESTROY,
  IOMMU_FAULT_QUEUE_ALLOC,
  IOMMU_HWPT_ALLOC,
  IOMMU_HWPT_INVALIDATE,
  IOMMU_IOAS_ALLOC,
  IOMMU_IOAS_IOVA_RANGES,
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_UNMAP,
  IOMMU_VDEVICE_ALLOC,
  IOMMU_VEVENTQ_ALLOC,
  IOMMU_VIOMMU_ALLOC,
  IommuDestroy,
  IommuFaultAlloc,
  IommuHwptAlloc,
  IommuHwptInvalidate,
  IommuIoasAlloc,
  IommuIoasIovaRanges,
  IommuIoasMap,
  IommuIoasMapFlag,
  IommuIoasUnmap,
  IommuIovaRange,
  IommuVdeviceAlloc,
  IommuVeventqAlloc,
  IommuViommuAlloc,
  viewOf,
} from '@remora/uapi';
import type { HostSyscalls } from '../syscalls.js';
import type { IovaFrames } from '../vfio/iommu-info.js';
import { expectOk } from '../vfio/vfio-error.js';
import { PayloadMemory } from './payload-memory.js';

export const IOMMUFD_PATH = '/dev/iommu';

const PAGE = 4096;
/** Room for 2730 VT-d invalidations: more than a guest's queue brings between two waits. */
const PAYLOAD_BYTES = 16 * PAGE;

export interface HwptRequest {
  /** IommuHwptAllocFlag bits. */
  readonly flags: number;
  readonly device: number;
  /** An IOAS, or the HWPT or vIOMMU that it is nested on. */
  readonly parent: number;
  /** IommuHwptDataType; NONE has no payload. */
  readonly dataType: number;
  readonly data?: Uint8Array;
  /** With FAULT_ID_VALID. */
  readonly faultQueue?: number;
}

/** An object that has a file of its own. */
export interface QueueFile {
  readonly id: number;
  readonly fd: number;
}

export class Iommufd implements Disposable {
  /** For messages: `vm0/iommufd0`. */
  readonly name: string;
  readonly fd: number;
  readonly syscalls: HostSyscalls;
  readonly payload: PayloadMemory;
  readonly #invalidate = IommuHwptInvalidate.encode({ size: IommuHwptInvalidate.size });
  readonly #invalidateView = viewOf(this.#invalidate);
  #open = true;

  private constructor(syscalls: HostSyscalls, name: string, fd: number, payload: PayloadMemory) {
    this.syscalls = syscalls;
    this.name = name;
    this.fd = fd;
    this.payload = payload;
    trackDisposable(this, `iommufd ${name}`);
  }

  /** @throws VfioError if the host has no iommufd, or does not let this process use it. */
  static open(syscalls: HostSyscalls, name: string): Iommufd {
    const opened = syscalls.open(IOMMUFD_PATH);
    const hint = opened === -Errno.ENOENT ? " (the host's kernel needs CONFIG_IOMMUFD)" : '';
    const fd = expectOk(`${name}: open ${IOMMUFD_PATH}${hint}`, opened);
    try {
      return new Iommufd(syscalls, name, fd, PayloadMemory.allocate(syscalls, PAYLOAD_BYTES, name));
    } catch (error) {
      syscalls.close(fd);
      throw error;
    }
  }

  /** Everything that is left in it goes with it. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    this.payload[Symbol.dispose]();
    this.syscalls.close(this.fd);
    untrackDisposable(this);
  }

  /** 0 or a negated errno: -EBUSY while something needs the object. */
  destroy(id: number): number {
    return this.#ioctl(IOMMU_DESTROY, IommuDestroy.encode({ size: IommuDestroy.size, id }));
  }

  /** The id of a new, empty I/O address space. */
  allocIoas(): number {
    const bytes = IommuIoasAlloc.encode({ size: IommuIoasAlloc.size });
    return this.#allocated(IOMMU_IOAS_ALLOC, bytes, view => IommuIoasAlloc.fields.out_ioas_id.get(view));
  }

  /** Maps pages of process memory, with Access bits. 0 or a negated errno; then nothing was mapped. */
  map(ioas: number, iovaFrame: number, pages: number, address: Hva, access: number): number {
    const bytes = IommuIoasMap.encode({
      size: IommuIoasMap.size,
      flags:
        IommuIoasMapFlag.FIXED_IOVA |
        (access & Access.READ ? IommuIoasMapFlag.READABLE : 0) |
        (access & Access.WRITE ? IommuIoasMapFlag.WRITEABLE : 0),
      ioas_id: ioas,
      user_va: address,
    });
    const view = viewOf(bytes);
    IommuIoasMap.fields.iova.set(view, frameHi(iovaFrame), frameLo(iovaFrame));
    IommuIoasMap.fields.length.set(view, frameHi(pages), frameLo(pages));
    return this.#ioctl(IOMMU_IOAS_MAP, bytes);
  }

  /** Unmaps what lies in a range, no mapping in part. How many pages went, or a negated errno. */
  unmap(ioas: number, iovaFrame: number, pages: number): number {
    const bytes = IommuIoasUnmap.encode({ size: IommuIoasUnmap.size, ioas_id: ioas });
    const view = viewOf(bytes);
    const { iova, length } = IommuIoasUnmap.fields;
    iova.set(view, frameHi(iovaFrame), frameLo(iovaFrame));
    length.set(view, frameHi(pages), frameLo(pages));
    const result = this.#ioctl(IOMMU_IOAS_UNMAP, bytes);
    return result < 0 ? result : length.number(view) / PAGE;
  }

  /** What can be mapped, whole pages of each range, ascending; or a negated errno. */
  iovaRanges(ioas: number): IovaFrames[] | number {
    const room = Math.floor(this.payload.size / IommuIovaRange.size);
    const bytes = IommuIoasIovaRanges.encode({
      size: IommuIoasIovaRanges.size,
      ioas_id: ioas,
      num_iovas: room,
      allowed_iovas: this.payload.address,
    });
    const result = this.#ioctl(IOMMU_IOAS_IOVA_RANGES, bytes);
    if (result < 0) return result;
    const count = IommuIoasIovaRanges.fields.num_iovas.get(viewOf(bytes));
    if (count > room) return -Errno.E2BIG;
    const found = new Uint8Array(count * IommuIovaRange.size);
    if (count > 0) this.payload.get(found);
    const view = viewOf(found);
    const { start, last } = IommuIovaRange.fields;
    return Array.from({ length: count }, (_, index) => {
      const at = index * IommuIovaRange.size;
      const first = frameOf(start.hi(view, at), start.lo(view, at));
      const end = frameOf(last.hi(view, at), last.lo(view, at));
      return {
        startFrame: start.lo(view, at) % PAGE === 0 ? first : first + 1,
        endFrame: (last.lo(view, at) & (PAGE - 1)) === PAGE - 1 ? end + 1 : end,
      };
    });
  }

  /** The id of a new hardware page table. */
  allocHwpt({ flags, device, parent, dataType, data, faultQueue }: HwptRequest): number {
    if (data !== undefined) this.payload.put(data);
    const bytes = IommuHwptAlloc.encode({
      size: IommuHwptAlloc.size,
      flags,
      dev_id: device,
      pt_id: parent,
      data_type: dataType,
      ...(data === undefined ? {} : { data_len: data.length, data_uptr: this.payload.address }),
      fault_id: faultQueue ?? 0,
    });
    return this.#allocated(IOMMU_HWPT_ALLOC, bytes, view => IommuHwptAlloc.fields.out_hwpt_id.get(view));
  }

  /**
   * Invalidates the `count` entries at the beginning of the payload memory, in order. 0 or a negated errno; `invalidated` tells how many
   * were done. Nothing is allocated.
   */
  invalidate(hwpt: number, dataType: number, entryLength: number, count: number): number {
    const { hwpt_id, data_uptr, data_type, entry_len, entry_num } = IommuHwptInvalidate.fields;
    const view = this.#invalidateView;
    hwpt_id.set(view, hwpt);
    data_uptr.setWide(view, this.payload.address);
    data_type.set(view, dataType);
    entry_len.set(view, entryLength);
    entry_num.set(view, count);
    const result = this.#ioctl(IOMMU_HWPT_INVALIDATE, this.#invalidate);
    // A call that failed before the kernel came to write the count leaves it as it was: none is known to be done.
    if (result < 0 && entry_num.get(view) >= count) entry_num.set(view, 0);
    return result;
  }

  /** How many entries the last `invalidate` has done. */
  get invalidated(): number {
    return IommuHwptInvalidate.fields.entry_num.get(this.#invalidateView);
  }

  allocFaultQueue(): QueueFile | number {
    const bytes = IommuFaultAlloc.encode({ size: IommuFaultAlloc.size });
    const result = this.#ioctl(IOMMU_FAULT_QUEUE_ALLOC, bytes);
    if (result < 0) return result;
    const { out_fault_id, out_fault_fd } = IommuFaultAlloc.fields;
    return { id: out_fault_id.get(viewOf(bytes)), fd: out_fault_fd.get(viewOf(bytes)) };
  }

  /** The id of a new vIOMMU over a nesting parent. */
  allocViommu(type: number, device: number, hwpt: number): number {
    const bytes = IommuViommuAlloc.encode({ size: IommuViommuAlloc.size, type, dev_id: device, hwpt_id: hwpt });
    return this.#allocated(IOMMU_VIOMMU_ALLOC, bytes, view => IommuViommuAlloc.fields.out_viommu_id.get(view));
  }

  /** The id of a new virtual device: `device`, as the guest behind `viommu` numbers it. */
  allocVirtualDevice(viommu: number, device: number, virtualId: number): number {
    const { size } = IommuVdeviceAlloc;
    const bytes = IommuVdeviceAlloc.encode({ size, viommu_id: viommu, dev_id: device, virt_id: virtualId });
    return this.#allocated(IOMMU_VDEVICE_ALLOC, bytes, view => IommuVdeviceAlloc.fields.out_vdevice_id.get(view));
  }

  allocEventQueue(viommu: number, type: number, depth: number): QueueFile | number {
    const { size } = IommuVeventqAlloc;
    const bytes = IommuVeventqAlloc.encode({ size, viommu_id: viommu, type, veventq_depth: depth });
    const result = this.#ioctl(IOMMU_VEVENTQ_ALLOC, bytes);
    if (result < 0) return result;
    const { out_veventq_id, out_veventq_fd } = IommuVeventqAlloc.fields;
    return { id: out_veventq_id.get(viewOf(bytes)), fd: out_veventq_fd.get(viewOf(bytes)) };
  }

  #allocated(request: number, bytes: Uint8Array, id: (view: DataView) => number): number {
    const result = this.#ioctl(request, bytes);
    return result < 0 ? result : id(viewOf(bytes));
  }

  /** Only what is written back counts beyond success. */
  #ioctl(request: number, bytes: Uint8Array): number {
    const result = this.syscalls.ioctl(this.fd, request, bytes);
    return result < 0 ? result : 0;
  }
}
