/**
 * Requesters that are out of translation, as QEMU has it. Whether the tables let a requester pass through is looked at by commands that
 * set the root table or turn translation on or off, by context-cache invalidations, and when a request is found to pass through. Until
 * the next such look nothing is checked of the requester's requests without PASID, whatever the tables say by then.
 */
import { ContextEntry, PasidEntry, Pgtt, ScalableContextEntry, TranslationType } from '../spec/index.js';
import { FUNCTION_MASKS } from './faulting-entries.js';
import type { UnitState } from './state.js';
import type { TableReader } from './table-reader.js';

const PAGE_MASK = ~0xfff;

export class PassingRequesters {
  readonly #state: UnitState;
  /** Nobody else's: looks happen in the middle of translations. */
  readonly #reader: TableReader;
  readonly #scalable: () => boolean;
  readonly #below: () => Iterable<number>;
  readonly #passing = new Set<number>();
  readonly #context = new Int32Array(8);
  readonly #entry = new Int32Array(16);

  /** `scalable`: whether the latched root table is in scalable mode; `below`: the requesters that there are at the moment. */
  constructor(state: UnitState, reader: TableReader, scalable: () => boolean, below: () => Iterable<number>) {
    this.#state = state;
    this.#reader = reader;
    this.#scalable = scalable;
    this.#below = below;
  }

  has(requesterId: number): boolean {
    return this.#passing.has(requesterId);
  }

  /** What the tables say of a requester counts from now on. */
  look(requesterId: number): void {
    if (this.#state.translationEnabled && this.#passesThrough(requesterId)) this.#passing.add(requesterId);
    else this.#passing.delete(requesterId);
  }

  /** Looks at all requesters. */
  lookAtAll(): void {
    for (const requesterId of new Set([...this.#passing, ...this.#below()])) this.look(requesterId);
  }

  /** Looks at those that match under the function mask (0 .. 3). */
  lookAtDevices(sourceId: number, functionMask: number): void {
    const mask = FUNCTION_MASKS[functionMask]!;
    for (const requesterId of new Set([...this.#passing, ...this.#below()])) {
      if (((requesterId ^ sourceId) & mask) === 0) this.look(requesterId);
    }
  }

  /** Ascending. For state. */
  requesters(): number[] {
    return [...this.#passing].toSorted((a, b) => a - b);
  }

  /** As `requesters` said. */
  load(requesters: Iterable<number>): void {
    this.#passing.clear();
    for (const requesterId of requesters) this.#passing.add(requesterId & 0xffff);
  }

  #passesThrough(requesterId: number): boolean {
    const context = this.#context;
    const reader = this.#reader;
    if (!this.#scalable()) {
      const inOrder = reader.legacyContext(requesterId, context) === 0;
      return inOrder && ContextEntry.fields.tt.get(context, 0) === TranslationType.PASS_THROUGH;
    }
    if (reader.scalableContext(requesterId, context) !== 0) return false;
    const pasid = ScalableContextEntry.fields.ridPasid.get(context, 0);
    const inOrder = reader.pasidEntry(context[1]!, context[0]! & PAGE_MASK, pasid, this.#entry) === 0;
    return inOrder && PasidEntry.fields.pgtt.get(this.#entry, 0) === Pgtt.PASS_THROUGH;
  }
}
