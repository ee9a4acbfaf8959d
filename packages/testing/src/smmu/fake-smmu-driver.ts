/**
 * An SMMUv3 in plain memory, as a host's driver: a second vendor, whose nesting is unlike VT-d's. Guests' commands go through a vIOMMU, their PASIDs
 * are in tables of their own, and a VM's entries are known by its VMID (smmuv3.md 10.4, peers.md 3.4). First stages are not walked; what the unit
 * would remember, a test plants in `caches`.
 */
import { Errno, NO_PASID } from '@remora/core';
import type {
  HostHardwareInfo,
  HostIommuFault,
  HostIommuUserOps,
  HostPagingDomain,
  HostPagingOptions,
  HostUserDomain,
  HostViommu,
  PageRequest,
  ViommuReport,
} from '@remora/iommu';
import { type FakeIommuDomain, FakeIommuDriver } from '../fake-iommu-driver.js';
import type { FakePage } from '../fake-mappings.js';
import { SmmuCaches } from './caches.js';
import { FakeVsmmu, SmmuNested } from './fake-vsmmu.js';
import { SmmuStage2 } from './stage2.js';
import { SmmuType } from './types.js';

const HW_INFO_BYTES = { [SmmuType.HW_INFO_SMMUV3]: 40, [SmmuType.HW_INFO_CMDQV]: 8 } as const;
/** Words of an event record. */
const EVENT_WORDS = 8;
const SSV = 1 << 11;
/** In the fourth word: the fault is stage 2's; the access was a read. In the third: the transaction is stalled. */
const EVENT_STAGE2 = 1 << 7;
const EVENT_READ = 1 << 3;
/** In the fourth word: it is the input address itself that faults. */
const EVENT_INPUT = 2 << 8;
const EVENT_STALL = 1 << 31;

export interface FakeSmmuOptions {
  /** Whether a function is behind this unit; default: all are. */
  readonly serves?: (requesterId: number) => boolean;
  /** How many StreamIDs a function has; default 1. */
  readonly streams?: (requesterId: number) => number;
  /** Hardware queues of a VM (CMDQ-V); default 0: the unit has none. */
  readonly queues?: number;
}

export class FakeSmmuDriver extends FakeIommuDriver {
  /** What the unit remembers. */
  readonly caches = new SmmuCaches();
  /** Commands that the unit executed, in the batches in which it got them (a SYNC ends each). */
  readonly issued: Int32Array[][] = [];
  /** What serves each function's requests, by PASID (NO_PASID: without one). */
  readonly streams = new Map<number, Map<number, HostUserDomain>>();
  /** Answers that went out to functions. */
  readonly responses: { readonly request: PageRequest; readonly code: number }[] = [];
  readonly queues: number;
  readonly #serves: (requesterId: number) => boolean;
  readonly #streams: (requesterId: number) => number;
  readonly #faults: HostIommuFault[] = [];
  readonly #requests: PageRequest[] = [];
  #nextVmid = 1;
  #brokenBatch = 0;

  constructor(options: FakeSmmuOptions = {}) {
    super({ stage1Format: 0 });
    this.#serves = options.serves ?? (() => true);
    this.#streams = options.streams ?? (() => 1);
    this.queues = options.queues ?? 0;
  }

  override readonly user: HostIommuUserOps = {
    dirtyTracking: false,
    hardwareInfo: (_requesterId, type) => this.#hardwareInfo(type),
    createPaging: options => this.#createPaging(options),
    // Nested domains are a VM's: they are made through its vIOMMU.
    createNested: () => -Errno.EOPNOTSUPP,
    setDomain: (requesterId, pasid, domain) => this.#setDomain(requesterId, pasid, domain),
    takePageRequests: () => this.#requests.splice(0),
    respond: (request, code) => {
      this.responses.push({ request, code });
      return 0;
    },
    viommu: {
      offers: (_requesterId, type) =>
        type === SmmuType.VIOMMU_SMMUV3 || (type === SmmuType.VIOMMU_CMDQV && this.queues > 0),
      createViommu: (requesterId, parent, type, data, report) =>
        this.#createViommu(requesterId, parent, type, data, report),
    },
  };

  serves(requesterId: number): boolean {
    return this.#serves(requesterId);
  }

  /** A guest can only know a function that has just one StreamID. */
  hasOneStream(requesterId: number): boolean {
    return this.#streams(requesterId) === 1;
  }

  /** The next batch of commands is not executed: the queue answers -EIO. */
  breakBatch(): void {
    this.#brokenBatch = 1;
  }

