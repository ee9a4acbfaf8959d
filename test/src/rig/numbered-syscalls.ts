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

/** Counts calls, of one process or of several in turn. */
export class CallNumbers {
  /** Names of the calls so far, without those made under `uncounted`. */
  readonly names: string[] = [];
  /** The call that was made to fail. */
  failed: string | undefined;
  readonly #failing: number;
  #counting = true;

  /** Call number `failing`, counted from 0, fails; none if it is negative. */
  constructor(failing = -1) {
    this.#failing = failing;
  }

  /** Lets `look` make calls that do not count: it only looks at what happened. */
  uncounted<T>(look: () => T): T {
    const counting = this.#counting;
    this.#counting = false;
    try {
      return look();
    } finally {
      this.#counting = counting;
    }
  }

  /** Whether this call has to fail. */
  next(name: string): boolean {
    if (!this.#counting) return false;
    const fails = this.names.push(name) - 1 === this.#failing;
    if (fails) this.failed = name;
    return fails;
  }
}

/** A call that fails never reaches the host. */
export class NumberedSyscalls extends ForwardingSyscalls {
  readonly #numbers: CallNumbers;

  constructor(next: HostSyscalls, numbers: CallNumbers) {
    super(next);
    this.#numbers = numbers;
  }

  override open(path: string): number {
    return this.#numbers.next(`open ${path}`) ? -Errno.EACCES : super.open(path);
  }

  override readlink(path: string): string | number {
    return this.#numbers.next(`readlink ${path}`) ? -Errno.ENOENT : super.readlink(path);
  }

  /** As on Linux, the descriptor is gone all the same. */
  override close(fd: number): number {
    const failed = this.#numbers.next('close');
    const result = super.close(fd);
    return failed ? -Errno.EIO : result;
  }

  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    return this.#numbers.next(ioctlName(request))
      ? -(ERRNOS.get(request) ?? Errno.EIO)
      : super.ioctl(fd, request, argument);
  }

  override pread(fd: number, buffer: Uint8Array, offset: number): number {
    return this.#numbers.next('pread') ? -Errno.EIO : super.pread(fd, buffer, offset);
  }

  override pwrite(fd: number, buffer: Uint8Array, offset: number): number {
    return this.#numbers.next('pwrite') ? -Errno.EIO : super.pwrite(fd, buffer, offset);
  }

  override mmap(length: number): MappedMemory | number {
    return this.#numbers.next('mmap') ? -Errno.ENOMEM : super.mmap(length);
  }

  override munmap(address: Hva, length: number): number {
    return this.#numbers.next('munmap') ? -Errno.ENOMEM : super.munmap(address, length);
  }

  override eventfd(): number {
    return this.#numbers.next('eventfd') ? -Errno.ENOMEM : super.eventfd();
  }
}
