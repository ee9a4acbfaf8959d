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
  IommuHwInfoVtdFlag,
  IommuHwptDataType,
  IommuHwptVtdS1,
  IommuVtdS1Flag,
  viewOf,
} from '@remora/uapi';
import type { VtdPageRequest } from './page-requests.js';
import type { PageTable } from './page-table.js';
import { type FunctionControls, ServedFunctions } from './served-functions.js';
import type { FirstStage } from './stage1-entry.js';
import {
  takesPageRequests,
  type UserUnit,
  VtdNestedDomain,
  VtdPagingDomain,
  type VtdUserDomain,
} from './user-domains.js';
import { VtdViommus } from './viommu.js';

/** What the ops need of the driver of the unit. */
export interface UserOpsUnit extends Omit<UserUnit, 'release'>, FunctionControls {
  /** As the driver has them. */
  readonly pasidBits: number;
  readonly pageSizes: number;
  readonly addressWidth: number;
  /** A domain id that nobody has, held from now on; -ENOSPC. */
  takeId(): number;
  /** It is free again. */
  releaseId(id: number): void;
  /** An empty second stage, or -ENOMEM. */
  createTable(): PageTable | number;
  /** Whether a function is behind a domain of another kind (HostIommuDomain). */
  lent(requesterId: number): boolean;
}

/** Requests without PASID go through this entry. */
const RID_PASID = 0;

export class VtdUserOps implements HostIommuUserOps {
  readonly dirtyTracking: boolean;
  readonly viommu = new VtdViommus((requesterId, pasid) => this.#functions.at(requesterId, slotOf(pasid)));
  readonly #unit: UserOpsUnit;
  readonly #shared: UserUnit;
  readonly #functions: ServedFunctions;
  readonly #paging = new Set<VtdPagingDomain>();
  readonly #requests: PageRequest[] = [];

  constructor(unit: UserOpsUnit) {
    this.#unit = unit;
    this.#functions = new ServedFunctions(unit);
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
    const { flags, cap_reg, ecap_reg } = IommuHwInfoVtd.fields;
    // Linux says so of every unit.
    flags.set(viewOf(data), IommuHwInfoVtdFlag.ERRATA_772415_SPR17);
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
    if (domain === undefined) return this.#functions.block(requesterId, slot);
    if (!this.#isOurs(domain)) return -Errno.EINVAL;
    if (takesPageRequests(domain) && !(unit.takesPageRequests && unit.hasPri(requesterId))) return -Errno.ENODEV;
    return this.#functions.serve(requesterId, slot, domain);
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
    const functions = this.#functions.describe();
    if (this.#paging.size === 0 && functions.length === 0) return undefined;
    return {
      domains: [...this.#paging].map(domain => ({
        id: domain.id,
        rootFrame: domain.rootFrame,
        pages: [...domain.mappings()].reduce((sum, run) => sum + run.pages, 0),
        nested: [...domain.nested].map(({ id }) => id),
      })),
      functions,
    };
  }

  /** Blocks every function and returns what the domains have. */
  [Symbol.dispose](): void {
    for (const domain of [...this.#paging]) {
      for (const nested of [...domain.nested]) nested[Symbol.dispose]();
      domain[Symbol.dispose]();
    }
    this.#functions[Symbol.dispose]();
  }

  #release(domain: VtdUserDomain): void {
    this.#functions.release(domain);
    if (domain.kind === 'paging') this.#paging.delete(domain);
    this.#unit.releaseId(domain.id);
  }

  /** Whether a domain is one of this unit. */
  #isOurs(domain: HostUserDomain): domain is VtdUserDomain {
    const paging = domain instanceof VtdNestedDomain ? domain.parent : domain;
    return paging instanceof VtdPagingDomain && this.#paging.has(paging);
  }
}

/** The PASID whose entry serves requests with `pasid`. */
function slotOf(pasid: number): number {
  return pasid === NO_PASID ? RID_PASID : pasid;
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
