/** The type1 IOMMU backend of a container: version 1, version 2, or nesting (which implies version 2) [A03, A07, A08, A13, A18]. */
import { frameHi, frameLo, frameOf } from '@remora/bits';
import { Access, Errno } from '@remora/core';
import type { IoctlArgument } from '@remora/host';
import { type HostIommuDomain, Stage1Flush } from '@remora/iommu';
import {
  IommuGpasidBindData,
  type UapiVariant,
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_CACHE_INVALIDATE,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_PASID_REQUEST,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1_NESTING_IOMMU,
  VfioBindFlag,
  VfioDmaMapFlag,
  VfioDmaUnmapFlag,
  VfioIommuType1Bind,
  VfioIommuType1CacheInvalidate,
  VfioIommuType1DmaMap,
  VfioIommuType1DmaUnmap,
  VfioIommuType1PasidRequest,
  VfioPasidRequestFlag,
} from '@remora/uapi';
import type { PhysicalDevice } from '../devices/physical-device.js';
import type { HostProcess } from '../process.js';
import { DmaMappings } from './dma-mappings.js';
import { writeIommuInfo } from './iommu-info.js';
import type { IommuGroup } from './iommu-group.js';
import { insist } from './insist.js';
import { iovaRanges } from './iova-ranges.js';
import type { Kernel } from './kernel.js';
import { Stage1Bindings } from './stage1-bindings.js';
import { EVERY_PASID, readBind, readFlush, readPasid } from './stage1-requests.js';
import { userBytes, userStruct } from './user.js';

/**
 * argsz and flags come first, and a caller that claims at least them is taken at its word; the kernel then copies what the operation needs
 * (vsva.md 3.12 to 3.14).
 */
const HEADER_BYTES = 8;

export class Type1 {
  /** VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU or VFIO_TYPE1_NESTING_IOMMU. */
  readonly type: number;
  readonly domain: HostIommuDomain;
  /** Whose memory is mapped, and whose PASIDs are used. */
  readonly owner: HostProcess;
  readonly #kernel: Kernel;
  readonly #mappings: DmaMappings;
  readonly #bindings: Stage1Bindings;
  readonly #groups: IommuGroup[] = [];
  /** Which meaning ioctls 122 and 123 have. */
  readonly #uapi: UapiVariant;
  readonly #flush = new Stage1Flush();

  /** Takes `domain` over; `owner` is the process that opened the container. */
  constructor(kernel: Kernel, owner: HostProcess, domain: HostIommuDomain, type: number, uapi: UapiVariant) {
    this.#kernel = kernel;
    this.owner = owner;
    this.type = type;
    this.#uapi = uapi;
    this.domain = domain;
    this.#mappings = new DmaMappings(this.domain, kernel.frames, iovaRanges(kernel), kernel.knobs.dmaEntryLimit);
    this.#bindings = new Stage1Bindings(this.domain, kernel.pasids);
    kernel.pasids.enter(owner);
  }

  get nested(): boolean {
    return this.type === VFIO_TYPE1_NESTING_IOMMU;
  }

  /** Attaches every device of the group, or none. */
  attach(group: IommuGroup): number {
    const done: PhysicalDevice[] = [];
    for (const device of group.devices) {
      const error = this.domain.attach(device.requesterId);
      if (error !== 0) {
        for (const attached of done) this.#detachDevice(attached);
        return error;
      }
      done.push(device);
      if (this.nested) device.setPasidEnabled(true);
    }
    this.#groups.push(group);
    return 0;
  }

  detach(group: IommuGroup): void {
    const index = this.#groups.indexOf(group);
    if (index < 0) return;
    this.#groups.splice(index, 1);
    for (const device of group.devices) {
      this.#bindings.removeDevice(device);
      this.#detachDevice(device);
    }
  }

