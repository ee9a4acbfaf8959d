/**
 * Faults that a host's unit found while it walked this guest's first stage, as the guest's own unit reports them. What the host's tables
 * and second stages do is nothing that the guest's architecture knows: it stays with the host.
 */
import { NO_PASID } from '@remora/core';
import type { HostStage1Fault } from '@remora/iommu';
import { Fault, ScalableContextEntry, Ttm } from '../spec/index.js';
import type { FaultRecording } from './fault-recording.js';
import type { UnitState } from './state.js';
import type { TableReader } from './table-reader.js';

/** The guest is not told. */
const KEPT = 0;
/** The request found nothing in the host's tables for its PASID: the guest's tables say why. */
const BY_TABLES = -1;

/** By the host unit's reason: what the guest's unit would say. All others are kept. */
const GUEST_REASONS: Readonly<Record<number, number>> = {
  // The guest's own paging entries, as the host's unit read them.
  [Fault.SFS_1]: Fault.SFS_1,
  [Fault.SFS_2]: Fault.SFS_2,
  [Fault.SFS_3]: Fault.SFS_3,
  [Fault.SFS_4]: Fault.SFS_4,
  [Fault.SFS_9]: Fault.SFS_9,
  [Fault.SFS_10]: Fault.SFS_10,
  [Fault.SGN_1]: Fault.SGN_1,
  [Fault.SGN_2]: Fault.SGN_2,
  [Fault.SGN_3]: Fault.SGN_3,
  [Fault.SGN_6]: Fault.SGN_6,
  [Fault.SGN_7]: Fault.SGN_7,
  [Fault.SGN_8]: Fault.SGN_8,
  [Fault.SPT_5]: Fault.SPT_5,
  [Fault.SPT_6]: Fault.SPT_6,
  // The guest's tables lie where it has no memory: without a second stage of its own, that is an access error.
  [Fault.SFS_5]: Fault.SFS_1,
  [Fault.SFS_6]: Fault.SFS_4,
  [Fault.SFS_7]: Fault.SFS_1,
  [Fault.SFS_8]: Fault.SFS_10,
  // Nothing is bound there.
  [Fault.SCT_2]: BY_TABLES,
  [Fault.SCT_6]: BY_TABLES,
  [Fault.SCT_7]: BY_TABLES,
  [Fault.SPD_2]: BY_TABLES,
  [Fault.SPT_2]: BY_TABLES,
};

export class HostFaults {
  readonly #state: UnitState;
  readonly #scalable: () => boolean;
  readonly #reader: TableReader;
  readonly #faults: FaultRecording;
  readonly #context = new Int32Array(8);
  readonly #entry = new Int32Array(16);
  /** The PASID whose entry the last request looked for. */
  #used = NO_PASID;

  /** `reader` reads the guest's tables, without a trace; `scalable` says whether the latched root table is in scalable mode. */
  constructor(state: UnitState, scalable: () => boolean, reader: TableReader, faults: FaultRecording) {
    this.#state = state;
    this.#scalable = scalable;
    this.#reader = reader;
    this.#faults = faults;
  }

  /**
   * Records a fault of the host under the guest's own terms, as if its unit had found it: FPD suppresses it, a full ring loses it. Returns
   * the reason that the guest reads, or 0 if this is nothing to tell it.
   */
  report(requesterId: number, { pasid, hi, lo, access, addressType, reason }: HostStage1Fault): number {
    const said = GUEST_REASONS[reason] ?? KEPT;
    if (said === KEPT || !this.#state.translationEnabled || this.#state.ttm !== Ttm.SCALABLE || !this.#scalable())
      return 0;
    const refusal = this.#refusal(requesterId, pasid);
    // An entry that is there and not bound has not been invalidated since it came, or its binding was refused: still not present.
    const told = said === BY_TABLES ? refusal || Fault.SPT_2 : said;
    const fpd = this.#reader.fpd;
    this.#faults.report(told, fpd, requesterId, pasid, true, this.#used, hi | 0, lo | 0, access, addressType);
    return told;
  }

  /** Why the guest's tables, as they stand, lead to no PASID entry; 0 if they do. The reader has met their FPD bits. */
  #refusal(requesterId: number, pasid: number): number {
    this.#used = pasid;
    const context = this.#context;
    const reason = this.#reader.scalableContext(requesterId, context);
    if (reason !== 0) return reason;
    const { paside, ridPasid } = ScalableContextEntry.fields;
    if (pasid === NO_PASID) this.#used = ridPasid.get(context, 0);
    else if (paside.get(context, 0) === 0) return Fault.SCT_6;
    return this.#reader.pasidEntryOf(requesterId, this.#used, this.#entry);
  }
}
