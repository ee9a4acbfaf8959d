/**
 * A program that talks to /dev/iommu as it likes: any structure, right or wrong. Verbs that allocate return the new id, the others 0; and all a negated
 * errno.
 */
import { Errno, MemTx } from '@remora/core';
import type { HostSyscalls, MappedMemory } from '@remora/host';
import * as uapi from '@remora/uapi';
import type { Decoded, Fields, StructType, StructValues } from '@remora/uapi';

const PAGE = 4096;

/** What an ioctl answered, and the structure as it came back. */
export interface IoctlAnswer<F extends Fields> {
  readonly result: number;
  readonly out: Decoded<F>;
}

export interface HwptAsked {
  readonly flags?: number;
  readonly data?: Uint8Array;
  readonly dataType?: number;
  readonly faultId?: number;
}

/** What HWPT_INVALIDATE answered: `processed` is entry_num as it came back. */
export interface InvalidateAnswer {
  readonly result: number;
  readonly processed: number;
}

export class IommufdUser implements Disposable {
  readonly syscalls: HostSyscalls;
  readonly fd: number;
  #open = true;

  /** On `fd`, or on one of its own. @throws Error if /dev/iommu does not open. */
  constructor(syscalls: HostSyscalls, fd?: number) {
    this.syscalls = syscalls;
    this.fd = fd ?? syscalls.open('/dev/iommu');
    if (this.fd < 0) throw new Error(`open /dev/iommu: ${this.fd}`);
  }

  /** One ioctl of the iommufd; `size` is the structure's own unless a value is given. */
  call<F extends Fields>(request: number, struct: StructType<F>, values: StructValues<F>): IoctlAnswer<F> {
    return this.callOn(this.fd, request, struct, { size: struct.size, ...values });
  }

  /** One ioctl of another descriptor, with just these values. */
  callOn<F extends Fields>(
    fd: number,
    request: number,
    struct: StructType<F>,
    values: StructValues<F>,
  ): IoctlAnswer<F> {
    const bytes = struct.encode(values);
    const result = this.syscalls.ioctl(fd, request, bytes);
    return { result, out: struct.decode(uapi.viewOf(bytes)) };
  }

  /** New memory of this process. @throws Error if there is none. */
  memory(bytes: number): MappedMemory {
    const memory = this.syscalls.mmap(Math.max(1, Math.ceil(bytes / PAGE)) * PAGE);
    if (typeof memory === 'number') throw new Error(`mmap: ${memory}`);
    return memory;
  }

  /** The address of new memory that holds `bytes`. */
  pointer(bytes: Uint8Array): number {
    const { address, ram } = this.memory(bytes.length);
    if (ram.write(0, 0, bytes) !== MemTx.OK) throw new Error('memory that cannot be written');
    return address;
  }

  destroy(id: number): number {
    return this.call(uapi.IOMMU_DESTROY, uapi.IommuDestroy, { id }).result;
  }

  ioas(): number {
    const { result, out } = this.call(uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc, {});
    return result === 0 ? out.out_ioas_id : result;
  }

  /** Maps memory at a fixed IOVA, for reading and writing. */
  map(ioas: number, iova: number, address: number, length: number): number {
    return this.call(uapi.IOMMU_IOAS_MAP, uapi.IommuIoasMap, {
      flags: uapi.IommuIoasMapFlag.FIXED_IOVA | uapi.IommuIoasMapFlag.WRITEABLE | uapi.IommuIoasMapFlag.READABLE,
      ioas_id: ioas,
      user_va: address,
      length,
      iova,
    }).result;
  }

  unmap(ioas: number, iova: number | bigint, length: number | bigint): number {
    return this.call(uapi.IOMMU_IOAS_UNMAP, uapi.IommuIoasUnmap, { ioas_id: ioas, iova, length }).result;
  }

  /** Opens the VFIO device with this number and binds it: its descriptor, and its id in the iommufd. */
  bind(path: string): { readonly fd: number; readonly id: number } {
    const fd = this.syscalls.open(path);
    if (fd < 0) throw new Error(`open ${path}: ${fd}`);
    const struct = uapi.VfioDeviceBindIommufd;
    const { result, out } = this.callOn(fd, uapi.VFIO_DEVICE_BIND_IOMMUFD, struct, {
      argsz: struct.size,
      iommufd: this.fd,
    });
    if (result !== 0) throw new Error(`VFIO_DEVICE_BIND_IOMMUFD: ${result}`);
    return { fd, id: out.out_devid };
  }

  /** Puts a bound device behind an IOAS or HWPT, for requests with `pasid` or without one. */
  attach(deviceFd: number, pageTable: number, pasid?: number): number {
    const struct = uapi.VfioDeviceAttachIommufdPt;
    const at = pasid === undefined ? {} : { flags: uapi.VfioDeviceAttachFlag.PASID, pasid };
    const values = { argsz: struct.size, pt_id: pageTable, ...at };
    return this.callOn(deviceFd, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, struct, values).result;
  }

