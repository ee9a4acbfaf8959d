/**
 * Page requests as their consumer sees them (VT-d 7.4 to 7.7): takes them from the queue, answers those that make no sense, hands the others
 * on, and gets the unit going again when the queue ran full. What it does and in which order is Linux's (vtd.md 7.6, 11.4).
 */
import { NO_PASID, type MemoryPort, type StateReader, type StateWriter } from '@remora/core';
import { PageResponse } from '@remora/iommu';
import {
  EventControl,
  PAGE_QUEUE_OFFSET_MASK,
  PAGE_REQUEST_BYTES,
  PageQueueAddress,
  PageRequestDescriptor,
  Prs,
  Reg,
} from '../spec/index.js';
import type { PageGroupResponse } from './descriptors.js';
import type { PageAllocator } from './page-allocator.js';
import type { VtdRegisters } from './registers.js';
import { StructureMemory } from './structure-memory.js';

/** A device's request, as it was in the queue. */
export interface VtdPageRequest {
  readonly requesterId: number;
  /** NO_PASID for a request without one. */
  readonly pasid: number;
  /** Byte address of the page. */
  readonly hi: number;
  readonly lo: number;
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
  readonly privileged: boolean;
  /** Page request group index. */
  readonly group: number;
  /** The last of its group: the one that is to be answered. */
  readonly last: boolean;
}

/**
 * Makes the page present, or not. Returns a PageResponse for the group, or undefined if the answer is given later by `respond`. What it returns
 * for a request that is not the last of its group goes nowhere.
 */
export type PageRequestHandler = (request: VtdPageRequest) => number | undefined;

export interface PageRequestOptions {
  readonly handler: PageRequestHandler;
  /** Size of the queue: 4096 << order bytes. Default 4: 2048 requests. */
  readonly order?: number;
  /** Whether there is a device with this requester id; default: all are known. */
  readonly knows?: (requesterId: number) => boolean;
  /** Sends a response to the unit's queue. 0 or a negated errno. */
  readonly respond: (response: PageGroupResponse) => number;
}

/** Where a queue is: its first frame, and its size, 4096 << order bytes. */
export interface PageRequestPlace {
  readonly frame: number;
  readonly order: number;
}

/** As Linux has it. */
const DEFAULT_ORDER = 4;
/** Input addresses have as many bits: an address beyond is canonical or a mistake. */
const CANONICAL_BITS = 48;

export class PageRequestQueue {
  readonly entries: number;
  readonly #registers: VtdRegisters;
  readonly #memory: StructureMemory;
  readonly #pages: PageAllocator;
  readonly #options: PageRequestOptions;
  readonly #order: number;
  readonly #frame: number;
  readonly #words = new Int32Array(PageRequestDescriptor.words);
  #overflows = 0;

