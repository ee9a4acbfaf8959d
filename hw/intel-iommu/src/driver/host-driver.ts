/** HostIommuDriver on a VT-d unit: scalable mode, second-stage domains, guests' first stages nested over them. */
import { Errno, type MemoryPort } from '@remora/core';
import { type HostIommuDriver, type HostIommuFault, Stage1Format } from '@remora/iommu';
import { widthOfLevels } from '../spec/index.js';
import { DomainIds } from './domain-ids.js';
import { type HostUnit, VtdHostDomain } from './host-domain.js';
import type { PageAllocator } from './page-allocator.js';
import { PageTable } from './page-table.js';
import type { VtdRegisters } from './registers.js';
import { VtdUserOps } from './user-ops.js';
import { type EventMessage, VtdDriver, type VtdDriverOptions } from './vtd-driver.js';

export interface VtdHostOptions extends Omit<VtdDriverOptions, 'mode' | 'vcmdLayout'> {
  /** Lowest domain id that is given out; default 0x100, away from what guests use. */
  readonly firstDomainId?: number;
  /** Where fault messages go; without it they stay masked. */
  readonly faults?: EventMessage;
  /** Whether a function has a device TLB (ATS) that it may use, if the unit serves any; default none has. */
  readonly hasAts?: (requesterId: number) => boolean;
  /** Sets or clears ATS Enable of a function that has it: called once its context entry lets it, and before that entry goes. */
  readonly enableAts?: (requesterId: number, on: boolean) => void;
  /** Whether a function can request pages (PRI), if the unit takes that; default none can. */
  readonly hasPri?: (requesterId: number) => boolean;
  /** Lets such a function request pages, or not. */
  readonly enablePri?: (requesterId: number, on: boolean) => void;
  /** Where page-request messages go; without it no function may request pages. */
  readonly pageRequests?: EventMessage;
  /** Told of each first stage that was bound, and of each domain of user space (the PASID entry, 16 words), or that it is gone (undefined). */
  readonly programmed?: (requesterId: number, pasid: number, entry: Int32Array | undefined) => void;
}

/** The unit's tables as a host's dump shows them: plain data. */
export interface VtdHostDescription {
  readonly domains: readonly { readonly id: number; readonly rootFrame: number; readonly pages: number }[];
  readonly functions: readonly {
    readonly requesterId: number;
    readonly domain: number;
    /** Fields of the PASID entries that are not 0, by the names in `spec`. */
    readonly pasids: readonly { readonly pasid: number; readonly entry: Readonly<Record<string, number>> }[];
  }[];
  /** Domains of user space and whom they serve; absent while there is nothing. */
  readonly user?: unknown;
}

const DEFAULT_FIRST_DOMAIN = 0x100;

export class VtdHostDriver implements HostIommuDriver {
  readonly stage1Format: number;
  readonly pasidBits: number;
  readonly pageSizes: number;
  readonly addressWidth: number;
  /** The driver below, for inspection. */
  readonly driver: VtdDriver;
  readonly #memory: MemoryPort;
  readonly #pages: PageAllocator;
  readonly #options: VtdHostOptions;
  readonly #levels: 3 | 4 | 5;
  readonly #domains = new Set<VtdHostDomain>();
  readonly #ids = new DomainIds();
  readonly #unit: HostUnit;
  readonly user: VtdUserOps;

