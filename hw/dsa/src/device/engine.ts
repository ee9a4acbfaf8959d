/** An engine: works on one descriptor, or one batch of them, at a time; and waits where it has to (DSA 3.8, 3.9, 8.2). */
import { Access, MemTx, NO_PASID, type StateReader, type StateWriter } from '@remora/core';
import { type DeviceTlb, DeviceTlbChannel, type PciFunction, TlbAccess } from '@remora/pci';
import {
  CompletionRecord,
  Descriptor,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_WORDS,
  Flag,
  Operation,
  QueueConfig,
  RECORD_BYTES,
  Status,
  Word,
} from '../spec/index.js';
import { check, type Finding, type Limits } from './check.js';
import { OperationRun } from './operation.js';
import type { Registers } from './registers.js';
import { reportSoftwareError } from './software-error.js';
import { loadWork, saveWork, type Work } from './work.js';

export interface EngineParts {
  readonly registers: Registers;
  readonly fn: PciFunction;
  /** Undefined without ATS. */
  readonly tlb: DeviceTlb | undefined;
  /** Called when an engine that waited is to go on. */
  resumed(engine: Engine): void;
}

const Phase = { IDLE: 0, FETCH: 1, OPERATE: 2, RECORD: 3 } as const;
type Phase = (typeof Phase)[keyof typeof Phase];
/** Why an access stopped the engine, beside a Status. */
const WAITING = -1;
const OVERTAKEN = -2;
const NO_BATCH = -1;
const TWO_32 = 0x1_0000_0000;

export class Engine {
  /** What it works on. */
  work: Work | undefined;
  readonly #parts: EngineParts;
  readonly #channel: DeviceTlbChannel | undefined;
  /** The present descriptor, and what its completion record will be. */
  readonly #words = new Int32Array(DESCRIPTOR_WORDS);
  readonly #bytes = new Uint8Array(this.#words.buffer);
  readonly #record = new Int32Array(RECORD_BYTES / 4);
  readonly #recordBytes = new Uint8Array(this.#record.buffer);
  readonly #operation = new OperationRun(this.#words);
  readonly #finding: Finding = { status: 0, invalidFlags: 0 };
  #phase: Phase = Phase.IDLE;
  /** Which descriptor of the batch is the present one; NO_BATCH if it is in none. */
  #index = NO_BATCH;
  #failed = false;
  /** Counts what makes an access pointless that is under way. */
  #epoch = 0;

  constructor(parts: EngineParts) {
    this.#parts = parts;
    const { fn, tlb } = parts;
    this.#channel = tlb === undefined ? undefined : new DeviceTlbChannel(fn, tlb, () => parts.resumed(this));
  }

  start(work: Work): void {
    this.work = work;
    this.#index = NO_BATCH;
    this.#failed = false;
    this.#words.set(work.words);
    this.#begin();
    this.run();
  }

  /** Goes on until it waits or is done: then `work` is undefined. */
  run(): void {
    while (this.#phase !== Phase.IDLE) {
      const goes =
        this.#phase === Phase.FETCH ? this.#fetch() : this.#phase === Phase.OPERATE ? this.#operate() : this.#finish();
      if (!goes) return;
    }
  }

  /** Gives its work up: nothing of it is completed. */
  cancel(): void {
    this.#epoch++;
    this.#channel?.cancel();
    this.#phase = Phase.IDLE;
    this.work = undefined;
  }

