/** HostIommuUserOps on a VT-d unit: what serves each function and each of its PASIDs, in one PASID entry each. */
import { Access, Errno, NO_PASID } from '@remora/core';
import {
  type HostHardwareInfo,
  type HostIommuUserOps,
  type HostNestedOptions,
  type HostPagingDomain,
  type HostPagingOptions,
  type HostUserDomain,
  type PageRequest,
} from '@remora/iommu';
import {
  IommuHwInfoType,
  IommuHwInfoVtd,
  IommuHwptDataType,
  IommuHwptVtdS1,
  IommuVtdS1Flag,
  viewOf,
} from '@remora/uapi';
import { PasidEntry } from '../spec/index.js';
import type { VtdPageRequest } from './page-requests.js';
import type { PageTable } from './page-table.js';
import type { FirstStage } from './stage1-entry.js';
import { type DomainUse, type UserUnit, VtdNestedDomain, VtdPagingDomain } from './user-domains.js';
import { VtdViommus } from './viommu.js';

type VtdUserDomain = VtdPagingDomain | VtdNestedDomain;

/** What the ops need of the driver of the unit. */
export interface UserOpsUnit extends Omit<UserUnit, 'release'> {
  /** As the driver has them. */
  readonly pasidBits: number;
  readonly pageSizes: number;
  readonly addressWidth: number;
  /** The kernel is told of page requests. */
  readonly takesPageRequests: boolean;
  /** A domain id that nobody has, held from now on; -ENOSPC. */
  takeId(): number;
  /** It is free again. */
  releaseId(id: number): void;
  /** An empty second stage, or -ENOMEM. */
  createTable(): PageTable | number;
  /** Whether a function is behind a domain of another kind (HostIommuDomain). */
  lent(requesterId: number): boolean;
  hasAts(requesterId: number): boolean;
  enableAts(requesterId: number, on: boolean): void;
  hasPri(requesterId: number): boolean;
  enablePri(requesterId: number, on: boolean): void;
  programmed(requesterId: number, pasid: number, entry: Int32Array | undefined): void;
}

/** Requests without PASID go through this entry. */
const RID_PASID = 0;

/** What is in force for one PASID of a function. */
interface Served {
  readonly domain: VtdUserDomain;
  readonly use: DomainUse;
}

