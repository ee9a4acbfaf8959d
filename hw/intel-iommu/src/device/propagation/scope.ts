/** Which cached PASID entries a sync looks at (vsva.md 8.1). */
import { hasDomain } from './cached-pasid.js';
import type { CachedPasid } from './cached-pasid.js';
import type { HostedFunction } from './hosted-functions.js';

export class SyncScope {
  /** The PASID it is about; -1 for all. */
  readonly pasid: number;
  /** The domain id it names; -1 for all. */
  readonly domain: number;
  readonly #sourceId: number;
  readonly #sourceMask: number;
  /** Quirk Q2: the other functions of the bus are rechecked instead, while the named one's tables are walked. */
  readonly inverted: boolean;

  private constructor(pasid: number, domain: number, sourceId: number, sourceMask: number, inverted: boolean) {
    this.pasid = pasid;
    this.domain = domain;
    this.#sourceId = sourceId;
    this.#sourceMask = sourceMask;
    this.inverted = inverted;
  }

  static readonly everything = new SyncScope(-1, -1, 0, 0, false);

  static ofDomain(domain: number): SyncScope {
    return new SyncScope(-1, domain, 0, 0, false);
  }

  static ofPasid(domain: number, pasid: number): SyncScope {
    return new SyncScope(pasid, domain, 0, 0, false);
  }

  static ofFunction(hosted: HostedFunction): SyncScope {
    return new SyncScope(-1, -1, hosted.requesterId, 0xffff, false);
  }

  /**
   * A device-selective context invalidation: `functionMask` 1 ignores bit 2 of the source id, 2 bits 2:1, 3 bits 2:0 [A16].
   */
  static ofSource(sourceId: number, functionMask: number, inverted: boolean): SyncScope {
    const ignored = [0, 4, 6, 7][functionMask] ?? 0;
    return new SyncScope(-1, -1, sourceId, 0xffff & ~ignored, inverted);
  }

  /** Whether what is cached of this function is looked at again. */
  rechecks(hosted: HostedFunction): boolean {
    const sameBus = ((hosted.requesterId ^ this.#sourceId) & 0xff00) === 0;
    return this.inverted ? sameBus && !this.names(hosted) : this.names(hosted);
  }

  /** Whether this function is meant, and its tables are walked for what is new. */
  names(hosted: HostedFunction): boolean {
    return ((hosted.requesterId ^ this.#sourceId) & this.#sourceMask) === 0;
  }

  /** The domain test is against the entry as cached *or* as it now stands in memory (`now`, if it is there). */
  includes(cached: CachedPasid, now: Int32Array | undefined): boolean {
    if (this.pasid >= 0 && cached.pasid !== this.pasid) return false;
    return this.domain < 0 || cached.domain === this.domain || (now !== undefined && hasDomain(now, 0, this.domain));
  }
}
