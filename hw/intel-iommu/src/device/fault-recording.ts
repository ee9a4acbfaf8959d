import { hex } from '@remora/bits';
import { Access, NO_PASID, type StateReader, type StateWriter } from '@remora/core';
import {
  Fault,
  FaultRecord,
  faultName,
  Fsts,
  FRCD_F,
  FRCD_F_OFFSET,
  QUALIFIED,
  Reg,
  RequestType,
} from '../spec/index.js';
import type { Behaviour } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import type { VtdEnvironment } from './environment.js';
import type { EventInterrupt } from './event-interrupt.js';
import type { RegisterFile } from './register-file.js';
import type { VtdTrace } from './trace-events.js';

const RECORD_BYTES = 16;
/** Conditions that share the fault event: while one is set, another raises no new event. */
const EVENT_CONDITIONS = Fsts.PFO | Fsts.PPF | Fsts.IQE | Fsts.ICE | Fsts.ITE;
/** QEMU keeps 16 bits of a PASID. */
const PV_BITS = 0xffff;
/** AT of a page request's fault record: it is a message, which has no address type. UNCONFIRMED. */
export const PAGE_REQUEST_AT = 0;

/** Primary fault recording (VT-d 7.2.1): the ring of fault records, FSTS, and the fault event. */
export class FaultRecording {
  readonly #registers: RegisterFile;
  readonly #caps: Capabilities;
  readonly #behaviour: Behaviour;
  readonly #environment: VtdEnvironment;
  readonly #event: EventInterrupt;
  readonly #trace: VtdTrace;
  readonly #record = new Int32Array(FaultRecord.words);
  #next = 0;

  constructor(
    registers: RegisterFile,
    caps: Capabilities,
    behaviour: Behaviour,
    environment: VtdEnvironment,
    event: EventInterrupt,
    trace: VtdTrace,
  ) {
    this.#registers = registers;
    this.#caps = caps;
    this.#behaviour = behaviour;
    this.#environment = environment;
    this.#event = event;
    this.#trace = trace;
  }

  /** The first record to be filled is record 0 again. */
  restart(): void {
    this.#next = 0;
  }