  ioctl(request: number, argument: IoctlArgument): number {
    switch (request) {
      case VFIO_IOMMU_GET_INFO:
        return writeIommuInfo(this.#kernel, this.nested, this.#mappings.available, argument);
      case VFIO_IOMMU_MAP_DMA:
        return this.#mapDma(argument);
      case VFIO_IOMMU_UNMAP_DMA:
        return this.#unmapDma(argument);
    }
    if (this.#uapi !== 'vsva-rfc-v3.1') return -Errno.ENOTTY;
    switch (request) {
      case VFIO_IOMMU_PASID_REQUEST:
        return this.#pasidRequest(argument);
      case VFIO_IOMMU_BIND:
        return this.#bind(argument);
      case VFIO_IOMMU_CACHE_INVALIDATE:
        return this.#cacheInvalidate(argument);
      default:
        return -Errno.ENOTTY;
    }
  }

  /** The last group is gone: so are the mappings, and the owner's PASIDs with its last container. */
  release(): void {
    for (const group of [...this.#groups]) this.detach(group);
    this.domain[Symbol.dispose]();
    this.#mappings.release();
    this.#kernel.pasids.leave(this.owner);
  }

  state(): unknown {
    return { type: this.type, mappings: this.#mappings.state(), bindings: this.#bindings.state() };
  }

  /** Whoever closes a group gets no errno: a device that the IOMMU's driver would not let go is told in the ledger. */
  #detachDevice(device: PhysicalDevice): void {
    device.setPasidEnabled(false);
    const result = insist(() => this.domain.detach(device.requesterId));
    if (result < 0) this.#kernel.note('detach', { device: device.bdf, domain: this.domain.id, result });
  }

  #mapDma(argument: IoctlArgument): number {
    const view = userStruct(argument, VfioIommuType1DmaMap.size);
    if (typeof view === 'number') return view;
    const { fields } = VfioIommuType1DmaMap;
    const flags = fields.flags.get(view);
    const known = VfioDmaMapFlag.READ | VfioDmaMapFlag.WRITE;
    if (flags === 0 || (flags & ~known) !== 0) return -Errno.EINVAL;
    if (
      !pageAligned(fields.vaddr.lo(view)) ||
      !pageAligned(fields.iova.lo(view)) ||
      !pageAligned(fields.size.lo(view))
    ) {
      return -Errno.EINVAL;
    }
    const iovaFrame = frameOf(fields.iova.hi(view), fields.iova.lo(view));
    const pages = frameOf(fields.size.hi(view), fields.size.lo(view));
    if (pages === 0) return -Errno.EINVAL;
    if (iovaFrame + pages > 2 ** 52) return this.#wrapped;
    const access = (flags & VfioDmaMapFlag.READ ? Access.READ : 0) | (flags & VfioDmaMapFlag.WRITE ? Access.WRITE : 0);
    const address = fields.vaddr.number(view);
    const result = this.#mappings.map(this.owner.memory, iovaFrame, pages, address, access);
    this.#kernel.note('map', { domain: this.domain.id, iovaFrame, pages, access, result });
    return result;
  }

  #unmapDma(argument: IoctlArgument): number {
    const view = userStruct(argument, VfioIommuType1DmaUnmap.size);
    if (typeof view === 'number') return view;
    const { fields } = VfioIommuType1DmaUnmap;
    const flags = fields.flags.get(view);
    if (flags === VfioDmaUnmapFlag.ALL && this.#kernel.knobs.release !== 'rfc') return this.#unmapAll(view);
    // Bits of later kernels (dirty bitmap, addresses only) are unknown here.
    if (flags !== 0) return -Errno.EINVAL;
    if (!pageAligned(fields.iova.lo(view)) || !pageAligned(fields.size.lo(view))) return -Errno.EINVAL;
    const iovaFrame = frameOf(fields.iova.hi(view), fields.iova.lo(view));
    const pages = frameOf(fields.size.hi(view), fields.size.lo(view));
    if (pages === 0) return -Errno.EINVAL;
    if (iovaFrame + pages > 2 ** 52) return this.#wrapped;
    return this.#unmapped(view, iovaFrame, pages);
  }

  /** All there is: no range is named. */
  #unmapAll(view: DataView): number {
    const { iova, size } = VfioIommuType1DmaUnmap.fields;
    const named = iova.hi(view) | iova.lo(view) | size.hi(view) | size.lo(view);
    return named === 0 ? this.#unmapped(view, 0, 2 ** 52) : -Errno.EINVAL;
  }

  /** For IOVAs that go on past the last one. */
  get #wrapped(): number {
    return this.#kernel.knobs.release === '7.2' ? -Errno.EOVERFLOW : -Errno.EINVAL;
  }

  #unmapped(view: DataView, iovaFrame: number, pages: number): number {
    const { fields } = VfioIommuType1DmaUnmap;
    const result = this.#mappings.unmap(iovaFrame, pages, this.type === VFIO_TYPE1_IOMMU ? 1 : 2);
    this.#kernel.note('unmap', { domain: this.domain.id, iovaFrame, pages, result });
    if (result < 0) return result;
    fields.size.set(view, frameHi(result), frameLo(result));
    return 0;
  }

