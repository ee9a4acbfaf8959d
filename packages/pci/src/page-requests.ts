/**
 * The page requests of one function (PCIe 10.4): a group index for each that is outstanding, a queue for those that software's allocation
 * does not let out yet, and what the responses mean. Each request is a group of its own.
 */
import { NO_PASID, type StateReader, type StateWriter } from '@remora/core';
import { PageResponse } from '@remora/iommu';
import type { PciFunction } from './function.js';
import { PAGE_REQUEST_GROUPS, type PriCapability } from './pri-capability.js';

/** Who wants a page. One request at a time. */
export interface PageWaiter {
  readonly pasid: number;
  /** Byte address. */
  readonly hi: number;
  readonly lo: number;
  /** As in PageRequest. */
  readonly access: number;
  /** The request has its answer: SUCCESS (try again), or another PageResponse. May be called before `request` returns. */
  answered(code: number): void;
}

/** Its response is awaited, though nobody wants the page any more. */
const ABANDONED = Symbol('abandoned');
const MAX_PASID = 0xf_ffff;

export class PageRequests {
  readonly #fn: PciFunction;
  readonly #pri: PriCapability;
  /** By group index. */
  readonly #groups = new Array<PageWaiter | typeof ABANDONED | undefined>(PAGE_REQUEST_GROUPS).fill(undefined);
  readonly #pasids = new Int32Array(PAGE_REQUEST_GROUPS);
  /** Waits for room. */
  #queue: PageWaiter[] = [];
  #next = 0;

  constructor(fn: PciFunction, pri: PriCapability) {
    this.#fn = fn;
    this.#pri = pri;
    pri.onReset(() => this.drop(PageResponse.FAILURE));
  }

  /** Whether a page can be asked for. */
  get enabled(): boolean {
    return this.#pri.enabled && this.#pri.allocation > 0;
  }

  /** Groups whose response is awaited. */
  get outstanding(): number {
    return this.#pri.outstanding;
  }

  /** Asks for a page, now or when there is room. The caller made sure that this is `enabled`. */
  request(waiter: PageWaiter): void {
    if (this.#pri.outstanding < this.#pri.allocation) this.#send(waiter);
    else this.#queue.push(waiter);
  }

  /** `waiter` no longer wants its page. A response that is on its way is still expected. */
  abandon(waiter: PageWaiter): void {
    this.#queue = this.#queue.filter(each => each !== waiter);
    const group = this.#groups.indexOf(waiter);
    if (group >= 0) this.#groups[group] = ABANDONED;
  }

  /** The response to `group` arrived. */
  respond(pasid: number, group: number, code: number): void {
    const waiter = this.#groups[group];
    if (waiter === undefined || (this.#pri.responsePasidRequired && pasid !== this.#pasids[group])) {
      this.#pri.unexpected();
      return;
    }
    if (code === PageResponse.SUCCESS || code === PageResponse.INVALID_REQUEST) {
      this.#release(group);
      this.#drain();
      if (waiter !== ABANDONED) waiter.answered(code);
      return;
    }
    // Also what a reserved code means (PCIe 10.4.2.2).
    this.#pri.fail();
    this.drop(PageResponse.FAILURE);
  }

  /** Nothing is outstanding any more; those who wait are told `code`. */
  drop(code: number): void {
    const waiters = [...this.#groups.filter(each => each !== undefined && each !== ABANDONED), ...this.#queue];
    this.forget();
    for (const waiter of waiters) waiter.answered(code);
  }

  /** As drop, and nobody is told. */
  forget(): void {
    this.#groups.fill(undefined);
    this.#queue = [];
    this.#pri.outstanding = 0;
  }

  /** The index of the group that `waiter` waits for; -1 if it waits for room, or does not wait. */
  groupOf(waiter: PageWaiter): number {
    return this.#groups.indexOf(waiter);
  }

  save(into: StateWriter): void {
    this.#pri.save(into);
    into.integer('next', this.#next);
    const groups = [...this.#groups.keys()].filter(group => this.#groups[group] !== undefined);
    into.list('groups', groups, (each, group) => each.integer('index', group).integer('pasid', this.#pasids[group]!));
  }

  /** Nobody waits for a group until its waiter says so again, by `waits`. */
  load(from: StateReader): void {
    this.forget();
    this.#pri.load(from);
    this.#next = from.integer('next', { max: PAGE_REQUEST_GROUPS - 1 });
    for (const each of from.list('groups', PAGE_REQUEST_GROUPS)) {
      const group = each.integer('index', { max: PAGE_REQUEST_GROUPS - 1 });
      if (this.#groups[group] === undefined) this.#pri.outstanding++;
      this.#groups[group] = ABANDONED;
      this.#pasids[group] = each.integer('pasid', { min: NO_PASID, max: MAX_PASID });
    }
  }

  /** `waiter` waited for `group`, or (-1) for room, when this was saved. */
  waits(waiter: PageWaiter, group: number): void {
    if (group < 0) this.#queue.push(waiter);
    else if (this.#groups[group] === ABANDONED) this.#groups[group] = waiter;
  }

  #send(waiter: PageWaiter): void {
    const group = this.#freeGroup();
    this.#groups[group] = waiter;
    this.#pasids[group] = waiter.pasid;
    this.#pri.outstanding++;
    const { hi, lo, access, pasid } = waiter;
    // The answer may come from within: everything that it needs is in place.
    if (this.#fn.dma.pageRequest(hi, lo, access, group, true, pasid)) return;
    if (this.#groups[group] !== waiter) return;
    this.#release(group);
    waiter.answered(PageResponse.INVALID_REQUEST);
  }

  /** Indices are used in turn, so that a late response does not meet a new request. There is one: the allocation is at most their number. */
  #freeGroup(): number {
    while (this.#groups[this.#next] !== undefined) this.#next = (this.#next + 1) % PAGE_REQUEST_GROUPS;
    const group = this.#next;
    this.#next = (group + 1) % PAGE_REQUEST_GROUPS;
    return group;
  }

  #release(group: number): void {
    this.#groups[group] = undefined;
    this.#pri.outstanding--;
  }

  /** Sends what there is room for; software that took page requests away refuses those who still wait. */
  #drain(): void {
    while (this.#queue.length > 0 && (!this.enabled || this.#pri.outstanding < this.#pri.allocation)) {
      const waiter = this.#queue.shift()!;
      if (this.enabled) this.#send(waiter);
      else waiter.answered(PageResponse.INVALID_REQUEST);
    }
  }
}