  /** A new queue; or, with `at`, the one that is there. @throws Error if there are no pages for it. */
  constructor(
    registers: VtdRegisters,
    memory: MemoryPort,
    pages: PageAllocator,
    options: PageRequestOptions,
    at?: PageRequestPlace,
  ) {
    this.#registers = registers;
    this.#memory = new StructureMemory(memory);
    this.#pages = pages;
    this.#options = options;
    this.#order = at?.order ?? options.order ?? DEFAULT_ORDER;
    this.entries = (4096 << this.#order) / PAGE_REQUEST_BYTES;
    this.#frame = at?.frame ?? pages.allocate(1 << this.#order);
    if (this.#frame < 0) throw new Error('VT-d: no pages for the page request queue');
  }

  save(into: StateWriter): void {
    into.integer('frame', this.#frame).integer('order', this.#order);
  }

  /** Where the queue is that `save` wrote of. */
  static placeOf(from: StateReader): PageRequestPlace {
    return { frame: from.integer('frame'), order: from.integer('order', { max: 7 }) };
  }

  /** First frame of the queue. */
  get frame(): number {
    return this.#frame;
  }

  /** How often the queue was found to have run full. */
  get overflows(): number {
    return this.#overflows;
  }

  /** PRS.PRO: the unit queues nothing. */
  get overflowing(): boolean {
    return (this.#registers.read32(Reg.PRS) & Prs.PRO) !== 0;
  }

  /** Gives the empty queue to the unit. */
  enable(): void {
    this.#writeOffset(Reg.PQH, 0);
    this.#writeOffset(Reg.PQT, 0);
    const address = PageQueueAddress.encode({ pqs: this.#order, pqa: this.#frame });
    this.#registers.write64(Reg.PQA, address[1]!, address[0]!);
  }

  /** Says where messages go, and unmasks them. */
  enableEvents(hi: number, lo: number, data: number): void {
    this.#registers.write32(Reg.PEDATA, data);
    this.#registers.write32(Reg.PEADDR, lo);
    this.#registers.write32(Reg.PEUADDR, hi);
    this.#setMask(0);
  }

  /** Masks messages, takes the queue from the unit and returns its pages. Functions must not request pages any more. */
  disable(): void {
    this.#setMask(1);
    this.#writeOffset(Reg.PQH, 0);
    this.#writeOffset(Reg.PQT, 0);
    this.#registers.write64(Reg.PQA, 0, 0);
    this.#pages.free(this.#frame, 1 << this.#order);
  }

  /**
   * What the interrupt's handler does: takes all that is queued. Afterwards an overflow is over, if the queue is empty then. Returns how many
   * requests there were.
   */
  handle(): number {
    this.#registers.write32(Reg.PRS, Prs.PPR);
    const tail = this.#offset(Reg.PQT);
    let head = this.#offset(Reg.PQH);
    let count = 0;
    for (; head !== tail; head = (head + PAGE_REQUEST_BYTES) % this.#bytes) {
      this.#memory.load(this.#frame, head / 4, this.#words, 0, this.#words.length);
      this.#take(decode(this.#words));
      count++;
    }
    this.#writeOffset(Reg.PQH, tail);
    this.#recover();
    return count;
  }

  /** Answers the group of `request`. 0 or a negated errno. */
  respond(request: VtdPageRequest, code: number): number {
    const { requesterId, pasid, group, last } = request;
    const tagged = pasid === NO_PASID ? {} : { pasid };
    return this.#options.respond({ requesterId, ...tagged, group, code, last });
  }

  #take(request: VtdPageRequest): void {
    // A stop marker: the device is done with the PASID. Nobody waits for an answer.
    if (!request.read && !request.write && request.last) return;
    const code = this.#makesSense(request) ? this.#options.handler(request) : PageResponse.INVALID_REQUEST;
    if (request.last && code !== undefined) this.respond(request, code);
  }

  /** What Linux does not even pass on (vtd.md 7.6). */
  #makesSense({ requesterId, hi, read, write, execute, privileged }: VtdPageRequest): boolean {
    const above = hi >> (CANONICAL_BITS - 32 - 1);
    if (above !== 0 && above !== -1) return false;
    if (privileged && (read || write)) return false;
    if (execute && read) return false;
    return this.#options.knows?.(requesterId) ?? true;
  }

  /** While PRO is set nothing is queued, so an empty queue stays empty until it is cleared. */
  #recover(): void {
    if (!this.overflowing || this.#offset(Reg.PQH) !== this.#offset(Reg.PQT)) return;
    this.#overflows++;
    this.#registers.write32(Reg.PRS, Prs.PRO);
  }

  get #bytes(): number {
    return this.entries * PAGE_REQUEST_BYTES;
  }

  #offset(register: number): number {
    return this.#registers.read32(register) & PAGE_QUEUE_OFFSET_MASK & (this.#bytes - 1);
  }

  #writeOffset(register: number, offset: number): void {
    this.#registers.write64(register, 0, offset);
  }

  #setMask(masked: 0 | 1): void {
    this.#registers.write32(Reg.PECTL, EventControl.encode({ im: masked })[0]!);
    // Reading it back makes sure that the write arrived.
    this.#registers.read32(Reg.PECTL);
  }
}

function decode(words: Int32Array): VtdPageRequest {
  const { pp, rid, pasid, exr, pmr, rd, wr, lpig, prgi } = PageRequestDescriptor.fields;
  return {
    requesterId: rid.get(words, 0),
    pasid: pp.get(words, 0) !== 0 ? pasid.get(words, 0) : NO_PASID,
    hi: words[3]!,
    lo: words[2]! & ~0xfff,
    read: rd.get(words, 0) !== 0,
    write: wr.get(words, 0) !== 0,
    execute: exr.get(words, 0) !== 0,
    privileged: pmr.get(words, 0) !== 0,
    group: prgi.get(words, 0),
    last: lpig.get(words, 0) !== 0,
  };
}
