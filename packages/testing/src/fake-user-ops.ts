/**
 * HostIommuUserOps in plain memory, with VT-d's payloads: what serves whom, what the unit would remember of nested domains (planted by a test), pages
 * that were written. First stages are not walked: through a nested domain an address is what its parent makes of it.
 */
import { Access, Errno, NO_PASID } from '@remora/core';
import {
  type HostHardwareInfo,
  type HostInvalidation,
  type HostIommuUserOps,
  type HostNestedDomain,
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
  IommuHwptVtdS1Invalidate,
  IommuInvalidateDataType,
  IommuVtdInvFlag,
  viewOf,
} from '@remora/uapi';
import type { FakeIommuDriver } from './fake-iommu-driver.js';
import { FakeMappings, type FakePage } from './fake-mappings.js';

const ALL_PAGES = 2 ** 52;

export class FakePagingDomain extends FakeMappings implements HostPagingDomain {
  readonly kind = 'paging';
  readonly pageSizes = 0x1000;
  readonly addressWidth: number;
  readonly options: HostPagingOptions;
  /** Page frames that were written and not yet reported. */
  readonly dirty = new Set<number>();
  /** Domains nested over it. */
  readonly nested = new Set<FakeNestedDomain>();
  tracking = false;
  readonly #driver: FakeIommuDriver;

  constructor(driver: FakeIommuDriver, id: number, options: HostPagingOptions) {
    super(driver, id);
    this.#driver = driver;
    this.options = options;
    this.addressWidth = driver.addressWidth;
  }

  setDirtyTracking(on: boolean): number {
    const error = this.#driver.called('setDirtyTracking', `${this.id} ${on ? 'on' : 'off'}`);
    if (error !== 0) return error;
    if (!this.options.dirtyTracking) return -Errno.EOPNOTSUPP;
    this.tracking = on;
    return 0;
  }

  readDirty(
    iovaFrame: number,
    pages: number,
    clear: boolean,
    report: ((iovaFrame: number, pages: number) => void) | undefined,
  ): number {
    for (const frame of [...this.dirty].sort((a, b) => a - b)) {
      if (frame < iovaFrame || frame >= iovaFrame + pages) continue;
      report?.(frame, 1);
      if (clear) this.dirty.delete(frame);
    }
    return 0;
  }

  /** @throws Error if something is served by it, or nested over it. */
  [Symbol.dispose](): void {
    if (this.nested.size > 0) throw new Error(`domain ${this.id} still has others nested over it`);
    this.#driver.userOps.disposed(this);
  }
}

export class FakeNestedDomain implements HostNestedDomain {
  readonly kind = 'nested';
  readonly id: number;
  readonly parent: FakePagingDomain;
  /** The payload that describes it. */
  readonly data: Uint8Array;
  readonly options: HostNestedOptions;
  /** Page frames of which the unit remembers something: planted by a test, removed by invalidations. */
  readonly cached = new Set<number>();
  readonly #driver: FakeIommuDriver;
  readonly #done: HostInvalidation = { processed: 0, result: 0 };

  constructor(
    driver: FakeIommuDriver,
    id: number,
    parent: FakePagingDomain,
    data: Uint8Array,
    options: HostNestedOptions,
  ) {
    this.#driver = driver;
    this.id = id;
    this.parent = parent;
    this.data = data.slice();
    this.options = options;
    parent.nested.add(this);
  }

  /** Whether a function can be served by it: its addresses have 48 bits. */
  get possible(): boolean {
    return IommuHwptVtdS1.fields.addr_width.get(viewOf(this.data)) === 48;
  }

  invalidate(dataType: number, entryLength: number, entries: Uint8Array, count: number): HostInvalidation {
    const done = this.#done;
    done.processed = 0;
    const whole = count === 0 || entryLength === IommuHwptVtdS1Invalidate.size;
    done.result = dataType === IommuInvalidateDataType.VTD_S1 && whole ? 0 : -Errno.EINVAL;
    while (done.result === 0 && done.processed < count) {
      done.result = this.#invalidateOne(viewOf(entries), done.processed * entryLength);
      if (done.result === 0) done.processed++;
    }
    return done;
  }

  /** @throws Error if something is served by it. */
  [Symbol.dispose](): void {
    this.parent.nested.delete(this);
    this.#driver.userOps.disposed(this);
  }

  #invalidateOne(view: DataView, at: number): number {
    const { addr, npages, flags } = IommuHwptVtdS1Invalidate.fields;
    if ((flags.get(view, at) & ~IommuVtdInvFlag.LEAF) !== 0 || IommuHwptVtdS1Invalidate.hasPadding(view, at)) {
      return -Errno.EOPNOTSUPP;
    }
    const pages = npages.number(view, at);
    const everything = npages.big(view, at) === 2n ** 64n - 1n;
    const first = Math.floor(addr.number(view, at) / 0x1000);
    if (addr.lo(view, at) % 0x1000 !== 0 || (everything && first !== 0)) return -Errno.EINVAL;
    const range = everything ? 'all' : `0x${first.toString(16)} +${pages}`;
    const error = this.#driver.called('invalidate', `${this.id} ${range}${flags.get(view, at) === 0 ? '' : ' leaf'}`);
    if (error !== 0) return error;
    for (const frame of [...this.cached])
      if (frame >= first && frame < Math.min(ALL_PAGES, first + pages)) this.cached.delete(frame);
    return 0;
  }
}

type FakeUserDomain = FakePagingDomain | FakeNestedDomain;

