/** Decoding and executing invalidation descriptors (VT-d 6.5.2, vtd.md 5.2 to 5.9). */
import { MemTx, NO_PASID } from '@remora/core';
import { hex, type Field, type RecordType } from '@remora/bits';
import {
  ContextCacheDescriptor,
  DescriptorType,
  DeviceTlbDescriptor,
  Granularity,
  InterruptEntryCacheDescriptor,
  IotlbDescriptor,
  PageGroupResponseDescriptor,
  PasidCacheDescriptor,
  PasidCacheGranularity,
  PasidDeviceTlbDescriptor,
  PasidIotlbDescriptor,
  PasidIotlbGranularity,
  QueueError,
  Reg,
  Ttm,
  WaitDescriptor,
} from '../spec/index.js';
import { baseMaskHi, baseMaskLo } from './address.js';
import type { Behaviour } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import type { DeviceTlbInvalidations } from './device-tlb-invalidation.js';
import type { VtdEnvironment } from './environment.js';
import type { EventInterrupt } from './event-interrupt.js';
import type { Invalidator } from './invalidate.js';
import { sendPageResponse } from './page-responses.js';
import type { RegisterFile } from './register-file.js';
import { violates, type ReservedMasks } from './reserved.js';
import type { UnitState } from './state.js';
import type { VtdTrace } from './trace-events.js';

/** A descriptor has been executed. Any other result is a QueueError. */
export const DESCRIPTOR_DONE = -1;

const PAGE_SHIFT = 12;
const FRAME_BITS = 52;
const IWC = 1;
const IM = 0x8000_0000 | 0;

const LAYOUTS: Partial<Record<number, RecordType>> = {
  [DescriptorType.CONTEXT_CACHE]: ContextCacheDescriptor,
  [DescriptorType.IOTLB]: IotlbDescriptor,
  [DescriptorType.DEVICE_TLB]: DeviceTlbDescriptor,
  [DescriptorType.INTERRUPT_ENTRY_CACHE]: InterruptEntryCacheDescriptor,
  [DescriptorType.WAIT]: WaitDescriptor,
  [DescriptorType.PASID_IOTLB]: PasidIotlbDescriptor,
  [DescriptorType.PASID_CACHE]: PasidCacheDescriptor,
  [DescriptorType.PASID_DEVICE_TLB]: PasidDeviceTlbDescriptor,
  [DescriptorType.PAGE_GROUP_RESPONSE]: PageGroupResponseDescriptor,
};

/** In traces, as QEMU calls them. */
const TYPE_NAMES: Partial<Record<number, string>> = {
  [DescriptorType.CONTEXT_CACHE]: 'context-cache',
  [DescriptorType.IOTLB]: 'iotlb',
  [DescriptorType.DEVICE_TLB]: 'device',
  [DescriptorType.INTERRUPT_ENTRY_CACHE]: 'iec',
  [DescriptorType.WAIT]: 'wait',
  [DescriptorType.PASID_IOTLB]: 'p-iotlb',
  [DescriptorType.PASID_CACHE]: 'pasid-cache',
  [DescriptorType.PASID_DEVICE_TLB]: 'device-piotlb',
  [DescriptorType.PAGE_GROUP_RESPONSE]: 'page-group-response',
};

export class Descriptors {
  readonly #caps: Capabilities;
  readonly #behaviour: Behaviour;
  readonly #registers: RegisterFile;
  readonly #state: UnitState;
  readonly #masks: ReservedMasks;
  readonly #invalidator: Invalidator;
  readonly #deviceTlbs: DeviceTlbInvalidations;
  readonly #completion: EventInterrupt;
  readonly #environment: VtdEnvironment;
  /** Q-T8: descriptors of type 8 are accepted and do nothing. */
  readonly #anyPasidDeviceTlb: boolean;
  readonly #trace: VtdTrace;
  readonly #status = new Int32Array(1);

  constructor(
    caps: Capabilities,
    behaviour: Behaviour,
    registers: RegisterFile,
    state: UnitState,
    masks: ReservedMasks,
    invalidator: Invalidator,
    deviceTlbs: DeviceTlbInvalidations,
    completion: EventInterrupt,
    environment: VtdEnvironment,
    anyPasidDeviceTlb: boolean,
    trace: VtdTrace,
  ) {
    this.#caps = caps;
    this.#behaviour = behaviour;
    this.#registers = registers;
    this.#state = state;
    this.#masks = masks;
    this.#invalidator = invalidator;
    this.#deviceTlbs = deviceTlbs;
    this.#completion = completion;
    this.#environment = environment;
    this.#anyPasidDeviceTlb = anyPasidDeviceTlb;
    this.#trace = trace;
  }