  #pasidRequest(argument: IoctlArgument): number {
    const header = userStruct(argument, HEADER_BYTES);
    if (typeof header === 'number') return header;
    if (!this.nested) return -Errno.EINVAL;
    switch (VfioIommuType1PasidRequest.fields.flags.get(header)) {
      case VfioPasidRequestFlag.ALLOC:
        return this.#allocatePasid(argument);
      case VfioPasidRequestFlag.FREE:
        return this.#freePasid(argument);
      default:
        return -Errno.EINVAL;
    }
  }

  #allocatePasid(argument: IoctlArgument): number {
    const view = userBytes(argument, VfioIommuType1PasidRequest.size);
    if (typeof view === 'number') return view;
    const { min, max, result: answer } = VfioIommuType1PasidRequest.fields;
    const { pasids, knobs } = this.#kernel;
    const result = pasids.allocate(this.owner, min.get(view), max.get(view), knobs.pasidQuota);
    this.#kernel.note('pasid-alloc', { owner: this.owner.name, result });
    if (result < 0) return result;
    answer.set(view, result);
    return 0;
  }

  #freePasid(argument: IoctlArgument): number {
    const { free_pasid } = VfioIommuType1PasidRequest.fields;
    const view = userBytes(argument, free_pasid.offset + free_pasid.size);
    if (typeof view === 'number') return view;
    const pasid = free_pasid.get(view);
    const result = this.#kernel.pasids.free(this.owner, pasid);
    this.#kernel.note('pasid-free', { owner: this.owner.name, pasid, result });
    return result;
  }

  #bind(argument: IoctlArgument): number {
    const header = userStruct(argument, HEADER_BYTES);
    if (typeof header === 'number') return header;
    const flags = VfioIommuType1Bind.fields.flags.get(header);
    if (flags !== VfioBindFlag.BIND_GUEST_PGTBL && flags !== VfioBindFlag.UNBIND_GUEST_PGTBL) return -Errno.EINVAL;
    if (!this.nested) return -Errno.EINVAL;
    const view = userBytes(argument, HEADER_BYTES + IommuGpasidBindData.size);
    if (typeof view === 'number') return view;
    return flags === VfioBindFlag.BIND_GUEST_PGTBL ? this.#bindStage1(view) : this.#unbindStage1(view);
  }

  #bindStage1(view: DataView): number {
    const request = readBind(view, HEADER_BYTES, this.#kernel.stage1Format);
    if (typeof request === 'number') return request;
    const { pasid, config } = request;
    const check = this.#kernel.pasids.check(this.owner, pasid);
    if (check !== 0) return check;
    const devices = this.#groups.flatMap(group => group.devices);
    const result = this.#bindings.bind(devices, pasid, config);
    this.#kernel.note('bind', { domain: this.domain.id, pasid, devices: devices.map(({ bdf }) => bdf), result });
    return result;
  }

  /** Only the host's PASID counts (vsva.md 3.10). One that nobody owns was never bound: -EINVAL. */
  #unbindStage1(view: DataView): number {
    const pasid = readPasid(view, HEADER_BYTES);
    if (pasid < 0) return pasid;
    if (this.#kernel.pasids.check(this.owner, pasid) === -Errno.EACCES) return -Errno.EACCES;
    const result = this.#bindings.unbind(pasid);
    this.#kernel.note('unbind', { domain: this.domain.id, pasid, result });
    return result;
  }

  #cacheInvalidate(argument: IoctlArgument): number {
    const header = userStruct(argument, HEADER_BYTES);
    if (typeof header === 'number') return header;
    if (VfioIommuType1CacheInvalidate.fields.flags.get(header) !== 0 || !this.nested) return -Errno.EINVAL;
    const view = userBytes(argument, VfioIommuType1CacheInvalidate.size);
    if (typeof view === 'number') return view;
    const flush = this.#flush;
    const refused = readFlush(view, VfioIommuType1CacheInvalidate.fields.cache_info.offset, flush);
    if (refused !== 0) return refused;
    if (flush.pasid !== EVERY_PASID) return this.#flushOne(flush);
    let result = 0;
    for (const pasid of this.#bindings.bound) {
      flush.pasid = pasid;
      const error = this.#flushOne(flush);
      if (result === 0) result = error;
    }
    return result;
  }

  #flushOne(flush: Stage1Flush): number {
    const result = this.#bindings.flush(flush);
    if (this.#kernel.ledger.on) {
      const { pasid, granularity } = flush;
      this.#kernel.note('flush', { domain: this.domain.id, pasid, granularity, result });
    }
    return result;
  }
}

function pageAligned(lo: number): boolean {
  return lo % 0x1000 === 0;
}
