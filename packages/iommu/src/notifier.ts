/**
 * IOMMU notifiers: who must follow an address space's mappings, because hardware of its own translates for it (VFIO's shadow of
 * the guest's tables, a device TLB) [QEMU: IOMMUNotifier].
 */

/** What a notifier wants to hear: a bit set. */
export const IommuNotify = {
  /** Pages that were taken away. */
  UNMAP: 1,
  /** Pages that were put there; the unit must walk the guest's tables to know (caching mode). */
  MAP: 2,
} as const;

/** A mapping that came or went. One object, owned by the unit and reused: receivers copy what they keep. */
export class IommuMapEvent {
  /** First input byte address, aligned to `1 << shift`. */
  hi = 0;
  lo = 0;
  /** log2 of the range in bytes, 12 .. 64. */
  shift = 12;
  /** What it maps to; without meaning for an unmap. */
  outHi = 0;
  outLo = 0;
  /** Access bits; 0 = the range is not mapped any more. */
  access = 0;
}

export interface IommuNotifier {
  /** IommuNotify bits; constant. */
  readonly wants: number;
  /** The page frames it listens to: [startFrame, endFrame), up to 2^52. */
  readonly startFrame: number;
  readonly endFrame: number;
  /** Follows `event`. Returns 0, or a negated errno of the host; then the notifier's state is as before. */
  notify(event: IommuMapEvent): number;
}

/** The notifiers of one address space. */
export class IommuNotifiers {
  readonly #replay: (notifier: IommuNotifier) => number;
  /** Replaced, never changed: a notifier may add or remove notifiers while it is told something. */
  #all: readonly IommuNotifier[] = [];
  #wants = 0;

  /** `replay` tells one notifier of every mapping that is there now (by its notify()) and returns its first error, or 0. */
  constructor(replay: (notifier: IommuNotifier) => number) {
    this.#replay = replay;
  }

  /** IommuNotify bits that anybody wants: what nobody wants, the unit need not find out. */
  get wants(): number {
    return this.#wants;
  }

  /** From now on `notifier` hears of changes; what is mapped already it learns by replay(). */
  add(notifier: IommuNotifier): Disposable {
    if (this.#all.includes(notifier)) throw new Error('the notifier is registered already');
    this.#set([...this.#all, notifier]);
    return { [Symbol.dispose]: () => this.#set(this.#all.filter(other => other !== notifier)) };
  }

  /** Tells `notifier` of all that is mapped now. Returns 0 or a negated errno. */
  replay(notifier: IommuNotifier): number {
    return this.#replay(notifier);
  }

  /**
   * Tells everybody whom `event` concerns; a failure does not keep it from the others. Returns the first negated errno, or 0.
   */
  notify(event: IommuMapEvent): number {
    const bit = event.access === 0 ? IommuNotify.UNMAP : IommuNotify.MAP;
    if ((this.#wants & bit) === 0) return 0;
    const start = (event.hi >>> 0) * 0x10_0000 + (event.lo >>> 12);
    const end = start + 2 ** (event.shift - 12);
    let result = 0;
    for (const notifier of this.#all) {
      if ((notifier.wants & bit) === 0 || notifier.startFrame >= end || start >= notifier.endFrame) continue;
      const error = notifier.notify(event);
      if (result === 0) result = error;
    }
    return result;
  }

  #set(all: readonly IommuNotifier[]): void {
    this.#all = all;
    this.#wants = all.reduce((wants, notifier) => wants | notifier.wants, 0);
  }
}
