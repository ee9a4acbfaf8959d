/** The invalidation queue, as its producer (VT-d 6.5.2): descriptors in batches, each closed by a wait that writes a status word. */
import { frameHi, frameLo } from '@remora/bits';
import { Errno, type MemoryPort, type StateReader, type StateWriter } from '@remora/core';
import { Fsts, GlobalCommand, QueueAddress, QueueErrorRecord, Reg } from '../spec/index.js';
import type { GlobalCommands } from './global-command.js';
import type { PageAllocator } from './page-allocator.js';
import type { VtdRegisters } from './registers.js';
import { StructureMemory } from './structure-memory.js';
import { waitDescriptor } from './descriptors.js';

/** Status data: the queue's own convention, as Linux has it. */
const STATUS_PENDING = 1;
const STATUS_DONE = 2;
/** After so many polls a wait is given up. */
const PATIENCE = 100_000;

export interface InvalidationQueueOptions {
  /** 256-bit descriptors. */
  readonly wide: boolean;
  /** Size: 4096 << order bytes. Default: room for 256 descriptors. */
  readonly order?: number;
  /** Whether a queue error is repaired at once, so that the queue goes on; default true. See `recover`. */
  readonly recovers?: boolean;
  /** A queue that is there already: first frames of its descriptors and of its status words. Default: they are allocated. */
  readonly at?: { readonly frame: number; readonly statusFrame: number };
}

/** A descriptor that the unit refused. */
export interface QueueFailure {
  /** Its index in the queue. */
  readonly index: number;
  /** IQERCD.IQEI. */
  readonly code: number;
  /** Its words. */
  readonly descriptor: Int32Array;
}

