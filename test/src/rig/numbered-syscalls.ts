/**
 * Names and counts what a machine asks of its host, and makes one call fail by its number: so that each call of a scenario can be
 * made to fail once.
 */
import type { Hva } from '@remora/bits';
import { Errno } from '@remora/core';
import { ForwardingSyscalls, type HostSyscalls, type IoctlArgument, type MappedMemory } from '@remora/host';
import {
  ioctlName,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_PASID_REQUEST,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_SET_IOMMU,
} from '@remora/uapi';

/** What a host short of something, or in trouble, would answer. Default: EIO. */
const ERRNOS = new Map<number, number>([
  [VFIO_GROUP_SET_CONTAINER, Errno.EBUSY],
  [VFIO_SET_IOMMU, Errno.ENODEV],
  [VFIO_GROUP_GET_DEVICE_FD, Errno.ENODEV],
  [VFIO_IOMMU_MAP_DMA, Errno.ENOMEM],
  [VFIO_IOMMU_UNMAP_DMA, Errno.EINVAL],
  [VFIO_IOMMU_PASID_REQUEST, Errno.ENOSPC],
  [VFIO_IOMMU_BIND, Errno.ENOMEM],
  [VFIO_DEVICE_RESET, Errno.EAGAIN],
  [VFIO_DEVICE_SET_IRQS, Errno.ENOSPC],
]);

export class NumberedSyscalls extends ForwardingSyscalls {
  /** Names of the calls so far, without those made under `unnumbered`. */
  readonly calls: string[] = [];
  /** The call that was made to fail. */
  failed: string | undefined;
  readonly #failing: number;
  #numbering = true;

  /** Call number `failing`, counted from 0, never reaches the host. */
  constructor(next: HostSyscalls, failing = -1) {
    super(next);
    this.#failing = failing;
  }

  /** Lets `look` make calls that do not count: it only looks at what happened. */
  unnumbered<T>(look: () => T): T {
    this.#numbering = false;
    try {
      return look();
    } finally {
      this.#numbering = true;
    }
  }

  override open(path: string): number {
    return this.#fails(`open ${path}`) ? -Errno.EACCES : super.open(path);
  }

  override readlink(path: string): string | number {
    return this.#fails(`readlink ${path}`) ? -Errno.ENOENT : super.readlink(path);
  }

  /** As on Linux, the descriptor is gone all the same. */
  override close(fd: number): number {
    const failed = this.#fails('close');
    const result = super.close(fd);
    return failed ? -Errno.EIO : result;
  }

  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    return this.#fails(ioctlName(request)) ? -(ERRNOS.get(request) ?? Errno.EIO) : super.ioctl(fd, request, argument);
  }

  override pread(fd: number, buffer: Uint8Array, offset: number): number {
    return this.#fails('pread') ? -Errno.EIO : super.pread(fd, buffer, offset);
  }

  override pwrite(fd: number, buffer: Uint8Array, offset: number): number {
    return this.#fails('pwrite') ? -Errno.EIO : super.pwrite(fd, buffer, offset);
  }

  override mmap(length: number): MappedMemory | number {
    return this.#fails('mmap') ? -Errno.ENOMEM : super.mmap(length);
  }

  override munmap(address: Hva, length: number): number {
    return this.#fails('munmap') ? -Errno.ENOMEM : super.munmap(address, length);
  }

  override eventfd(): number {
    return this.#fails('eventfd') ? -Errno.ENOMEM : super.eventfd();
  }

  #fails(name: string): boolean {
    if (!this.#numbering) return false;
    const struck = this.calls.push(name) - 1 === this.#failing;
    if (struck) this.failed = name;
    return struck;
  }
}
