/** Fault records, FSTS and the two event interrupts as vtd.md 1.8, 1.10 and 6 tell them: what software must see of them. */
import type { Facts } from './facts.js';
import type { Outcome, Request } from './translate.js';

/** Faults that are recorded whatever FPD says (vtd.md 4.8). */
const NEVER_SUPPRESSED = new Set([
  ...[0x01, 0x08, 0x09, 0x0a, 0x20, 0x21, 0x23, 0x25, 0x29],
  ...[0x30, 0x31, 0x32, 0x33, 0x38, 0x39, 0x3a, 0x40, 0x50, 0x58],
]);

/** A fault record: low and high quadword, F not set. */
export type RecordQuads = readonly [bigint, bigint];

const F = 1n << 63n;
const PFO = 0x01;
const PPF = 0x02;
const IQE = 0x10;
const CONDITIONS = 0x73;
/** PFO, IQE, ICE, ITE. */
const CLEARABLE = 0x71;

/** Whether FPD suppresses a fault. */
export function isSuppressed(outcome: Outcome): boolean {
  if (!('reason' in outcome) || !outcome.fpd) return false;
  return !NEVER_SUPPRESSED.has(outcome.reason);
}

/** The record of a refused request (vtd.md 1.14). */
export function recordOf(request: Request, reason: number): RecordQuads {
  const { rid, pasid, address, access } = request;
  const writes = (access & 2) !== 0;
  let high = BigInt(rid) | (BigInt(reason) << 32n);
  const atomic = (access & 3) === 3;
  if (atomic || !writes) high |= 1n << 62n;
  if (atomic) high |= 1n << 28n;
  if (pasid !== -1) {
    high |= (1n << 31n) | (BigInt(pasid) << 40n);
    if ((access & 4) !== 0) high |= 1n << 30n;
    if ((access & 8) !== 0) high |= 1n << 29n;
  }
  return [address & ~0xfffn, high];
}

/** An event's control register and how often it has sent its message. */
class Event {
  masked = true;
  pending = false;
  sent = 0;

  raise(): void {
    this.pending = true;
    this.#send();
  }

  write(value: number): void {
    this.masked = value >>> 31 === 1;
    this.#send();
  }

  get register(): number {
    return ((this.masked ? 0x8000_0000 : 0) + (this.pending ? 0x4000_0000 : 0)) >>> 0;
  }

  #send(): void {
    if (this.masked || !this.pending) return;
    this.pending = false;
    this.sent++;
  }
}

export class NaiveFaults {
  readonly fault = new Event();
  readonly completion = new Event();
  readonly records: [bigint, bigint][];
  status = 0;
  /** ICS.IWC. */
  completed = false;
  #next = 0;

  constructor(facts: Facts) {
    this.records = Array.from({ length: facts.faultRecords }, () => [0n, 0n]);
  }

  offer(record: RecordQuads): void {
    if ((this.status & PFO) !== 0) return;
    if ((this.records[this.#next]![1] & F) !== 0n) {
      this.#raise(PFO);
      return;
    }
    const index = this.#next;
    this.records[index] = [record[0], record[1] | F];
    this.#next = (index + 1) % this.records.length;
    if ((this.status & PPF) !== 0) return;
    this.status = (this.status & ~0xff00) | (index << 8);
    this.#raise(PPF);
  }

  queueError(): void {
    this.#raise(IQE);
  }

  get stopped(): boolean {
    return (this.status & IQE) !== 0;
  }

  complete(): void {
    if (this.completed) return;
    this.completed = true;
    this.completion.raise();
  }

  writeStatus(value: number): void {
    this.status &= ~(value & CLEARABLE);
    this.#serviced();
  }

  writeCompletion(value: number): void {
    if ((value & 1) !== 0) this.completed = false;
    if (!this.completed) this.completion.pending = false;
  }

  /** Software wrote the dword of record `index` that holds F. */
  writeRecord(index: number, value: number): void {
    if (value >>> 31 === 1) this.records[index]![1] &= ~F;
    if (this.records.some(([, high]) => (high & F) !== 0n)) return;
    this.status &= ~PPF;
    this.#serviced();
  }

  #raise(bit: number): void {
    const pending = (this.status & CONDITIONS) !== 0;
    this.status |= bit;
    if (!pending) this.fault.raise();
  }

  #serviced(): void {
    if ((this.status & CONDITIONS) === 0) this.fault.pending = false;
  }
}
