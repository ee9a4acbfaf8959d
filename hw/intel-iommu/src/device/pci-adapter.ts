/**
 * The unit on a PCI bus: which address space each function's DMA goes through, and what becomes of its interrupts. One adapter serves a guest's vIOMMU and a host's
 * physical unit alike.
 */
import {
  Access,
  AddressSpace,
  type IommuTranslator,
  type Ledger,
  NO_PASID,
  Region,
  type Translation,
  type TxAttrs,
  WHOLE_SPACE,
} from '@remora/core';
import {
  type AtsCompletion,
  type AtsEndpoint,
  AtsStatus,
  type HostIOMMUContext,
  type PageRequest,
  type RemappedInterrupt,
} from '@remora/iommu';
import type { IommuFacts, PciBus, PciFunction, PciIommuOps } from '@remora/pci';
import { inInterruptRange } from './address.js';
import type { Shadows } from './shadow/shadows.js';
import type { VtdUnit } from './unit.js';

const FOUR_GIB = 2 ** 32;
/** Refused without a fault record. */
const UNSUPPORTED_REQUEST = -1;

/** A function that a host lends: the flushes of the host's own IOMMU cover its device TLB. */
const LENT: AtsEndpoint = {
  invalidate: () => true,
  pageResponse: () => undefined,
};

/** Told when a host-backed function appears below the unit, and before it goes. */
export interface HostedFunctionSink {
  attach(bus: PciBus, devfn: number, context: HostIOMMUContext): void;
  detach(bus: PciBus, devfn: number): void;
}

export interface VtdAddressSpacesOptions {
  readonly name: string;
  readonly ledger?: Ledger;
  /** Hosts are asked to nest the guest's first stage (modern mode). */
  readonly wantsNesting?: boolean;
  readonly hosted?: HostedFunctionSink;
  /** What hosts that do not nest map for the functions below; absent where nobody asks. */
  readonly shadows?: Shadows;
  /** The function below the unit that has a requester id now. */
  readonly functionAt?: (requesterId: number) => PciFunction | undefined;
  /** For firmware tables. */
  readonly facts?: IommuFacts;
}

export class VtdAddressSpaces implements PciIommuOps {
  readonly wantsNesting: boolean;
  readonly facts: IommuFacts | undefined;
  readonly #unit: VtdUnit;
  readonly #options: VtdAddressSpacesOptions;
  readonly #translator: IommuTranslator & { target: AddressSpace };
  /** Shared by all functions: each access carries its requester id. */
  readonly #dma: AddressSpace;

