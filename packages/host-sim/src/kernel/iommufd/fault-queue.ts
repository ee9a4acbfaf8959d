/**
 * IOMMU_FAULT_QUEUE_ALLOC: page requests of devices on their way to user space, and its answers (peers.md 3.4). A group of requests is read as a whole,
 * gets a cookie by that, and waits for an answer. When the way on which it came is gone, it is answered for user space: invalid. As in Linux
 * the descriptor alone may go and nobody is answered by that.
 */
import { Access, Errno, NO_PASID } from '@remora/core';
import { type PageRequest, PageResponse } from '@remora/iommu';
import {
  IommuFaultAlloc,
  IOMMU_FAULT_QUEUE_ALLOC,
  IommufdPageResponseCode,
  IommuHwptPageResponse,
  IommuHwptPgfault,
  IommuPgfaultFlag,
  IommuPgfaultPerm,
  viewOf,
} from '@remora/uapi';
import type { Kernel } from '../kernel.js';
import { EventQueue } from './event-queue.js';
import { iommufdIoctl } from './ioctls.js';

/** What a device's requests with one PASID, or without one, go through: a device that is attached to a page table. */
export interface FaultSource {
  /** The device, as user space knows it. */
  readonly device: { readonly id: number };
}

interface FaultGroup {
  readonly source: FaultSource;
  /** In the order in which they came; the last ends the group and is the one that is answered. */
  readonly requests: readonly PageRequest[];
}

/** IOMMU_FAULT_PAGE_RESPONSE_NEEDS_PASID: the kernel's own flag, not in linux/iommufd.h, which Linux 7.3.4 hands out all the same. */
const RESPONSE_NEEDS_PASID = 4;
/** How many requests of a group are kept before its last one: more than any device has outstanding. */
const GROUP_LIMIT = 512;

export class FaultQueue extends EventQueue {
  readonly kind = 'fault-queue';
  readonly #kernel: Kernel;
  /** Groups that have no last request yet, by source and group index. */
  readonly #partial = new Map<FaultSource, Map<number, PageRequest[]>>();
  readonly #queued: FaultGroup[] = [];
  /** Read, and not answered: by cookie. */
  readonly #waiting = new Map<number, FaultGroup>();

  constructor(kernel: Kernel) {
    super();
    this.#kernel = kernel;
  }

  get readable(): boolean {
    return this.#queued.length > 0;
  }

  /** A request that came through `source`. With the last of its group, user space gets them all. */
  take(source: FaultSource, request: PageRequest): void {
    const groups = this.#partial.get(source) ?? new Map<number, PageRequest[]>();
    this.#partial.set(source, groups);
    const requests = groups.get(request.group) ?? [];
    groups.set(request.group, requests);
    if (requests.length < GROUP_LIMIT || request.last) requests.push(request);
    else this.#kernel.note('page-request-dropped', { requesterId: request.requesterId, group: request.group });
    if (!request.last) return;
    groups.delete(request.group);
    if (groups.size === 0) this.#partial.delete(source);
    const group = { source, requests };
    const refused = this.#kernel.fails('queue page requests');
    if (refused !== 0) {
      this.#answer(group, PageResponse.INVALID_REQUEST, `cannot be queued: ${refused}`);
      return;
    }
    this.#queued.push(group);
    this.readiness.signal();
  }

