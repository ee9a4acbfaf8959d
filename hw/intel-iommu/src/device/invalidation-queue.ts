/** The invalidation queue: fetching, errors, restart (VT-d 6.5, vtd.md 5.1). */
import { hex } from '@remora/bits';
import { MemTx, type StateReader, type StateWriter } from '@remora/core';
import {
  DescriptorType,
  Fsts,
  QueueAddress,
  QueueError,
  QueueErrorRecord,
  QUEUE_OFFSET_MASK,
  Reg,
  Ttm,
} from '../spec/index.js';
import { widthMaskHi } from './address.js';
import type { Behaviour } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import { DESCRIPTOR_DONE, type Descriptors } from './descriptors.js';
import type { VtdEnvironment } from './environment.js';
import type { FaultRecording } from './fault-recording.js';
import type { RegisterFile } from './register-file.js';
import type { UnitState } from './state.js';
import type { VtdTrace } from './trace-events.js';

const NARROW_BYTES = 16;
const WIDE_BYTES = 32;
const MISALIGNED = 0x10;
/** QS and DW of IQA. */
const SHOWN_AS_WRITTEN = 0x807;
const LARGEST_QUEUE = 4096 << 7;
/** A whole word, of either sign. */
const WORD = { min: -(2 ** 31), max: 2 ** 32 - 1 };
/** PASID-IOTLB invalidations in a row whose way beyond the unit is one batch. */
const MOST_COLLECTED = 256;
/**
 * Descriptors that one register write sets off at most: the largest queue once. Status words may be written to IQT, so that a queue
 * could feed itself for ever; what is left then waits for the next write of IQT.
 */
const MAX_STEPS = 2 ** 15;

export class InvalidationQueue {
  readonly #caps: Capabilities;
  readonly #behaviour: Behaviour;
  readonly #registers: RegisterFile;
  readonly #state: UnitState;
  readonly #faults: FaultRecording;
  readonly #descriptors: Descriptors;
  readonly #environment: VtdEnvironment;
  readonly #trace: VtdTrace;
  readonly #words = new Int32Array(WIDE_BYTES / 4);
  // Latched from IQA when the queue is enabled.
  #baseHi = 0;
  #baseLo = 0;
  #bytes = 0;
  #wide = false;
  /** Byte offset past the last descriptor, as software wrote it. */
  #tail = 0;
  #tailIsChecked = false;
  #lastType = 0;
  #running = false;
  /** Descriptors before the head whose way beyond the unit is not gone yet, and the offset of the first. None between two accesses. */
  #collected = 0;
  #firstCollected = 0;
  /** Their events in the ledger, while it is on. */
  readonly #collectedEvents: number[] = [];
  /** At the head is a wait that has been fetched, and cannot be executed before functions have answered. */
  #waiting = false;

  constructor(
    caps: Capabilities,
    behaviour: Behaviour,
    registers: RegisterFile,
    state: UnitState,
    faults: FaultRecording,
    descriptors: Descriptors,
    environment: VtdEnvironment,
    trace: VtdTrace,
  ) {
    this.#caps = caps;
    this.#behaviour = behaviour;
    this.#registers = registers;
    this.#state = state;
    this.#faults = faults;
    this.#descriptors = descriptors;
    this.#environment = environment;
    this.#trace = trace;
  }

  reset(): void {
    this.#baseHi = 0;
    this.#baseLo = 0;
    this.#bytes = 0;
    this.#tail = 0;
    this.#lastType = 0;
    this.#waiting = false;
  }

