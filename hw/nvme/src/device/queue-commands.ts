/** Commands that create and delete I/O queues (NVMe 1.4, 5.3 to 5.6). */
import { CQ_ENTRY_SHIFT, QueueFlags, SQ_ENTRY_SHIFT, Status } from '../spec/index.js';
import { type Command, Location } from './command.js';
import type { Interrupts } from './interrupts.js';
import { CompletionQueue, SubmissionQueue } from './queues.js';

/** The queues by their identifiers. 0 are the admin queues. */
export interface Queues {
  readonly submission: (SubmissionQueue | undefined)[];
  readonly completion: (CompletionQueue | undefined)[];
}

export interface QueueLimits {
  /** The highest identifier. */
  readonly queues: number;
  /** Entries of the largest queue, less one. */
  readonly mqes: number;
}

/** What CC says of queues. */
export interface QueueFormat {
  readonly pageBytes: number;
  /** log2 of an entry's size. */
  readonly sqEntry: number;
  readonly cqEntry: number;
}

export class QueueCommands {
  readonly #queues: Queues;
  readonly #limits: QueueLimits;
  readonly #interrupts: Interrupts;

  constructor(queues: Queues, limits: QueueLimits, interrupts: Interrupts) {
    this.#queues = queues;
    this.#limits = limits;
    this.#interrupts = interrupts;
  }

  /** Whether there are I/O queues. */
  get any(): boolean {
    const { submission, completion } = this.#queues;
    return submission.some((queue, id) => id > 0 && queue) || completion.some((queue, id) => id > 0 && queue);
  }

  createSubmission(command: Command, format: QueueFormat): number {
    const { submission, completion } = this.#queues;
    const id = command.dword(10) & 0xffff;
    const size = (command.dword(10) >>> 16) + 1;
    const completions = command.dword(11) >>> 16;
    if (completions === 0 || completion[completions] === undefined)
      return command.fail(Status.COMPLETION_QUEUE_INVALID, Location.CDW11 + 2);
    const wrong = this.#unfit(command, submission[id] !== undefined, format.pageBytes, format.sqEntry, SQ_ENTRY_SHIFT);
    if (wrong !== Status.SUCCESS) return wrong;
    submission[id] = new SubmissionQueue(id, command.prp1Hi, command.prp1Lo, size, completions);
    return Status.SUCCESS;
  }

  createCompletion(command: Command, format: QueueFormat): number {
    const { completion } = this.#queues;
    const id = command.dword(10) & 0xffff;
    const size = (command.dword(10) >>> 16) + 1;
    const flags = command.dword(11);
    const wrong = this.#unfit(command, completion[id] !== undefined, format.pageBytes, format.cqEntry, CQ_ENTRY_SHIFT);
    if (wrong !== Status.SUCCESS) return wrong;
    const vector = flags >>> 16;
    const interrupts = (flags & QueueFlags.INTERRUPTS) !== 0;
    if (interrupts && !this.#interrupts.has(vector))
      return command.fail(Status.INVALID_INTERRUPT_VECTOR, Location.CDW11 + 2);
    completion[id] = new CompletionQueue(id, command.prp1Hi, command.prp1Lo, size, vector, interrupts);
    return Status.SUCCESS;
  }

  deleteSubmission(command: Command): number {
    const { submission } = this.#queues;
    const id = command.dword(10) & 0xffff;
    if (id === 0 || submission[id] === undefined) return command.fail(Status.INVALID_QUEUE_IDENTIFIER, Location.CDW10);
    submission[id] = undefined;
    return Status.SUCCESS;
  }

  deleteCompletion(command: Command): number {
    const { submission, completion } = this.#queues;
    const id = command.dword(10) & 0xffff;
    if (id === 0 || completion[id] === undefined) return command.fail(Status.INVALID_QUEUE_IDENTIFIER, Location.CDW10);
    // Another time it may not be in use.
    if (submission.some(queue => queue?.completions === id)) return Status.INVALID_QUEUE_DELETION;
    completion[id] = undefined;
    this.#interrupts.changed();
    return Status.SUCCESS;
  }

  /** What both kinds have in common: identifier, size, place, entry size. */
  #unfit(command: Command, exists: boolean, pageBytes: number, entry: number, expected: number): number {
    const id = command.dword(10) & 0xffff;
    const size = command.dword(10) >>> 16;
    if (id === 0 || id > this.#limits.queues || exists)
      return command.fail(Status.INVALID_QUEUE_IDENTIFIER, Location.CDW10);
    if (size === 0 || size > this.#limits.mqes || entry !== expected)
      return command.fail(Status.INVALID_QUEUE_SIZE, Location.CDW10 + 2);
    if ((command.prp1Lo & (pageBytes - 1)) !== 0) return command.fail(Status.PRP_OFFSET_INVALID, Location.PRP1);
    if ((command.dword(11) & QueueFlags.CONTIGUOUS) === 0) return command.fail(Status.INVALID_FIELD, Location.CDW11);
    return Status.SUCCESS;
  }
}
