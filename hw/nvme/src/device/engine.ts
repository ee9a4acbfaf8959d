/**
 * Fetches commands, has them executed, and posts completions (NVMe 1.4, 4.1 and 7.2). Everything that a doorbell sets off is done when the
 * write of it returns; that is never more than the queues hold.
 */
import { logger, MemTx, rateLimited, type StateReader, type StateWriter } from '@remora/core';
import type { PciFunction } from '@remora/pci';
import {
  CompletionLayout,
  DNR,
  ErrorEvent,
  EventType,
  LogPage,
  MIN_PAGE_SHIFT,
  MORE,
  Status,
  SQ_ENTRY_SHIFT,
  CQ_ENTRY_SHIFT,
} from '../spec/index.js';
import { Command, DEFERRED } from './command.js';
import type { ErrorLog } from './error-log.js';
import type { AsyncEvents } from './events.js';
import type { Interrupts } from './interrupts.js';
import type { QueueFormat, Queues } from './queue-commands.js';
import { CompletionQueue, SubmissionQueue } from './queues.js';

const ADMIN = 0;
const MOST_QUEUES = 0x1_0000;

export interface EngineParts {
  readonly fn: PciFunction;
  readonly queues: Queues;
  readonly interrupts: Interrupts;
  readonly errors: ErrorLog;
  readonly events: AsyncEvents;
  /** Returns a status, or DEFERRED. */
  readonly execute: (command: Command) => number;
  /** A queue is not where it should be: the controller cannot go on. */
  readonly fatal: () => void;
}

export class Engine {
  format: QueueFormat = { pageBytes: 1 << MIN_PAGE_SHIFT, sqEntry: SQ_ENTRY_SHIFT, cqEntry: CQ_ENTRY_SHIFT };
  readonly #parts: EngineParts;
  readonly #command = new Command();
  readonly #completion = new Int32Array(CompletionLayout.words);
  readonly #completionBytes = new Uint8Array(this.#completion.buffer);
  #running = false;
  /** Counts stops: a write of ours may reach the function's own configuration space, and reset it. */
  #epoch = 0;

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  /** Whether doorbells have an effect. */
  get running(): boolean {
    return this.#running;
  }

  start(format: QueueFormat, submission: SubmissionQueue, completion: CompletionQueue): void {
    const { queues } = this.#parts;
    this.format = format;
    queues.submission[ADMIN] = submission;
    queues.completion[ADMIN] = completion;
    this.#running = true;
  }

  /** What is under way is dropped, with the queues. */
  stop(): void {
    const { queues, events } = this.#parts;
    this.#running = false;
    this.#epoch++;
    queues.submission.length = 0;
    queues.completion.length = 0;
    events.reset();
  }