  constructor(unit: VtdUnit, systemMemory: AddressSpace, options: VtdAddressSpacesOptions) {
    const zeros = unit.behaviour.interruptRangeReadsZero ? zeroSpace(`${options.name}-interrupt-range`) : undefined;
    this.#unit = unit;
    this.#options = options;
    this.wantsNesting = options.wantsNesting ?? false;
    this.facts = options.facts;
    this.#translator = {
      target: systemMemory,
      translate: (hi: number, lo: number, access: number, attrs: TxAttrs, out: Translation): number => {
        // Without translation nobody could say what an address in a PASID means (vtd.md 4.2).
        if (!unit.translationEnabled && attrs.pasid !== NO_PASID) return UNSUPPORTED_REQUEST;
        if (zeros !== undefined) {
          const found = attrs.pasid === NO_PASID && (access & Access.WRITE) === 0 && inInterruptRange(hi | 0, lo | 0);
          this.#translator.target = found ? zeros : systemMemory;
          if (found) return asItIs(hi, lo, out);
        }
        const reason = unit.translate(attrs.requesterId, attrs.pasid, hi, lo, access | attrs.flags, out);
        if (reason === 0 && options.ledger?.on === true && unit.translationEnabled) this.#record(hi, lo, attrs, out);
        return reason;
      },
    };
    this.#dma = new AddressSpace(
      `${options.name}-dma`,
      Region.iommu(`${options.name}-dma`, WHOLE_SPACE, this.#translator),
    );
  }

  addressSpaceFor(): AddressSpace {
    return this.#dma;
  }

  /** @throws ConfigError if such a host could not follow the guest's tables. */
  mapSpaceFor(bus: PciBus, devfn: number): AddressSpace {
    return this.#options.shadows?.spaceFor(bus, devfn, this.#translator) ?? this.#dma;
  }

  hostContextSet(bus: PciBus, devfn: number, context: HostIOMMUContext): void {
    this.#options.hosted?.attach(bus, devfn, context);
  }

  hostContextUnset(bus: PciBus, devfn: number): void {
    this.#options.hosted?.detach(bus, devfn);
  }

  remapInterrupt(requesterId: number, hi: number, lo: number, data: number, out: RemappedInterrupt): boolean {
    if (this.#unit.remapInterrupt(requesterId, hi, lo, data, out) !== 0) return false;
    const { name, ledger } = this.#options;
    if (ledger?.on === true) {
      ledger.add(name, 'interrupt', {
        requesterId,
        hi: hi >>> 0,
        lo: lo >>> 0,
        data: data >>> 0,
        send: out.send,
        toHi: out.hi >>> 0,
        toLo: out.lo >>> 0,
        toData: out.data >>> 0,
      });
    }
    return true;
  }

  translationRequest(
    requesterId: number,
    pasid: number,
    hi: number,
    lo: number,
    access: number,
    out: AtsCompletion,
  ): AtsStatus {
    const status = this.#unit.translationRequest(requesterId, pasid, hi, lo, access, out);
    const { name, ledger } = this.#options;
    if (ledger?.on === true) {
      ledger.add(name, 'translation-request', {
        requesterId,
        pasid,
        hi: hi >>> 0,
        lo: lo >>> 0,
        access,
        status,
        ...(status === AtsStatus.OK
          ? { toHi: out.hi >>> 0, toLo: out.lo >>> 0, shift: out.shift, granted: out.access }
          : {}),
      });
    }
    return status;
  }

  translatedRequest(requesterId: number, pasid: number, hi: number, lo: number, access: number): AtsStatus {
    return this.#unit.translatedRequest(requesterId, pasid, hi, lo, access);
  }

  pageRequest(request: PageRequest): boolean {
    return this.#unit.pageRequest(request);
  }

  /** Where the unit's messages to a function go: undefined if it is not there, or takes none. */
  endpoint(requesterId: number): AtsEndpoint | undefined {
    const fn = this.#options.functionAt?.(requesterId);
    if (fn?.ats !== undefined) return fn.ats;
    return fn !== undefined && this.#isLent(fn) ? LENT : undefined;
  }

  #record(hi: number, lo: number, attrs: TxAttrs, out: Translation): void {
    const { name, ledger } = this.#options;
    ledger?.add(name, 'translation', {
      requesterId: attrs.requesterId,
      pasid: attrs.pasid,
      hi: hi >>> 0,
      lo: lo >>> 0,
      toHi: out.hi >>> 0,
      toLo: out.lo >>> 0,
      shift: out.shift,
    });
  }

  /** Whether a host stands behind a function: one that nests, or one that follows its map. */
  #isLent({ hostContextOf, bus, devfn }: PciFunction): boolean {
    return hostContextOf !== undefined || (bus !== undefined && this.#options.shadows?.has(bus, devfn) === true);
  }
}

/** Below 4 GiB this reads as zeros. */
function zeroSpace(name: string): AddressSpace {
  return new AddressSpace(name, Region.mmio(name, FOUR_GIB, { read: () => 0, write: () => undefined }));
}

/** A page that translates to itself, for reading. */
function asItIs(hi: number, lo: number, out: Translation): number {
  out.hi = hi >>> 0;
  out.lo = (lo & ~0xfff) >>> 0;
  out.shift = 12;
  out.access = Access.READ;
  return 0;
}
