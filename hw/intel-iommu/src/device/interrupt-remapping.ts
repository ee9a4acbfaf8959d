/**
 * Interrupt remapping (VT-d 5.1, 5.2; vtd.md 8): from an interrupt request to the message that processors get, or to a posted
 * interrupt in memory. Checks are made in the order of vtd.md 8.3; the first that fails is the fault.
 */
import { hex } from '@remora/bits';
import { Access, MemTx, NO_PASID, type MemoryPort } from '@remora/core';
import type { RemappedInterrupt } from '@remora/iommu';
import {
  DELIVERY_MODES,
  Fault,
  INTERRUPT_ADDRESS,
  InterruptEntry,
  InterruptMessage,
  InterruptRequest,
  PostedDescriptor,
  PostedInterruptEntry,
  SOURCE_MASKS,
  SourceValidation,
  XapicInterruptEntry,
  XapicPostedDescriptor,
} from '../spec/index.js';
import type { Behaviour } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import type { FaultRecording } from './fault-recording.js';
import type { InterruptEntryCache } from './interrupt-entry-cache.js';
import type { UnitState } from './state.js';
import type { VtdTrace } from './trace-events.js';

/** Bits of an interrupt index. */
const INDEX_MASK = 0xffff;
const HANDLE_LOW_BITS = 15;
/** The requester id of requests whose requester is not known (QEMU's I/O APIC). */
const UNKNOWN_REQUESTER = 0xffff;

/** Fields that are at the same place in every format. */
const { p, fpd, im, v, sid, sq, svt, dm, rh, tm, dlm } = InterruptEntry.fields;
const { on, sn, nv } = PostedDescriptor.fields;

export class InterruptRemapping {
  readonly #caps: Capabilities;
  readonly #behaviour: Behaviour;
  readonly #memory: MemoryPort;
  readonly #state: UnitState;
  readonly #cache: InterruptEntryCache;
  readonly #faults: FaultRecording;
  readonly #trace: VtdTrace;
  readonly #request = new Int32Array(InterruptRequest.words);
  readonly #entry = new Int32Array(InterruptEntry.words);
  readonly #descriptor = new Int32Array(PostedDescriptor.words);
  readonly #message = new Int32Array(InterruptMessage.words);
  /** For the fault record: the interrupt index, and the entry's FPD, as far as the request got. */
  #index = 0;
  #fpd = false;

  constructor(
    caps: Capabilities,
    behaviour: Behaviour,
    memory: MemoryPort,
    state: UnitState,
    cache: InterruptEntryCache,
    faults: FaultRecording,
    trace: VtdTrace,
  ) {
    this.#caps = caps;
    this.#behaviour = behaviour;
    this.#memory = memory;
    this.#state = state;
    this.#cache = cache;
    this.#faults = faults;
    this.#trace = trace;
  }

  /** See VtdUnit.remapInterrupt. */
  remap(requesterId: number, hi: number, lo: number, data: number, out: RemappedInterrupt, report: boolean): number {
    out.send = true;
    out.hi = hi;
    out.lo = lo;
    out.data = data;
    const { vtd_ir_remap_msi_req: requested } = this.#trace;
    if (requested.on) requested.emit(hex(hi, lo), data);
    this.#index = 0;
    this.#fpd = false;
    const reason = this.#state.interruptRemapping ? this.#remap(requesterId, hi, lo, data, out) : 0;
    if (reason === 0) {
      const { vtd_ir_remap_msi: remapped } = this.#trace;
      if (remapped.on) remapped.emit(hex(hi, lo), data, hex(out.hi, out.lo), out.data);
      return 0;
    }
    out.send = false;
    if (report) {
      // The index is in bits 63:48 of the fault's information (vtd.md 1.14).
      const information = this.#index << 16;
      this.#faults.report(reason, this.#fpd, requesterId, NO_PASID, false, NO_PASID, information, 0, Access.WRITE);
    }
    return reason;
  }

