/** An I/O address space of iommufd, and the hardware page tables that devices share it through. */
import type { Hva } from '@remora/bits';
import { Access, Errno, logger, type Trace } from '@remora/core';
import { IommuHwptAllocFlag, IommuHwptDataType } from '@remora/uapi';
import type { DmaTarget } from '../dma-target.js';
import { type VfioTrace, vfioTrace } from '../vfio/trace-events.js';
import { expectOk } from '../vfio/vfio-error.js';
import type { BoundDevice } from './bound-device.js';
import type { Iommufd } from './iommufd.js';

const PAGE = 4096;

interface Hwpt {
  readonly id: number;
  users: number;
}

export class Ioas implements DmaTarget {
  readonly name: string;
  readonly trace: VfioTrace;
  readonly iommufd: Iommufd;
  readonly id: number;
  readonly writableOnly: boolean;
  readonly #hwpts: Hwpt[] = [];
  readonly #log;

  /** `name` is for messages. @throws VfioError if the host refuses. */
  constructor(
    iommufd: Iommufd,
    name: string,
    { trace, writableOnly = false }: { readonly trace?: Trace | undefined; readonly writableOnly?: boolean },
  ) {
    this.writableOnly = writableOnly;
    this.iommufd = iommufd;
    this.name = name;
    this.trace = vfioTrace(name, trace);
    this.#log = logger('remora:host:iommufd', name);
    this.id = expectOk(`${name}: IOMMU_IOAS_ALLOC`, iommufd.allocIoas());
  }

  mapDma(iovaFrame: number, pages: number, address: Hva, access: number = Access.READ_WRITE): number {
    return this.iommufd.map(this.id, iovaFrame, pages, address, access);
  }

  unmapDma(iovaFrame: number, pages: number): number {
    return this.iommufd.unmap(this.id, iovaFrame, pages);
  }

  limitOn(iovaFrame: number, pages: number): string | undefined {
    const ranges = this.iommufd.iovaRanges(this.id);
    if (typeof ranges === 'number') return undefined;
    if (ranges.some(({ startFrame, endFrame }) => startFrame <= iovaFrame && iovaFrame + pages <= endFrame)) {
      return undefined;
    }
    const shown = ranges.map(
      ({ startFrame, endFrame }) => `0x${(startFrame * PAGE).toString(16)} to 0x${(endFrame * PAGE - 1).toString(16)}`,
    );
    return `the host maps IOVAs ${shown.join(' and ')}`;
  }

  /**
   * Attaches `device` to a hardware page table that shows this address space: one that is there if it fits, else a new one, on which a
   * guest's tables can be nested if `nestParent`. Returns its id, or a negated errno: the device is attached to nothing then.
   */
  attach(device: BoundDevice, nestParent: boolean): number {
    for (const hwpt of this.#hwpts) {
      const result = device.attach(hwpt.id);
      if (result === 0) {
        hwpt.users++;
        return hwpt.id;
      }
      // Made for another unit, or without what this device needs.
      if (result !== -Errno.EINVAL) return result;
    }
    return this.#attachToNew(device, nestParent);
  }

  /** `device` leaves the hardware page table `id`, which goes with the last one. */
  detach(device: BoundDevice, id: number): void {
    this.#expect(`DETACH of ${device.bdf}`, device.detach());
    this.#release(id);
  }

  /** After all devices have left. */
  destroy(): void {
    for (const { id } of this.#hwpts.splice(0)) this.#expect(`DESTROY of HWPT ${id}`, this.iommufd.destroy(id));
    this.#expect('DESTROY', this.iommufd.destroy(this.id));
  }

  #attachToNew(device: BoundDevice, nestParent: boolean): number {
    const id = this.iommufd.allocHwpt({
      flags: nestParent
        ? IommuHwptAllocFlag.NEST_PARENT | (device.hardware.pasidBits > 0 ? IommuHwptAllocFlag.PASID : 0)
        : 0,
      device: device.id,
      parent: this.id,
      dataType: IommuHwptDataType.NONE,
    });
    if (id < 0) return id;
    const hwpt = { id, users: 1 };
    this.#hwpts.push(hwpt);
    const result = device.attach(id);
    if (result < 0) this.#release(id);
    return result < 0 ? result : id;
  }

  #release(id: number): void {
    const at = this.#hwpts.findIndex(hwpt => hwpt.id === id);
    const hwpt = this.#hwpts[at]!;
    if (--hwpt.users > 0) return;
    // What the host keeps goes with the address space, or with the file.
    if (this.#expect(`DESTROY of HWPT ${id}`, this.iommufd.destroy(id))) this.#hwpts.splice(at, 1);
  }

  #expect(what: string, result: number): boolean {
    if (result < 0) this.#log.warn('%s failed: %d', what, result);
    return result >= 0;
  }
}
