/** Domains of user space on a VT-d unit: second stages, and first stages of guests nested over them. */
import { Access, Errno, type MemoryPort } from '@remora/core';
import {
  type HostInvalidation,
  type HostNestedDomain,
  type HostPagingDomain,
  type HostPagingOptions,
} from '@remora/iommu';
import { IommuHwptVtdS1Invalidate, IommuInvalidateDataType, IommuVtdInvFlag, viewOf } from '@remora/uapi';
import { PasidIotlbGranularity } from '../spec/index.js';
import { DESCRIPTOR_WORDS, deviceTlbOf, pasidIotlbDescriptor } from './descriptors.js';
import { readDirtyPages } from './dirty-pages.js';
import { type PasidValues, secondStagePasid } from './entry-values.js';
import type { PageTable } from './page-table.js';
import { emptyRange, rangeOf, SecondStage } from './second-stage.js';
import { type FirstStage, nestedValues } from './stage1-entry.js';
import type { VtdDriver } from './vtd-driver.js';

/** Where a domain is in force. */
export interface DomainUse {
  readonly requesterId: number;
  /** 0 stands for requests without PASID (RID_PASID). */
  readonly pasid: number;
}

/** What domains of user space share. */
export interface UserUnit {
  readonly driver: VtdDriver;
  readonly memory: MemoryPort;
  /** A domain goes: where it is in force still, since the unit did not let go of it, it is not after this, and its id is free. */
  release(domain: VtdUserDomain): void;
}

/** Page frames of a 64-bit address space. */
const ALL_FRAMES = 2 ** 52;

export class VtdPagingDomain extends SecondStage implements HostPagingDomain {
  readonly kind = 'paging';
  readonly id: number;
  readonly options: HostPagingOptions;
  readonly pageSizes: number;
  readonly addressWidth: number;
  readonly uses = new Set<DomainUse>();
  /** Domains that are nested over it. */
  readonly nested = new Set<VtdNestedDomain>();
  readonly #unit: UserUnit;
  #tracking = false;

  /** Takes `id` and `table` over. */
  constructor(
    unit: UserUnit,
    id: number,
    table: PageTable,
    options: HostPagingOptions,
    limits: Pick<HostPagingDomain, 'pageSizes' | 'addressWidth'>,
  ) {
    super(unit.driver, table);
    this.#unit = unit;
    this.id = id;
    this.options = options;
    this.pageSizes = limits.pageSizes;
    this.addressWidth = limits.addressWidth;
  }

  /** The PASID entry that puts it in force. */
  entry(): PasidValues {
    return secondStagePasid(this.table, this.id, this.walkFlags());
  }