  detach(deviceFd: number, pasid?: number): number {
    const struct = uapi.VfioDeviceDetachIommufdPt;
    const at = pasid === undefined ? {} : { flags: uapi.VfioDeviceDetachFlag.PASID, pasid };
    const values = { argsz: struct.size, ...at };
    return this.callOn(deviceFd, uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT, struct, values).result;
  }

  /** A page table for a device, on an IOAS, a nesting parent or a vIOMMU. */
  hwpt(device: number, on: number, { flags = 0, data, dataType, faultId }: HwptAsked = {}): number {
    const { result, out } = this.call(uapi.IOMMU_HWPT_ALLOC, uapi.IommuHwptAlloc, {
      flags: flags | (faultId === undefined ? 0 : uapi.IommuHwptAllocFlag.FAULT_ID_VALID),
      dev_id: device,
      pt_id: on,
      data_type: dataType ?? 0,
      ...(data === undefined ? {} : { data_len: data.length, data_uptr: this.pointer(data) }),
      ...(faultId === undefined ? {} : { fault_id: faultId }),
    });
    return result === 0 ? out.out_hwpt_id : result;
  }

  /** Invalidates with whole entries, one after the other. */
  invalidate(id: number, dataType: number, entries: readonly Uint8Array[], entryLength?: number): InvalidateAnswer {
    const length = entryLength ?? entries[0]?.length ?? 0;
    const bytes = new Uint8Array(length * entries.length);
    entries.forEach((entry, index) => bytes.set(entry.subarray(0, length), index * length));
    const { result, out } = this.call(uapi.IOMMU_HWPT_INVALIDATE, uapi.IommuHwptInvalidate, {
      hwpt_id: id,
      data_uptr: entries.length === 0 ? 0 : this.pointer(bytes),
      data_type: dataType,
      entry_len: length,
      entry_num: entries.length,
    });
    return { result, processed: out.entry_num };
  }

  /** A fault queue and its descriptor. @throws Error if there is none. */
  faultQueue(): { readonly id: number; readonly fd: number } {
    const { result, out } = this.call(uapi.IOMMU_FAULT_QUEUE_ALLOC, uapi.IommuFaultAlloc, {});
    if (result !== 0) throw new Error(`IOMMU_FAULT_QUEUE_ALLOC: ${result}`);
    return { id: out.out_fault_id, fd: out.out_fault_fd };
  }

  viommu(device: number, parent: number, type: number, data?: Uint8Array): number {
    const { result, out } = this.call(uapi.IOMMU_VIOMMU_ALLOC, uapi.IommuViommuAlloc, {
      type,
      dev_id: device,
      hwpt_id: parent,
      ...(data === undefined ? {} : { data_len: data.length, data_uptr: this.pointer(data) }),
    });
    return result === 0 ? out.out_viommu_id : result;
  }

  vdevice(viommu: number, device: number, virtualId: number | bigint): number {
    const { result, out } = this.call(uapi.IOMMU_VDEVICE_ALLOC, uapi.IommuVdeviceAlloc, {
      viommu_id: viommu,
      dev_id: device,
      virt_id: virtualId,
    });
    return result === 0 ? out.out_vdevice_id : result;
  }

  /** A queue of events and its descriptor, or -errno. */
  veventq(viommu: number, type: number, depth: number): { readonly id: number; readonly fd: number } | number {
    const { result, out } = this.call(uapi.IOMMU_VEVENTQ_ALLOC, uapi.IommuVeventqAlloc, {
      viommu_id: viommu,
      type,
      veventq_depth: depth,
    });
    return result === 0 ? { id: out.out_veventq_id, fd: out.out_veventq_fd } : result;
  }

  hardwareQueue(viommu: number, type: number, index: number, iova: number | bigint, length: number | bigint): number {
    const { result, out } = this.call(uapi.IOMMU_HW_QUEUE_ALLOC, uapi.IommuHwQueueAlloc, {
      viommu_id: viommu,
      type,
      index,
      nesting_parent_iova: iova,
      length,
    });
    return result === 0 ? out.out_hw_queue_id : result;
  }

  /** What can be read of a descriptor now, `bytes` at most; or -errno. */
  read(fd: number, bytes: number): Uint8Array | number {
    const buffer = new Uint8Array(bytes);
    const result = this.syscalls.read(fd, buffer);
    return result < 0 ? result : buffer.subarray(0, result);
  }

  /** Closes /dev/iommu. */
  close(): number {
    if (!this.#open) return -Errno.EBADF;
    this.#open = false;
    return this.syscalls.close(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
