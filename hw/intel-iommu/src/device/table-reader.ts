/**
 * Reading root, context and PASID entries from memory with all their checks (VT-d 3.4, vtd.md 4.3, 4.4). No cache, no fault
 * recording: results are 0 or the fault reason.
 */
import { MemTx, type MemoryPort } from '@remora/core';
import {
  ContextEntry,
  Fault,
  levelsOfWidth,
  pasidLimit,
  PasidDirectoryEntry,
  PasidEntry,
  Pgtt,
  ScalableContextEntry,
  TranslationType,
  Ttm,
} from '../spec/index.js';
import type { Behaviour } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import { violates, type ReservedMasks } from './reserved.js';
import type { UnitState } from './state.js';
import type { VtdTrace } from './trace-events.js';

const PAGE_MASK = ~0xfff;
const P = 1;

export class TableReader {
  /** FPD bits met by the last read, cumulative from context() to pasid(). */
  fpd = false;
  /** FPD met before the last PASID entry hid what was wrong with it; see pasidEntry. */
  hiding = false;
  readonly #caps: Capabilities;
  readonly #behaviour: Behaviour;
  readonly #memory: MemoryPort;
  readonly #state: UnitState;
  readonly #masks: ReservedMasks;
  readonly #trace: VtdTrace | undefined;
  readonly #root = new Int32Array(4);
  readonly #directory = new Int32Array(2);
  readonly #context = new Int32Array(8);

  /** Without `trace` its reads are nobody's business. */
  constructor(
    caps: Capabilities,
    behaviour: Behaviour,
    memory: MemoryPort,
    state: UnitState,
    masks: ReservedMasks,
    trace?: VtdTrace,
  ) {
    this.#caps = caps;
    this.#behaviour = behaviour;
    this.#memory = memory;
    this.#state = state;
    this.#masks = masks;
    this.#trace = trace;
  }

