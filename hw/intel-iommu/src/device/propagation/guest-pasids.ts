/**
 * PASIDs that the guest gets from the host by virtual command [A10]. Hosts are asked in bus and device order until one agrees;
 * who gave a PASID is remembered, so that it goes back there, at the latest when the guest is reset or loses the device.
 */
import { errnoName, StateError, type StateReader, type StateWriter } from '@remora/core';
import { hostPasidAlloc, hostPasidFree, HostIommuFlag, type HostIOMMUContext } from '@remora/iommu';
import { MAX_PASID } from '../../spec/index.js';
import type { HostedFunctions } from './hosted-functions.js';

/** Lowest PASID handed out: 0 is the slot for requests without PASID. */
const MIN_PASID = 1;

export class GuestPasids {
  readonly #functions: HostedFunctions;
  readonly #everyBus: boolean;
  readonly #owners = new Map<number, HostIOMMUContext>();
  /** What nobody uses any more and the host would not take back yet. */
  readonly #left = new Set<number>();
  /** From a loaded state: what is to be allocated again, in order, and through which function. */
  #wanted: { readonly pasid: number; readonly place: string }[] = [];

  /** `everyBus` is quirk Q3: a success ends the search on its own bus only. */
  constructor(functions: HostedFunctions, everyBus: boolean) {
    this.#functions = functions;
    this.#everyBus = everyBus;
  }

  /** A PASID, or a negated errno: the last host's, or that of having none. */
  allocate(): number {
    return this.#ask(undefined, context => {
      const pasid = hostPasidAlloc(context, MIN_PASID, MAX_PASID);
      if (pasid >= 0) this.#owners.set(pasid, context);
      return pasid;
    });
  }

  /** 0, or a negated errno. */
  free(pasid: number): number {
    return this.#ask(this.#owners.get(pasid), context => {
      const result = hostPasidFree(context, pasid);
      if (result === 0) this.#forget(pasid);
      return result;
    });
  }

  /**
   * Gives back everything that came from `context`, or from anywhere. What the host will not take back yet is left for `retry`. PASIDs of the
   * guest's own stay while another function may use them.
   */
  release(context?: HostIOMMUContext): void {
    if (context !== undefined && this.#fellow(context) !== undefined) return;
    for (const [pasid, owner] of [...this.#owners]) {
      if (context === undefined || owner === context) this.#giveBack(pasid, owner);
    }
  }

  /** Tries again to give back what a release left. */
  retry(): void {
    if (this.#left.size === 0) return;
    for (const pasid of [...this.#left]) this.#giveBack(pasid, this.#owners.get(pasid)!);
  }

  /**
   * Nothing can be given back through `context` any more. PASIDs belong to the host process as a whole, so whoever is left may free
   * them; without anybody, they end with the process's last container.
   */
  contextGone(context: HostIOMMUContext): void {
    const heir = this.#fellow(context) ?? this.#functions.inBusOrder()[0]?.context;
    for (const [pasid, owner] of [...this.#owners]) {
      if (owner !== context) continue;
      if (heir === undefined) this.#forget(pasid);
      else this.#owners.set(pasid, heir);
    }
  }

  /** What the guest has, oldest first. What it does not use any more is left to the host that it came from. */
  save(into: StateWriter): void {
    const owned = [...this.#owners].filter(([pasid]) => !this.#left.has(pasid));
    into.list('pasids', owned, (each, [pasid, owner]) => {
      const hosted = this.#functions.inBusOrder().find(({ context }) => context === owner);
      each.integer('pasid', pasid).text('through', hosted?.place ?? '');
    });
  }

  load(from: StateReader): void {
    this.#wanted = from.list('pasids', MAX_PASID).map(each => ({
      pasid: each.integer('pasid', { min: MIN_PASID, max: MAX_PASID }),
      place: each.text('through'),
    }));
  }

  /**
   * Allocates what the guest had: the numbers are in its tables, so that no others will do. Returns them.
   * @throws StateError if a host gives another one, or none.
   */
  allocateAgain(): readonly number[] {
    const wanted = this.#wanted;
    this.#wanted = [];
    for (const { pasid, place } of wanted) {
      const context = this.#functions.at(place)?.context;
      if (context === undefined)
        throw new StateError('pasids', `PASID ${pasid} came through ${place}, where no host is`);
      const given = hostPasidAlloc(context, pasid, pasid);
      if (given !== pasid) {
        const answer = given < 0 ? errnoName(given) : `it gives ${given}`;
        throw new StateError('pasids', `${context.name} does not give the guest its PASID ${pasid} again: ${answer}`);
      }
      this.#owners.set(pasid, context);
    }
    return wanted.map(({ pasid }) => pasid);
  }

  /** Another context that takes PASIDs of `context` back because they are the guest's. */
  #fellow(context: HostIOMMUContext): HostIOMMUContext | undefined {
    const shares = ({ flags }: HostIOMMUContext): boolean => (flags & HostIommuFlag.GUEST_PASIDS) !== 0;
    if (!shares(context)) return undefined;
    return this.#functions.inBusOrder().find(other => other.context !== context && shares(other.context))?.context;
  }

  #giveBack(pasid: number, owner: HostIOMMUContext): void {
    if (hostPasidFree(owner, pasid) === 0) this.#forget(pasid);
    else this.#left.add(pasid);
  }

  #forget(pasid: number): void {
    this.#owners.delete(pasid);
    this.#left.delete(pasid);
  }

  #ask(first: HostIOMMUContext | undefined, request: (context: HostIOMMUContext) => number): number {
    if (first !== undefined && !this.#everyBus) return request(first);
    const asked = new Set<HostIOMMUContext>();
    let done = -1;
    let result = -1;
    for (const hosted of this.#functions.inBusOrder()) {
      if (hosted.bus.number === done || asked.has(hosted.context)) continue;
      if (!this.#everyBus) asked.add(hosted.context);
      result = request(hosted.context);
      if (result < 0) continue;
      if (!this.#everyBus) return result;
      done = hosted.bus.number;
    }
    return result;
  }
}
