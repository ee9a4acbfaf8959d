/**
 * A HostIommuDriver in plain memory: records what the kernel asks of a physical IOMMU, keeps the state that a real one would
 * have, and fails where a test wants it to. Requests without PASID can be translated through it; first stages are not walked.
 */
import { hex } from '@remora/bits';
import { Errno } from '@remora/core';
import {
  type HostIommuDomain,
  type HostIommuDriver,
  type HostIommuFault,
  type HostIommuUserOps,
  type Stage1Config,
  Stage1Format,
  type Stage1Flush,
} from '@remora/iommu';
import { FakeMappings, type FakePage } from './fake-mappings.js';
import { FakeUserOps } from './fake-user-ops.js';

export type DriverOp =
  | 'createDomain'
  | 'setTag'
  | 'map'
  | 'mapFrames'
  | 'unmap'
  | 'attach'
  | 'detach'
  | 'bindPasid'
  | 'unbindPasid'
  | 'flushStage1'
  | 'createPaging'
  | 'createNested'
  | 'setDomain'
  | 'setDirtyTracking'
  | 'invalidate'
  | 'respond';

interface PlannedFailure {
  readonly op: DriverOp;
  left: number;
  readonly errno: number;
}

/** As many tags as a VT-d unit with 16-bit domain ids. */
const TAGS = 0x1_0000;

export class FakeIommuDomain extends FakeMappings implements HostIommuDomain {
  /** By requester id: the bound PASIDs. */
  readonly attached = new Map<number, Map<number, Stage1Config>>();
  readonly #driver: FakeIommuDriver;
  #finalised = false;

  constructor(driver: FakeIommuDriver, id: number) {
    super(driver, id);
    this.#driver = driver;
  }

