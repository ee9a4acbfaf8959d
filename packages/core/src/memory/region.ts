import type { AddressSpace } from './address-space.js';
import type { IommuNotifiers } from './iommu-notifier.js';
import { Mmio } from './mmio.js';
import type { MmioOps } from './mmio.js';
import type { MemoryPort } from './port.js';
import type { Ram } from './ram.js';
import { regionChanged } from './topology.js';
import type { Viewer } from './topology.js';
import type { IommuTranslator } from './translation.js';

export type RegionKind = 'ram' | 'rom' | 'mmio' | 'port' | 'alias' | 'container' | 'iommu';

/** Size of a region that spans all 64-bit addresses. */
export const WHOLE_SPACE = 2 ** 64;
/** Regions other than those that span the whole space end at or below this address. */
export const ADDRESS_LIMIT = 2 ** 53;

/** An IOMMU region's translator, and the address space in which translated accesses continue. */
export type RegionTranslator = IommuTranslator & {
  readonly target: AddressSpace;
  /** For those who must know what it translates before anything is accessed; absent if it tells nobody. */
  readonly notifiers?: IommuNotifiers;
};

/** A region's place in a container. */
export interface Subregion {
  readonly offset: number;
  readonly priority: number;
  readonly region: Region;
}

/** What makes a region of a certain kind. */
interface Contents {
  readonly ram?: Ram;
  readonly mmio?: Mmio;
  readonly port?: MemoryPort;
  readonly translator?: RegionTranslator;
  readonly target?: Region;
  readonly targetOffset?: number;
}

/**
 * A node of the tree that describes memory: a leaf (RAM, ROM, MMIO, a port, IOMMU), a container of others, or an alias that shows a part of
 * another region. QEMU: MemoryRegion.
 */
export class Region {
  readonly name: string;
  /** Size in bytes: up to 2^53, or WHOLE_SPACE (containers, aliases and IOMMU regions). */
  readonly size: number;
  readonly kind: RegionKind;
  /** The bytes of a ram or rom region. */
  readonly ram: Ram | undefined;
  /** The access path of an mmio region. */
  readonly mmio: Mmio | undefined;
  /** What answers in a port region. */
  readonly port: MemoryPort | undefined;
  /** The translator of an iommu region. */
  readonly translator: RegionTranslator | undefined;
  /** What an alias shows, from `targetOffset` on. */
  readonly target: Region | undefined;
  readonly targetOffset: number;
  /** Highest priority first; among equals, the one added last. That order decides who answers where regions overlap. */
  readonly #children: Subregion[] = [];
  #container: Region | undefined;
  #enabled = true;
  readonly #viewers = new Set<Viewer>();
  /** Aliases of this region that are part of a tree themselves. */
  readonly #aliases = new Set<Region>();

  private constructor(kind: RegionKind, name: string, size: number, contents: Contents) {
    const spans = size === WHOLE_SPACE && (kind === 'container' || kind === 'alias' || kind === 'iommu');
    if (!spans && !(Number.isSafeInteger(size - 1) && size > 0))
      throw new RangeError(`${name}: not a region size: ${size}`);
    this.kind = kind;
    this.name = name;
    this.size = size;
    this.ram = contents.ram;
    this.mmio = contents.mmio;
    this.port = contents.port;
    this.translator = contents.translator;
    this.target = contents.target;
    this.targetOffset = contents.targetOffset ?? 0;
  }

  /** RAM; with `readonly`, ROM: writes answer MemTx.DECODE_ERROR. */
  static ram(name: string, ram: Ram, options: { readonly readonly?: boolean } = {}): Region {
    return new Region(options.readonly === true ? 'rom' : 'ram', name, ram.size, { ram });
  }

  /** Registers of a device. @throws RangeError if the declared access sizes make no sense. */
  static mmio(name: string, size: number, ops: MmioOps): Region {
    return new Region('mmio', name, size, { mmio: new Mmio(name, ops) });
  }

  /** Memory that is elsewhere: `port` answers accesses of any length, with addresses that count from the start of the region. */
  static port(name: string, size: number, port: MemoryPort): Region {
    return new Region('port', name, size, { port });
  }

