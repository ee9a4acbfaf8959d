import type { ReplayMemory } from './replay-memory.js';
import type { MemoryLine, TraceLine } from './trace-line.js';
import type { TraceOperation } from './trace-operations.js';

/** What the model does besides answering. */
const EFFECTS: ReadonlySet<string> = new Set(['MW', 'IRQ', 'F', 'FPD', 'N', 'PR', 'VC', 'H']);

/** An operation under way: what the recorded unit did during it, and what the model has done. */
export class ReplayFrame {
  /** In order. */
  readonly expected: readonly TraceLine[];
  /** What the model did, in order. */
  readonly got: string[] = [];
  /** FPD suppressed a fault. */
  suppressed = false;
  readonly #operation: TraceOperation;
  readonly #memory: ReplayMemory;
  /** How many of the nested lines memory has been told of. */
  #told = 0;
  /** What the unit found changed later: it holds from the next part of the operation on. */
  #later: MemoryLine[] = [];

  constructor(operation: TraceOperation, memory: ReplayMemory) {
    this.#operation = operation;
    this.#memory = memory;
    this.expected = operation.nested.filter(({ kind }) => EFFECTS.has(kind));
  }

  /** What the recorded unit did next, if the model has done the same so far. */
  get next(): TraceLine | undefined {
    return this.expected[this.got.length];
  }

  /** What a device did to the recorded unit before it came back from `message`. */
  during(message: TraceLine): readonly TraceOperation[] | undefined {
    return this.#operation.within.get(message);
  }

  /**
   * Stores what the unit read up to the next message to a device during which others came: the first time only, since what it wrote
   * itself comes from the model.
   */
  provideMemory(): void {
    const { nested, within } = this.#operation;
    const seen = new Set<string>();
    for (const line of this.#later) this.#provide(line);
    this.#later = [];
    while (this.#told < nested.length) {
      const line = nested[this.#told++]!;
      if (within.has(line)) return;
      if (line.kind !== 'MR' && line.kind !== 'MW') continue;
      const { hi, lo } = line.address;
      const key = `${hi}:${lo}`;
      if (line.kind === 'MR') {
        if (seen.has(key)) this.#later.push(line);
        else this.#provide(line);
      }
      seen.add(key);
    }
  }

  /** Stores all that is left: it holds for what comes next. */
  provideRest(): void {
    while (this.#told < this.#operation.nested.length || this.#later.length > 0) this.provideMemory();
  }

  #provide({ address, length, bytes }: MemoryLine): void {
    if (bytes === undefined) this.#memory.fail(address.hi, address.lo, length);
    else this.#memory.put(address.hi, address.lo, bytes);
  }
}