  /** A requester's legacy context entry into `out[0 .. 3]`. */
  legacyContext(requesterId: number, out: Int32Array): number {
    const root = this.#root;
    const { rootHi, rootLo } = this.#state;
    this.fpd = false;
    if (this.#memory.load(rootHi, rootLo | ((requesterId >>> 8) << 4), root, 0, 4) !== MemTx.OK) return Fault.LRT_1;
    if ((root[0]! & P) === 0) return this.#noRoot(requesterId, Fault.LRT_2);
    if (violates(this.#masks.root, root, 0)) return Fault.LRT_3;
    const lo = (root[0]! & PAGE_MASK) | ((requesterId & 0xff) << 4);
    if (this.#memory.load(root[1]!, lo, out, 0, 4) !== MemTx.OK) return Fault.LCT_1;
    const fields = ContextEntry.fields;
    this.fpd = fields.fpd.get(out, 0) === 1;
    if ((out[0]! & P) === 0) return this.#noContext(requesterId, Fault.LCT_2);
    const tt = fields.tt.get(out, 0);
    const passThrough = tt === TranslationType.PASS_THROUGH;
    if (violates(passThrough ? this.#masks.contextPassThrough : this.#masks.context, out, 0)) return Fault.LCT_3;
    return this.#legacyContextIsValid(tt, fields.aw.get(out, 0)) ? 0 : Fault.LCT_4;
  }

  /** A requester's scalable-mode context entry into `out[0 .. 7]`. */
  scalableContext(requesterId: number, out: Int32Array): number {
    const faults = this.#behaviour.scalableLookup;
    const root = this.#root;
    const { rootHi, rootLo } = this.#state;
    this.fpd = false;
    if (this.#memory.load(rootHi, rootLo | ((requesterId >>> 8) << 4), root, 0, 4) !== MemTx.OK)
      return faults.rootAccess;
    const half = (requesterId >>> 7) & 1;
    if ((root[half * 2]! & P) === 0) return this.#noRoot(requesterId, faults.rootNotPresent);
    if (violates(this.#masks.scalableRoot[half]!, root, 0)) return faults.rootReserved;
    const lo = (root[half * 2]! & PAGE_MASK) | ((requesterId & 0x7f) << 5);
    if (this.#memory.load(root[half * 2 + 1]!, lo, out, 0, 8) !== MemTx.OK) return faults.contextAccess;
    const fields = ScalableContextEntry.fields;
    this.fpd = fields.fpd.get(out, 0) === 1;
    if ((out[0]! & P) === 0) return this.#noContext(requesterId, faults.contextNotPresent);
    if (violates(this.#masks.scalableContext, out, 0)) return faults.contextReserved;
    if (this.#behaviour.pasidLimits && fields.ridPasid.get(out, 0) >= pasidLimit(fields.pdts.get(out, 0)))
      return Fault.SCT_4;
    return 0;
  }

  /**
   * The PASID entry for `pasid` into `out[0 .. 15]`; the directory is at the byte address (hi, lo). The caller checks its size, and has set
   * `fpd`. With `trusted`, P of the entry does not count, and after FPD any entry is one of the stage that the unit offers.
   */
  pasidEntry(hi: number, lo: number, pasid: number, out: Int32Array, trusted = false): number {
    const directory = this.#directory;
    // The directory has up to 32 pages, so its entries may lie beyond a 4 GiB boundary.
    const entryLo = (lo >>> 0) + (pasid >>> 6) * 8;
    const carry = entryLo > 0xffff_ffff ? 1 : 0;
    this.hiding = trusted && this.fpd;
    if (this.#memory.load(hi + carry, entryLo | 0, directory, 0, 2) !== MemTx.OK)
      return this.hiding ? Fault.SPD_2 : Fault.SPD_1;
    const checked = this.#behaviour.pasidReservedChecked;
    if (PasidDirectoryEntry.fields.fpd.get(directory, 0)) this.fpd = true;
    this.hiding = trusted && this.fpd;
    if ((directory[0]! & P) === 0) return Fault.SPD_2;
    if (checked && violates(this.#masks.pasidDirectory, directory, 0)) return Fault.SPD_3;
    const tableLo = (directory[0]! & PAGE_MASK) | ((pasid & 0x3f) << 6);
    if (this.#memory.load(directory[1]!, tableLo, out, 0, 16) !== MemTx.OK)
      return this.hiding ? Fault.SPT_2 : Fault.SPT_1;
    if (PasidEntry.fields.fpd.get(out, 0)) this.fpd = true;
    const present = (out[0]! & P) !== 0;
    if (trusted && (this.hiding || this.#pasidEntryIsValid(out))) {
      return present && this.#pasidEntryIsValid(out) ? 0 : this.#asOffered(out);
    }
    if (checked && !present) return Fault.SPT_2;
    if (checked && violates(this.#masks.pasid[PasidEntry.fields.pgtt.get(out, 0)]!, out, 0)) return Fault.SPT_3;
    if (!this.#pasidEntryIsValid(out)) return Fault.SPT_4;
    return present ? 0 : Fault.SPT_2;
  }

  /** A requester's PASID entry, by its context entry and directory. Without PASIDs (legacy mode) that is a fault. */
  pasidEntryOf(requesterId: number, pasid: number, out: Int32Array): number {
    if (this.#state.ttm !== Ttm.SCALABLE || !this.#caps.scalable) return Fault.RTA_2;
    const context = this.#context;
    const reason = this.scalableContext(requesterId, context);
    if (reason !== 0) return reason;
    if (pasid >= pasidLimit(ScalableContextEntry.fields.pdts.get(context, 0))) return Fault.SCT_7;
    return this.pasidEntry(context[1]!, context[0]! & PAGE_MASK, pasid, out);
  }

  #noRoot(requesterId: number, reason: number): number {
    const absent = this.#trace?.vtd_re_not_present;
    if (absent?.on === true) absent.emit(requesterId >>> 8);
    return reason;
  }

  #noContext(requesterId: number, reason: number): number {
    const absent = this.#trace?.vtd_ce_not_present;
    if (absent?.on === true) absent.emit(requesterId >>> 8, requesterId & 0xff);
    return reason;
  }

  #legacyContextIsValid(tt: number, aw: number): boolean {
    const caps = this.#caps;
    if (tt === TranslationType.RESERVED || !caps.supportsWidth(aw)) return false;
    if (tt === TranslationType.ATS) return caps.deviceTlb;
    if (tt !== TranslationType.PASS_THROUGH) return true;
    return caps.passThrough && (!this.#behaviour.passThroughWidthExact || aw + 2 === caps.maxLevels);
  }

  /** Makes an entry one of the stage that the unit offers. Returns 0, or a reason if the unit could not walk its tables. */
  #asOffered(entry: Int32Array): number {
    const { firstStage, maxLevels } = this.#caps;
    const { pgtt, aw, fspm } = PasidEntry.fields;
    pgtt.set(entry, 0, firstStage ? Pgtt.FIRST_STAGE : Pgtt.SECOND_STAGE);
    // Of the second stage any width does.
    const walkable = firstStage ? fspm.get(entry, 0) === 0 : levelsOfWidth(aw.get(entry, 0)) <= maxLevels;
    return walkable ? 0 : Fault.SPT_4;
  }

  #pasidEntryIsValid(entry: Int32Array): boolean {
    const caps = this.#caps;
    const fields = PasidEntry.fields;
    const pgtt = fields.pgtt.get(entry, 0);
    const aw = fields.aw.get(entry, 0);
    const mode = fields.fspm.get(entry, 0);
    const modeIsValid = mode === 0 || (mode === 1 && caps.firstStage5Level);
    switch (pgtt) {
      case Pgtt.FIRST_STAGE:
        return caps.firstStage && modeIsValid;
      case Pgtt.SECOND_STAGE:
        return caps.secondStage && caps.supportsWidth(aw);
      case Pgtt.NESTED:
        return caps.nesting && modeIsValid && caps.supportsWidth(aw);
      case Pgtt.PASS_THROUGH:
        return caps.passThrough;
      default:
        return false;
    }
  }
}