  #remap(requesterId: number, hi: number, lo: number, data: number, out: RemappedInterrupt): number {
    const { fields } = InterruptRequest;
    const request = this.#request;
    request[0] = lo;
    request[1] = data;
    if (hi !== 0 || fields.head.get(request, 0) !== INTERRUPT_ADDRESS) return Fault.IR_1;
    if (fields.format.get(request, 0) === 0) return this.#passesCompatible() ? 0 : Fault.IR_6;
    const hasSubhandle = fields.shv.get(request, 0) === 1;
    const handle = fields.handleLow.get(request, 0) | (fields.handleHigh.get(request, 0) << HANDLE_LOW_BITS);
    let index = handle + (hasSubhandle ? fields.subhandle.get(request, 0) : 0);
    if (this.#behaviour.interruptIndexWraps) index &= INDEX_MASK;
    this.#index = index;
    if (hasSubhandle && InterruptRequest.hasReserved(request, 0)) return Fault.IR_1;
    if (index >= this.#state.interruptTableEntries) return Fault.IR_2;
    const reason = this.#fetch(index);
    if (reason !== 0) return reason;
    if (!this.#isVerified(requesterId)) return Fault.IR_7;
    if (this.#isPosted()) return this.#post(out);
    this.#compose(out);
    return 0;
  }

  #passesCompatible(): boolean {
    if (this.#behaviour.compatibilityAlwaysPasses) return true;
    return this.#state.compatibilityFormat && !this.#state.extendedInterruptMode;
  }

  /** The entry of `index` into `#entry`, from the cache or from memory. Returns 0, or what is wrong with it. */
  #fetch(index: number): number {
    const entry = this.#entry;
    if (this.#cache.lookup(index, entry)) return this.#check();
    const { interruptTableHi, interruptTableLo } = this.#state;
    // A table of 1 MiB may reach across a 4 GiB boundary.
    const lo = (interruptTableLo >>> 0) + index * InterruptEntry.bytes;
    const hi = interruptTableHi + (lo > 0xffff_ffff ? 1 : 0);
    if (this.#memory.load(hi, lo | 0, entry, 0, InterruptEntry.words) !== MemTx.OK) return Fault.IR_4;
    const { vtd_ir_irte_get: got } = this.#trace;
    if (got.on) got.emit(index, hex(entry[1]!, entry[0]!), hex(entry[3]!, entry[2]!));
    const reason = this.#check();
    const keeps = reason === 0 || this.#caps.cachingMode;
    if (keeps && this.#behaviour.interruptEntriesCached) this.#cache.insert(index, entry);
    return reason;
  }

  /** What is wrong with `#entry` as such; 0 if nothing is. */
  #check(): number {
    const entry = this.#entry;
    this.#fpd = fpd.get(entry, 0) === 1;
    if (p.get(entry, 0) === 0) return Fault.IR_3;
    const checked = this.#behaviour.interruptEncodingsChecked;
    if (checked && svt.get(entry, 0) === SourceValidation.RESERVED) return Fault.IR_5;
    if (this.#isPosted()) {
      return this.#caps.postedInterrupts && !PostedInterruptEntry.hasReserved(entry, 0) ? 0 : Fault.IR_5;
    }
    const layout = checked && !this.#state.extendedInterruptMode ? XapicInterruptEntry : InterruptEntry;
    if (layout.hasReserved(entry, 0)) return Fault.IR_5;
    return checked && ((DELIVERY_MODES >>> dlm.get(entry, 0)) & 1) === 0 ? Fault.IR_5 : 0;
  }

  #isPosted(): boolean {
    return im.get(this.#entry, 0) === 1 && !this.#behaviour.postedAsRemapped;
  }

  /** Whether the entry may be used by this requester (vtd.md 8.3). */
  #isVerified(requesterId: number): boolean {
    if (requesterId === UNKNOWN_REQUESTER && this.#behaviour.unknownSourceTrusted) return true;
    const entry = this.#entry;
    const source = sid.get(entry, 0);
    switch (svt.get(entry, 0)) {
      case SourceValidation.NONE:
        return true;
      case SourceValidation.SOURCE:
        return ((source ^ requesterId) & SOURCE_MASKS[sq.get(entry, 0)]!) === 0;
      case SourceValidation.BUS: {
        const swapped = this.#behaviour.interruptBusesSwapped;
        const bus = requesterId >>> 8;
        const first = swapped ? source & 0xff : source >>> 8;
        const last = swapped ? source >>> 8 : source & 0xff;
        return bus >= first && bus <= last;
      }
      default:
        return false;
    }
  }

  /** The message of an entry in remapped format. */
  #compose(out: RemappedInterrupt): void {
    const entry = this.#entry;
    const message = this.#message;
    const { fields } = InterruptMessage;
    const layout = this.#state.extendedInterruptMode ? InterruptEntry : XapicInterruptEntry;
    const level = tm.get(entry, 0);
    const { vtd_ir_remap: composed } = this.#trace;
    if (composed.on) {
      const destination = layout.fields.dst.get(entry, 0);
      composed.emit(this.#index, level, v.get(entry, 0), dlm.get(entry, 0), destination, dm.get(entry, 0));
    }
    message.fill(0);
    fields.dm.set(message, 0, dm.get(entry, 0));
    fields.rh.set(message, 0, rh.get(entry, 0));
    fields.dlm.set(message, 0, dlm.get(entry, 0));
    fields.assert.set(message, 0, this.#behaviour.messagesAlwaysAssert ? 1 : level);
    fields.tm.set(message, 0, level);
    this.#address(layout.fields.dst.get(entry, 0), v.get(entry, 0), out);
  }

  /** Posts the vector of an entry in posted format, and notifies if that is due (VT-d 5.2.5). */
  #post(out: RemappedInterrupt): number {
    const entry = this.#entry;
    const descriptor = this.#descriptor;
    const hi = entry[3]!;
    const lo = entry[1]! & -PostedDescriptor.bytes;
    const vector = v.get(entry, 0);
    const urgent = PostedInterruptEntry.fields.urg.get(entry, 0) === 1;
    if (this.#memory.load(hi, lo, descriptor, 0, PostedDescriptor.words) !== MemTx.OK) return Fault.IR_8;
    const layout = this.#state.extendedInterruptMode ? PostedDescriptor : XapicPostedDescriptor;
    if (layout.hasReserved(descriptor, 0)) return Fault.IR_9;
    descriptor[vector >>> 5]! |= 1 << (vector & 31);
    const notifies = on.get(descriptor, 0) === 0 && (urgent || sn.get(descriptor, 0) === 0);
    if (notifies) on.set(descriptor, 0, 1);
    // Fixed, edge triggered, to a physical destination. Composed before the store, which may lead to another interrupt.
    this.#message.fill(0);
    this.#address(layout.fields.ndst.get(descriptor, 0), nv.get(descriptor, 0), out);
    out.send = notifies;
    return this.#memory.store(hi, lo, descriptor, 0, PostedDescriptor.words) === MemTx.OK ? 0 : Fault.IR_8;
  }

  /** Adds destination and vector to `#message`, and puts it into `out`. Destination bits 31:8 are those of the address's high dword. */
  #address(destination: number, vector: number, out: RemappedInterrupt): void {
    const message = this.#message;
    const { fields } = InterruptMessage;
    fields.head.set(message, 0, INTERRUPT_ADDRESS);
    fields.destination.set(message, 0, destination);
    fields.vector.set(message, 0, vector);
    out.hi = destination & ~0xff;
    out.lo = message[0]!;
    out.data = message[1]!;
  }
}