  /** A descriptor's type: bits 3:0, extended by bits 11:9. */
  typeOf(words: Int32Array): number {
    return (words[0]! & 0xf) | ((words[0]! >>> 5) & 0x70);
  }

  /** For the ledger: type, its name, and the fields that are not 0. */
  describe(words: Int32Array): Record<string, unknown> {
    const type = this.typeOf(words);
    const layout = LAYOUTS[type];
    return {
      type,
      name: layout?.name ?? 'unknown',
      fields: layout?.format(words) ?? '',
      words: Array.from(words, word => word >>> 0),
    };
  }

  /** Executes the descriptor in `words` (8; the upper half is 0 unless the queue is `wide`, of 256-bit descriptors). */
  execute(words: Int32Array, wide: boolean): number {
    const type = this.typeOf(words);
    if (!this.#isAvailable(type)) return QueueError.INVALID_TYPE;
    const { vtd_inv_desc: fetched } = this.#trace;
    if (fetched.on) fetched.emit(TYPE_NAMES[type]!, hex(words[3]!, words[2]!), hex(words[1]!, words[0]!));
    if (type > DescriptorType.WAIT && !wide) return QueueError.INVALID_WIDTH;
    switch (type) {
      case DescriptorType.CONTEXT_CACHE:
        return this.#contextCache(words);
      case DescriptorType.IOTLB:
        return this.#iotlb(words);
      case DescriptorType.DEVICE_TLB:
        return this.#deviceTlb(words);
      case DescriptorType.INTERRUPT_ENTRY_CACHE:
        return this.#interruptEntryCache(words);
      case DescriptorType.WAIT:
        return this.#wait(words);
      case DescriptorType.PASID_IOTLB:
        return this.#pasidIotlb(words);
      case DescriptorType.PASID_CACHE:
        return this.#pasidCache(words);
      case DescriptorType.PASID_DEVICE_TLB:
        return this.#pasidDeviceTlb(words);
      default:
        return this.#pageGroupResponse(words);
    }
  }

  /**
   * Whether a descriptor has to wait for functions that have not completed device-TLB invalidations: a wait for all of them, another
   * invalidation if the function has MIP pending.
   */
  isBlocked(words: Int32Array): boolean {
    if (this.#deviceTlbs.idle) return false;
    switch (this.typeOf(words)) {
      case DescriptorType.WAIT:
        return true;
      case DescriptorType.DEVICE_TLB:
        return this.#isFull(words, DeviceTlbDescriptor.fields.sid.get(words, 0), DeviceTlbDescriptor.fields.mip);
      case DescriptorType.PASID_DEVICE_TLB:
        return this.#isFull(
          words,
          PasidDeviceTlbDescriptor.fields.sid.get(words, 0),
          PasidDeviceTlbDescriptor.fields.mip,
        );
      default:
        return false;
    }
  }

  #isFull(words: Int32Array, sourceId: number, mip: Field): boolean {
    return this.#deviceTlbs.isFull(this.#throttleId(words, sourceId), mip.get(words, 0));
  }

  /** PFSID lies in the same bits of both types of descriptor. */
  #throttleId(words: Int32Array, sourceId: number): number {
    const { pfsidHigh, pfsidLow } = DeviceTlbDescriptor.fields;
    if (!this.#caps.invalidationThrottle) return sourceId;
    return (pfsidHigh.get(words, 0) << 4) | pfsidLow.get(words, 0);
  }

