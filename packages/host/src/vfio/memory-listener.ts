/** Guest memory into a container or an I/O address space: follows an address space and maps it for DMA. QEMU: vfio_memory_listener. */
import { type Hva, hva } from '@remora/bits';
import {
  Access,
  type AddressSpace,
  Errno,
  type Ledger,
  logger,
  type MemoryListener,
  PAGE_BYTES,
  rateLimited,
  type Section,
  trackDisposable,
  untrackDisposable,
} from '@remora/core';
import type { DmaTarget } from '../dma-target.js';
import { VfioGuestIommu } from './guest-iommu.js';
import { firstByte, lastByte } from './trace-events.js';
import { VfioError } from './vfio-error.js';

/** Where the host process has the first byte of a section's region; undefined if it has not got that region. */
export type AddressOf = (section: Section) => Hva | undefined;

export interface VfioMemoryOptions {
  readonly addressOf: AddressOf;
  /** Called for what fails after the listener was set up. The part of memory concerned is out of the device's reach. */
  readonly onFailure?: (error: VfioError) => void;
  readonly ledger?: Ledger | undefined;
}

interface Mapped {
  readonly frame: number;
  readonly pages: number;
}

const WARNINGS = 20;

/**
 * While it lives, the target maps the RAM (read-only for ROM) that `space` shows, page by page: what is left of a page that a
 * section covers in part is not mapped. Registers are not mapped. Of an IOMMU region it maps what the vIOMMU translates, as that tells it.
 */
export class VfioMemoryListener implements Disposable {
  readonly #target: DmaTarget;
  readonly #options: VfioMemoryOptions;
  readonly #mapped = new Map<Section, Mapped>();
  readonly #translated = new Map<Section, VfioGuestIommu>();
  /** Sections that are shown and could not be mapped, and the host's answer. */
  readonly #missing = new Map<Section, number>();
  /** What is not shown any more and could not be unmapped: how to try again. */
  readonly #stale = new Map<Section, () => number>();
  readonly #log;
  #failed: VfioError | undefined;
  #ready = false;
  #registration: Disposable | undefined;

  /** @throws VfioError if the host refuses a part of what is there now; nothing is mapped then. */
  constructor(target: DmaTarget, space: AddressSpace, options: VfioMemoryOptions) {
    this.#target = target;
    this.#options = options;
    this.#log = rateLimited(logger('remora:host:vfio', target.name), WARNINGS);
    this.#registration = space.listen(this.#following());
    if (this.#failed !== undefined) {
      this[Symbol.dispose]();
      throw this.#failed;
    }
    this.#ready = true;
    trackDisposable(this, `memory of ${target.name}`);
  }

  /** Page frames and counts that are mapped now, for inspection. */
  get mapped(): readonly Mapped[] {
    return [...this.#mapped.values()];
  }

  /** Unmaps everything and follows no more. */
  [Symbol.dispose](): void {
    this.#registration?.[Symbol.dispose]();
    this.#registration = undefined;
    untrackDisposable(this);
  }

  #following(): MemoryListener {
    const failure = (): number => this.#missing.values().next().value ?? (this.#stale.size > 0 ? -Errno.EBUSY : 0);
    return {
      regionAdd: section => this.#add(section),
      regionRemove: section => this.#remove(section),
      retry: () => this.#retry(),
      get failure() {
        return failure();
      },
    };
  }

  #add(section: Section): void {
    if (this.#failed !== undefined && !this.#ready) return;
    if (section.region.translator?.notifiers !== undefined) this.#follow(section);
    else if (section.region.ram !== undefined) this.#map(section);
    else this.#skip(section);
  }