  /** Puts commands into the queue, and a SYNC; 0, or -errno and none is executed. */
  issue(commands: readonly Int32Array[]): number {
    if (this.#brokenBatch-- > 0) return -Errno.EIO;
    this.#brokenBatch = 0;
    this.issued.push([...commands]);
    for (const command of commands) this.caches.execute(command);
    return 0;
  }

  /** The unit records an event: 8 words, whose StreamID (the second) is the function's. Its VM gets it if it is about the guest's own stage. */
  raise(words: Int32Array): void {
    const requesterId = words[1]!;
    const domain = this.streams.get(requesterId)?.get(NO_PASID);
    const guests = (words[3]! & EVENT_STAGE2) === 0 && (words[2]! & EVENT_STALL) === 0;
    if (guests && domain instanceof SmmuNested && domain.vsmmu.reportFault(requesterId, words)) return;
    this.#faults.push({
      requesterId,
      pasid: (words[0]! & SSV) === 0 ? NO_PASID : words[0]! >>> 12,
      hi: words[5]!,
      lo: words[4]!,
      write: (words[3]! & EVENT_READ) === 0,
      reason: words[0]! & 0xff,
    });
  }

  /** A function asks for a page; the kernel finds it with takePageRequests. */
  requestPage(request: PageRequest): void {
    this.#requests.push(request);
  }

  override takeFaults(): HostIommuFault[] {
    return this.#faults.splice(0);
  }

  /** The second stage that serves requests without PASID. Guests' stage 1 is not walked: what it translates is refused. */
  override domainOf(requesterId: number): FakeIommuDomain | undefined {
    const domain = this.streams.get(requesterId)?.get(NO_PASID);
    if (domain instanceof SmmuStage2) return domain;
    if (domain instanceof SmmuNested) return domain.stage1.kind === 'bypass' ? domain.vsmmu.parent : undefined;
    return super.domainOf(requesterId);
  }

  /** PASIDs are the host's own where they are not a guest's. */
  override access(requesterId: number, pasid: number, frame: number, access: number): FakePage | undefined {
    const own = this.streams.get(requesterId)?.get(pasid);
    const domain = pasid === NO_PASID ? this.domainOf(requesterId) : own instanceof SmmuStage2 ? own : undefined;
    return domain?.permitted(frame, access);
  }

  #hardwareInfo(type: number): HostHardwareInfo | number {
    const asked = type === 0 ? SmmuType.HW_INFO_SMMUV3 : type;
    if (asked === SmmuType.HW_INFO_CMDQV && this.queues === 0) return -Errno.EOPNOTSUPP;
    if (asked !== SmmuType.HW_INFO_SMMUV3 && asked !== SmmuType.HW_INFO_CMDQV) return -Errno.EOPNOTSUPP;
    return { type: asked, data: new Uint8Array(HW_INFO_BYTES[asked]) };
  }

  #createPaging({ nestParent, dirtyTracking }: HostPagingOptions): SmmuStage2 | number {
    if (dirtyTracking) return -Errno.EOPNOTSUPP;
    const domain = new SmmuStage2(this, this.#nextVmid++, nestParent);
    this.domains.add(domain);
    return domain;
  }

  #createViommu(
    requesterId: number,
    parent: HostPagingDomain,
    type: number,
    data: Uint8Array,
    report: ViommuReport,
  ): HostViommu | number {
    if (!(parent instanceof SmmuStage2) || parent.driver !== this || !parent.nestParent) return -Errno.EINVAL;
    if (!this.serves(requesterId)) return -Errno.EINVAL;
    return FakeVsmmu.create(this, parent, type, data, report);
  }

  #setDomain(requesterId: number, pasid: number, domain: HostUserDomain | undefined): number {
    if (!this.serves(requesterId)) return -Errno.EINVAL;
    const stream = this.streams.get(requesterId) ?? new Map<number, HostUserDomain>();
    if (domain instanceof SmmuNested) {
      if (pasid !== NO_PASID || domain.vsmmu.driver !== this) return -Errno.EINVAL;
      if ([...stream.keys()].some(other => other !== NO_PASID)) return -Errno.EBUSY;
      if (domain.stage1.kind === 'translate' && domain.vsmmu.virtualOf(requesterId) === undefined) return -Errno.ENOENT;
    } else if (domain !== undefined && !(domain instanceof SmmuStage2 && domain.driver === this)) return -Errno.EINVAL;
    if (domain === undefined) stream.delete(pasid);
    else stream.set(pasid, domain);
    if (stream.size === 0) this.streams.delete(requesterId);
    else this.streams.set(requesterId, stream);
    return 0;
  }
}

/** An event record as tests write it; `sid` is the unit's StreamID. */
export function smmuEvent(event: {
  readonly type: number;
  readonly sid: number;
  readonly ssid?: number;
  readonly address: number;
  readonly read?: boolean;
  readonly stage2?: boolean;
}): Int32Array {
  const words = new Int32Array(EVENT_WORDS);
  words[0] = event.type | (event.ssid === undefined ? 0 : SSV | (event.ssid << 12));
  words[1] = event.sid;
  words[3] = EVENT_INPUT | (event.stage2 === true ? EVENT_STAGE2 : 0) | (event.read === false ? 0 : EVENT_READ);
  words[4] = event.address | 0;
  words[5] = Math.floor(event.address / 2 ** 32);
  return words;
}