export class VtdUserOps implements HostIommuUserOps {
  readonly dirtyTracking: boolean;
  readonly viommu = new VtdViommus((requesterId, pasid) => this.#servedBy(requesterId, pasid));
  readonly #unit: UserOpsUnit;
  readonly #shared: UserUnit;
  /** By requester id and PASID: functions that have a context entry. */
  readonly #functions = new Map<number, Map<number, Served>>();
  readonly #paging = new Set<VtdPagingDomain>();
  readonly #requests: PageRequest[] = [];

  constructor(unit: UserOpsUnit) {
    this.#unit = unit;
    this.#shared = { driver: unit.driver, memory: unit.memory, release: domain => this.#release(domain) };
    const { ecap } = unit.driver.capabilities;
    // Accessed and dirty bits are written only by walks that are snooped.
    this.dirtyTracking = ecap.ssads === 1 && ecap.smpwcs === 1;
  }

  /** Whether a function has a domain here. */
  has(requesterId: number): boolean {
    return this.#functions.has(requesterId);
  }

  hardwareInfo(_requesterId: number, type: number): HostHardwareInfo | number {
    if (type !== IommuHwInfoType.DEFAULT && type !== IommuHwInfoType.INTEL_VTD) return -Errno.EOPNOTSUPP;
    const { capWords, ecapWords } = this.#unit.driver.capabilities;
    const data = new Uint8Array(IommuHwInfoVtd.size);
    const { cap_reg, ecap_reg } = IommuHwInfoVtd.fields;
    cap_reg.set(viewOf(data), capWords[1]!, capWords[0]!);
    ecap_reg.set(viewOf(data), ecapWords[1]!, ecapWords[0]!);
    return { type: IommuHwInfoType.INTEL_VTD, data };
  }

  createPaging(options: HostPagingOptions): VtdPagingDomain | number {
    const unit = this.#unit;
    const lacks =
      (options.nestParent && unit.driver.capabilities.ecap.nest === 0) ||
      (options.dirtyTracking && !this.dirtyTracking);
    if (lacks) return -Errno.EOPNOTSUPP;
    const id = unit.takeId();
    if (id < 0) return id;
    const table = unit.createTable();
    if (typeof table === 'number') {
      unit.releaseId(id);
      return table;
    }
    const domain = new VtdPagingDomain(this.#shared, id, table, options, unit);
    this.#paging.add(domain);
    return domain;
  }

  createNested(
    parent: HostPagingDomain,
    dataType: number,
    data: Uint8Array,
    options: HostNestedOptions,
  ): VtdNestedDomain | number {
    const unit = this.#unit;
    if (unit.driver.capabilities.ecap.nest === 0 || dataType !== IommuHwptDataType.VTD_S1) return -Errno.EOPNOTSUPP;
    const ours = this.#isOurs(parent) && parent.kind === 'paging' ? parent : undefined;
    if (ours?.options.nestParent !== true) return -Errno.EINVAL;
    if (data.length !== IommuHwptVtdS1.size) return -Errno.EINVAL;
    const id = unit.takeId();
    return id < 0 ? id : new VtdNestedDomain(this.#shared, ours, id, firstStage(viewOf(data)), options.pageRequests);
  }

  /**
   * As HostIommuUserOps has it; -EINVAL also for a first stage that the unit cannot walk, -ENODEV for a domain whose page requests are taken and a
   * function that has none.
   */
  setDomain(requesterId: number, pasid: number, domain: HostUserDomain | undefined): number {
    const unit = this.#unit;
    if (pasid !== NO_PASID && (pasid <= RID_PASID || pasid >= 2 ** unit.pasidBits)) return -Errno.EINVAL;
    if (unit.lent(requesterId)) return -Errno.EBUSY;
    const slot = slotOf(pasid);
    if (domain === undefined) return this.#block(requesterId, slot);
    if (!this.#isOurs(domain)) return -Errno.EINVAL;
    if (takesPageRequests(domain) && !(unit.takesPageRequests && unit.hasPri(requesterId))) return -Errno.ENODEV;
    return this.#serve(requesterId, slot, domain);
  }

  takePageRequests(): PageRequest[] {
    if (this.#unit.takesPageRequests) this.#unit.driver.pageRequests.handle();
    return this.#requests.splice(0);
  }

  respond({ requesterId, pasid, group, last }: PageRequest, code: number): number {
    const tagged = pasid === NO_PASID ? {} : { pasid };
    return this.#unit.driver.pageGroupResponse({ requesterId, ...tagged, group, code, last });
  }

  /** A request that came out of the unit's queue waits for takePageRequests. */
  requested(request: VtdPageRequest): undefined {
    const { requesterId, pasid, hi, lo, group, last } = request;
    const access =
      (request.read ? Access.READ : 0) |
      (request.write ? Access.WRITE : 0) |
      (request.execute ? Access.EXECUTE : 0) |
      (request.privileged ? Access.PRIVILEGED : 0);
    this.#requests.push({ requesterId, pasid, hi, lo, access, group, last });
  }

  /** Paging domains with what is nested over them, and what serves whom: plain data. Undefined if there is nothing. */
  describe(): unknown {
    if (this.#paging.size === 0 && this.#functions.size === 0) return undefined;
    return {
      domains: [...this.#paging].map(domain => ({
        id: domain.id,
        rootFrame: domain.rootFrame,
        pages: [...domain.mappings()].reduce((sum, run) => sum + run.pages, 0),
        nested: [...domain.nested].map(({ id }) => id),
      })),
      functions: [...this.#functions].map(([requesterId, served]) => ({
        requesterId,
        pasids: [...served].map(([pasid, { domain }]) => ({ pasid, domain: domain.id })),
      })),
    };
  }

  /** Blocks every function and returns what the domains have. */
  [Symbol.dispose](): void {
    for (const domain of [...this.#paging]) {
      for (const nested of [...domain.nested]) nested[Symbol.dispose]();
      domain[Symbol.dispose]();
    }
    for (const requesterId of [...this.#functions.keys()]) this.#cutOff(requesterId);
  }

  /** Whether a domain is one of this unit. */
  #isOurs(domain: HostUserDomain): domain is VtdUserDomain {
    const paging = domain instanceof VtdNestedDomain ? domain.parent : domain;
    return paging instanceof VtdPagingDomain && this.#paging.has(paging);
  }

  #servedBy(requesterId: number, pasid: number): VtdUserDomain | undefined {
    return this.#functions.get(requesterId)?.get(slotOf(pasid))?.domain;
  }

  #serve(requesterId: number, slot: number, domain: VtdUserDomain): number {
    const { driver } = this.#unit;
    const entry = domain.entry();
    if (typeof entry === 'number') return entry;
    const entered = this.#functions.has(requesterId) ? 0 : this.#enter(requesterId);
    if (entered !== 0) return entered;
    const served = this.#functions.get(requesterId)!;
    const before = served.get(slot);
    if (before?.domain === domain) return 0;
    const status =
      before === undefined ? driver.addPasid(requesterId, slot, entry) : driver.replacePasid(requesterId, slot, entry);
    if (status !== 0) {
      if (served.size === 0) this.#leave(requesterId, domain.id);
      return status;
    }
    before?.domain.uses.delete(before.use);
    const use = { requesterId, pasid: slot };
    domain.uses.add(use);
    served.set(slot, { domain, use });
    this.#choosePri(requesterId, served);
    this.#unit.programmed(requesterId, slot, PasidEntry.encode({ p: 1, ...entry }));
    return 0;
  }

  /** Nothing serves it: 0, also if nothing did. */
  #block(requesterId: number, slot: number): number {
    const served = this.#functions.get(requesterId);
    const before = served?.get(slot);
    if (served === undefined || before === undefined) return 0;
    const status = this.#unit.driver.removePasid(requesterId, slot);
    if (status !== 0) return status;
    before.domain.uses.delete(before.use);
    served.delete(slot);
    this.#choosePri(requesterId, served);
    this.#unit.programmed(requesterId, slot, undefined);
    if (served.size === 0) this.#leave(requesterId, before.domain.id);
    return 0;
  }

  /** The first domain of a function: a context entry with no PASID entry yet. */
  #enter(requesterId: number): number {
    const { driver, hasAts, hasPri, enableAts } = this.#unit;
    const ats = hasAts(requesterId);
    const pre = Number(ats && hasPri(requesterId) && this.#unit.takesPageRequests);
    const status = driver.attach(requesterId, { dte: Number(ats), pre });
    if (status !== 0) {
      driver.releaseFunction(requesterId);
      return status;
    }
    this.#functions.set(requesterId, new Map());
    if (ats) enableAts(requesterId, true);
    return 0;
  }

  /** Its last domain is gone. What the unit does not confirm at the second try either goes all the same: nothing is behind the entry. */
  #leave(requesterId: number, domainId: number): void {
    const { driver, hasAts, enableAts } = this.#unit;
    const ats = hasAts(requesterId);
    if (ats) enableAts(requesterId, false);
    for (let tries = 0; tries < 2; tries++) {
      if (driver.detach(requesterId, domainId) !== 0) continue;
      this.#functions.delete(requesterId);
      return;
    }
    this.#cutOff(requesterId);
  }