  /** The host has put commands into a queue, up to `tail`. */
  submissionDoorbell(id: number, tail: number): void {
    if (!this.#running) return;
    const queue = this.#parts.queues.submission[id];
    if (queue === undefined) return this.#wrongDoorbell(id, ErrorEvent.DOORBELL_REGISTER);
    const added = tail < queue.size ? queue.distance(queue.tail, tail) : queue.size;
    if (added > queue.size - 1 - queue.used) return this.#wrongDoorbell(id, ErrorEvent.DOORBELL_VALUE);
    queue.tail = tail;
    this.#process(queue);
  }

  /** The host has taken completions from a queue, up to `head`. */
  completionDoorbell(id: number, head: number): void {
    if (!this.#running) return;
    const { queues, interrupts } = this.#parts;
    const queue = queues.completion[id];
    if (queue === undefined) return this.#wrongDoorbell(id, ErrorEvent.DOORBELL_REGISTER);
    const taken = head < queue.size ? queue.distance(queue.head, head) : queue.size;
    if (taken > queue.used) return this.#wrongDoorbell(id, ErrorEvent.DOORBELL_VALUE);
    const tail = queue.tail;
    queue.head = head;
    // Some commands may have waited for room.
    const epoch = this.#epoch;
    for (const each of queues.submission) if (each?.completions === id && epoch === this.#epoch) this.#process(each);
    if (id === ADMIN && epoch === this.#epoch) this.#tellEvents();
    if (epoch === this.#epoch && queue.tail === tail) interrupts.taken(queue);
  }

  /** Completes the event request `cid`. False if there is no room for `others` completions beside it. */
  completeRequest(cid: number, status: number, result: number, others: number): boolean {
    const { completion } = this.#parts.queues;
    const queue = completion[ADMIN];
    if (queue === undefined || queue.size - 1 - queue.used < 1 + others) return false;
    return this.#complete(ADMIN, queue, cid, status, result);
  }

  #process(queue: SubmissionQueue): void {
    const { fn, queues, interrupts, errors } = this.#parts;
    const completions = queues.completion[queue.completions]!;
    const epoch = this.#epoch;
    const command = this.#command;
    let posted = false;
    while (this.#running && !queue.empty && !completions.full) {
      const { head } = queue;
      const fetched = fn.dma.read(queue.addressHi(head), queue.addressLo(head), command.bytes);
      if (epoch !== this.#epoch) return;
      if (fetched !== MemTx.OK) {
        this.#fail('submission', queue.id);
        return;
      }
      queue.head = queue.next(head);
      command.begin(queue.id);
      let status = this.#parts.execute(command);
      if (epoch !== this.#epoch) return;
      if (status === DEFERRED) continue;
      if (status !== Status.SUCCESS) {
        errors.failed(command, status);
        status |= MORE;
      }
      if (!this.#complete(queue.id, completions, command.cid, status, command.result)) return;
      posted = true;
    }
    if (posted) interrupts.posted(completions);
    if (queue.id === ADMIN && epoch === this.#epoch) this.#tellEvents();
  }

  /** Writes a completion. False if that was the end. */
  #complete(from: number, queue: CompletionQueue, cid: number, status: number, result: number): boolean {
    const { fn, queues } = this.#parts;
    const epoch = this.#epoch;
    const words = this.#completion;
    words[0] = result;
    words[1] = 0;
    words[2] = queues.submission[from]!.head | (from << 16);
    words[3] = cid | (queue.phase << 16) | (status << 17);
    const { tail } = queue;
    const written = fn.dma.write(queue.addressHi(tail), queue.addressLo(tail), this.#completionBytes);
    if (epoch !== this.#epoch) return false;
    if (written !== MemTx.OK) {
      this.#fail('completion', queue.id);
      return false;
    }
    queue.advance();
    return true;
  }

  #tellEvents(): void {
    const { queues, events, interrupts } = this.#parts;
    const completions = queues.completion[ADMIN]!;
    const { tail } = completions;
    events.deliver();
    if (this.#running && completions.tail !== tail) interrupts.posted(completions);
  }

  #wrongDoorbell(id: number, what: number): void {
    const { errors, events } = this.#parts;
    log.warn('doorbell of queue %d: event %d', id, what);
    errors.happened(
      id,
      (what === ErrorEvent.DOORBELL_REGISTER ? Status.INVALID_QUEUE_IDENTIFIER : Status.INVALID_FIELD) | DNR,
    );
    events.happened(EventType.ERROR, what, LogPage.ERROR);
    this.#tellEvents();
  }

  #fail(kind: string, id: number): void {
    log.warn('%s queue %d cannot be reached', kind, id);
    this.#running = false;
    this.#parts.fatal();
  }

  save(into: StateWriter): void {
    const { submission, completion } = this.#parts.queues;
    into.flag('running', this.#running);
    into.list(
      'submission',
      submission.filter(queue => queue !== undefined),
      (each, queue) => queue.save(each),
    );
    into.list(
      'completion',
      completion.filter(queue => queue !== undefined),
      (each, queue) => queue.save(each),
    );
  }

  /** @throws StateError if queues do not belong together. */
  load(from: StateReader): void {
    const { queues } = this.#parts;
    this.stop();
    this.#running = from.flag('running');
    for (const each of from.list('completion', MOST_QUEUES)) {
      const queue = CompletionQueue.load(each);
      queues.completion[queue.id] = queue;
    }
    for (const each of from.list('submission', MOST_QUEUES)) {
      const queue = SubmissionQueue.load(each);
      if (queues.completion[queue.completions] === undefined)
        throw each.problem('completions', `${queue.completions} found, which is no completion queue`);
      queues.submission[queue.id] = queue;
    }
    if (this.#running && queues.submission[ADMIN] === undefined) throw from.problem('submission', 'has no admin queue');
  }
}

const log = rateLimited(logger('remora:hw:nvme'), 20);
