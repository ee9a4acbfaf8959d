/** The functions that domains of user space serve: a context entry each, and a PASID entry for each domain (vtd.md 11.4, 11.6). */
import { PasidEntry } from '../spec/index.js';
import { type DomainUse, takesPageRequests, type VtdUserDomain } from './user-domains.js';
import type { VtdDriver } from './vtd-driver.js';

/** What is done to a function beside its entries. */
export interface FunctionControls {
  readonly driver: VtdDriver;
  /** The kernel is told of page requests. */
  readonly takesPageRequests: boolean;
  hasAts(requesterId: number): boolean;
  enableAts(requesterId: number, on: boolean): void;
  hasPri(requesterId: number): boolean;
  enablePri(requesterId: number, on: boolean): void;
  programmed(requesterId: number, pasid: number, entry: Int32Array | undefined): void;
}

/** What is in force for one PASID of a function. */
interface Served {
  readonly domain: VtdUserDomain;
  readonly use: DomainUse;
}

/** `slot` is a PASID; 0 stands for requests without one (RID_PASID). */
export class ServedFunctions {
  readonly #unit: FunctionControls;
  /** By requester id and slot: functions that have a context entry. */
  readonly #functions = new Map<number, Map<number, Served>>();

  constructor(unit: FunctionControls) {
    this.#unit = unit;
  }

  has(requesterId: number): boolean {
    return this.#functions.has(requesterId);
  }

  at(requesterId: number, slot: number): VtdUserDomain | undefined {
    return this.#functions.get(requesterId)?.get(slot)?.domain;
  }

  /** Served by `domain` from now on, in place of what did. -EINVAL for a first stage that the unit cannot walk; what the driver's verbs say. */
  serve(requesterId: number, slot: number, domain: VtdUserDomain): number {
    const { driver } = this.#unit;
    const entry = domain.entry();
    if (typeof entry === 'number') return entry;
    const entered = this.#functions.has(requesterId) ? 0 : this.#enter(requesterId);
    if (entered !== 0) return entered;
    const served = this.#functions.get(requesterId)!;
    const before = served.get(slot);
    if (before?.domain === domain) return 0;
    const status =
      before === undefined ? driver.addPasid(requesterId, slot, entry) : driver.replacePasid(requesterId, slot, entry);
    if (status !== 0) {
      if (served.size === 0) this.#leave(requesterId, domain.id);
      return status;
    }
    before?.domain.uses.delete(before.use);
    const use = { requesterId, pasid: slot };
    domain.uses.add(use);
    served.set(slot, { domain, use });
    this.#choosePri(requesterId, served);
    this.#unit.programmed(requesterId, slot, PasidEntry.encode({ p: 1, ...entry }));
    return 0;
  }

  /** Nothing serves it: 0, also if nothing did. */
  block(requesterId: number, slot: number): number {
    const served = this.#functions.get(requesterId);
    const before = served?.get(slot);
    if (served === undefined || before === undefined) return 0;
    const status = this.#unit.driver.removePasid(requesterId, slot);
    if (status !== 0) return status;
    before.domain.uses.delete(before.use);
    served.delete(slot);
    this.#choosePri(requesterId, served);
    this.#unit.programmed(requesterId, slot, undefined);
    if (served.size === 0) this.#leave(requesterId, before.domain.id);
    return 0;
  }

  /** Blocks whatever the domain serves. A unit that does not let go has not answered for long: its entries go all the same. */
  release(domain: VtdUserDomain): void {
    const { driver } = this.#unit;
    for (const { requesterId, pasid } of [...domain.uses]) {
      if (this.block(requesterId, pasid) === 0) continue;
      driver.clearPasidEntry(requesterId, pasid);
      const served = this.#functions.get(requesterId)!;
      served.delete(pasid);
      this.#choosePri(requesterId, served);
      this.#unit.programmed(requesterId, pasid, undefined);
      if (served.size === 0) this.#cutOff(requesterId);
    }
  }

  /** Plain data; an empty list if there is nothing. */
  describe(): { requesterId: number; pasids: { pasid: number; domain: number }[] }[] {
    return [...this.#functions].map(([requesterId, served]) => ({
      requesterId,
      pasids: [...served].map(([pasid, { domain }]) => ({ pasid, domain: domain.id })),
    }));
  }

  /** Takes every context entry away. */
  [Symbol.dispose](): void {
    for (const requesterId of [...this.#functions.keys()]) this.#cutOff(requesterId);
  }

  /** The first domain of a function: a context entry with no PASID entry yet. */
  #enter(requesterId: number): number {
    const { driver, hasAts, hasPri, enableAts } = this.#unit;
    const ats = hasAts(requesterId);
    const pre = Number(ats && hasPri(requesterId) && this.#unit.takesPageRequests);
    const status = driver.attach(requesterId, { dte: Number(ats), pre });
    if (status !== 0) {
      driver.releaseFunction(requesterId);
      return status;
    }
    this.#functions.set(requesterId, new Map());
    if (ats) enableAts(requesterId, true);
    return 0;
  }

  /** Its last domain is gone. What the unit does not confirm at the second try either goes all the same: nothing is behind the entry. */
  #leave(requesterId: number, domainId: number): void {
    const { driver, hasAts, enableAts } = this.#unit;
    const ats = hasAts(requesterId);
    if (ats) enableAts(requesterId, false);
    for (let tries = 0; tries < 2; tries++) {
      if (driver.detach(requesterId, domainId) !== 0) continue;
      this.#functions.delete(requesterId);
      return;
    }
    this.#cutOff(requesterId);
  }

  /** Takes a function's context entry away, whatever the unit says. */
  #cutOff(requesterId: number): void {
    const { driver, enableAts, enablePri } = this.#unit;
    enablePri(requesterId, false);
    enableAts(requesterId, false);
    driver.clearContextEntry(requesterId);
    driver.releaseFunction(requesterId);
    this.#functions.delete(requesterId);
  }

  /** The function may request pages while there is somebody who takes them. */
  #choosePri(requesterId: number, served: ReadonlyMap<number, Served>): void {
    if (!this.#unit.hasPri(requesterId)) return;
    this.#unit.enablePri(
      requesterId,
      [...served.values()].some(({ domain }) => takesPageRequests(domain)),
    );
  }
}