export class InvalidationQueue {
  readonly entries: number;
  /** Whether a refused descriptor is replaced at once (as vtd.md 5.10 tells of Linux). A test may want to see the stopped queue. */
  recovers: boolean;
  readonly #registers: VtdRegisters;
  readonly #memory: StructureMemory;
  readonly #pages: PageAllocator;
  readonly #wide: boolean;
  readonly #order: number;
  readonly #frame: number;
  readonly #statusFrame: number;
  readonly #status = new Int32Array(1);
  readonly #qword = new Int32Array(2);
  /** Words 2 and 3 are the address of the status word. */
  readonly #wait = waitDescriptor({ statusData: STATUS_DONE, statusHi: 0, statusLo: 0 });
  readonly #drainingWait = waitDescriptor({
    statusData: STATUS_DONE,
    statusHi: 0,
    statusLo: 0,
    drainPageRequests: true,
  });
  #tail = 0;
  #failure: QueueFailure | undefined;
  #timedOut: number | undefined;

  /** @throws Error if there are no pages for the queue. */
  constructor(registers: VtdRegisters, memory: MemoryPort, pages: PageAllocator, options: InvalidationQueueOptions) {
    this.#registers = registers;
    this.#memory = new StructureMemory(memory);
    this.#pages = pages;
    this.#wide = options.wide;
    this.#order = options.order ?? (options.wide ? 1 : 0);
    this.recovers = options.recovers ?? true;
    this.entries = (4096 << this.#order) / this.#bytes;
    this.#frame = options.at?.frame ?? pages.allocate(1 << this.#order);
    if (this.#frame < 0) throw new Error('VT-d: no pages for the invalidation queue');
    this.#statusFrame = options.at?.statusFrame ?? pages.allocate(this.#statusPages);
    if (this.#statusFrame < 0) {
      pages.free(this.#frame, 1 << this.#order);
      throw new Error('VT-d: no pages for the status words');
    }
  }

  /** Index of the next free slot. */
  get tail(): number {
    return this.#tail;
  }

  /** Index of the descriptor that the unit fetches next. */
  get head(): number {
    this.#registers.read64(Reg.IQH, this.#qword);
    return this.#qword[0]! / this.#bytes;
  }

  /** What the unit refused last; undefined while it refused nothing. */
  get failure(): QueueFailure | undefined {
    return this.#failure;
  }

  /** Requester id of the function that last let a device-TLB invalidation time out; undefined while none did. */
  get timedOut(): number | undefined {
    return this.#timedOut;
  }

  /** First frame of the queue. */
  get frame(): number {
    return this.#frame;
  }

  /** What the driver knows of a queue that is in memory. */
  save(into: StateWriter): void {
    into.integer('frame', this.#frame).integer('status-frame', this.#statusFrame).integer('order', this.#order);
    into.flag('wide', this.#wide).flag('recovers', this.recovers).integer('tail', this.#tail);
  }

  /** The queue that `save` wrote of. */
  static load(from: StateReader, registers: VtdRegisters, memory: MemoryPort, pages: PageAllocator): InvalidationQueue {
    const queue = new InvalidationQueue(registers, memory, pages, {
      wide: from.flag('wide'),
      order: from.integer('order', { max: 7 }),
      recovers: from.flag('recovers'),
      at: { frame: from.integer('frame'), statusFrame: from.integer('status-frame') },
    });
    queue.#tail = from.integer('tail', { max: queue.entries - 1 });
    return queue;
  }

  /** Gives the queue to the unit: tail 0, address, then QIE. */
  enable(commands: GlobalCommands): void {
    this.#tail = 0;
    this.#registers.write32(Reg.IQT, 0);
    const address = QueueAddress.encode({ qs: this.#order, dw: Number(this.#wide), iqa: this.#frame });
    this.#registers.write64(Reg.IQA, address[1]!, address[0]!);
    commands.enable(GlobalCommand.QIE);
  }

  disable(commands: GlobalCommands): void {
    commands.disable(GlobalCommand.QIE);
  }

  /** Returns the queue's pages; it must be disabled. */
  free(): void {
    this.#pages.free(this.#frame, 1 << this.#order);
    this.#pages.free(this.#statusFrame, this.#statusPages);
  }

  /**
   * Queues `descriptors` and a wait, and lets the unit work until the wait is done. 0; -EINVAL if the unit refused one (`failure` says
   * which; with `recovers` the rest of the batch is done all the same); -ETIMEDOUT if a function did not complete an invalidation in time
   * (`timedOut` says which); -EIO if the wait is never completed.
   */
  submit(...descriptors: readonly Int32Array[]): number {
    return this.#submit(descriptors, this.#wait);
  }

  /** As submit; the wait also drains page requests (PD). */
  submitDraining(...descriptors: readonly Int32Array[]): number {
    return this.#submit(descriptors, this.#drainingWait);
  }

  #submit(descriptors: readonly Int32Array[], wait: Int32Array): number {
    if (descriptors.length + 2 > this.entries)
      throw new RangeError(`more than ${this.entries - 2} descriptors in a batch`);
    const first = this.#tail;
    for (const descriptor of descriptors) this.#put(descriptor);
    const slot = this.#tail;
    this.#setStatus(slot, STATUS_PENDING);
    this.#put(this.#waitFor(slot, wait));
    this.ring();
    return this.#await(first, slot);
  }

  /** Queues `descriptors` without a wait and lets the unit work. */
  post(...descriptors: readonly Int32Array[]): void {
    for (const descriptor of descriptors) this.#put(descriptor);
    this.ring();
  }

  /** Tells the unit how far the queue is filled. */
  ring(): void {
    this.#registers.write32(Reg.IQT, this.#tail * this.#bytes);
  }

  /**
   * Repairs a stopped queue: puts a harmless wait in the place of the descriptor that the unit refused and clears the error, upon which
   * the unit goes on. False if the queue is not stopped.
   */
  recover(): boolean {
    if ((this.#registers.read32(Reg.FSTS) & Fsts.IQE) === 0) return false;
    const index = this.#noteFailure();
    this.#setStatus(index, STATUS_PENDING);
    this.#store(index, this.#waitFor(index, this.#wait));
    this.#registers.write32(Reg.FSTS, Fsts.IQE);
    // QEMU goes on only when the tail is written; elsewhere this says nothing new.
    this.ring();
    return true;
  }

  /**
   * Lets a queue go on that stopped because a function did not complete an invalidation, and forgets completions that came too late
   * (vtd.md 5.10). False if neither had happened.
   */
  recoverFromTimeout(): boolean {
    const status = this.#registers.read32(Reg.FSTS) & (Fsts.ITE | Fsts.ICE);
    if (status === 0) return false;
    if ((status & Fsts.ITE) !== 0) {
      this.#registers.read64(Reg.IQERCD, this.#qword);
      this.#timedOut = QueueErrorRecord.fields.itesid.get(this.#qword, 0);
    }
    this.#registers.write32(Reg.FSTS, status);
    return true;
  }

  get #bytes(): number {
    return this.#wide ? 32 : 16;
  }

  get #statusPages(): number {
    return Math.ceil((this.entries * 4) / 4096);
  }

  #await(first: number, slot: number): number {
    let refused = false;
    let late = false;
    for (let tries = 0; tries < PATIENCE; tries++) {
      this.#memory.load(this.#statusFrame, slot, this.#status, 0, 1);
      if (this.#status[0] === STATUS_DONE) return refused ? -Errno.EINVAL : late ? -Errno.ETIMEDOUT : 0;
      const errors = this.#registers.read32(Reg.FSTS);
      if ((errors & (Fsts.ITE | Fsts.ICE)) !== 0) {
        if (!this.recovers) return -Errno.EIO;
        late ||= (errors & Fsts.ITE) !== 0;
        this.recoverFromTimeout();
        if (this.#isGivenUp(slot)) return -Errno.ETIMEDOUT;
      }
      if ((errors & Fsts.IQE) === 0) continue;
      const index = this.#noteFailure();
      // A descriptor of an earlier batch is someone else's mistake; the queue stays as it is unless it is to be repaired.
      refused ||= this.#within(index, first, slot);
      if (!this.recovers) return refused ? -Errno.EINVAL : -Errno.EIO;
      this.recover();
    }
    return -Errno.EIO;
  }

  /** Whether the unit went past the wait in `slot` without completing it. */
  #isGivenUp(slot: number): boolean {
    this.#memory.load(this.#statusFrame, slot, this.#status, 0, 1);
    return this.#status[0] !== STATUS_DONE && this.head === (slot + 1) % this.entries;
  }

  /** Whether a slot lies in the run from `first` to `last`, around the end of the queue if need be. */
  #within(index: number, first: number, last: number): boolean {
    return (index - first + this.entries) % this.entries <= (last - first + this.entries) % this.entries;
  }

  #noteFailure(): number {
    const index = this.head;
    const descriptor = new Int32Array(this.#bytes / 4);
    this.#memory.load(this.#frame, index * descriptor.length, descriptor, 0, descriptor.length);
    this.#registers.read64(Reg.IQERCD, this.#qword);
    this.#failure = { index, code: QueueErrorRecord.fields.iqei.get(this.#qword, 0), descriptor };
    return index;
  }

  /** `wait`, made to complete `slot`; one descriptor for all slots, to be stored at once. */
  #waitFor(slot: number, wait: Int32Array): Int32Array {
    const frame = this.#statusFrame + Math.floor(slot / 1024);
    wait[2] = frameLo(frame) + (slot % 1024) * 4;
    wait[3] = frameHi(frame);
    return wait;
  }

  #setStatus(slot: number, value: number): void {
    this.#status[0] = value;
    this.#memory.store(this.#statusFrame, slot, this.#status, 0, 1);
  }

  #put(descriptor: Int32Array): void {
    this.#store(this.#tail, descriptor);
    this.#tail = (this.#tail + 1) % this.entries;
  }

  #store(index: number, descriptor: Int32Array): void {
    const words = this.#bytes / 4;
    this.#memory.store(this.#frame, index * words, descriptor, 0, words);
  }
}