  /** Shows `size` bytes of `target`, from `offset` on. @throws RangeError unless they lie inside `target`. */
  static alias(name: string, target: Region, offset: number, size: number): Region {
    checkOffset(name, offset);
    if (size > target.size || (size === WHOLE_SPACE ? offset > 0 : offset + size > target.size)) {
      throw new RangeError(`${name}: [${offset}, +${size}) is not inside ${target.name} (${target.size} bytes)`);
    }
    return new Region('alias', name, size, { target, targetOffset: offset });
  }

  /** Room for other regions. */
  static container(name: string, size: number): Region {
    return new Region('container', name, size, {});
  }

  /** Translates each access and continues it in `translator.target`. */
  static iommu(name: string, size: number, translator: RegionTranslator): Region {
    return new Region('iommu', name, size, { translator });
  }

  /** What this container holds, in the order in which they are asked. */
  get children(): readonly Subregion[] {
    return this.#children;
  }

  /** The container that this region is in. */
  get container(): Region | undefined {
    return this.#container;
  }

  /** A disabled region answers nothing; what lies behind it shows. */
  get enabled(): boolean {
    return this.#enabled;
  }

  set enabled(enabled: boolean) {
    if (enabled === this.#enabled) return;
    this.#enabled = enabled;
    this.#changed();
  }

  /**
   * Places `child` at `offset`. Where children overlap, the higher priority wins, then the one added last; what reaches beyond
   * this container is cut off.
   * @throws Error if this is no container, or `child` is in a container already, or it contains this one.
   */
  add(offset: number, child: Region, priority = 0): void {
    if (this.kind !== 'container')
      throw new Error(`${this.name} is ${this.kind}, not a container: ${child.name} cannot go there`);
    checkOffset(child.name, offset);
    if (child.size !== WHOLE_SPACE && offset + child.size > ADDRESS_LIMIT) {
      throw new RangeError(`${child.name}: [${offset}, +${child.size}) reaches beyond 2^53`);
    }
    if (child.#container !== undefined) throw new Error(`${child.name} is in ${child.#container.name} already`);
    if (child.#reaches(this, new Set())) throw new Error(`${child.name} contains ${this.name}: it cannot go inside`);
    const behind = this.#children.findIndex(other => other.priority <= priority);
    this.#children.splice(behind < 0 ? this.#children.length : behind, 0, { offset, priority, region: child });
    child.#container = this;
    child.#shown();
    this.#changed();
  }

  /** Takes `child` out again. @throws Error if it is not here. */
  remove(child: Region): void {
    const index = this.#children.findIndex(other => other.region === child);
    if (index < 0) throw new Error(`${child.name} is not in ${this.name}`);
    this.#children.splice(index, 1);
    child.#container = undefined;
    child.#hidden();
    this.#changed();
  }

  /** An address space with this root follows the tree from now on. */
  attach(viewer: Viewer): void {
    this.#viewers.add(viewer);
    this.#shown();
  }

  /** Undoes `attach`. */
  detach(viewer: Viewer): void {
    this.#viewers.delete(viewer);
    this.#hidden();
  }

  /** An alias is known to its target only while it is part of a tree: otherwise the target would keep it for ever. */
  #shown(): void {
    if (this.target !== undefined) this.target.#aliases.add(this);
  }

  #hidden(): void {
    if (this.target === undefined || this.#container !== undefined || this.#viewers.size > 0) return;
    this.target.#aliases.delete(this);
  }

  #changed(): void {
    const viewers = new Set<Viewer>();
    this.#collectViewers(viewers, new Set());
    regionChanged(viewers);
  }

  #collectViewers(into: Set<Viewer>, visited: Set<Region>): void {
    if (visited.has(this)) return;
    visited.add(this);
    for (const viewer of this.#viewers) into.add(viewer);
    if (this.#container !== undefined) this.#container.#collectViewers(into, visited);
    for (const alias of this.#aliases) alias.#collectViewers(into, visited);
  }

  #reaches(other: Region, visited: Set<Region>): boolean {
    if (this === other) return true;
    if (visited.has(this)) return false;
    visited.add(this);
    if (this.target !== undefined && this.target.#reaches(other, visited)) return true;
    return this.#children.some(child => child.region.#reaches(other, visited));
  }
}

function checkOffset(name: string, offset: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0) throw new RangeError(`${name}: not an offset: ${offset}`);
}
