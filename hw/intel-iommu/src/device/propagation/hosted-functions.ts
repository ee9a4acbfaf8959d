/**
 * The functions below this vIOMMU that a host backs [A05, A06]: those whose PCI slot names a HostIOMMUContext. All others are
 * emulated, and nothing of theirs reaches a host.
 */
import type { HostIOMMUContext } from '@remora/iommu';
import type { PciBus } from '@remora/pci';
import type { CachedPasid } from './cached-pasid.js';

export class HostedFunction {
  readonly bus: PciBus;
  readonly devfn: number;
  readonly context: HostIOMMUContext;
  /** Stands for this function towards the host, whatever its bus number is at the moment. */
  readonly user: number;
  /** What the vIOMMU knows of this function's PASID table, by PASID. */
  readonly pasids = new Map<number, CachedPasid>();
  /** Whether the warning about plain DMA under a first-stage PASID 0 has been given. */
  warnedAboutPasid0 = false;

  constructor(bus: PciBus, devfn: number, context: HostIOMMUContext, user: number) {
    this.bus = bus;
    this.devfn = devfn;
    this.context = context;
    this.user = user;
  }

  /** Live: the guest may renumber its buses. */
  get requesterId(): number {
    return (this.bus.number << 8) | this.devfn;
  }
}

export class HostedFunctions {
  readonly #functions: HostedFunction[] = [];
  #users = 0;

  /** In the order in which they appeared. */
  get all(): readonly HostedFunction[] {
    return this.#functions;
  }

  /** In ascending order of requester id: the order in which a virtual command asks [A10]. */
  inBusOrder(): HostedFunction[] {
    return [...this.#functions].sort((a, b) => a.requesterId - b.requesterId);
  }

  add(bus: PciBus, devfn: number, context: HostIOMMUContext): HostedFunction {
    const added = new HostedFunction(bus, devfn, context, ++this.#users);
    this.#functions.push(added);
    return added;
  }

  find(bus: PciBus, devfn: number): HostedFunction | undefined {
    return this.#functions.find(hosted => hosted.bus === bus && hosted.devfn === devfn);
  }

  remove(hosted: HostedFunction): void {
    const at = this.#functions.indexOf(hosted);
    if (at >= 0) this.#functions.splice(at, 1);
  }

  /** Whether any function still uses this context. */
  uses(context: HostIOMMUContext): boolean {
    return this.#functions.some(hosted => hosted.context === context);
  }
}