  /** Which types the mode and the capabilities offer (vtd.md 5.1, rule 4). */
  #isAvailable(type: number): boolean {
    if (type === 0 || type > DescriptorType.PAGE_GROUP_RESPONSE) return false;
    if (type === DescriptorType.PAGE_GROUP_RESPONSE && !this.#caps.pageRequests) return false;
    if (!this.#behaviour.queueModeChecked) return true;
    if (type === DescriptorType.PASID_DEVICE_TLB && this.#anyPasidDeviceTlb) return true;
    if (type > DescriptorType.WAIT && this.#state.ttm === Ttm.LEGACY) return false;
    if (type === DescriptorType.DEVICE_TLB || type === DescriptorType.PASID_DEVICE_TLB) return this.#caps.deviceTlb;
    return type !== DescriptorType.INTERRUPT_ENTRY_CACHE || this.#caps.interruptRemapping;
  }

  #contextCache(words: Int32Array): number {
    const fields = ContextCacheDescriptor.fields;
    const granularity = fields.g.get(words, 0);
    if (ContextCacheDescriptor.hasReserved(words, 0) || granularity === 0) return QueueError.RESERVED_FIELD;
    return settled(
      this.#invalidator.contextCache(
        granularity,
        fields.did.get(words, 0),
        fields.sid.get(words, 0),
        fields.fm.get(words, 0),
        this.#state.ttm !== Ttm.LEGACY,
      ),
    );
  }

  #iotlb(words: Int32Array): number {
    const fields = IotlbDescriptor.fields;
    const granularity = fields.g.get(words, 0);
    const mask = fields.am.get(words, 0);
    if (IotlbDescriptor.hasReserved(words, 0) || granularity === 0) return QueueError.RESERVED_FIELD;
    if (granularity === Granularity.PAGE && (!this.#caps.pageSelective || mask > this.#caps.maxAddressMask)) {
      return QueueError.RESERVED_FIELD;
    }
    const leaf = fields.ih.get(words, 0) === 1;
    const lo = words[2]! & ~0xfff;
    return settled(this.#invalidator.iotlb(granularity, fields.did.get(words, 0), words[3]!, lo, mask, leaf));
  }

  #pasidIotlb(words: Int32Array): number {
    const fields = PasidIotlbDescriptor.fields;
    const granularity = fields.g.get(words, 0);
    const mask = fields.am.get(words, 0);
    if (PasidIotlbDescriptor.hasReserved(words, 0) || granularity < PasidIotlbGranularity.PASID) {
      return QueueError.RESERVED_FIELD;
    }
    const limited = this.#behaviour.pasidAddressMaskLimited && granularity === PasidIotlbGranularity.PAGE;
    if (limited && mask > this.#caps.maxAddressMask) return QueueError.RESERVED_FIELD;
    return settled(
      this.#invalidator.pasidIotlb(
        granularity,
        fields.did.get(words, 0),
        fields.pasid.get(words, 0),
        words[3]!,
        words[2]! & ~0xfff,
        mask,
        fields.ih.get(words, 0) === 1,
      ),
    );
  }

  #pasidCache(words: Int32Array): number {
    const fields = PasidCacheDescriptor.fields;
    const granularity = fields.g.get(words, 0);
    if (PasidCacheDescriptor.hasReserved(words, 0)) return QueueError.RESERVED_FIELD;
    if (granularity !== PasidCacheGranularity.GLOBAL && granularity > PasidCacheGranularity.PASID) {
      return QueueError.RESERVED_FIELD;
    }
    const pasid = fields.pasid.get(words, 0);
    return settled(this.#invalidator.pasidCache(granularity, fields.did.get(words, 0), pasid));
  }

  #deviceTlb(words: Int32Array): number {
    if (violates(this.#masks.deviceTlb, words, 0)) return QueueError.RESERVED_FIELD;
    const fields = DeviceTlbDescriptor.fields;
    const shift = fields.s.get(words, 0) ? codedShift(words) : PAGE_SHIFT;
    this.#flushDeviceTlb(words, fields.sid.get(words, 0), NO_PASID, shift, false);
    return DESCRIPTOR_DONE;
  }

  #pasidDeviceTlb(words: Int32Array): number {
    if (this.#anyPasidDeviceTlb) return DESCRIPTOR_DONE;
    if (violates(this.#masks.pasidDeviceTlb, words, 0)) return QueueError.RESERVED_FIELD;
    const fields = PasidDeviceTlbDescriptor.fields;
    const shift = fields.s.get(words, 0) ? codedShift(words) : PAGE_SHIFT;
    const global = fields.g.get(words, 0) === 1;
    this.#flushDeviceTlb(words, fields.sid.get(words, 0), fields.pasid.get(words, 0), shift, global);
    return DESCRIPTOR_DONE;
  }

  #flushDeviceTlb(words: Int32Array, sourceId: number, pasid: number, shift: number, global: boolean): void {
    const hi = shift >= 64 ? 0 : words[3]! & baseMaskHi(shift);
    const lo = shift >= 64 ? 0 : words[2]! & ~0xfff & baseMaskLo(shift);
    this.#invalidator.deviceTlb(sourceId, pasid, hi, lo, shift, global);
    this.#deviceTlbs.send(sourceId, this.#throttleId(words, sourceId), pasid, global, hi, lo, shift);
  }

  #pageGroupResponse(words: Int32Array): number {
    if (PageGroupResponseDescriptor.hasReserved(words, 0)) return QueueError.RESERVED_FIELD;
    const fields = PageGroupResponseDescriptor.fields;
    const pasid = fields.pp.get(words, 0) === 1 ? fields.pasid.get(words, 0) : NO_PASID;
    const { rid, prgi, rc } = fields;
    return settled(sendPageResponse(this.#environment, rid.get(words, 0), pasid, prgi.get(words, 0), rc.get(words, 0)));
  }

  #interruptEntryCache(words: Int32Array): number {
    const fields = InterruptEntryCacheDescriptor.fields;
    if (InterruptEntryCacheDescriptor.hasReserved(words, 0)) return QueueError.RESERVED_FIELD;
    const selective = fields.g.get(words, 0) === 1;
    const mask = fields.im.get(words, 0);
    if (this.#behaviour.queueModeChecked && selective && mask > this.#caps.maxHandleMask) {
      return QueueError.RESERVED_FIELD;
    }
    const { vtd_inv_desc_iec: invalidated } = this.#trace;
    if (invalidated.on) invalidated.emit(Number(selective), fields.iidx.get(words, 0), mask);
    if (selective) this.#invalidator.interruptEntryRange(fields.iidx.get(words, 0), mask);
    else this.#invalidator.interruptEntries();
    return DESCRIPTOR_DONE;
  }

  /**
   * A page request is in its queue, or answered, before whoever made it goes on: there is nothing left to drain (PD) that the wait could
   * find.
   */
  #wait(words: Int32Array): number {
    if (violates(this.#masks.wait, words, 0)) return QueueError.RESERVED_FIELD;
    const fields = WaitDescriptor.fields;
    const trace = this.#trace;
    const statusWrite = fields.sw.get(words, 0) === 1;
    const interrupt = fields.if.get(words, 0) === 1;
    if (this.#behaviour.emptyWaitFails && !statusWrite && !interrupt && fields.fn.get(words, 0) === 0) {
      return QueueError.RESERVED_FIELD;
    }
    if (statusWrite) {
      const status = this.#status;
      status[0] = words[1]!;
      if (trace.vtd_inv_desc_wait_sw.on) trace.vtd_inv_desc_wait_sw.emit(hex(words[3]!, words[2]!), words[1]!);
      if (this.#environment.memory.store(words[3]!, words[2]!, status, 0, 1) !== MemTx.OK) {
        const { vtd_inv_desc_wait_write_fail: failed } = trace;
        if (failed.on) failed.emit(hex(words[3]!, words[2]!), hex(words[1]!, words[0]!));
        return QueueError.NONE;
      }
    }
    if (interrupt) this.#complete();
    return DESCRIPTOR_DONE;
  }

  #complete(): void {
    const registers = this.#registers;
    const pending = (registers.get(Reg.ICS) & IWC) !== 0;
    const { vtd_inv_desc_wait_irq: completed } = this.#trace;
    if (completed.on) {
      const masked = (registers.get(Reg.IECTL) & IM) !== 0;
      completed.emit(pending ? 'pending-already' : masked ? 'masked' : 'sent');
    }
    if (pending) return;
    registers.update(Reg.ICS, 0, IWC);
    this.#completion.raise();
  }
}

/** What propagation answered, as a descriptor's result: a failure beyond the unit is an error without further information. */
function settled(result: number): number {
  return result < 0 ? QueueError.NONE : DESCRIPTOR_DONE;
}

/** log2 of a range whose size is coded in its address: a run of ones from bit 12, ended by a zero (vtd.md 5.5). */
function codedShift(words: Int32Array): number {
  let ones = 0;
  while (ones < FRAME_BITS) {
    const position = PAGE_SHIFT + ones;
    const bit = position < 32 ? words[2]! >>> position : words[3]! >>> (position - 32);
    if ((bit & 1) === 0) break;
    ones++;
  }
  return Math.min(PAGE_SHIFT + 1 + ones, 64);
}
