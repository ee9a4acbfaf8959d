/** A second-stage page table of a host: what it maps, and what the unit is told when that changes. */
import type { HostMappings } from '@remora/iommu';
import { Granularity } from '../spec/index.js';
import type { PageRange } from './descriptors.js';
import type { Mapping, PageTable } from './page-table.js';
import type { VtdDriver } from './vtd-driver.js';

export abstract class SecondStage implements HostMappings {
  protected readonly driver: VtdDriver;
  protected readonly table: PageTable;

  constructor(driver: VtdDriver, table: PageTable) {
    this.driver = driver;
    this.table = table;
  }

  abstract get id(): number;

  /** Drops what the unit and device TLBs cached of these pages. `leaf`: no table was unlinked. 0, or a negated errno. */
  protected abstract flushPages(iovaFrame: number, pages: number, leaf: boolean): number;

  abstract [Symbol.dispose](): void;

  /** Frame of the root. */
  get rootFrame(): number {
    return this.table.rootFrame;
  }

  /** What is mapped, in ascending order. */
  mappings(): IterableIterator<Mapping> {
    return this.table.mappings();
  }

  map(iovaFrame: number, hostFrame: number, pages: number, access: number): number {
    const status = this.table.map(iovaFrame, hostFrame, pages, access);
    return status === 0 ? this.#mapped(iovaFrame, pages) : status;
  }

  mapFrames(iovaFrame: number, hostFrames: Int32Array, access: number): number {
    const status = this.table.mapFrames(iovaFrame, hostFrames, access);
    return status === 0 ? this.#mapped(iovaFrame, hostFrames.length) : status;
  }

  unmap(iovaFrame: number, pages: number): number {
    const removed: Mapping[] = [];
    const retired: (readonly [frame: number, table: number, index: number])[] = [];
    const status = this.table.unmap(iovaFrame, pages, {
      removed: (iova, frame, count, access) => removed.push({ iovaFrame: iova, frame, pages: count, access }),
      retire: (...place) => retired.push(place),
    });
    if (status !== 0 || removed.length === 0) return status;
    const flushed = this.flushPages(iovaFrame, pages, retired.length === 0);
    if (flushed === 0) {
      // Only now has the unit forgotten the tables.
      for (const [frame] of retired) this.driver.pages.free(frame, 1);
      return 0;
    }
    // It may know them still: each is put back where it was.
    for (const place of retired) this.table.relink(...place);
    for (const run of removed) this.table.map(run.iovaFrame, run.frame, run.pages, run.access);
    return flushed;
  }

  /** The descriptor that drops what the unit translated under domain id `id` through these pages; nested translations under it go, too. */
  protected translations(id: number, iovaFrame: number, pages: number, leaf: boolean): Int32Array {
    const { cap } = this.driver.capabilities;
    const range = rangeOf(iovaFrame, pages, leaf);
    return cap.psi === 1 && range.addressMask <= cap.mamv
      ? this.driver.iotlbDescriptor(Granularity.PAGE, id, range)
      : this.driver.iotlbDescriptor(Granularity.DOMAIN, id);
  }

  /** The unit learns of new mappings; if it cannot be told, they are taken back. */
  #mapped(iovaFrame: number, pages: number): number {
    if (!this.driver.capabilities.cap.cm) {
      this.driver.flushWriteBuffer();
      return 0;
    }
    // A unit in caching mode may remember that there was nothing.
    const flushed = this.flushPages(iovaFrame, pages, false);
    if (flushed !== 0) this.table.unmap(iovaFrame, pages);
    return flushed;
  }
}

/** A range that is used again for another. */
export type OwnRange = { -readonly [K in keyof PageRange]-?: PageRange[K] };

export function emptyRange(): OwnRange {
  return { hi: 0, lo: 0, addressMask: 0, leaf: false };
}

/** The smallest aligned range that holds all of these pages: written to `range`, which is returned. */
export function rangeOf(iovaFrame: number, pages: number, leaf: boolean, range = emptyRange()): OwnRange {
  const last = iovaFrame + pages - 1;
  let addressMask = 0;
  while (Math.floor(iovaFrame / 2 ** addressMask) !== Math.floor(last / 2 ** addressMask)) addressMask++;
  range.hi = Math.floor(iovaFrame / 0x10_0000);
  range.lo = (iovaFrame % 0x10_0000) << 12;
  range.addressMask = addressMask;
  range.leaf = leaf;
  return range;
}