  setTag(tag: number, sharing?: HostIommuDomain): number {
    const error = this.#driver.called('setTag', `${this.id} ${tag}${sharing === undefined ? '' : ' shared'}`);
    if (error !== 0) return error;
    if (this.#finalised) return -Errno.EPERM;
    if (tag <= 0 || tag >= TAGS) return -Errno.EINVAL;
    const taken = [...this.#driver.domains].some(domain => domain !== this && domain.id === tag);
    if (taken && sharing?.id !== tag) return -Errno.EBUSY;
    this.id = tag;
    return 0;
  }

  attach(requesterId: number): number {
    const error = this.#driver.called('attach', `${this.id} ${hex(0, requesterId)}`);
    if (error !== 0) return error;
    const lent = this.#driver.domainOf(requesterId) !== undefined || this.#driver.userOps.served.has(requesterId);
    if (lent) return -Errno.EBUSY;
    this.attached.set(requesterId, new Map());
    this.#finalised = true;
    return 0;
  }

  detach(requesterId: number): number {
    const error = this.#driver.called('detach', `${this.id} ${hex(0, requesterId)}`);
    if (error !== 0) return error;
    const bound = this.attached.get(requesterId);
    if (bound === undefined) return -Errno.EINVAL;
    if (bound.size > 0) return -Errno.EBUSY;
    this.attached.delete(requesterId);
    return 0;
  }

  bindPasid(requesterId: number, pasid: number, config: Stage1Config): number {
    const root = hex(config.rootHi, config.rootLo);
    const error = this.#driver.called('bindPasid', `${this.id} ${hex(0, requesterId)} ${pasid} ${root}`);
    if (error !== 0) return error;
    const bound = this.attached.get(requesterId);
    if (bound === undefined) return -Errno.EINVAL;
    if (bound.has(pasid)) return -Errno.EBUSY;
    bound.set(pasid, config);
    return 0;
  }

  unbindPasid(requesterId: number, pasid: number): number {
    const error = this.#driver.called('unbindPasid', `${this.id} ${hex(0, requesterId)} ${pasid}`);
    if (error !== 0) return error;
    return this.attached.get(requesterId)?.delete(pasid) === true ? 0 : -Errno.EINVAL;
  }

  flushStage1(requesterId: number, flush: Stage1Flush): number {
    const pages =
      flush.granularity === 'pasid'
        ? ''
        : ` ${hex(flush.hi, flush.lo)} shift ${flush.granuleShift} x${flush.granules}${flush.leaf ? ' leaf' : ''}`;
    const error = this.#driver.called('flushStage1', `${this.id} ${hex(0, requesterId)} ${flush.pasid}${pages}`);
    if (error !== 0) return error;
    return this.attached.get(requesterId)?.has(flush.pasid) === true ? 0 : -Errno.EINVAL;
  }

  [Symbol.dispose](): void {
    if (this.attached.size > 0) throw new Error(`domain ${this.id} still has devices`);
    this.#driver.domains.delete(this);
  }
}

export interface FakeIommuOptions {
  readonly stage1Format?: number;
  readonly pasidBits?: number;
  readonly addressWidth?: number;
  /** Whether user space's domains can tell which pages were written; default true. */
  readonly dirtyTracking?: boolean;
}

export class FakeIommuDriver implements HostIommuDriver {
  readonly stage1Format: number;
  readonly pasidBits: number;
  readonly pageSizes = 0x1000;
  readonly addressWidth: number;
  /** Every call, oldest first: `bindPasid 1 0x3f00 5 0x1000`, with the domain first and numbers of devices in hexadecimal. */
  readonly calls: string[] = [];
  readonly domains = new Set<FakeIommuDomain>();
  /** What `user` is, as tests look at it. */
  readonly userOps: FakeUserOps;
  readonly user: HostIommuUserOps;
  readonly #failures: PlannedFailure[] = [];
  #nextDomain = 1;

  constructor(options: FakeIommuOptions = {}) {
    this.stage1Format = options.stage1Format ?? Stage1Format.INTEL_VTD;
    this.pasidBits = options.pasidBits ?? 20;
    this.addressWidth = options.addressWidth ?? 48;
    this.userOps = new FakeUserOps(this, options.dirtyTracking ?? true);
    this.user = this.userOps;
  }

  /** The `nth` next call of `op` (1 = the next one) answers -errno and changes nothing. */
  fail(op: DriverOp, errno: number, nth = 1): void {
    this.#failures.push({ op, left: nth, errno });
  }

  /** Forgets what was to fail and has not. */
  forgive(): void {
    this.#failures.length = 0;
  }

  /** Forgets and returns the calls so far. */
  takeCalls(): string[] {
    return this.calls.splice(0);
  }

  /** Records a call; 0, or the negated errno with which it has to fail. */
  called(op: DriverOp, details: string): number {
    this.calls.push(`${op} ${details}`);
    return this.#resultOf(op);
  }

  #resultOf(op: DriverOp): number {
    if (this.#failures.length === 0) return 0;
    const due = this.#failures.filter(failure => failure.op === op && --failure.left === 0);
    for (const failure of due) this.#failures.splice(this.#failures.indexOf(failure), 1);
    return due.length === 0 ? 0 : -due.at(-1)!.errno;
  }

  domainOf(requesterId: number): FakeIommuDomain | undefined {
    return [...this.domains].find(domain => domain.attached.has(requesterId));
  }

  /** Where an access of a function to a page frame ends; undefined if it is refused. First stages are not walked. */
  access(requesterId: number, pasid: number, frame: number, access: number): FakePage | undefined {
    const domain = this.domainOf(requesterId);
    if (domain === undefined) return this.userOps.access(requesterId, pasid, frame, access);
    return pasid >= 0 ? undefined : domain.permitted(frame, access);
  }

  start(): void {}

  /** Not among the calls: what is done with the domain tells of it. */
  createDomain(): FakeIommuDomain | number {
    const error = this.#resultOf('createDomain');
    if (error !== 0) return error;
    const domain = new FakeIommuDomain(this, this.#nextDomain++);
    this.domains.add(domain);
    return domain;
  }

  takeFaults(): HostIommuFault[] {
    return [];
  }

  /** What is programmed now, for comparisons; without domain ids, which never come back. */
  state(): unknown {
    return [...this.domains].map(domain => ({
      pages: domain.pages.size,
      attached: [...domain.attached].map(([requesterId, bound]) => ({ requesterId, pasids: [...bound.keys()] })),
    }));
  }

  [Symbol.dispose](): void {}
}