  /**
   * A request was refused: records it unless `fpd` suppresses it. `walking` if the tables that lead to the page tables were in
   * order; `lookupPasid` is then the PASID whose entry was used (NO_PASID in legacy mode). `type` is a RequestType.
   */
  report(
    reason: number,
    fpd: boolean,
    requesterId: number,
    pasid: number,
    walking: boolean,
    lookupPasid: number,
    hi: number,
    lo: number,
    access: number,
    type: number = RequestType.UNTRANSLATED,
  ): void {
    const trace = this.#trace;
    if (fpd && this.#isQualified(reason)) {
      if (trace.vtd_fault_disabled.on) trace.vtd_fault_disabled.emit();
      this.#environment.faultSuppressed?.(reason);
      return;
    }
    const fields = FaultRecord.fields;
    const record = this.#record.fill(0);
    record[0] = lo & ~0xfff;
    record[1] = hi;
    fields.sid.set(record, 0, requesterId);
    fields.fr.set(record, 0, reason);
    if (this.#behaviour.recordLookupPasid) {
      fields.pp.set(record, 0, walking && lookupPasid !== NO_PASID ? 1 : 0);
      fields.pv.set(record, 0, walking ? lookupPasid & PV_BITS : 0);
      fields.t1.set(record, 0, access & Access.WRITE ? 0 : 1);
    } else {
      if (pasid !== NO_PASID) {
        fields.pp.set(record, 0, 1);
        fields.pv.set(record, 0, pasid);
        fields.exe.set(record, 0, access & Access.EXECUTE ? 1 : 0);
        fields.priv.set(record, 0, access & Access.PRIVILEGED ? 1 : 0);
      }
      this.#recordType(record, type, access);
    }
    const writes = (access & Access.WRITE) !== 0;
    if (trace.vtd_dmar_fault.on) trace.vtd_dmar_fault.emit(requesterId, reason, hex(hi, lo), writes);
    const { ledger } = this.#environment;
    if (ledger?.on === true) {
      ledger.add(this.#environment.name, 'fault', {
        reason,
        name: faultName(reason),
        requesterId,
        pasid,
        hi: hi >>> 0,
        lo: lo >>> 0,
        write: writes,
      });
    }
    this.#environment.faultOffered?.(record);
    this.#offer(requesterId);
  }

  /** T1, T2 and AT (vtd.md 1.14). A translation request is a read, whatever it asks for. */
  #recordType(record: Int32Array, type: number, access: number): void {
    const fields = FaultRecord.fields;
    const pageRequest = type === RequestType.PAGE_REQUEST;
    const writes = type !== RequestType.TRANSLATION && (access & Access.WRITE) !== 0;
    const atomic = writes && (access & Access.READ) !== 0;
    fields.t1.set(record, 0, !pageRequest && (atomic || !writes) ? 1 : 0);
    fields.t2.set(record, 0, pageRequest || atomic ? 1 : 0);
    fields.at.set(record, 0, pageRequest ? PAGE_REQUEST_AT : type);
  }

  /** The queue stopped, or an invalidation failed: sets FSTS bits and raises the event if nothing else was pending. */
  raiseStatus(bits: number): void {
    const before = this.#registers.get(Reg.FSTS);
    this.#registers.update(Reg.FSTS, 0, bits);
    if ((before & EVENT_CONDITIONS) === 0) this.#event.raise();
  }

  /** Software wrote FSTS (the file has cleared its bits). */
  statusWritten(): void {
    if ((this.#registers.get(Reg.FSTS) & EVENT_CONDITIONS) !== 0 || !this.#event.serviced()) return;
    const { vtd_fsts_clear_ip: cleared } = this.#trace;
    if (cleared.on) cleared.emit();
  }

  /** Software wrote a fault record: F may be clear now. */
  recordWritten(): void {
    const pending = this.#isAnyPending();
    const { vtd_fsts_ppf: updated } = this.#trace;
    if (updated.on) updated.emit(pending);
    if (pending) return;
    this.#registers.update(Reg.FSTS, Fsts.PPF, 0);
    if (this.#behaviour.recordClearEndsEvent) this.statusWritten();
  }

  /** Which record is filled next; the records themselves are registers. */
  save(into: StateWriter): void {
    into.integer('next', this.#next);
  }

  load(from: StateReader): void {
    this.#next = from.integer('next', { max: this.#caps.faultRecords - 1 });
  }

  #isQualified(reason: number): boolean {
    if (reason === Fault.LCT_3 && !this.#behaviour.contextReservedQualified) return false;
    return QUALIFIED[reason] === 1;
  }

  #offer(requesterId: number): void {
    const registers = this.#registers;
    const status = registers.get(Reg.FSTS);
    if (status & Fsts.PFO) return;
    if (this.#behaviour.compressFaultsBySource && this.#isSourcePending(requesterId)) return;
    if (this.#isPending(this.#next)) {
      this.raiseStatus(Fsts.PFO);
      return;
    }
    const { vtd_frr_new: recorded, vtd_fsts_ppf: updated } = this.#trace;
    const record = this.#record;
    if (recorded.on) recorded.emit(this.#next, hex(record[3]!, record[2]!), hex(record[1]!, record[0]!));
    registers.words.set(record, this.#base(this.#next) >>> 2);
    registers.update(this.#base(this.#next) + FRCD_F_OFFSET, 0, FRCD_F);
    const first = this.#next;
    this.#next = (this.#next + 1) % this.#caps.faultRecords;
    if (updated.on) updated.emit(true);
    if (status & Fsts.PPF) return;
    registers.update(Reg.FSTS, Fsts.FRI, first << 8);
    this.raiseStatus(Fsts.PPF);
  }

  #base(index: number): number {
    return this.#caps.faultRecordBase + index * RECORD_BYTES;
  }

  #isAnyPending(): boolean {
    for (let index = 0; index < this.#caps.faultRecords; index++) if (this.#isPending(index)) return true;
    return false;
  }

  #isPending(index: number): boolean {
    return (this.#registers.get(this.#base(index) + FRCD_F_OFFSET) & FRCD_F) !== 0;
  }

  #isSourcePending(requesterId: number): boolean {
    for (let index = 0; index < this.#caps.faultRecords; index++) {
      const sid = FaultRecord.fields.sid.get(this.#registers.words, this.#base(index) >>> 2);
      if (this.#isPending(index) && sid === requesterId) return true;
    }
    return false;
  }
}
