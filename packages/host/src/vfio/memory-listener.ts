/** Guest RAM into a container: follows an address space and maps its RAM for DMA. QEMU: vfio_memory_listener. */
import { type Hva, hva } from '@remora/bits';
import {
  type AddressSpace,
  type Ledger,
  logger,
  PAGE_BYTES,
  type Section,
  trackDisposable,
  untrackDisposable,
} from '@remora/core';
import type { VfioContainer } from './container.js';
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

/**
 * While it lives, the container maps the RAM (read-only for ROM) that `space` shows, page by page: what is left of a page that a
 * section covers in part is not mapped. Registers are not mapped, and neither is what lies behind an IOMMU region: that is for whoever
 * shadows it.
 */
export class VfioMemoryListener implements Disposable {
  readonly #container: VfioContainer;
  readonly #options: VfioMemoryOptions;
  readonly #mapped = new Map<Section, Mapped>();
  readonly #log;
  #failed: VfioError | undefined;
  #ready = false;
  #registration: Disposable | undefined;

  /** @throws VfioError if the host refuses a part of what is there now; nothing is mapped then. */
  constructor(container: VfioContainer, space: AddressSpace, options: VfioMemoryOptions) {
    this.#container = container;
    this.#options = options;
    this.#log = logger('remora:host:vfio', container.name);
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
    const base = section.region.ram === undefined ? undefined : this.#options.addressOf(section);
    if (base === undefined) return;
    const frame = Math.ceil(section.start / PAGE_BYTES);
    const pages = Math.floor((section.start + section.size) / PAGE_BYTES) - frame;
    if (pages <= 0) return;
    const offset = section.offset + frame * PAGE_BYTES - section.start;
    // Two pages of memory can stand behind one page of addresses: not in any table.
    if (offset % PAGE_BYTES !== 0) return;
    const result = this.#container.mapDma(frame, pages, hva(base + offset), section.readonly);
    if (result < 0) this.#fail('MAP_DMA', section, result);
    else this.#mapped.set(section, { frame, pages });
  }

  #remove(section: Section): void {
    const mapped = this.#mapped.get(section);
    if (mapped === undefined) return;
    const result = this.#container.unmapDma(mapped.frame, mapped.pages);
    if (result < 0) this.#fail('UNMAP_DMA', section, result);
    else this.#mapped.delete(section);
  }

  #fail(operation: string, section: Section, result: number): void {
    const where = `0x${section.start.toString(16)} +0x${section.size.toString(16)} (${section.region.name})`;
    const error = new VfioError(`${this.#container.name}: ${operation} ${where}`, result);
    this.#failed ??= error;
    this.#log.warn('%s', error.message);
    const { ledger } = this.#options;
    if (ledger?.on === true) ledger.add(this.#container.name, 'warning', { message: error.message });
    if (this.#ready) this.#options.onFailure?.(error);
  }
}
