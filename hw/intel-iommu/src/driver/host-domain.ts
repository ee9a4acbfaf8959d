/** A second-stage domain of a host's VT-d unit, and the first stages nested over it. */
import { isAligned } from '@remora/bits';
import { Errno } from '@remora/core';
import type { HostIommuDomain, Stage1Config, Stage1Flush } from '@remora/iommu';
import { PasidEntry, PasidIotlbGranularity } from '../spec/index.js';
import {
  DESCRIPTOR_WORDS,
  EVERYTHING_SHIFT,
  type PageRange,
  pasidDeviceTlbDescriptor,
  pasidIotlbDescriptor,
} from './descriptors.js';
import { secondStagePasid } from './entry-values.js';
import type { PageTable } from './page-table.js';
import { SecondStage } from './second-stage.js';
import { nestedEntry } from './stage1-entry.js';
import type { VtdDriver } from './vtd-driver.js';

/** What domains of one unit share. */
export interface HostUnit {
  readonly driver: VtdDriver;
  /** The domain of each attached function. */
  readonly functions: Map<number, VtdHostDomain>;
  /** Whether a function has domains of user space (HostIommuUserOps): it cannot be attached to others. */
  lentToUser(requesterId: number): boolean;
  /** Whether a function has a device TLB that the unit serves. */
  hasAts(requesterId: number): boolean;
  /** Lets such a function use it, or not. */
  enableAts(requesterId: number, on: boolean): void;
  /** Lets a domain have another id, and share it with `sharing`: 0, or a negated errno. */
  retag(domain: VtdHostDomain, id: number, sharing: HostIommuDomain | undefined): number;
  /** A domain is gone: unless it shared its id, that may be used again. */
  release(domain: VtdHostDomain): void;
  /** A PASID entry was written (16 words), or cleared (undefined). */
  programmed(requesterId: number, pasid: number, entry: Int32Array | undefined): void;
}

export class VtdHostDomain extends SecondStage implements HostIommuDomain {
  readonly #unit: HostUnit;
  /** PASIDs bound on each attached function. */
  readonly #bound = new Map<number, Set<number>>();
  /** The descriptor of a first-stage flush. */
  readonly #flush = new Int32Array(DESCRIPTOR_WORDS);
  #id: number;
  /** A function was attached: from then on the unit may have cached something under the id. */
  #finalised = false;
  #disposed = false;

  constructor(unit: HostUnit, id: number, table: PageTable) {
    super(unit.driver, table);
    this.#unit = unit;
    this.#id = id;
  }

  override get id(): number {
    return this.#id;
  }

