/**
 * PASID-IOTLB invalidations on their way to the hosts' first-stage caches [A20]. Those of consecutive descriptors are collected, and go
 * down in guest order: each run of flushes for the same context is one batch. Nothing here allocates once it has grown.
 */
import type { Ledger } from '@remora/core';
import { hostFlushStage1Caches, Stage1Flush, Stage1FlushBatch, type HostIOMMUContext } from '@remora/iommu';
import type { VtdConfig } from '../../config/index.js';
import type { HostedFunctions } from './hosted-functions.js';
import type { PasidCache } from './pasid-cache.js';

const PAGE_SHIFT = 12;
const NONE = -1;

/** Whose flush an entry of the batch is. */
interface Origin {
  /** Counts the descriptors since the last settlement. */
  descriptor: number;
  pasid: number;
  /** Events of the ledger: the decision to flush, and what it was made for. 0 while the ledger is off. */
  decision: number;
  cause: number;
}

export class Stage1Flusher {
  readonly #functions: HostedFunctions;
  readonly #cache: PasidCache;
  readonly #config: VtdConfig;
  readonly #failed: (context: HostIOMMUContext, pasid: number, errno: number) => void;
  readonly #ledger: Ledger;
  readonly #source: string;
  readonly #flush = new Stage1Flush();
  readonly #batch = new Stage1FlushBatch();
  /** Whose batch it is. */
  #context: HostIOMMUContext | undefined;
  /** Of the batch's entries from the first that was ever in it; what lies beyond is of earlier batches. */
  readonly #origins: Origin[] = [];
  /** Entries that have left the batch. */
  #dropped = 0;
  /** The decision during which the host works. */
  #begun = 0;
  readonly #onBegin = (index: number): void => {
    this.#endDecision();
    this.#begun = this.#origins[this.#dropped + index]!.decision;
    this.#ledger.reopen(this.#begun);
  };
  /** Descriptors that were collected since the last settlement. */
  #descriptors = 0;
  /** The first of them that a host refused. */
  #refused = NONE;
  /** Contexts that this descriptor goes to; what lies beyond is of earlier ones. */
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

  /** Collects a flush of everything that was cached under `pasid`. */
  wholePasid(domain: number, pasid: number): void {
    this.#flush.granularity = 'pasid';
    this.#flush.leaf = false;
    this.#collect(domain, pasid);
  }

  /**
   * Collects a flush of `2 ** addressMask` pages. The guest may leave low address bits set (hardware ignores them); a host would not, so
   * the address is aligned here. Masks beyond the address width are clipped to it.
   */
  pages(domain: number, pasid: number, hi: number, lo: number, addressMask: number, leaf: boolean): void {
    const shift = Math.min(PAGE_SHIFT + addressMask, this.#config['aw-bits']);
    this.#flush.granularity = 'address';
    this.#flush.leaf = leaf;
    this.#flush.granuleShift = shift;
    this.#flush.granules = 1;
    this.#flush.hi = shift > 32 ? hi & ~((1 << (shift - 32)) - 1) : hi;
    this.#flush.lo = shift >= 32 ? 0 : lo & ~((1 << shift) - 1);
    this.#collect(domain, pasid);
  }

  /**
   * Does what was collected. Returns -1, or which of the descriptors since the last settlement a host refused first (0 for the first of
   * all): those before it are done everywhere, it has been tried at each of its hosts, and of those after it nothing need be done.
   */
  settle(): number {
    this.#submit();
    const refused = this.#refused;
    this.#descriptors = 0;
    this.#refused = NONE;
    return refused;
  }

  /** One flush for each host context that has the PASID bound in that domain: the host flushes for all of its devices. */
  #collect(domain: number, pasid: number): void {
    this.#flush.pasid = pasid;
    const descriptor = this.#descriptors++;
    let served = 0;
    for (const hosted of this.#functions.all) {
      const cached = hosted.pasids.get(pasid);
      if (cached === undefined || !this.#cache.isCurrent(cached) || cached.domain !== domain) continue;
      if (!cached.bound && !(pasid === 0 && this.#config['quirk-flushes-pasid0'])) continue;
      if (!this.#config['quirk-call-per-device']) {
        if (this.#isServed(hosted.context, served)) continue;
        this.#served[served++] = hosted.context;
      }
      this.#add(hosted.context, hosted.requesterId, descriptor);
    }
  }

  /** Whether `context` is among the first `count` of those that this descriptor goes to. */
  #isServed(context: HostIOMMUContext, count: number): boolean {
    for (let i = 0; i < count; i++) if (this.#served[i] === context) return true;
    return false;
  }

  #add(context: HostIOMMUContext, requesterId: number, descriptor: number): void {
    if (context !== this.#context) this.#submit();
    // What comes after a refusal is the guest's to ask for again; the refused one itself is tried at its other hosts.
    if (this.#refused !== NONE && descriptor !== this.#refused) return;
    this.#context = context;
    const { pasid } = this.#flush;
    const at = this.#batch.length;
    const origin = (this.#origins[at] ??= { descriptor: 0, pasid: 0, decision: 0, cause: 0 });
    origin.descriptor = descriptor;
    origin.pasid = pasid;
    origin.cause = 0;
    origin.decision = 0;
    if (this.#ledger.on) {
      origin.cause = this.#ledger.cause;
      origin.decision = this.#ledger.add(this.#source, 'decision', { action: 'flush', requesterId, pasid });
    }
    this.#batch.add(this.#flush);
  }

  /** Hands the batch to its context. Under quirk Q15 what a refusal leaves undone is submitted again. */
  #submit(): void {
    const batch = this.#batch;
    const context = this.#context;
    while (context !== undefined && batch.length > 0) {
      batch.begun = this.#ledger.on ? this.#onBegin : undefined;
      const result = hostFlushStage1Caches(context, batch);
      this.#endDecision();
      // Whatever the host says it did, one entry is what it refuses.
      const accepted = result < 0 ? Math.min(batch.accepted, batch.length - 1) : batch.length;
      if (this.#ledger.on) this.#logAccepted(accepted);
      if (result >= 0) break;
      this.#refuse(context, this.#origins[this.#dropped + accepted]!, result);
      if (!this.#config['quirk-failures-invisible']) break;
      batch.drop(accepted + 1);
      this.#dropped += accepted + 1;
    }
    batch.clear();
    this.#dropped = 0;
    this.#context = undefined;
  }

  #refuse(context: HostIOMMUContext, { descriptor, pasid, decision, cause }: Origin, result: number): void {
    if (decision !== 0) {
      this.#ledger.close(decision, { result });
      this.#ledger.reopen(cause);
    }
    this.#failed(context, pasid, result);
    if (decision !== 0) this.#ledger.close(cause);
    if (this.#refused === NONE && !this.#config['quirk-failures-invisible']) this.#refused = descriptor;
  }

  #logAccepted(count: number): void {
    for (let index = 0; index < count; index++) {
      const { decision } = this.#origins[this.#dropped + index]!;
      if (decision !== 0) this.#ledger.close(decision, { result: 0 });
    }
  }

  #endDecision(): void {
    if (this.#begun !== 0) this.#ledger.close(this.#begun);
    this.#begun = 0;
  }
}
