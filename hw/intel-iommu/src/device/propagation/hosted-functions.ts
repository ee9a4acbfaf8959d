/**
 * The functions below this vIOMMU that a host backs [A05, A06]: those whose PCI slot names a HostIOMMUContext. All others are
 * emulated, and nothing of theirs reaches a host.
 */
import type { HostIOMMUContext, HostPolicy } from '@remora/iommu';
import { formatDevfn, type PciBus } from '@remora/pci';
import type { CachedPasid } from './cached-pasid.js';

export class HostedFunction {
  readonly bus: PciBus;
  readonly devfn: number;
  readonly context: HostIOMMUContext;
  /** Stands for this function towards the host, whatever its bus number is at the moment. */
  readonly user: number;
  /** What the vIOMMU knows of this function's PASID table, by PASID. */
  readonly pasids = new Map<number, CachedPasid>();
  /** It is gone, and only the bindings are left that the host would not remove. */
  departed = false;
  /** What the host does with its requests without PASID; undefined while PASID 0 is bound. Of hosts that know policies. */
  plain: HostPolicy | undefined = 'pass-through';
  /** Whether the warning about plain DMA under a first-stage PASID 0 has been given. */
  warnedAboutPasid0 = false;

  constructor(bus: PciBus, devfn: number, context: HostIOMMUContext, user: number) {
    this.bus = bus;
    this.devfn = devfn;
    this.context = context;
    this.user = user;
  }

  /** What it is called in the state of the vIOMMU: the way to it from the root, `08.0/00.0`, whatever the buses' numbers are. */
  get place(): string {
    let place = formatDevfn(this.devfn);
    for (let bridge = this.bus.parent; bridge !== undefined; bridge = bridge.bus?.parent) {
      place = `${formatDevfn(bridge.devfn)}/${place}`;
    }
    return place;
  }

  /** Live: the guest may renumber its buses. */
  get requesterId(): number {
    return (this.bus.number << 8) | this.devfn;
  }
}

export class HostedFunctions {
  readonly #functions: HostedFunction[] = [];
  readonly #departed: HostedFunction[] = [];
  #users = 0;

  /** In the order in which they appeared. */
  get all(): readonly HostedFunction[] {
    return this.#functions;
  }

  /** In ascending order of requester id: the order in which a virtual command asks [A10]. */
  inBusOrder(): HostedFunction[] {
    return [...this.#functions].sort((a, b) => a.requesterId - b.requesterId);
  }

  /** The same, and after them those that are gone and still have something bound. */
  withDeparted(): HostedFunction[] {
    return [...this.inBusOrder(), ...this.#departed];
  }

  add(bus: PciBus, devfn: number, context: HostIOMMUContext): HostedFunction {
    const added = new HostedFunction(bus, devfn, context, ++this.#users);
    this.#functions.push(added);
    return added;
  }

  find(bus: PciBus, devfn: number): HostedFunction | undefined {
    return this.#functions.find(hosted => hosted.bus === bus && hosted.devfn === devfn);
  }

  /** The function at a `place`. */
  at(place: string): HostedFunction | undefined {
    return this.#functions.find(hosted => hosted.place === place);
  }

  /** What it still has bound is kept in mind for as long as others use the context; with the container, it ends by itself. */
  remove(hosted: HostedFunction): void {
    forget(this.#functions, hosted);
    if (this.uses(hosted.context)) {
      hosted.departed = true;
      if (hosted.pasids.size > 0) this.#departed.push(hosted);
      return;
    }
    for (const gone of [...this.#departed]) if (gone.context === hosted.context) forget(this.#departed, gone);
  }

  /** Forgets the departed of whom nothing is left. */
  settle(): void {
    for (const gone of [...this.#departed]) if (gone.pasids.size === 0) forget(this.#departed, gone);
  }

  /** Whether any function still uses this context. */
  uses(context: HostIOMMUContext): boolean {
    return this.#functions.some(hosted => hosted.context === context);
  }
}

function forget(functions: HostedFunction[], hosted: HostedFunction): void {
  const at = functions.indexOf(hosted);
  if (at >= 0) functions.splice(at, 1);
}