  setTag(tag: number, sharing?: HostIommuDomain): number {
    if (this.#finalised) return -Errno.EPERM;
    const status = this.#unit.retag(this, tag, sharing);
    if (status === 0) this.#id = tag;
    return status;
  }

  /** Requester ids of the attached functions, in the order in which they came. */
  get attached(): readonly number[] {
    return [...this.#bound.keys()];
  }

  attach(requesterId: number): number {
    if (this.#unit.functions.has(requesterId) || this.#unit.lentToUser(requesterId)) return -Errno.EBUSY;
    const driver = this.driver;
    let status = driver.pasidEntry(requesterId, 0, this.#withoutFirstStage());
    if (status === 0) status = driver.attach(requesterId, { dte: Number(this.#unit.hasAts(requesterId)) });
    if (status === 0 && driver.capabilities.cap.cm) {
      status = driver.flushPasid(this.id, 0);
      if (status !== 0) driver.clearContextEntry(requesterId);
    }
    if (status !== 0) {
      driver.releaseFunction(requesterId);
      return status;
    }
    this.#finalised = true;
    this.#unit.functions.set(requesterId, this);
    this.#bound.set(requesterId, new Set());
    if (this.#unit.hasAts(requesterId)) this.#unit.enableAts(requesterId, true);
    return 0;
  }

  detach(requesterId: number): number {
    const pasids = this.#bound.get(requesterId);
    if (pasids === undefined) return -Errno.EINVAL;
    if (pasids.size > 0) return -Errno.EBUSY;
    const hasAts = this.#unit.hasAts(requesterId);
    if (hasAts) this.#unit.enableAts(requesterId, false);
    const status = this.driver.detach(requesterId, this.id);
    if (status === 0) this.#forget(requesterId);
    else if (hasAts) this.#unit.enableAts(requesterId, true);
    return status;
  }

  bindPasid(requesterId: number, pasid: number, config: Stage1Config): number {
    const pasids = this.#bound.get(requesterId);
    if (pasids === undefined || pasid <= 0 || pasid >= 2 ** this.driver.capabilities.pasidBits) return -Errno.EINVAL;
    if (pasids.has(pasid)) return -Errno.EBUSY;
    const entry = nestedEntry(config, this.table, this.id, this.driver.capabilities);
    if (typeof entry === 'number') return entry;
    const status = this.driver.addPasid(requesterId, pasid, entry);
    if (status !== 0) return status;
    pasids.add(pasid);
    this.#unit.programmed(requesterId, pasid, PasidEntry.encode({ p: 1, ...entry }));
    return 0;
  }

  unbindPasid(requesterId: number, pasid: number): number {
    const pasids = this.#bound.get(requesterId);
    if (pasids === undefined || !pasids.has(pasid)) return -Errno.EINVAL;
    const status = this.driver.removePasid(requesterId, pasid);
    if (status !== 0) return status;
    pasids.delete(pasid);
    this.#unit.programmed(requesterId, pasid, undefined);
    return 0;
  }

  /**
   * -EINVAL if the PASID is not bound or the granule makes no sense; -ERANGE if the address is not aligned to the range, rounded up to a power
   * of two (vsva.md 3.8).
   */
  flushStage1(requesterId: number, flush: Stage1Flush): number {
    if (this.#bound.get(requesterId)?.has(flush.pasid) !== true) return -Errno.EINVAL;
    let range: PageRange | undefined;
    let shift = EVERYTHING_SHIFT;
    if (flush.granularity === 'address') {
      if (flush.granuleShift < 12 || flush.granuleShift > 63 || flush.granules < 1) return -Errno.EINVAL;
      shift = Math.min(EVERYTHING_SHIFT, flush.granuleShift + log2Above(flush.granules));
      if (!isAligned(flush.hi, flush.lo, shift)) return -Errno.ERANGE;
      // The whole space has no address mask; it is the PASID.
      if (shift < EVERYTHING_SHIFT) range = { hi: flush.hi, lo: flush.lo, addressMask: shift - 12, leaf: flush.leaf };
    }
    const granularity = range === undefined ? PasidIotlbGranularity.PASID : PasidIotlbGranularity.PAGE;
    const translations = pasidIotlbDescriptor(granularity, this.id, flush.pasid, range, this.#flush);
    if (!this.driver.hasDeviceTlb(requesterId)) return this.driver.invalidate(translations);
    return this.driver.invalidate(
      translations,
      pasidDeviceTlbDescriptor(requesterId, flush.pasid, range?.hi ?? 0, range?.lo ?? 0, shift),
    );
  }

  /** The PASID entries of an attached function, decoded, in ascending order. */
  describePasids(requesterId: number): { pasid: number; entry: Record<string, number> }[] {
    const described: { pasid: number; entry: Record<string, number> }[] = [];
    for (const { pasid, entry } of this.driver.directory(requesterId)?.entries() ?? []) {
      const fields = Object.entries(PasidEntry.decode(entry)).map(([name, value]) => [name, Number(value)] as const);
      described.push({ pasid, entry: Object.fromEntries(fields.filter(([, value]) => value !== 0)) });
    }
    return described;
  }

  /** Blocks what is still attached and returns the tables. */
  override [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const [requesterId, pasids] of [...this.#bound]) {
      if (this.#unit.hasAts(requesterId)) this.#unit.enableAts(requesterId, false);
      for (const pasid of pasids) this.driver.removePasid(requesterId, pasid);
      if (this.driver.detach(requesterId, this.id) !== 0) {
        // The unit does not answer any more: block the function all the same.
        this.driver.clearContextEntry(requesterId);
        this.driver.releaseFunction(requesterId);
      }
      this.#forget(requesterId);
    }
    this.table.free();
    this.#unit.release(this);
  }

  #withoutFirstStage(): ReturnType<typeof secondStagePasid> {
    return secondStagePasid(this.table, this.id, { pwsnp: this.driver.capabilities.ecap.smpwcs });
  }

  #forget(requesterId: number): void {
    this.#bound.delete(requesterId);
    this.#unit.functions.delete(requesterId);
  }

  /** Nested translations of the domain go with the others. */
  protected override flushPages(iovaFrame: number, pages: number, leaf: boolean): number {
    const status = this.driver.invalidate(this.translations(this.#id, iovaFrame, pages, leaf));
    if (status !== 0) return status;
    for (const [requesterId, domain] of this.#unit.functions) {
      // What was translated through this table may have served any function behind the same id.
      if (domain.#id !== this.#id || !this.driver.hasDeviceTlb(requesterId)) continue;
      const failed = this.#flushDeviceTlb(requesterId, domain.#bound.get(requesterId)!);
      if (failed !== 0) return failed;
    }
    return 0;
  }

  /** All of a function's device TLB: what it holds of nested PASIDs cannot be told by second-stage addresses. */
  #flushDeviceTlb(requesterId: number, pasids: ReadonlySet<number>): number {
    const status = this.driver.deviceTlbInvalidate(requesterId);
    if (status !== 0 || pasids.size === 0) return status;
    return this.driver.invalidate(pasidDeviceTlbDescriptor(requesterId, 0, 0, 0, EVERYTHING_SHIFT, true));
  }
}

/** log2 of a count, rounded up. */
function log2Above(count: number): number {
  return count === 1 ? 0 : Math.ceil(Math.log2(count));
}
