/**
 * Device-TLB invalidations on their way: sent to the function, awaited, timed out (VT-d 6.5.2.5, 6.5.2.6, vtd.md 5.1, 5.5, 7.5).
 */
import type { StateReader, StateWriter, Timer } from '@remora/core';
import { Fsts, QueueErrorRecord, Reg } from '../spec/index.js';
import type { Behaviour } from './behaviour.js';
import type { VtdEnvironment } from './environment.js';
import type { FaultRecording } from './fault-recording.js';
import type { RegisterFile } from './register-file.js';

/** How long a function may take: one minute (PCIe 10.3.1). */
export const DEVICE_TLB_TIMEOUT_NS = 60_000_000_000;
/** What MIP 0 stands for: as many as a function with an invalidate queue depth of 0 takes (PCIe 10.5.1.2). */
const UNLIMITED_PENDING = 32;
/** Invalidations that are awaited at most, of all functions together: a guest may name functions that are not there. */
export const MOST_OUTSTANDING = 256;

/** An invalidation that has been sent and not completed. Plain data. */
export interface OutstandingInvalidation {
  readonly requesterId: number;
  /** By which invalidations are counted against MIP: the requester, or with ECAP.DIT the physical function that the descriptor names. */
  readonly throttleId: number;
  readonly pasid: number;
  readonly global: boolean;
  readonly hi: number;
  readonly lo: number;
  readonly shift: number;
  /** When it times out; undefined without a clock. */
  readonly deadline: number | undefined;
}

/** Told when the queue may go on, or has to stop. */
export interface AwaitingQueue {
  /** An invalidation was completed. */
  run(): void;
  /** An invalidation timed out: a wait that was fetched already is given up. */
  giveUpWait(): void;
}

const FREE = 0;
const AWAITED = 1;
const COMPLETED = 2;
const TIMED_OUT = 3;
const FORGOTTEN = 4;

/** One invalidation and its completion. Those that ever outlasted their descriptor are not used again: a late completion tells which one it means. */
class SentInvalidation implements OutstandingInvalidation {
  requesterId = 0;
  throttleId = 0;
  pasid = 0;
  global = false;
  hi = 0;
  lo = 0;
  shift = 0;
  deadline: number | undefined;
  state = FREE;
  timer: Timer | undefined;
  readonly completed: () => void;

  constructor(completed: (sent: SentInvalidation) => void) {
    this.completed = () => {
      completed(this);
    };
  }
}

export class DeviceTlbInvalidations {
  readonly #registers: RegisterFile;
  readonly #behaviour: Behaviour;
  readonly #faults: FaultRecording;
  readonly #environment: VtdEnvironment;
  #queue: AwaitingQueue | undefined;
  #outstanding: SentInvalidation[] = [];
  /** For the next invalidation. */
  #spare: SentInvalidation | undefined;

  constructor(registers: RegisterFile, behaviour: Behaviour, faults: FaultRecording, environment: VtdEnvironment) {
    this.#registers = registers;
    this.#behaviour = behaviour;
    this.#faults = faults;
    this.#environment = environment;
  }

  /** Names the queue whose waits depend on completions. */
  serves(queue: AwaitingQueue): void {
    this.#queue = queue;
  }

  /** Oldest first. */
  get outstanding(): readonly OutstandingInvalidation[] {
    return this.#outstanding;
  }

  /** All that were sent have been completed, or have timed out. */
  get idle(): boolean {
    return this.#outstanding.length === 0;
  }

