/** Guest memory into a container: follows an address space and maps it for DMA. QEMU: vfio_memory_listener. */
import { type Hva, hva } from '@remora/bits';
import {
  Access,
  type AddressSpace,
  type Ledger,
  logger,
  PAGE_BYTES,
  rateLimited,
  type Section,
  trackDisposable,
  untrackDisposable,
} from '@remora/core';
import type { VfioContainer } from './container.js';
import { VfioGuestIommu } from './guest-iommu.js';
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
 * While it lives, the container maps the RAM (read-only for ROM) that `space` shows, page by page: what is left of a page that a
 * section covers in part is not mapped. Registers are not mapped. Of an IOMMU region it maps what the vIOMMU translates, as that tells it.
 */
export class VfioMemoryListener implements Disposable {
  readonly #container: VfioContainer;
  readonly #options: VfioMemoryOptions;
  readonly #mapped = new Map<Section, Mapped>();
  readonly #translated = new Map<Section, VfioGuestIommu>();
  readonly #log;
  #failed: VfioError | undefined;
  #ready = false;
  #registration: Disposable | undefined;

  /** @throws VfioError if the host refuses a part of what is there now; nothing is mapped then. */
  constructor(container: VfioContainer, space: AddressSpace, options: VfioMemoryOptions) {
    this.#container = container;
    this.#options = options;
    this.#log = rateLimited(logger('remora:host:vfio', container.name), WARNINGS);
    this.#registration = space.listen({
      regionAdd: section => this.#add(section),
      regionRemove: section => this.#remove(section),
    });
    if (this.#failed !== undefined) {
      this[Symbol.dispose]();
      throw this.#failed;
    }
    this.#ready = true;
    trackDisposable(this, `memory of ${container.name}`);
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

  #add(section: Section): void {
    if (this.#failed !== undefined && !this.#ready) return;
    if (section.region.translator?.notifiers !== undefined) this.#follow(section);
    const base = section.region.ram === undefined ? undefined : this.#options.addressOf(section);
    if (base === undefined) return;
    const frame = Math.ceil(section.start / PAGE_BYTES);
    const pages = Math.floor((section.start + section.size) / PAGE_BYTES) - frame;
    if (pages <= 0) return;
    const offset = section.offset + frame * PAGE_BYTES - section.start;
    // Two pages of memory can stand behind one page of addresses: not in any table.
    if (offset % PAGE_BYTES !== 0) return;
    const access = section.readonly ? Access.READ : Access.READ_WRITE;
    const result = this.#container.mapDma(frame, pages, hva(base + offset), access);
    if (result < 0) this.#fail('MAP_DMA', frame, pages, section, result);
    else this.#mapped.set(section, { frame, pages });
  }

  #follow(section: Section): void {
    const iommu = new VfioGuestIommu(this.#container, section, {
      addressOf: this.#options.addressOf,
      failed: (operation, frame, pages, result) => this.#fail(operation, frame, pages, section, result),
      skipped: (frame, pages) => this.#warn(`${placeOf(frame, pages, section)} leads to no memory: no DMA gets there`),
    });
    this.#translated.set(section, iommu);
    const result = iommu.replay();
    // The vIOMMU itself may have failed, without any call to the host that would have been noted.
    if (result < 0) this.#failed ??= new VfioError(`${this.#container.name}: ${section.region.name}`, result);
  }

  #remove(section: Section): void {
    this.#translated.get(section)?.[Symbol.dispose]();
    this.#translated.delete(section);
    const mapped = this.#mapped.get(section);
    if (mapped === undefined) return;
    const result = this.#container.unmapDma(mapped.frame, mapped.pages);
    if (result < 0) this.#fail('UNMAP_DMA', mapped.frame, mapped.pages, section, result);
    else this.#mapped.delete(section);
  }

  #fail(operation: string, frame: number, pages: number, section: Section, result: number): void {
    const what = `${this.#container.name}: ${operation} ${placeOf(frame, pages, section)}`;
    const error = new VfioError(what, result, this.#container.limitOn(frame, pages));
    this.#failed ??= error;
    this.#warn(error.message);
    if (this.#ready) this.#options.onFailure?.(error);
  }

  #warn(message: string): void {
    this.#log.warn('%s', message);
    const { ledger } = this.#options;
    if (ledger?.on === true) ledger.add(this.#container.name, 'warning', { message });
  }
}

function placeOf(frame: number, pages: number, section: Section): string {
  return `0x${(frame * PAGE_BYTES).toString(16)} +0x${(pages * PAGE_BYTES).toString(16)} (${section.region.name})`;
}