  /** `source` is gone: so is everything that came through it. */
  abandon(source: FaultSource): void {
    this.#partial.delete(source);
    const orphans = [...this.#queued, ...this.#waiting.values()].filter(group => group.source === source);
    for (const [cookie, group] of this.#waiting) if (group.source === source) this.#waiting.delete(cookie);
    const kept = this.#queued.filter(group => group.source !== source);
    this.#queued.splice(0, this.#queued.length, ...kept);
    for (const group of orphans) this.#answer(group, PageResponse.INVALID_REQUEST, 'detached');
  }

  override read(buffer: Uint8Array): number {
    if (buffer.length % IommuHwptPgfault.size !== 0) return -Errno.ESPIPE;
    const view = viewOf(buffer);
    const queued = this.#queued;
    let done = 0;
    let groups = 0;
    let cookie = 0;
    for (; groups < queued.length && done < buffer.length; groups++) {
      const group = queued[groups]!;
      if (group.requests.length * IommuHwptPgfault.size > buffer.length - done) break;
      cookie = this.#freeCookie(cookie + 1);
      this.#waiting.set(cookie, group);
      for (const request of group.requests) {
        writeFault(view, done, group.source.device.id, request, cookie);
        done += IommuHwptPgfault.size;
      }
    }
    queued.splice(0, groups);
    return groups === 0 && queued.length > 0 && buffer.length > 0 ? -Errno.EINVAL : done;
  }

  override write(buffer: Uint8Array): number {
    if (buffer.length % IommuHwptPageResponse.size !== 0) return -Errno.ESPIPE;
    const view = viewOf(buffer);
    const { cookie, code } = IommuHwptPageResponse.fields;
    for (let done = 0; done < buffer.length; done += IommuHwptPageResponse.size) {
      const group = this.#waiting.get(cookie.get(view, done));
      const answer = ANSWERS.get(code.get(view, done));
      if (group === undefined || answer === undefined) return done === 0 ? -Errno.EINVAL : done;
      this.#waiting.delete(cookie.get(view, done));
      this.#answer(group, answer, 'user space');
    }
    return buffer.length;
  }

  override release(): void {
    this.#partial.clear();
    const orphans = [...this.#queued.splice(0), ...this.#waiting.values()];
    this.#waiting.clear();
    for (const group of orphans) this.#answer(group, PageResponse.INVALID_REQUEST, 'destroyed');
  }

  override state(): unknown {
    return {
      partial: [...this.#partial.values()].reduce((count, groups) => count + groups.size, 0),
      queued: this.#queued.length,
      waiting: [...this.#waiting.keys()].sort((a, b) => a - b),
    };
  }

  /** The lowest that no waiting group has, from `first` on. */
  #freeCookie(first: number): number {
    let cookie = first;
    while (this.#waiting.has(cookie)) cookie++;
    return cookie;
  }

  /** Nobody hears of a unit that does not take the answer, as in Linux; the ledger does. */
  #answer(group: FaultGroup, code: number, by: string): void {
    const last = group.requests.at(-1)!;
    const result = this.#kernel.iommu!.driver.user!.respond(last, code);
    const { requesterId, pasid, group: index } = last;
    this.#kernel.note('page-response', { requesterId, pasid, group: index, code, by, result });
  }
}

/** PageResponse by the code of iommu_hwpt_page_response. */
const ANSWERS: ReadonlyMap<number, number> = new Map([
  [IommufdPageResponseCode.SUCCESS, PageResponse.SUCCESS],
  [IommufdPageResponseCode.INVALID, PageResponse.INVALID_REQUEST],
]);

function writeFault(view: DataView, at: number, deviceId: number, request: PageRequest, cookie: number): void {
  const { fields } = IommuHwptPgfault;
  const { pasid, last, access } = request;
  for (let byte = 0; byte < IommuHwptPgfault.size; byte++) view.setUint8(at + byte, 0);
  const tagged = pasid === NO_PASID ? 0 : IommuPgfaultFlag.PASID_VALID | RESPONSE_NEEDS_PASID;
  const flags = tagged | (last ? IommuPgfaultFlag.LAST_PAGE : 0);
  fields.flags.set(view, flags, at);
  fields.dev_id.set(view, deviceId, at);
  if (pasid !== NO_PASID) fields.pasid.set(view, pasid, at);
  fields.grpid.set(view, request.group, at);
  fields.perm.set(view, permissions(access), at);
  fields.addr.set(view, request.hi, request.lo, at);
  fields.cookie.set(view, cookie, at);
}

function permissions(access: number): number {
  return (
    (access & Access.READ ? IommuPgfaultPerm.READ : 0) |
    (access & Access.WRITE ? IommuPgfaultPerm.WRITE : 0) |
    (access & Access.EXECUTE ? IommuPgfaultPerm.EXEC : 0) |
    (access & Access.PRIVILEGED ? IommuPgfaultPerm.PRIV : 0)
  );
}

const allocate = iommufdIoctl('IOMMU_FAULT_QUEUE_ALLOC', IOMMU_FAULT_QUEUE_ALLOC, IommuFaultAlloc, (context, view) => {
  const { flags, out_fault_id, out_fault_fd } = IommuFaultAlloc.fields;
  if (flags.get(view) !== 0) return -Errno.EOPNOTSUPP;
  const queue = new FaultQueue(context.kernel);
  const fd = queue.publish(context);
  if (fd < 0) return fd;
  out_fault_id.set(view, queue.id);
  out_fault_fd.set(view, fd);
  return 0;
});

export const faultIoctls = [allocate];
