/**
 * IOMMU notifiers: who must follow what an IOMMU region translates, because hardware of its own translates for it: VFIO's shadow of the
 * guest's tables [QEMU: IOMMUNotifier].
 */

/** What a notifier wants to hear: a bit set. */
export const IommuNotify = {
  /** Pages that were taken away. */
  UNMAP: 1,
  /** Pages that were put there; the unit must walk the guest's tables to know (caching mode). */
  MAP: 2,
} as const;

/**
 * Mappings that came or went, as one range: contiguous on both sides, and of one permission. One object, owned by the unit and reused:
 * receivers copy what they keep. An unmap covers maps as they were told, one or several of them whole, and what lies between was not
 * mapped: nobody has to cut a mapping in two.
 */
export class IommuMapEvent {
  /** First input page frame of the region, 0 .. 2^52, and how many pages of 4 KiB. */
  frame = 0;
  pages = 0;
  /** Page frame in the translator's target that `frame` maps to; without meaning for an unmap. */
  outFrame = 0;
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

  /** How many there are. */
  get size(): number {
    return this.#all.length;
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
    const end = event.frame + event.pages;
    let result = 0;
    for (const notifier of this.#all) {
      if ((notifier.wants & bit) === 0 || notifier.startFrame >= end || event.frame >= notifier.endFrame) continue;
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