  /** What IQA said when the queue was enabled, and how far it was got. @throws StateError while a descriptor is being executed. */
  save(into: StateWriter): void {
    if (this.#running) throw into.refusal('a descriptor is being executed: a machine is saved between two accesses');
    into.integer('base-hi', this.#baseHi).integer('base-lo', this.#baseLo).integer('bytes', this.#bytes);
    into.flag('wide', this.#wide).integer('tail', this.#tail).integer('last-type', this.#lastType);
    into.flag('waiting', this.#waiting);
  }

  load(from: StateReader): void {
    this.#baseHi = from.integer('base-hi', WORD);
    this.#baseLo = from.integer('base-lo', WORD);
    this.#bytes = from.integer('bytes', { max: LARGEST_QUEUE });
    this.#wide = from.flag('wide');
    this.#tail = from.integer('tail', WORD);
    this.#tailIsChecked = false;
    this.#lastType = from.integer('last-type', { max: 0x7f });
    this.#waiting = from.flag('waiting');
  }

  /** GCMD.QIE was set: latches IQA and starts at head 0; what is before the tail already is processed at once. */
  enable(): void {
    const { words } = this.#registers;
    const at = Reg.IQA >>> 2;
    this.#baseHi = words[at + 1]! & (this.#behaviour.pointersTruncated ? widthMaskHi(this.#caps.haw) : -1);
    this.#baseLo = words[at]! & ~0xfff;
    this.#tailIsChecked = false;
    this.#bytes = 4096 << QueueAddress.fields.qs.get(words, at);
    this.#wide = this.#saysWide();
    this.#registers.set(Reg.IQH, 0);
    this.#state.queueEnabled = true;
    const { vtd_inv_qi_enable: enabled, vtd_inv_qi_setup: latched, vtd_warn_invalid_qi_tail: early } = this.#trace;
    if (enabled.on) enabled.emit(true);
    if (latched.on) latched.emit(hex(this.#baseHi, this.#baseLo), this.#bytes / this.#descriptorBytes);
    const tail = this.#registers.get(Reg.IQT);
    if (tail === 0) return;
    if (early.on) early.emit(tail);
    if (this.#takesTail()) this.run();
  }

  /** GCMD.QIE was cleared. Returns false if the queue stays enabled. */
  disable(): boolean {
    const { vtd_inv_qi_enable: enabled } = this.#trace;
    if (enabled.on) enabled.emit(false);
    const idle = this.#registers.get(Reg.IQH) === this.#tail && this.#lastType === DescriptorType.WAIT;
    if (this.#behaviour.queueDisableNeedsWait && !idle) return false;
    this.#registers.set(Reg.IQH, 0);
    this.#state.queueEnabled = false;
    this.#waiting = false;
    return true;
  }

  /** IQA (or, at 4, its high half) as it reads while it shows what was latched. */
  latchedAddress(offset: number): number {
    if (offset !== 0) return this.#baseHi >>> 0;
    return (this.#baseLo | (this.#registers.get(Reg.IQA) & SHOWN_AS_WRITTEN)) >>> 0;
  }

  /** Software wrote IQT. */
  tailWritten(): void {
    if (!this.#takesTail()) return;
    const { vtd_inv_qi_tail: taken } = this.#trace;
    if (taken.on) taken.emit(Math.floor((this.#tail >>> 0) / (this.#isWide() ? WIDE_BYTES : NARROW_BYTES)));
    this.run();
  }

  #takesTail(): boolean {
    const lo = this.#registers.get(Reg.IQT);
    if (this.#behaviour.misalignedTailIgnored && this.#isWide() && (lo & MISALIGNED) !== 0) {
      return this.#stop(QueueError.MISALIGNED_TAIL);
    }
    this.#tail = lo;
    this.#tailIsChecked = false;
    return true;
  }

  /** Processes descriptors until the queue is empty or stops at an error. */
  run(): void {
    if (this.#running) return;
    this.#running = true;
    this.#tailIsChecked = false;
    const { vtd_inv_qi_fetch: fetched } = this.#trace;
    if (fetched.on && this.#isOpen()) fetched.emit();
    try {
      let steps = 0;
      while (this.#hasNext() || (this.#collected > 0 && this.#settle() && this.#hasNext())) {
        if (steps++ === MAX_STEPS || !this.#step()) break;
      }
      this.#settle();
    } finally {
      this.#running = false;
    }
  }

  /** A function did not answer in time: a wait that has been fetched is aborted, so that it never completes (vtd.md 5.1). */
  giveUpWait(): void {
    // Software that has taken the tail back has taken the wait back, too.
    if (!this.#waiting || this.#registers.get(Reg.IQH) === this.#tail) return;
    this.#waiting = false;
    this.#advance();
  }

  get #descriptorBytes(): number {
    return this.#wide ? WIDE_BYTES : NARROW_BYTES;
  }

  /** Whether descriptors are processed at all. Any of them may end that: its status word may be written to the unit itself. */
  #isOpen(): boolean {
    return this.#state.queueEnabled && (this.#registers.get(Reg.FSTS) & (Fsts.IQE | Fsts.ITE)) === 0;
  }

  #hasNext(): boolean {
    return this.#isOpen() && this.#tailIsValid() && this.#registers.get(Reg.IQH) !== this.#tail;
  }

  /** Stops the queue if the tail is wrong. */
  #tailIsValid(): boolean {
    if (this.#tailIsChecked) return true;
    const problem = this.#tailProblem();
    if (problem !== QueueError.NONE) return this.#stop(problem);
    this.#tailIsChecked = true;
    return true;
  }

  /** Before the queue is enabled, IQA itself says how wide descriptors are. */
  #isWide(): boolean {
    return this.#state.queueEnabled ? this.#wide : this.#saysWide();
  }

  #saysWide(): boolean {
    return this.#caps.scalable && QueueAddress.fields.dw.get(this.#registers.words, Reg.IQA >>> 2) === 1;
  }

  #tailProblem(): number {
    const tail = this.#tail;
    if (this.#behaviour.tailChecked) {
      if (this.#registers.get(Reg.IQT + 4) !== 0 || (tail & ~QUEUE_OFFSET_MASK) !== 0) return QueueError.INVALID_TAIL;
      if (this.#wide && (tail & MISALIGNED) !== 0) return QueueError.MISALIGNED_TAIL;
    }
    return tail >= this.#bytes ? QueueError.INVALID_TAIL : QueueError.NONE;
  }

  /** Fetches and executes the descriptor at the head. Returns whether the queue goes on. */
  #step(): boolean {
    const words = this.#words;
    const registers = this.#registers;
    const head = registers.get(Reg.IQH);
    const bytes = this.#descriptorBytes;
    const { vtd_inv_qi_head: read } = this.#trace;
    if (read.on) read.emit(head / bytes);
    this.#waiting = false;
    if (!this.#wide) words.fill(0, NARROW_BYTES / 4);
    // The queue is aligned to a page, but may span pages beyond a 4 GiB boundary.
    const lo = (this.#baseLo >>> 0) + head;
    const carry = lo > 0xffff_ffff ? 1 : 0;
    if (this.#environment.memory.load(this.#baseHi + carry, lo | 0, words, 0, bytes / 4) !== MemTx.OK) {
      return this.#fail(QueueError.FETCH);
    }
    this.#lastType = this.#descriptors.typeOf(words);
    const collects = this.#lastType === DescriptorType.PASID_IOTLB;
    if ((!collects || this.#collected === MOST_COLLECTED) && !this.#settle()) return false;
    const mode = this.#modeProblem(this.#lastType);
    if (mode !== QueueError.NONE) return this.#fail(mode);
    if (this.#descriptors.isBlocked(words)) {
      this.#waiting = this.#lastType === DescriptorType.WAIT;
      return false;
    }
    const result = this.#execute(words, head);
    if (result !== DESCRIPTOR_DONE) return this.#fail(result);
    if (!this.#state.queueEnabled) return false;
    if (collects && this.#collected++ === 0) this.#firstCollected = head;
    this.#advance();
    return true;
  }

  #advance(): void {
    const next = this.#registers.get(Reg.IQH) + this.#descriptorBytes;
    this.#registers.set(Reg.IQH, next >= this.#bytes ? 0 : next);
  }

  #execute(words: Int32Array, head: number): number {
    const { ledger, name } = this.#environment;
    if (ledger?.on !== true) return this.#descriptors.execute(words, this.#wide);
    const id = ledger.open(name, 'descriptor', { head, ...this.#descriptors.describe(words) });
    this.#collectedEvents[this.#collected] = id;
    const result = this.#descriptors.execute(words, this.#wide);
    ledger.close(id, { ok: result === DESCRIPTOR_DONE });
    return result;
  }

  /**
   * What was collected is done beyond the unit before anything else happens. If some of it is refused, the head goes back to the
   * descriptor that it came from, and the queue stops there: false. A guest may queue more while a host is at work.
   */
  #settle(): boolean {
    if (this.#collected === 0) return true;
    this.#collected = 0;
    const { ledger, propagation } = this.#environment;
    const refused = propagation?.settle?.() ?? -1;
    if (refused < 0) return true;
    if (ledger?.on === true) ledger.close(this.#collectedEvents[refused]!, { ok: false });
    this.#registers.set(Reg.IQH, (this.#firstCollected + refused * this.#descriptorBytes) % this.#bytes);
    return this.#stop(QueueError.NONE);
  }

  /** The descriptor at the head failed, unless one before it did. */
  #fail(error: number): false {
    return this.#settle() ? this.#stop(error) : false;
  }

  /** Whether the queue's width goes with the root table's mode (vtd.md 5.1), and with a descriptor of this type. */
  #modeProblem(type: number): number {
    if (!this.#behaviour.queueModeChecked) {
      return type > DescriptorType.WAIT && !this.#wide ? QueueError.INVALID_WIDTH : QueueError.NONE;
    }
    const { ttm } = this.#state;
    if (ttm === Ttm.RESERVED) return QueueError.INVALID_TTM;
    return ttm !== Ttm.LEGACY && !this.#wide ? QueueError.INVALID_WIDTH : QueueError.NONE;
  }

  /** The descriptor at the head failed: it stays there until software clears IQE. */
  #stop(error: number): false {
    if (this.#behaviour.queueErrorRecord) {
      QueueErrorRecord.fields.iqei.set(this.#registers.words, Reg.IQERCD >>> 2, error);
    }
    const { ledger, name } = this.#environment;
    if (ledger?.on === true) ledger.add(name, 'queue-error', { head: this.#registers.get(Reg.IQH), error });
    this.#faults.raiseStatus(Fsts.IQE);
    return false;
  }
}