  /** Blocks whatever the domain serves. A unit that does not let go has not answered for long: its entries go all the same. */
  #release(domain: VtdUserDomain): void {
    const { driver } = this.#unit;
    for (const { requesterId, pasid } of [...domain.uses]) {
      if (this.#block(requesterId, pasid) === 0) continue;
      driver.clearPasidEntry(requesterId, pasid);
      this.#functions.get(requesterId)?.delete(pasid);
      this.#unit.programmed(requesterId, pasid, undefined);
      if (this.#functions.get(requesterId)?.size === 0) this.#cutOff(requesterId);
    }
    if (domain.kind === 'paging') this.#paging.delete(domain);
    this.#unit.releaseId(domain.id);
  }

  /** Takes a function's context entry away, whatever the unit says. */
  #cutOff(requesterId: number): void {
    const { driver, enableAts, enablePri } = this.#unit;
    enablePri(requesterId, false);
    enableAts(requesterId, false);
    driver.clearContextEntry(requesterId);
    driver.releaseFunction(requesterId);
    this.#functions.delete(requesterId);
  }

  /** The function may request pages while there is somebody who takes them. */
  #choosePri(requesterId: number, served: ReadonlyMap<number, Served>): void {
    if (!this.#unit.hasPri(requesterId)) return;
    this.#unit.enablePri(
      requesterId,
      [...served.values()].some(({ domain }) => takesPageRequests(domain)),
    );
  }
}

/** The PASID whose entry serves requests with `pasid`. */
function slotOf(pasid: number): number {
  return pasid === NO_PASID ? RID_PASID : pasid;
}

function takesPageRequests(domain: VtdUserDomain): boolean {
  return domain.kind === 'paging' ? domain.options.pageRequests : domain.pageRequests;
}

/** The first stage that struct iommu_hwpt_vtd_s1 describes. As in Linux nothing of it is judged before a function is to be served by it. */
function firstStage(view: DataView): FirstStage {
  const { flags, pgtbl_addr, addr_width } = IommuHwptVtdS1.fields;
  const flag = flags.lo(view);
  const has = (bit: number): number => Number((flag & bit) !== 0);
  return {
    rootHi: pgtbl_addr.hi(view),
    rootLo: pgtbl_addr.lo(view),
    addressWidth: addr_width.get(view),
    sre: has(IommuVtdS1Flag.SRE),
    eafe: has(IommuVtdS1Flag.EAFE),
    wpe: has(IommuVtdS1Flag.WPE),
  };
}
