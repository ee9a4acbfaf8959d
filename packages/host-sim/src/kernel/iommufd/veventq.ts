/**
 * A vEVENTQ: events of a VM's share of an IOMMU, for its VMM (peers.md 3.4). Each has a number; where a number is missing, an event was lost, and if
 * that is the last that is known, a header without a record says so.
 */
import { Errno } from '@remora/core';
import { IommufdVeventHeader, IommuVeventFlag, viewOf } from '@remora/uapi';
import type { Kernel } from '../kernel.js';
import { EventQueue } from './event-queue.js';

interface VirtualEvent {
  readonly sequence: number;
  /** Undefined: events were lost. */
  readonly record: Uint8Array | undefined;
}

const LAST_SEQUENCE = 0x7fff_ffff;
/** 2^19 events. */
export const MAX_DEPTH = 0x8_0000;

export class VirtualEventQueue extends EventQueue {
  readonly kind = 'veventq';
  /** IOMMU_VEVENTQ_TYPE_*. */
  readonly type: number;
  readonly #kernel: Kernel;
  readonly #depth: number;
  readonly #released: () => void;
  readonly #events: VirtualEvent[] = [];
  #sequence = 0;

  /** Keeps `depth` events at most. */
  constructor(kernel: Kernel, type: number, depth: number, released: () => void) {
    super();
    this.#kernel = kernel;
    this.type = type;
    this.#depth = depth;
    this.#released = released;
  }

  get readable(): boolean {
    return this.#events.length > 0;
  }

  /** Takes a copy of `record`, or counts it among the lost. */
  add(record: Uint8Array): void {
    if (this.#lost) this.#events.pop();
    const sequence = this.#sequence;
    this.#sequence = nextSequence(sequence);
    const lost = this.#events.length >= this.#depth || this.#kernel.fails('queue event') !== 0;
    this.#kernel.note(lost ? 'vevent-lost' : 'vevent', { veventq: this.id, type: this.type, sequence });
    this.#events.push({ sequence, record: lost ? undefined : record.slice() });
    this.readiness.signal();
  }

  override read(buffer: Uint8Array): number {
    const header = IommufdVeventHeader;
    if (buffer.length < header.size) return -Errno.EINVAL;
    const view = viewOf(buffer);
    let done = 0;
    let taken = 0;
    for (const next of this.#events) {
      const bytes = header.size + (next.record?.length ?? 0);
      if (bytes > buffer.length - done) break;
      header.fields.flags.set(view, next.record === undefined ? IommuVeventFlag.LOST_EVENTS : 0, done);
      header.fields.sequence.set(view, next.sequence, done);
      if (next.record !== undefined) buffer.set(next.record, done + header.size);
      done += bytes;
      taken++;
    }
    this.#events.splice(0, taken);
    return taken === 0 && this.readable ? -Errno.EINVAL : done;
  }

  override release(): void {
    this.#events.length = 0;
    this.#released();
  }

  override state(): unknown {
    return { type: this.type, depth: this.#depth, sequence: this.#sequence, events: this.#events.length };
  }

  /** Whether the newest is a header that says that events were lost. */
  get #lost(): boolean {
    const newest = this.#events.at(-1);
    return newest !== undefined && newest.record === undefined;
  }
}

/** The number of the event after the one with this number. */
export function nextSequence(sequence: number): number {
  return sequence === LAST_SEQUENCE ? 0 : sequence + 1;
}