  #skip({ region, start, size }: Section): void {
    const { vfio_listener_region_skip: skipped } = this.#target.trace;
    if (!skipped.on) return;
    const frame = Math.floor(start / PAGE_BYTES);
    skipped.emit(region.name, firstByte(frame), lastByte(Math.ceil((start + size) / PAGE_BYTES)));
  }

  #map(section: Section): void {
    // As QEMU: nobody's device reads a ROM, and a guest's page tables are not in one.
    if (section.readonly && this.#target.writableOnly === true) {
      this.#skip(section);
      return;
    }
    const base = this.#options.addressOf(section);
    if (base === undefined) return;
    const frame = Math.ceil(section.start / PAGE_BYTES);
    const pages = Math.floor((section.start + section.size) / PAGE_BYTES) - frame;
    if (pages <= 0) return;
    const offset = section.offset + frame * PAGE_BYTES - section.start;
    // Two pages of memory can stand behind one page of addresses: not in any table.
    if (offset % PAGE_BYTES !== 0) return;
    const access = section.readonly ? Access.READ : Access.READ_WRITE;
    const { vfio_listener_region_add_ram: added } = this.#target.trace;
    if (added.on) added.emit(firstByte(frame), lastByte(frame + pages), `0x${(base + offset).toString(16)}`);
    const result = this.#target.mapDma(frame, pages, hva(base + offset), access);
    if (result === 0) {
      this.#mapped.set(section, { frame, pages });
      this.#missing.delete(section);
      return;
    }
    this.#missing.set(section, result);
    this.#fail('MAP_DMA', frame, pages, section, result);
  }

  #follow(section: Section): void {
    const iommu = new VfioGuestIommu(this.#target, section, {
      addressOf: this.#options.addressOf,
      failed: (operation, frame, pages, result) => this.#fail(operation, frame, pages, section, result),
      skipped: (frame, pages) => this.#warn(`${placeOf(frame, pages, section)} leads to no memory: no DMA gets there`),
    });
    this.#translated.set(section, iommu);
    const { vfio_listener_region_add_iommu: added } = this.#target.trace;
    if (added.on) {
      const last = lastByte(Math.ceil((section.start + section.size) / PAGE_BYTES));
      added.emit(section.region.name, firstByte(Math.floor(section.start / PAGE_BYTES)), last);
    }
    const result = iommu.replay();
    // The vIOMMU itself may have failed, without any call to the host that would have been noted.
    if (result < 0) this.#failed ??= new VfioError(`${this.#target.name}: ${section.region.name}`, result);
  }

  #remove(section: Section): void {
    this.#missing.delete(section);
    const translated = this.#translated.get(section);
    this.#translated.delete(section);
    const { vfio_listener_region_del_iommu: left } = this.#target.trace;
    if (translated !== undefined && left.on) left.emit(section.region.name);
    if (translated !== undefined && translated.leave() < 0) this.#stale.set(section, () => translated.finish());
    const mapped = this.#mapped.get(section);
    if (mapped === undefined) return;
    const unmap = (): number => this.#unmap(section, mapped);
    if (unmap() < 0) this.#stale.set(section, unmap);
  }

  #unmap(section: Section, { frame, pages }: Mapped): number {
    const { vfio_listener_region_del: removed } = this.#target.trace;
    if (removed.on) removed.emit(firstByte(frame), lastByte(frame + pages));
    const result = this.#target.unmapDma(frame, pages);
    if (result < 0) this.#fail('UNMAP_DMA', frame, pages, section, result);
    else this.#mapped.delete(section);
    return result;
  }

  #retry(): void {
    for (const [section, takeAway] of [...this.#stale]) if (takeAway() >= 0) this.#stale.delete(section);
    for (const section of [...this.#missing.keys()]) this.#map(section);
    for (const iommu of this.#translated.values()) iommu.retry();
  }

  #fail(operation: string, frame: number, pages: number, section: Section, result: number): void {
    const what = `${this.#target.name}: ${operation} ${placeOf(frame, pages, section)}`;
    const error = new VfioError(what, result, this.#target.limitOn(frame, pages));
    this.#failed ??= error;
    this.#warn(error.message);
    if (this.#ready) this.#options.onFailure?.(error);
  }

  #warn(message: string): void {
    this.#log.warn('%s', message);
    const { ledger } = this.#options;
    if (ledger?.on === true) ledger.add(this.#target.name, 'warning', { message });
  }
}

function placeOf(frame: number, pages: number, section: Section): string {
  return `0x${(frame * PAGE_BYTES).toString(16)} +0x${(pages * PAGE_BYTES).toString(16)} (${section.region.name})`;
}
