/**
 * The unit on a PCI bus: which address space each function's DMA goes through. One adapter serves a guest's vIOMMU and a host's
 * physical unit alike.
 */
import { AddressSpace, Region, type IommuTranslator, type Translation, type TxAttrs } from '@remora/core';
import type { HostIOMMUContext } from '@remora/iommu';
import type { IommuFacts, PciBus, PciIommuOps } from '@remora/pci';
import { passesThrough } from './pass-through.js';
import type { VtdUnit } from './unit.js';

const EVERYTHING = 2 ** 64;

/** Told when a host-backed function appears below the unit, and before it goes. */
export interface HostedFunctionSink {
  attach(bus: PciBus, devfn: number, context: HostIOMMUContext): void;
  detach(bus: PciBus, devfn: number): void;
}

/** What a function sees while it is not translated, and while it is: one of the two is enabled. */
class SwitchedSpace {
  readonly space: AddressSpace;
  readonly #direct: Region;
  readonly #translated: Region;

  constructor(name: string, systemMemory: AddressSpace, translator: IommuTranslator & { target: AddressSpace }) {
    const root = Region.container(name, EVERYTHING);
    this.#direct = Region.alias(`${name}-direct`, systemMemory.root, 0, systemMemory.root.size);
    this.#translated = Region.iommu(`${name}-dmar`, EVERYTHING, translator);
    this.#translated.enabled = false;
    root.add(0, this.#direct);
    root.add(0, this.#translated);
    this.space = new AddressSpace(name, root);
  }

  translate(on: boolean): void {
    if (this.#translated.enabled === on) return;
    this.#direct.enabled = !on;
    this.#translated.enabled = on;
  }
}

/** A function whose map a host follows. */
class MappedFunction {
  readonly bus: PciBus;
  readonly devfn: number;
  readonly switched: SwitchedSpace;
  /** The host nests: its second stage is the guest-physical map, whatever the guest translates. */
  nests = false;

  constructor(bus: PciBus, devfn: number, switched: SwitchedSpace) {
    this.bus = bus;
    this.devfn = devfn;
    this.switched = switched;
  }

  get requesterId(): number {
    return (this.bus.number << 8) | this.devfn;
  }
}

export interface VtdAddressSpacesOptions {
  readonly name: string;
  /** Hosts are asked to nest, and get the guest-physical map as their second stage (modern mode). */
  readonly wantsNesting?: boolean;
  readonly hosted?: HostedFunctionSink;
  /** For firmware tables. */
  readonly facts?: IommuFacts;
}

export class VtdAddressSpaces implements PciIommuOps {
  readonly wantsNesting: boolean;
  readonly facts: IommuFacts | undefined;
  readonly #unit: VtdUnit;
  readonly #systemMemory: AddressSpace;
  readonly #options: VtdAddressSpacesOptions;
  readonly #translator: IommuTranslator & { target: AddressSpace };
  /** Shared by all functions: each access carries its requester id. */
  readonly #dma: SwitchedSpace;
  readonly #mapped: MappedFunction[] = [];

  constructor(unit: VtdUnit, systemMemory: AddressSpace, options: VtdAddressSpacesOptions) {
    this.#unit = unit;
    this.#systemMemory = systemMemory;
    this.#options = options;
    this.wantsNesting = options.wantsNesting ?? false;
    this.facts = options.facts;
    this.#translator = {
      target: systemMemory,
      translate: (hi: number, lo: number, access: number, attrs: TxAttrs, out: Translation): number =>
        unit.translate(attrs.requesterId, attrs.pasid, hi, lo, access | attrs.flags, out),
    };
    this.#dma = new SwitchedSpace(`${options.name}-dma`, systemMemory, this.#translator);
  }

  addressSpaceFor(): AddressSpace {
    return this.#dma.space;
  }

  /**
   * What a host has to map for this function: all of guest-physical memory while the function is not translated (or passes
   * through, or nests), otherwise the translated space, of which only shadow mapping could map anything.
   */
  mapSpaceFor(bus: PciBus, devfn: number): AddressSpace {
    return this.#mappedFunction(bus, devfn).switched.space;
  }

  hostContextSet(bus: PciBus, devfn: number, context: HostIOMMUContext): void {
    this.#options.hosted?.attach(bus, devfn, context);
    const mapped = this.#mappedFunction(bus, devfn);
    mapped.nests = true;
    this.#update(mapped);
  }

  hostContextUnset(bus: PciBus, devfn: number): void {
    this.#options.hosted?.detach(bus, devfn);
    const mapped = this.#mappedFunction(bus, devfn);
    mapped.nests = false;
    this.#update(mapped);
  }

  /** To be called after whatever changes which functions are translated: TE, the root pointer, context and PASID entries. */
  update(): void {
    this.#dma.translate(this.#unit.translationEnabled);
    for (const mapped of this.#mapped) this.#update(mapped);
  }

  #mappedFunction(bus: PciBus, devfn: number): MappedFunction {
    let mapped = this.#mapped.find(entry => entry.bus === bus && entry.devfn === devfn);
    if (mapped === undefined) {
      const name = `${this.#options.name}-map-${devfn.toString(16)}`;
      mapped = new MappedFunction(bus, devfn, new SwitchedSpace(name, this.#systemMemory, this.#translator));
      this.#mapped.push(mapped);
      this.#update(mapped);
    }
    return mapped;
  }

  #update(mapped: MappedFunction): void {
    const unit = this.#unit;
    const direct = mapped.nests || !unit.translationEnabled || passesThrough(unit, mapped.requesterId);
    mapped.switched.translate(!direct);
  }
}