  /** How the unit walks its table, for itself or for what is nested over it. */
  walkFlags(): PasidValues {
    return { pwsnp: this.driver.capabilities.ecap.smpwcs, ssade: Number(this.#tracking) };
  }

  /** The entry that nests `first` over it under domain id `id`; -EINVAL where the unit cannot do that. */
  nestedEntry(first: FirstStage, id: number): PasidValues | number {
    const entry = nestedValues(first, this.table, id, this.driver.capabilities);
    return typeof entry === 'number' ? entry : { ...entry, ...this.walkFlags() };
  }

  override map(iovaFrame: number, hostFrame: number, pages: number, access: number): number {
    return this.#refuses(access) ? -Errno.EINVAL : super.map(iovaFrame, hostFrame, pages, access);
  }

  override mapFrames(iovaFrame: number, hostFrames: Int32Array, access: number): number {
    return this.#refuses(access) ? -Errno.EINVAL : super.mapFrames(iovaFrame, hostFrames, access);
  }

  setDirtyTracking(on: boolean): number {
    if (!this.options.dirtyTracking) return -Errno.EOPNOTSUPP;
    if (on === this.#tracking) return 0;
    this.#tracking = on;
    const done: (() => number)[] = [];
    for (const domain of [this, ...this.nested]) {
      for (const { requesterId, pasid } of domain.uses) {
        // What is in force could be put there.
        const write = (): number => this.driver.replacePasid(requesterId, pasid, domain.entry() as PasidValues);
        const status = write();
        if (status !== 0) {
          this.#tracking = !on;
          for (const again of done) again();
          return status;
        }
        done.push(write);
      }
    }
    return 0;
  }

  readDirty(
    iovaFrame: number,
    pages: number,
    clear: boolean,
    report: ((iovaFrame: number, pages: number) => void) | undefined,
  ): number {
    const cleared = readDirtyPages(this.#unit.memory, this.table, iovaFrame, pages, clear, report);
    return cleared ? this.flushPages(iovaFrame, pages, true) : 0;
  }

  override [Symbol.dispose](): void {
    this.#unit.release(this);
    this.table.free();
  }

  /** Erratum 772415, which Linux supposes of every unit: what may only be read cannot lie below a nested table. */
  #refuses(access: number): boolean {
    return this.options.nestParent && (access & Access.WRITE) === 0;
  }

  /** First the unit, then the device TLBs that could ask it again (vtd.md 7.5). What they hold of nested PASIDs cannot be told by these addresses. */
  protected override flushPages(iovaFrame: number, pages: number, leaf: boolean): number {
    const flushes: Int32Array[] = [];
    const tlbs: Int32Array[] = [];
    const { hi, lo, addressMask } = rangeOf(iovaFrame, pages, leaf);
    if (this.uses.size > 0) flushes.push(this.translations(this.id, iovaFrame, pages, leaf));
    for (const { requesterId, pasid } of this.uses) {
      if (this.driver.hasDeviceTlb(requesterId)) tlbs.push(deviceTlbOf(requesterId, pasid, hi, lo, addressMask + 12));
    }
    for (const { id, uses } of this.nested) {
      if (uses.size > 0) flushes.push(this.translations(id, iovaFrame, pages, leaf));
      for (const { requesterId, pasid } of uses) {
        if (this.driver.hasDeviceTlb(requesterId)) tlbs.push(deviceTlbOf(requesterId, pasid));
      }
    }
    return this.driver.invalidateAll([...flushes, ...tlbs]);
  }
}

/** A guest's first stage. It has a domain id of its own: another guest table at the same PASID of another function is not taken for it. */
export class VtdNestedDomain implements HostNestedDomain {
  readonly kind = 'nested';
  readonly parent: VtdPagingDomain;
  readonly id: number;
  /** Whether the kernel takes its page requests. */
  readonly pageRequests: boolean;
  readonly uses = new Set<DomainUse>();
  readonly #unit: UserUnit;
  readonly #first: FirstStage;
  readonly #done: HostInvalidation = { processed: 0, result: 0 };
  /** Of the flush that is made: used again for the next, since a guest's entries come by the hundred. */
  readonly #range = emptyRange();
  readonly #flushes: Int32Array[] = [];
  readonly #flushed = new Set<number>();
  /** A PASID's descriptor each. */
  readonly #words: Int32Array[] = [];

  /** Takes `id` over. */
  constructor(unit: UserUnit, parent: VtdPagingDomain, id: number, first: FirstStage, pageRequests: boolean) {
    this.#unit = unit;
    this.parent = parent;
    this.id = id;
    this.#first = first;
    this.pageRequests = pageRequests;
    parent.nested.add(this);
  }

  /** The PASID entry that puts it in force; -EINVAL if the unit cannot do what the first stage says. */
  entry(): PasidValues | number {
    return this.parent.nestedEntry(this.#first, this.id);
  }

  /**
   * Entries of struct iommu_hwpt_vtd_s1_invalidate, of its length: -EOPNOTSUPP for a flag but LEAF and for reserved bits, -EINVAL for an address that is not that of a
   * page, and for all pages (npages of all ones) from another address than 0.
   */
  invalidate(dataType: number, entryLength: number, entries: Uint8Array, count: number): HostInvalidation {
    const done = this.#done;
    done.processed = 0;
    const ours = dataType === IommuInvalidateDataType.VTD_S1;
    const whole = count === 0 || entryLength === IommuHwptVtdS1Invalidate.size;
    done.result = ours && whole ? 0 : -Errno.EINVAL;
    const view = viewOf(entries);
    for (let index = 0; index < count && done.result === 0; index++) {
      done.result = this.#invalidateOne(view, index * entryLength);
      if (done.result === 0) done.processed++;
    }
    return done;
  }

  [Symbol.dispose](): void {
    this.#unit.release(this);
    this.parent.nested.delete(this);
  }

  #invalidateOne(view: DataView, at: number): number {
    const { addr, npages, flags } = IommuHwptVtdS1Invalidate.fields;
    const flag = flags.get(view, at);
    if ((flag & ~IommuVtdInvFlag.LEAF) !== 0 || IommuHwptVtdS1Invalidate.hasPadding(view, at)) return -Errno.EOPNOTSUPP;
    const hi = addr.hi(view, at);
    const lo = addr.lo(view, at);
    const everything = npages.hi(view, at) === 0xffff_ffff && npages.lo(view, at) === 0xffff_ffff;
    if ((lo & 0xfff) !== 0 || (everything && (hi | lo) !== 0)) return -Errno.EINVAL;
    const first = hi * 0x10_0000 + (lo >>> 12);
    const pages = npages.number(view, at);
    if (pages === 0) return 0;
    return everything || first + pages > ALL_FRAMES
      ? this.#flush(0, ALL_FRAMES, false)
      : this.#flush(first, pages, flag !== 0);
  }

  /** The unit's translations of each PASID, then the functions' own. */
  #flush(first: number, pages: number, leaf: boolean): number {
    const { driver } = this.#unit;
    const range = rangeOf(first, pages, leaf, this.#range);
    // The whole space has no address mask; it is the PASID.
    const narrow = range.addressMask < 52 ? range : undefined;
    const granularity = narrow === undefined ? PasidIotlbGranularity.PASID : PasidIotlbGranularity.PAGE;
    const shift = narrow === undefined ? undefined : narrow.addressMask + 12;
    const flushes = this.#flushes;
    flushes.length = 0;
    this.#flushed.clear();
    for (const { pasid } of this.uses) {
      if (this.#flushed.has(pasid)) continue;
      this.#flushed.add(pasid);
      const words = (this.#words[flushes.length] ??= new Int32Array(DESCRIPTOR_WORDS));
      flushes.push(pasidIotlbDescriptor(granularity, this.id, pasid, narrow, words));
    }
    for (const { requesterId, pasid } of this.uses) {
      if (!driver.hasDeviceTlb(requesterId)) continue;
      flushes.push(deviceTlbOf(requesterId, pasid, narrow?.hi, narrow?.lo, shift));
    }
    return driver.invalidateAll(flushes);
  }
}

export type VtdUserDomain = VtdPagingDomain | VtdNestedDomain;

/** Whether the kernel takes the page requests of what a domain serves. */
export function takesPageRequests(domain: VtdUserDomain): boolean {
  return domain.kind === 'paging' ? domain.options.pageRequests : domain.pageRequests;
}
