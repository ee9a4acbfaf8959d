/**
 * PASIDs of the whole system: who owns which. Every process has a quota, which its containers share, and loses its PASIDs when
 * its last container closes (vsva.md 3.12).
 */
import { Random } from '@remora/bits';
import { Errno } from '@remora/core';

export const PASID_LIMIT = 0x10_0000;

/** Who owns PASIDs: a process. */
export interface PasidOwner {
  readonly name: string;
}

interface Pasid {
  readonly owner: PasidOwner;
  /** Containers in which it is bound. */
  bound: number;
}

interface Account {
  containers: number;
  owned: number;
}

/** A PASID as dumps show it. */
export interface PasidState {
  readonly pasid: number;
  readonly owner: string;
  readonly bound: number;
}

export class PasidSpace {
  readonly #pasids = new Map<number, Pasid>();
  readonly #accounts = new Map<PasidOwner, Account>();
  /** The search for a free PASID starts here: the seed decides which numbers a run sees. */
  #next: number;

  constructor(seed: number) {
    this.#next = 1 + new Random(seed).below(PASID_LIMIT - 1);
  }

  /** Where the search for a free PASID begins. */
  get position(): number {
    return this.#next;
  }

  set position(pasid: number) {
    this.#next = pasid;
  }

  /** One more container of `owner`. */
  enter(owner: PasidOwner): void {
    const account = this.#accounts.get(owner);
    if (account === undefined) this.#accounts.set(owner, { containers: 1, owned: 0 });
    else account.containers++;
  }

  /** One container less; the last one takes the owner's PASIDs along. They must be unbound. */
  leave(owner: PasidOwner): void {
    const account = this.#accounts.get(owner)!;
    if (--account.containers > 0) return;
    for (const [pasid, { owner: whose }] of [...this.#pasids]) if (whose === owner) this.#pasids.delete(pasid);
    this.#accounts.delete(owner);
  }

  /** A PASID in [min, max], both inclusive. -EINVAL if min > max; -ENOSPC if none is free or the quota is used up. */
  allocate(owner: PasidOwner, min: number, max: number, quota: number): number {
    if (min > max) return -Errno.EINVAL;
    const account = this.#accounts.get(owner)!;
    if (account.owned >= quota) return -Errno.ENOSPC;
    const pasid = this.#search(Math.max(min, 1), Math.min(max, PASID_LIMIT - 1));
    if (pasid === undefined) return -Errno.ENOSPC;
    this.#pasids.set(pasid, { owner, bound: 0 });
    account.owned++;
    this.#next = pasid + 1;
    return pasid;
  }

  /** -ENOENT if nobody owns it, -EACCES if somebody else does, -EBUSY while it is bound. */
  free(owner: PasidOwner, pasid: number): number {
    const check = this.check(owner, pasid);
    if (check !== 0) return check;
    if (this.#pasids.get(pasid)!.bound > 0) return -Errno.EBUSY;
    this.#pasids.delete(pasid);
    this.#accounts.get(owner)!.owned--;
    return 0;
  }

  /** 0 if `owner` owns it, -ENOENT if nobody does, -EACCES if somebody else does. */
  check(owner: PasidOwner, pasid: number): number {
    const known = this.#pasids.get(pasid);
    if (known === undefined) return -Errno.ENOENT;
    return known.owner === owner ? 0 : -Errno.EACCES;
  }

  /** A container binds it (+1) or binds it no more (-1). */
  countBinding(pasid: number, change: 1 | -1): void {
    this.#pasids.get(pasid)!.bound += change;
  }

  state(): PasidState[] {
    const all = [...this.#pasids].map(([pasid, { owner, bound }]) => ({ pasid, owner: owner.name, bound }));
    return all.sort((a, b) => a.pasid - b.pasid);
  }

  #search(first: number, last: number): number | undefined {
    if (first > last) return undefined;
    const start = this.#next >= first && this.#next <= last ? this.#next : first;
    for (let pasid = start; pasid <= last; pasid++) if (!this.#pasids.has(pasid)) return pasid;
    for (let pasid = first; pasid < start; pasid++) if (!this.#pasids.has(pasid)) return pasid;
    return undefined;
  }
}