export class FakeUserOps implements HostIommuUserOps {
  readonly dirtyTracking: boolean;
  /** What serves each function's requests, by PASID (NO_PASID: without one). */
  readonly served = new Map<number, Map<number, FakeUserDomain>>();
  /** Answers that went out to functions. */
  readonly responses: { readonly request: PageRequest; readonly code: number }[] = [];
  readonly domains = new Set<FakeUserDomain>();
  readonly #driver: FakeIommuDriver;
  readonly #requests: PageRequest[] = [];
  /** What was not let go of when it should have been: it is when its domain goes. */
  readonly #stuck = new Set<string>();
  #nextId = 1;

  constructor(driver: FakeIommuDriver, dirtyTracking: boolean) {
    this.#driver = driver;
    this.dirtyTracking = dirtyTracking;
  }

  hardwareInfo(_requesterId: number, type: number): HostHardwareInfo | number {
    if (type !== IommuHwInfoType.DEFAULT && type !== IommuHwInfoType.INTEL_VTD) return -Errno.EOPNOTSUPP;
    return { type: IommuHwInfoType.INTEL_VTD, data: IommuHwInfoVtd.encode({ cap_reg: 0xca9, ecap_reg: 0xeca9 }) };
  }

  createPaging(options: HostPagingOptions): FakePagingDomain | number {
    const error = this.#driver.called('createPaging', options.nestParent ? 'parent' : 'plain');
    if (error !== 0) return error;
    if (options.dirtyTracking && !this.dirtyTracking) return -Errno.EOPNOTSUPP;
    if (options.nestParent && this.#driver.stage1Format === 0) return -Errno.EOPNOTSUPP;
    return this.#made(new FakePagingDomain(this.#driver, this.#nextId++, options));
  }

  createNested(
    parent: HostPagingDomain,
    dataType: number,
    data: Uint8Array,
    options: HostNestedOptions,
  ): FakeNestedDomain | number {
    if (this.#driver.stage1Format === 0 || dataType !== IommuHwptDataType.VTD_S1) return -Errno.EOPNOTSUPP;
    if (!(parent instanceof FakePagingDomain) || !parent.options.nestParent) return -Errno.EINVAL;
    if (data.length !== IommuHwptVtdS1.size) return -Errno.EINVAL;
    const { pgtbl_addr } = IommuHwptVtdS1.fields;
    const error = this.#driver.called('createNested', `${parent.id} 0x${pgtbl_addr.number(viewOf(data)).toString(16)}`);
    return error === 0 ? this.#made(new FakeNestedDomain(this.#driver, this.#nextId++, parent, data, options)) : error;
  }

  setDomain(requesterId: number, pasid: number, domain: HostUserDomain | undefined): number {
    const where = `0x${requesterId.toString(16)}${pasid === NO_PASID ? '' : ` ${pasid}`}`;
    const ours = domain instanceof FakePagingDomain || domain instanceof FakeNestedDomain ? domain : undefined;
    const error = this.#driver.called('setDomain', `${where} ${ours?.id ?? 'blocked'}`);
    if (error !== 0) {
      if (domain === undefined) this.#stuck.add(`${requesterId} ${pasid}`);
      return error;
    }
    if (domain !== ours || (ours?.kind === 'nested' && !ours.possible)) return -Errno.EINVAL;
    if (this.#driver.domainOf(requesterId) !== undefined) return -Errno.EBUSY;
    const served = this.served.get(requesterId) ?? new Map<number, FakeUserDomain>();
    const before = served.get(pasid);
    if (before instanceof FakeNestedDomain && before !== ours) before.cached.clear();
    if (ours === undefined) served.delete(pasid);
    else served.set(pasid, ours);
    if (served.size === 0) this.served.delete(requesterId);
    else this.served.set(requesterId, served);
    return 0;
  }

  takePageRequests(): PageRequest[] {
    return this.#requests.splice(0);
  }

  respond(request: PageRequest, code: number): number {
    const error = this.#driver.called('respond', `0x${request.requesterId.toString(16)} ${request.group} ${code}`);
    if (error === 0) this.responses.push({ request, code });
    return error;
  }

  /** A function asks for a page: the kernel finds it when it is told (Kernel.takePageRequests; in a host the unit's message does that). */
  requestPage(request: PageRequest): void {
    this.#requests.push(request);
  }

  /** What an access of a function meets; a permitted write is noted. */
  access(requesterId: number, pasid: number, frame: number, access: number): FakePage | undefined {
    const domain = this.served.get(requesterId)?.get(pasid);
    const paging = domain instanceof FakeNestedDomain ? domain.parent : domain;
    const page = paging?.permitted(frame, access);
    if (page !== undefined && paging!.tracking && (access & Access.WRITE) !== 0) paging!.dirty.add(frame);
    return page;
  }

  /** A domain is gone. @throws Error if something is served by it. */
  disposed(domain: FakeUserDomain): void {
    for (const [requesterId, served] of this.served) {
      for (const [pasid, each] of served) {
        if (each !== domain) continue;
        if (!this.#stuck.delete(`${requesterId} ${pasid}`))
          throw new Error(`domain ${domain.id} still serves 0x${requesterId.toString(16)}, ${pasid}`);
        served.delete(pasid);
        if (served.size === 0) this.served.delete(requesterId);
      }
    }
    this.domains.delete(domain);
  }

  /** What is programmed now, without domain ids, which never come back. */
  state(): unknown {
    return {
      domains: [...this.domains].map(domain =>
        domain.kind === 'nested'
          ? { nested: domain.data.length }
          : { pages: domain.pages.size, tracking: domain.tracking },
      ),
      served: [...this.served].map(([requesterId, served]) => ({ requesterId, pasids: [...served.keys()] })),
    };
  }

  #made<D extends FakeUserDomain>(domain: D): D {
    this.domains.add(domain);
    return domain;
  }
}
