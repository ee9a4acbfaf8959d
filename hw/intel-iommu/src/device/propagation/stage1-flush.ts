/** PASID-IOTLB invalidations on their way to the host's first-stage caches [A20]. Nothing here allocates. */
import type { Ledger } from '@remora/core';
import { hostFlushStage1Caches, Stage1Flush, Stage1FlushBatch, type HostIOMMUContext } from '@remora/iommu';
import type { VtdConfig } from '../../config/index.js';
import type { HostedFunctions } from './hosted-functions.js';
import type { PasidCache } from './pasid-cache.js';

const PAGE_SHIFT = 12;

export class Stage1Flusher {
  readonly #functions: HostedFunctions;
  readonly #cache: PasidCache;
  readonly #config: VtdConfig;
  readonly #failed: (context: HostIOMMUContext, pasid: number, errno: number) => void;
  readonly #ledger: Ledger;
  readonly #source: string;
  readonly #flush = new Stage1Flush();
  readonly #batch = new Stage1FlushBatch();
  /** Contexts that this flush has called; what lies beyond is of earlier ones. */
  readonly #served: HostIOMMUContext[] = [];

  constructor(
    functions: HostedFunctions,
    cache: PasidCache,
    config: VtdConfig,
    failed: (context: HostIOMMUContext, pasid: number, errno: number) => void,
    ledger: Ledger,
    source: string,
  ) {
    this.#functions = functions;
    this.#cache = cache;
    this.#config = config;
    this.#failed = failed;
    this.#ledger = ledger;
    this.#source = source;
  }

  /** Everything that was cached under `pasid`. Returns 0 or the first negated errno. */
  wholePasid(domain: number, pasid: number): number {
    this.#flush.granularity = 'pasid';
    this.#flush.leaf = false;
    return this.#send(domain, pasid);
  }

  /**
   * `2 ** addressMask` pages. The guest may leave low address bits set (hardware ignores them); a host would not, so the address
   * is aligned here. Masks beyond the address width are clipped to it.
   */
  pages(domain: number, pasid: number, hi: number, lo: number, addressMask: number, leaf: boolean): number {
    const shift = Math.min(PAGE_SHIFT + addressMask, this.#config['aw-bits']);
    this.#flush.granularity = 'address';
    this.#flush.leaf = leaf;
    this.#flush.granuleShift = shift;
    this.#flush.granules = 1;
    this.#flush.hi = shift > 32 ? hi & ~((1 << (shift - 32)) - 1) : hi;
    this.#flush.lo = shift >= 32 ? 0 : lo & ~((1 << shift) - 1);
    return this.#send(domain, pasid);
  }

  /** One call per host context that has the PASID bound in that domain: the host flushes for all of its devices. */
  #send(domain: number, pasid: number): number {
    this.#flush.pasid = pasid;
    let served = 0;
    let first = 0;
    for (const hosted of this.#functions.all) {
      const cached = hosted.pasids.get(pasid);
      if (cached === undefined || !this.#cache.isCurrent(cached) || cached.domain !== domain) continue;
      if (!cached.bound && !(pasid === 0 && this.#config['quirk-flushes-pasid0'])) continue;
      if (!this.#config['quirk-call-per-device']) {
        if (this.#isServed(hosted.context, served)) continue;
        this.#served[served++] = hosted.context;
      }
      const result = this.#call(hosted.context, hosted.requesterId, pasid);
      if (result < 0) first ||= result;
    }
    return first;
  }

  /** Whether `context` is among the first `count` of those that were called. */
  #isServed(context: HostIOMMUContext, count: number): boolean {
    for (let i = 0; i < count; i++) if (this.#served[i] === context) return true;
    return false;
  }

  #call(context: HostIOMMUContext, requesterId: number, pasid: number): number {
    const id = this.#ledger.on
      ? this.#ledger.open(this.#source, 'decision', { action: 'flush', requesterId, pasid })
      : 0;
    this.#batch.clear();
    this.#batch.add(this.#flush);
    const result = hostFlushStage1Caches(context, this.#batch);
    if (id !== 0) this.#ledger.close(id, { result });
    if (result >= 0) return 0;
    this.#failed(context, pasid, result);
    return this.#config['quirk-failures-invisible'] ? 0 : result;
  }
}
