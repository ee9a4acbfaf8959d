/**
 * The causal ledger: every crossing of a boundary (register write, descriptor, host call, DMA) as an event with an id and the id
 * of the event that caused it. Causes nest as calls do, so the innermost open event is the cause of the next one.
 *
 * Off, it costs one boolean: call sites test `ledger.on` before they build anything.
 */
export interface LedgerEvent {
  readonly id: number;
  /** The event during which this one happened; 0 for none. */
  readonly cause: number;
  /** Who reports, for instance `vm0/intel-iommu`, `vm0/host-syscalls`, `host/vtd`. */
  readonly source: string;
  /** What happened, a fixed word per boundary: `mmio-write`, `descriptor`, `decision`, `ioctl`, `dma` ... */
  readonly kind: string;
  /** Numbers, strings, byte arrays: whatever the boundary carries. Treated as immutable. */
  readonly data: Readonly<Record<string, unknown>>;
}

export class Ledger {
  /** Call sites test this before they build an event. */
  on = false;
  readonly #events: LedgerEvent[] = [];
  readonly #open: number[] = [];
  #last = 0;

  get events(): readonly LedgerEvent[] {
    return this.#events;
  }

  /** The event that is the cause of the next one; 0 for none. */
  get cause(): number {
    return this.#open.at(-1) ?? 0;
  }

  /** Records an event that causes nothing further. Returns its id. */
  add(source: string, kind: string, data: Record<string, unknown>): number {
    const id = ++this.#last;
    this.#events.push({ id, cause: this.cause, source, kind, data });
    return id;
  }

  /** Records an event and makes it the cause of those that follow, until `close(id)`. */
  open(source: string, kind: string, data: Record<string, unknown>): number {
    const id = this.add(source, kind, data);
    this.#open.push(id);
    return id;
  }

  /** Makes an earlier event (0: none) the cause of those that follow, until `close(id)`: for what is done later on its behalf. */
  reopen(id: number): void {
    this.#open.push(id);
  }

  /** Ends what `open` or `reopen` began, and anything left open inside it. `result` is merged into the event's data. */
  close(id: number, result?: Record<string, unknown>): void {
    const at = this.#open.lastIndexOf(id);
    if (at >= 0) this.#open.length = at;
    if (result !== undefined) {
      const index = this.#events.findLastIndex(event => event.id === id);
      const event = this.#events[index];
      if (event !== undefined) this.#events[index] = { ...event, data: { ...event.data, ...result } };
    }
  }

  /** All events that `id` caused, directly or through others, in order. */
  causedBy(id: number): LedgerEvent[] {
    const inside = new Set([id]);
    return this.#events.filter(event => inside.has(event.cause) && inside.add(event.id));
  }

  clear(): void {
    this.#events.length = 0;
  }
}
