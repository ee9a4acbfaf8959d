/** The page request queue as vtd.md 1.11, 7.2 and 7.3 tell it, of one page. */
import type { TableMemory } from '../table-memory.js';
import type { Request } from './translate.js';

const BYTES = 4096;
const SLOT = 32;
const PPR = 1;
const PRO = 2;

export class NaivePageQueue {
  head = 0;
  tail = 0;
  /** PRS. */
  status = 0;
  events = 0;
  readonly #memory: TableMemory;
  readonly #base: bigint;
  readonly #slots = new Map<number, readonly [bigint, bigint]>();
  #responses: string[] = [];

  constructor(memory: TableMemory, base: bigint) {
    this.#memory = memory;
    this.#base = base;
  }

  /** A request that the tables allow. Returns what becomes of it. */
  put({ rid, pasid, address, access }: Request, group: number, last: boolean): string {
    const next = (this.tail + SLOT) % BYTES;
    if ((this.status & PRO) !== 0 || next === this.head) {
      const fresh = (this.status & PRO) === 0;
      if (fresh) this.#raise(PRO);
      if (last && (access & 3) !== 0) this.#responses.push(`${rid} ${pasid} ${group} 0`);
      return fresh ? 'overflows' : 'while overflowing';
    }
    let low = 1n | (BigInt(rid) << 16n);
    if (pasid !== -1) {
      low |= 0x100n | (BigInt(pasid) << 32n);
      if ((access & 4) !== 0) low |= 1n << 52n;
      if ((access & 8) !== 0) low |= 1n << 53n;
    }
    const high = (address & ~0xfffn) | BigInt(access & 3) | (last ? 4n : 0n) | (BigInt(group) << 3n);
    this.#slots.set(this.tail, [low, high]);
    this.tail = next;
    this.#raise(PPR);
    return last && (access & 3) === 0 ? 'stop marker' : 'queued';
  }

  /** Software clears bits of PRS. Returns them. */
  clear(bits: number): number {
    this.status &= ~bits;
    return bits;
  }

  /** Software has dealt with all but what fills the queue to `room` free slots; 0: with all. Returns the new head. */
  serve(room: number): number {
    this.head = room === 0 ? this.tail : (this.tail + (room + 1) * SLOT) % BYTES;
    return this.head;
  }

  takeResponses(): readonly string[] {
    const responses = this.#responses;
    this.#responses = [];
    return responses;
  }

  /** The first slot that does not hold what was put there last. */
  wrongSlot(): number | undefined {
    for (const [at, [low, high]] of this.#slots) {
      const found = [0n, 8n, 16n, 24n].map(offset => this.#memory.quad(this.#base + BigInt(at) + offset));
      if (found[0] !== low || found[1] !== high || found[2] !== 0n || found[3] !== 0n) return at / SLOT;
    }
    return undefined;
  }

  /** One event if neither condition stood. */
  #raise(bit: number): void {
    if (this.status === 0) this.events++;
    this.status |= bit;
  }
}
