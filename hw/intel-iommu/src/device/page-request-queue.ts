/** The page request queue: descriptors, PRS and the page request event (VT-d 7.4, vtd.md 1.11, 7.2, 7.3). */
import { Access, MemTx, NO_PASID, type MemoryPort } from '@remora/core';
import type { PageRequest } from '@remora/iommu';
import {
  PAGE_QUEUE_OFFSET_MASK,
  PAGE_REQUEST_BYTES,
  PAGE_REQUEST_TYPE,
  PageQueueAddress,
  PageRequestDescriptor,
  Prs,
  Reg,
} from '../spec/index.js';
import type { EventInterrupt } from './event-interrupt.js';
import type { RegisterFile } from './register-file.js';

/** What became of a request. */
export const Queued = {
  YES: 0,
  /** The queue has overflowed. */
  OVERFLOW: 1,
  /** There is no memory where the queue should be. */
  NO_MEMORY: 2,
} as const;
export type Queued = (typeof Queued)[keyof typeof Queued];

const STATUS = Prs.PPR | Prs.PRO;

export class PageRequestQueue {
  readonly #registers: RegisterFile;
  readonly #memory: MemoryPort;
  readonly #event: EventInterrupt;
  readonly #words = new Int32Array(PageRequestDescriptor.words);

  constructor(registers: RegisterFile, memory: MemoryPort, event: EventInterrupt) {
    this.#registers = registers;
    this.#memory = memory;
    this.#event = event;
  }

  /** PRS.PRO: nothing is queued until software has cleared it. */
  get overflowing(): boolean {
    return (this.#registers.get(Reg.PRS) & Prs.PRO) !== 0;
  }

  /** Writes a request at the tail, unless the queue is full. One slot stays empty. `access` is what the descriptor shows. */
  put(request: PageRequest, access: number): Queued {
    if (this.overflowing) return Queued.OVERFLOW;
    const registers = this.#registers;
    const { words } = registers;
    const at = Reg.PQA >>> 2;
    const offsets = ((4096 << PageQueueAddress.fields.pqs.get(words, at)) - 1) & PAGE_QUEUE_OFFSET_MASK;
    const tail = registers.get(Reg.PQT) & offsets;
    const next = (tail + PAGE_REQUEST_BYTES) & offsets;
    if (next === (registers.get(Reg.PQH) & offsets)) {
      this.#raise(Prs.PRO);
      return Queued.OVERFLOW;
    }
    this.#describe(request, access);
    // The queue is aligned to a page, but may span pages beyond a 4 GiB boundary.
    const lo = (words[at]! & ~0xfff) >>> 0;
    const carry = lo + tail > 0xffff_ffff ? 1 : 0;
    const result = this.#memory.store(words[at + 1]! + carry, (lo + tail) | 0, this.#words, 0, this.#words.length);
    if (result !== MemTx.OK) return Queued.NO_MEMORY;
    registers.set(Reg.PQT, next);
    this.#raise(Prs.PPR);
    return Queued.YES;
  }

  /** Software wrote PRS (the file has cleared its bits). */
  statusWritten(): void {
    if ((this.#registers.get(Reg.PRS) & STATUS) === 0) this.#event.serviced();
  }

  #describe({ requesterId, pasid, hi, lo, group, last }: PageRequest, access: number): void {
    const fields = PageRequestDescriptor.fields;
    const words = this.#words.fill(0);
    words[2] = lo & ~0xfff;
    words[3] = hi;
    fields.type.set(words, 0, PAGE_REQUEST_TYPE);
    fields.rid.set(words, 0, requesterId);
    if (pasid !== NO_PASID) {
      fields.pp.set(words, 0, 1);
      fields.pasid.set(words, 0, pasid);
    }
    fields.exr.set(words, 0, access & Access.EXECUTE ? 1 : 0);
    fields.pmr.set(words, 0, access & Access.PRIVILEGED ? 1 : 0);
    fields.rd.set(words, 0, access & Access.READ ? 1 : 0);
    fields.wr.set(words, 0, access & Access.WRITE ? 1 : 0);
    fields.lpig.set(words, 0, last ? 1 : 0);
    fields.prgi.set(words, 0, group);
  }

  /** An event only if neither condition stood before. */
  #raise(bit: number): void {
    const before = this.#registers.get(Reg.PRS);
    this.#registers.update(Reg.PRS, 0, bit);
    if ((before & STATUS) === 0) this.#event.raise();
  }
}