  save(into: StateWriter): void {
    if (this.work === undefined) return;
    saveWork(into.child('work'), this.work);
    into.integer('phase', this.#phase).integer('index', this.#index).flag('failed', this.#failed);
    into.words('descriptor', this.#words).words('record', this.#record);
    if (this.#phase === Phase.OPERATE) this.#operation.save(into.child('operation'));
    this.#channel?.save(into.child('page'));
  }

  /** What it waits for comes again: an engine at rest is not saved. */
  load(from: StateReader, queues: number): void {
    this.cancel();
    const work = from.optional('work');
    if (work === undefined) return;
    this.work = loadWork(work, queues);
    this.#phase = from.integer('phase', { min: Phase.FETCH, max: Phase.RECORD }) as Phase;
    this.#index = from.integer('index', { min: NO_BATCH, max: 0xffff });
    this.#failed = from.flag('failed');
    from.words('descriptor', this.#words);
    from.words('record', this.#record);
    if (this.#phase === Phase.OPERATE) this.#operation.load(from.child('operation'));
    if (from.has('page')) this.#channel?.load(from.child('page'));
  }

  /** The next descriptor of the batch. */
  #fetch(): boolean {
    const { words } = this.work!;
    const low = (words[Word.SOURCE]! >>> 0) + DESCRIPTOR_BYTES * this.#index;
    const high = words[Word.SOURCE + 1]! + (low >= TWO_32 ? 1 : 0);
    const stop = this.#access(false, high | 0, low | 0, this.#bytes);
    if (stop < 0) return false;
    if (stop === 0) this.#begin();
    else this.#endBatch(stop === Status.PAGE_FAULT || stop === Status.PAGE_REFUSED ? Status.BATCH_PAGE_FAULT : stop);
    return true;
  }

  /** Takes up the descriptor that is in `words`. */
  #begin(): void {
    this.#record.fill(0);
    const flags = this.#flags;
    if (this.#index !== NO_BATCH && (flags & Flag.FENCE) !== 0 && this.#failed) {
      this.#endBatch(Status.BATCH_FAILED);
      return;
    }
    const finding = this.#finding;
    check(this.#words, this.#limits(), finding);
    if (finding.status === Status.SUCCESS && !this.#mayInterrupt(flags)) finding.status = Status.INTERRUPT_HANDLE;
    const { privileged, pasid } = this.work!;
    if (finding.status === Status.SUCCESS && privileged && pasid !== NO_PASID && !this.#parts.registers.privilege)
      finding.status = Status.PRIVILEGE;
    if (finding.status !== Status.SUCCESS) {
      CompletionRecord.fields.value.set(this.#record, 0, finding.invalidFlags);
      this.#end(finding.status);
    } else if (this.#operationCode === Operation.BATCH) {
      this.#index = 0;
      this.#phase = Phase.FETCH;
    } else {
      this.#operation.begin();
      this.#phase = Phase.OPERATE;
    }
  }

  #operate(): boolean {
    const operation = this.#operation;
    const status = operation.run(this.#access);
    if (status < 0) return false;
    const { result, completed, value } = CompletionRecord.fields;
    result.set(this.#record, 0, operation.result);
    completed.set(this.#record, 0, operation.done);
    if (operation.crc !== undefined && status === Status.SUCCESS) value.set(this.#record, 0, operation.crc);
    this.#end(status);
    return true;
  }

  #end(status: number): void {
    CompletionRecord.fields.status.set(this.#record, 0, status);
    this.#phase = Phase.RECORD;
  }

  /** The batch itself is the present descriptor again, and complete. `record` keeps the address of a fault. */
  #endBatch(status: number): void {
    this.#words.set(this.work!.words);
    CompletionRecord.fields.completed.set(this.#record, 0, this.#index);
    this.#index = NO_BATCH;
    this.#end(status);
  }

  /** Writes the completion record, or reports what it cannot tell; then interrupts. */
  #finish(): boolean {
    const flags = this.#flags;
    const status = CompletionRecord.fields.status.get(this.#record, 0);
    const addressed = (flags & Flag.COMPLETION_ADDRESS_VALID) !== 0 && status !== Status.COMPLETION_ALIGNMENT;
    const wanted = (flags & Flag.REQUEST_COMPLETION) !== 0 || status !== Status.SUCCESS;
    if (addressed && wanted) {
      const stop = this.#access(
        true,
        this.#words[Word.COMPLETION + 1]!,
        this.#words[Word.COMPLETION]!,
        this.#recordBytes,
      );
      if (stop < 0) return false;
      if (stop > 0) this.#report(Status.COMPLETION_FAULT);
    } else if (status > Status.FALSE_PREDICATE) {
      this.#report(status);
    }
    if (status !== Status.INTERRUPT_HANDLE && (flags & Flag.REQUEST_INTERRUPT) !== 0 && this.#mayInterrupt(flags)) {
      this.#parts.fn.msi(Descriptor.fields.interruptHandle.get(this.#words, 0));
    }
    this.#next(status);
    return true;
  }

  #next(status: number): void {
    if (this.#index === NO_BATCH) {
      this.#phase = Phase.IDLE;
      this.work = undefined;
      return;
    }
    if (status !== Status.SUCCESS) this.#failed = true;
    this.#index++;
    this.#phase = Phase.FETCH;
    if (this.#index < this.work!.words[Word.SIZE]!) return;
    this.#record.fill(0);
    this.#endBatch(this.#failed ? Status.BATCH_FAILED : Status.SUCCESS);
  }

  #report(error: number): void {
    const { faultLo, faultHi, value, write } = CompletionRecord.fields;
    const completion = error === Status.COMPLETION_FAULT;
    reportSoftwareError(this.#parts.registers, {
      error,
      queue: this.work!.queue,
      work: this.work!,
      words: this.#words,
      ...(this.#index === NO_BATCH ? {} : { batchIndex: this.#index }),
      write: completion || write.get(this.#record, 0) !== 0,
      lo: completion ? this.#words[Word.COMPLETION]! : faultLo.get(this.#record, 0),
      hi: completion ? this.#words[Word.COMPLETION + 1]! : faultHi.get(this.#record, 0),
      invalidFlags: error === Status.FLAGS ? value.get(this.#record, 0) : 0,
    });
  }

  /** One access in the name of the work. The record tells the address of one that failed. */
  readonly #access = (write: boolean, hi: number, lo: number, bytes: Uint8Array): number => {
    const { registers, fn } = this.#parts;
    const { queue, pasid, privileged } = this.work!;
    const { atsDisable } = QueueConfig.fields;
    const epoch = this.#epoch;
    const flags = privileged && pasid !== NO_PASID ? Access.PRIVILEGED : 0;
    const channel = atsDisable.get(registers.words, registers.queueAt(queue)) === 0 ? this.#channel : undefined;
    if (channel !== undefined) channel.blocks = fn.priEnabled && this.#blocks;
    const memory = channel ?? fn.dma;
    const result = write ? memory.write(hi, lo, bytes, pasid, flags) : memory.read(hi, lo, bytes, pasid, flags);
    if (epoch !== this.#epoch) return OVERTAKEN;
    if (result === MemTx.OK) return 0;
    if (result === TlbAccess.WAITING) return WAITING;
    CompletionRecord.fields.faultLo.set(this.#record, 0, lo);
    CompletionRecord.fields.faultHi.set(this.#record, 0, hi);
    CompletionRecord.fields.write.set(this.#record, 0, write ? 1 : 0);
    if (result === TlbAccess.ABSENT) return Status.PAGE_FAULT;
    if (result === TlbAccess.REFUSED) return Status.PAGE_REFUSED;
    return channel !== undefined && fn.atsEnabled ? Status.TRANSLATION : Status.HARDWARE;
  };

  /** Lists and completion records are waited for wherever the queue lets anything wait; data by the descriptor's flag. */
  get #blocks(): boolean {
    return this.#phase !== Phase.OPERATE || (this.#flags & Flag.BLOCK_ON_FAULT) !== 0;
  }

  #mayInterrupt(flags: number): boolean {
    if ((flags & Flag.REQUEST_INTERRUPT) === 0) return true;
    return this.#parts.registers.permits(Descriptor.fields.interruptHandle.get(this.#words, 0), this.work!.pasid);
  }

  #limits(): Limits {
    const { words } = this.#parts.registers;
    const at = this.#parts.registers.queueAt(this.work!.queue);
    const { blockOnFault, maxTransferShift, maxBatchShift } = QueueConfig.fields;
    return {
      blockOnFault: blockOnFault.get(words, at) !== 0,
      maxTransfer: 2 ** maxTransferShift.get(words, at),
      maxBatch: 2 ** maxBatchShift.get(words, at),
      inBatch: this.#index !== NO_BATCH,
    };
  }

  get #flags(): number {
    return Descriptor.fields.flags.get(this.#words, 0);
  }

  get #operationCode(): number {
    return Descriptor.fields.operation.get(this.#words, 0);
  }
}
