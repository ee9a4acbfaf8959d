/**
 * The invalidation queue as vtd.md 5.1 tells it. It follows the unit's own fetches: what was fetched must be what stands at the head,
 * and what comes of it must be what the descriptor says.
 */
import type { Coverage } from '../coverage.js';
import type { FuzzMemory, Load } from '../fuzz-memory.js';
import { executeDescriptor, type StatusWrite } from './descriptors.js';
import type { Facts } from './facts.js';
import type { NaiveFaults } from './faults.js';
import type { NaiveInterrupts } from './interrupts.js';
import type { NaiveUnit } from './translate.js';

const INVALID_TAIL = 1;
const FETCH = 2;
const MISALIGNED_TAIL = 6;
const NO_INFORMATION = 0;
const MISALIGNED = 0x10n;
const INTERRUPT_ENTRY_CACHE = 4;

export class NaiveQueue {
  enabled = false;
  wide = false;
  base = 0n;
  bytes = 0;
  head = 0;
  /** IQEI of the last error. */
  error: number | undefined;
  /** Byte offset past the last descriptor, as software wrote it. */
  tail = 0n;
  /** IQA as it reads. */
  iqa = 0n;
  readonly #facts: Facts;
  readonly #memory: FuzzMemory;
  readonly #unit: NaiveUnit;
  readonly #interrupts: NaiveInterrupts;
  readonly #faults: NaiveFaults;
  readonly #coverage: Coverage;

  constructor(
    facts: Facts,
    memory: FuzzMemory,
    unit: NaiveUnit,
    interrupts: NaiveInterrupts,
    faults: NaiveFaults,
    coverage: Coverage,
  ) {
    this.#facts = facts;
    this.#memory = memory;
    this.#unit = unit;
    this.#interrupts = interrupts;
    this.#faults = faults;
    this.#coverage = coverage;
  }

  get stopped(): boolean {
    return this.#faults.stopped;
  }

  get descriptorBytes(): number {
    return this.wide ? 32 : 16;
  }

  /** GCMD.QIE went on while IQT was this. */
  enable(tail: bigint): void {
    const { iqa } = this;
    this.enabled = true;
    this.base = iqa & ~0xfffn;
    this.bytes = 4096 << Number(iqa & 7n);
    this.wide = (iqa & 0x800n) !== 0n;
    this.head = 0;
    if (tail !== 0n) this.tailWritten(tail);
  }

  /** GCMD.QIE went off. */
  disable(): void {
    this.enabled = false;
    this.head = 0;
  }

  tailWritten(written: bigint): void {
    this.tail = written;
    this.run();
  }

  /** What the unit did with the queue during the last register write, by the loads and stores that it left. */
  run(): void {
    if (!this.enabled || this.stopped) return;
    const problem = this.#tailProblem();
    if (problem !== 0) {
      this.#stop(problem);
      return;
    }
    const fetches = [...this.#memory.loads];
    const stores = this.#memory.stores.map(each => ({ address: each.address, data: each.words[0]! >>> 0 }));
    while (BigInt(this.head) !== this.tail) {
      if (this.#memory.quad(this.base + BigInt(this.head)) === undefined) {
        this.#stop(FETCH);
        break;
      }
      const fetch = fetches.shift();
      if (fetch === undefined) throw new Error(`the unit has not fetched the descriptor at ${this.head}`);
      if (!this.#execute(fetch, stores)) break;
    }
    if (fetches.length > 0) throw new Error('the unit has fetched a descriptor too many');
    if (stores.length > 0) throw new Error(`the unit has stored ${stores.length} words too many`);
    this.#memory.forget();
  }

  #execute(fetch: Load, stores: StatusWrite[]): boolean {
    if (fetch.address !== this.base + BigInt(this.head) || fetch.words.length * 4 !== this.descriptorBytes) {
      throw new Error(`the unit has fetched at 0x${fetch.address.toString(16)}, its head is ${this.head}`);
    }
    const words = [...fetch.words, 0, 0, 0, 0];
    const q = [0, 2, 4, 6].map(i => (BigInt(words[i + 1]! >>> 0) << 32n) | BigInt(words[i]! >>> 0));
    const { mode, shadow } = this.#unit;
    const { type, error, status, interrupt } = executeDescriptor(this.#facts, shadow, q, mode, this.wide);
    if (error !== undefined) return this.#stop(error);
    if (status !== undefined) {
      if (!this.#memory.isWritable(status.address)) return this.#stop(NO_INFORMATION);
      const store = stores.shift();
      if (store?.address !== status.address || store.data !== status.data) {
        throw new Error(`no status word ${status.data.toString(16)} at 0x${status.address.toString(16)}`);
      }
    }
    if (type === INTERRUPT_ENTRY_CACHE) this.#interrupts.invalidate(q[0]!);
    if (interrupt === true) this.#faults.complete();
    this.#coverage.hit(`descriptor ${type}`);
    this.head = (this.head + this.descriptorBytes) % this.bytes;
    return true;
  }

  #tailProblem(): number {
    const { tail } = this;
    if ((tail & ~0x7_fff0n) !== 0n) return INVALID_TAIL;
    if (this.wide && (tail & MISALIGNED) !== 0n) return MISALIGNED_TAIL;
    return tail >= BigInt(this.bytes) ? INVALID_TAIL : 0;
  }

  #stop(error: number): false {
    this.error = error;
    this.#coverage.hit(`queue error ${error}`);
    this.#faults.queueError();
    return false;
  }
}