  /** @throws Error if no unit answers, or it has no scalable mode or no second stage. */
  constructor(registers: VtdRegisters, memory: MemoryPort, pages: PageAllocator, options: VtdHostOptions = {}) {
    this.driver = new VtdDriver(registers, memory, pages, { ...options, mode: 'scalable' });
    this.#memory = memory;
    this.#pages = pages;
    this.#options = options;
    const { capabilities } = this.driver;
    const levels = capabilities.secondStageLevels;
    if (levels === 0 || capabilities.ecap.ssts === 0) throw new Error('VT-d: the unit has no second stage');
    this.#levels = levels;
    this.stage1Format = capabilities.ecap.nest ? Stage1Format.INTEL_VTD : 0;
    this.pasidBits = Math.min(capabilities.pasidBits, options.pasidBits ?? capabilities.pasidBits);
    const largest = capabilities.largestSecondStageLeaf;
    this.pageSizes = 2 ** 12 + (largest >= 21 ? 2 ** 21 : 0) + (largest >= 30 ? 2 ** 30 : 0);
    this.addressWidth = Math.min(widthOfLevels(levels), capabilities.cap.mgaw + 1);
    const common = {
      driver: this.driver,
      hasAts: (requesterId: number): boolean => capabilities.ecap.dt === 1 && options.hasAts?.(requesterId) === true,
      enableAts: options.enableAts ?? ((): undefined => undefined),
      programmed: options.programmed ?? ((): undefined => undefined),
    };
    this.#unit = {
      ...common,
      functions: new Map(),
      lentToUser: requesterId => this.user.has(requesterId),
      retag: (domain, id, sharing) =>
        id > 0 && id < capabilities.domains ? this.#ids.move(domain.id, id, sharing?.id === id) : -Errno.EINVAL,
      release: domain => {
        this.#domains.delete(domain);
        this.#ids.drop(domain.id);
      },
    };
    this.user = new VtdUserOps({
      ...common,
      memory,
      pasidBits: this.pasidBits,
      pageSizes: this.pageSizes,
      addressWidth: this.addressWidth,
      takesPageRequests: this.#takesPageRequests,
      takeId: () => this.#takeId(),
      releaseId: id => this.#ids.drop(id),
      createTable: () => this.#createTable(),
      lent: requesterId => this.#unit.functions.has(requesterId),
      hasPri: requesterId => options.hasPri?.(requesterId) === true,
      enablePri: options.enablePri ?? ((): undefined => undefined),
    });
  }

  start(): void {
    this.driver.start(this.#options.faults);
    if (!this.#takesPageRequests) return;
    const knows = (requesterId: number): boolean => this.user.has(requesterId);
    this.driver.enablePageRequests(
      { handler: request => this.user.requested(request), knows },
      this.#options.pageRequests,
    );
  }

  /** -ENOSPC if all domain ids are taken, -ENOMEM if there is no page for the root. */
  createDomain(): VtdHostDomain | number {
    const id = this.#takeId();
    if (id < 0) return id;
    const table = this.#createTable();
    if (typeof table === 'number') {
      this.#ids.drop(id);
      return table;
    }
    const domain = new VtdHostDomain(this.#unit, id, table);
    this.#domains.add(domain);
    return domain;
  }

  takeFaults(): HostIommuFault[] {
    return this.driver.handleFaults(this.user.viommu.claim);
  }

  describe(): VtdHostDescription {
    const user = this.user.describe();
    return {
      domains: [...this.#domains].map(domain => ({
        id: domain.id,
        rootFrame: domain.rootFrame,
        pages: [...domain.mappings()].reduce((sum, run) => sum + run.pages, 0),
      })),
      functions: [...this.#unit.functions].map(([requesterId, domain]) => ({
        requesterId,
        domain: domain.id,
        pasids: domain.describePasids(requesterId),
      })),
      ...(user === undefined ? {} : { user }),
    };
  }

  /** Blocks every function, stops the unit and returns every page. */
  [Symbol.dispose](): void {
    this.user[Symbol.dispose]();
    for (const domain of [...this.#domains]) domain[Symbol.dispose]();
    this.driver.stop();
    this.driver.free();
  }

  get #takesPageRequests(): boolean {
    return this.driver.capabilities.ecap.prs === 1 && this.#options.pageRequests !== undefined;
  }

  #takeId(): number {
    const id = this.#ids.free(this.#options.firstDomainId ?? DEFAULT_FIRST_DOMAIN);
    if (id >= this.driver.capabilities.domains) return -Errno.ENOSPC;
    this.#ids.hold(id);
    return id;
  }

  #createTable(): PageTable | number {
    return PageTable.create(this.#memory, this.#pages, {
      stage: 'second',
      levels: this.#levels,
      largestLeaf: this.driver.capabilities.largestSecondStageLeaf,
    });
  }
}