  /** Whether as many as MIP (5 bits, 0 for 32) allows are outstanding, or as many as the unit keeps. */
  isFull(throttleId: number, mip: number): boolean {
    if (this.#outstanding.length >= MOST_OUTSTANDING) return true;
    let pending = 0;
    for (const sent of this.#outstanding) if (sent.throttleId === throttleId) pending++;
    return pending >= (mip === 0 ? UNLIMITED_PENDING : mip);
  }

  /** Nothing is awaited any more. */
  reset(): void {
    for (const sent of this.#outstanding) {
      sent.timer?.cancel();
      sent.state = FORGOTTEN;
    }
    this.#outstanding = [];
  }

  /** Sends an invalidation to a function; see AtsEndpoint.invalidate for the range. One that is not there never completes it. */
  send(
    requesterId: number,
    throttleId: number,
    pasid: number,
    global: boolean,
    hi: number,
    lo: number,
    shift: number,
  ): void {
    const { endpoint } = this.#environment;
    if (endpoint === undefined) return;
    const sent = this.#spare ?? new SentInvalidation(this.#completed);
    this.#spare = undefined;
    sent.requesterId = requesterId;
    sent.throttleId = throttleId;
    sent.pasid = pasid;
    sent.global = global;
    sent.hi = hi;
    sent.lo = lo;
    sent.shift = shift;
    sent.state = AWAITED;
    const fn = endpoint(requesterId);
    const done = fn?.invalidate(pasid, global, hi, lo, shift, sent.completed) ?? false;
    if (sent.state !== AWAITED) return;
    if (done || !this.#behaviour.deviceTlbAwaited) {
      sent.state = FREE;
      if (done) this.#spare = sent;
      return;
    }
    this.#await(sent, fn === undefined);
  }

  #await(sent: SentInvalidation, absent: boolean): void {
    const { clock } = this.#environment;
    this.#outstanding.push(sent);
    sent.deadline = clock === undefined ? undefined : clock.now + DEVICE_TLB_TIMEOUT_NS;
    sent.timer = clock?.after(DEVICE_TLB_TIMEOUT_NS, () => {
      this.#timedOut(sent);
    });
    // Without a clock there is nothing to wait for.
    if (clock === undefined && absent) this.#timedOut(sent);
  }

  /** Those that are awaited, oldest first. A late completion of one that timed out before is not told from nothing afterwards. */
  save(into: StateWriter, now: number): void {
    into.list('outstanding', this.#outstanding, (each, sent) => {
      each.integer('requester', sent.requesterId).integer('throttle', sent.throttleId).integer('pasid', sent.pasid);
      each.flag('global', sent.global).integer('hi', sent.hi).integer('lo', sent.lo).integer('shift', sent.shift);
      each.timer('timeout', sent.timer, now);
    });
  }

  load(from: StateReader): void {
    this.reset();
    this.#outstanding = from.list('outstanding').map(each => {
      const sent = new SentInvalidation(this.#completed);
      sent.requesterId = each.integer('requester', { max: 0xffff });
      sent.throttleId = each.integer('throttle', { max: 0xffff });
      sent.pasid = each.integer('pasid', { min: -1, max: 2 ** 20 - 1 });
      sent.global = each.flag('global');
      sent.hi = each.integer('hi', { min: -(2 ** 31), max: 2 ** 32 - 1 });
      sent.lo = each.integer('lo', { min: -(2 ** 31), max: 2 ** 32 - 1 });
      sent.shift = each.integer('shift', { min: 12, max: 64 });
      sent.state = AWAITED;
      const { clock } = this.#environment;
      sent.timer = clock && each.timer('timeout', clock, () => this.#timedOut(sent));
      sent.deadline = sent.timer?.deadline;
      return sent;
    });
  }

  /**
   * Sends again what is awaited, for functions do not keep whom they owe a completion: doing it twice changes nothing. Returns how many
   * that were.
   */
  sendAgain(): number {
    const awaited = this.#outstanding;
    for (const sent of awaited) {
      const { requesterId, pasid, global, hi, lo, shift } = sent;
      const fn = this.#environment.endpoint?.(requesterId);
      if (fn?.invalidate(pasid, global, hi, lo, shift, sent.completed) === true) sent.completed();
    }
    return awaited.length;
  }

  readonly #completed = (sent: SentInvalidation): void => {
    if (sent.state === FORGOTTEN) return;
    if (sent.state !== AWAITED) {
      if (this.#behaviour.deviceTlbAwaited) this.#unexpected(sent);
      return;
    }
    sent.state = COMPLETED;
    sent.timer?.cancel();
    this.#outstanding = this.#outstanding.filter(each => each !== sent);
    this.#queue?.run();
  };

  #timedOut(sent: SentInvalidation): void {
    sent.state = TIMED_OUT;
    this.#outstanding = this.#outstanding.filter(each => each !== sent);
    this.#queue?.giveUpWait();
    this.#raise(Fsts.ITE, sent);
  }

  /** A function completed what it had completed before, or what had timed out. */
  #unexpected(sent: SentInvalidation): void {
    this.#raise(Fsts.ICE, sent);
  }

  /** The source id is that of the first error, until software has dealt with it. */
  #raise(status: typeof Fsts.ITE | typeof Fsts.ICE, { requesterId, pasid, hi, lo, shift }: SentInvalidation): void {
    if ((this.#registers.get(Reg.FSTS) & status) === 0) {
      const fields = QueueErrorRecord.fields;
      const field = status === Fsts.ITE ? fields.itesid : fields.icesid;
      field.set(this.#registers.words, Reg.IQERCD >>> 2, requesterId);
    }
    const { ledger, name } = this.#environment;
    if (ledger?.on === true) {
      const kind = status === Fsts.ITE ? 'device-tlb-timeout' : 'device-tlb-unexpected';
      ledger.add(name, kind, { requesterId, pasid, hi: hi >>> 0, lo: lo >>> 0, shift });
    }
    this.#faults.raiseStatus(status);
  }
}
