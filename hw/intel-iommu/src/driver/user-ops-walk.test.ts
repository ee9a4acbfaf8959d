/** Page tables of user space, used at random: after each step every function and PASID reaches what a plain map says, whatever the unit remembers. */
import { Random } from '@remora/bits';
import { Access, NO_PASID } from '@remora/core';
import { IommuHwptVtdS1, IommuHwptVtdS1Invalidate } from '@remora/uapi';
import test, { type ExecutionContext } from 'ava';
import { DEVICE, Guest, host, type Host } from './host.test.helper.js';
import type { VtdNestedDomain, VtdPagingDomain } from './user-domains.js';

const STEPS = 1500;
const FUNCTIONS = [DEVICE, DEVICE + 8];
const PASIDS = [NO_PASID, 1, 2];
/** Pages of input of every domain, guest-physical frames of the parents, and where host frames begin. */
const PAGES = 4;
const GUEST = 0x3000;
const HOST = 0x3800;

class Parent {
  readonly domain: VtdPagingDomain;
  readonly pages = new Map<number, number>();

  constructor(domain: VtdPagingDomain) {
    this.domain = domain;
  }

  reach(page: number): number | undefined {
    return this.pages.get(page);
  }
}

class Table {
  readonly parent: Parent;
  readonly guest: Guest;
  readonly pages = new Map<number, number>();
  domain: VtdNestedDomain;
  readonly #driver: Host['driver'];

  constructor({ driver, rig }: Host, parent: Parent, first: number) {
    this.#driver = driver;
    this.parent = parent;
    // The tables lie where the parent maps the guest's pages to their neighbours, for good.
    this.guest = new Guest(
      rig,
      { map: (frame, to) => (frame < GUEST ? parent.domain.map(frame, to, 1, Access.READ_WRITE) : 0) },
      first,
    );
    this.domain = this.#create();
  }

  reach(page: number): number | undefined {
    const guestFrame = this.pages.get(page);
    return guestFrame === undefined ? undefined : this.parent.pages.get(guestFrame);
  }

  /** Is made again, after it went: with an id that another may have had. */
  renew(): void {
    this.domain = this.#create();
  }

  #create(): VtdNestedDomain {
    const data = IommuHwptVtdS1.encode({ pgtbl_addr: this.guest.config.rootLo, addr_width: 48 });
    return this.#driver.user.createNested(this.parent.domain, 1, data, {
      pasid: true,
      pageRequests: false,
    }) as VtdNestedDomain;
  }
}

class Walk {
  readonly #t: ExecutionContext;
  readonly #host: Host;
  readonly #random: Random;
  readonly #parents: Parent[];
  readonly #tables: Table[];
  readonly #served = new Map<string, Parent | Table>();

  constructor(t: ExecutionContext, seed: number, cachingMode: boolean) {
    this.#t = t;
    this.#host = host({ 'caching-mode': cachingMode });
    this.#random = new Random(seed);
    const { user } = this.#host.driver;
    const options = { nestParent: true, dirtyTracking: false, pasid: true, pageRequests: false };
    this.#parents = [0, 1].map(() => new Parent(user.createPaging(options) as VtdPagingDomain));
    this.#tables = [0, 1, 2, 3].map(i => new Table(this.#host, this.#parents[i % 2]!, 0x2000 + i * 0x100));
  }

  step(): void {
    const choice = this.#random.below(10);
    if (choice < 3) this.#attach();
    else if (choice < 4) this.#renew();
    else if (choice < 7) this.#changeParent();
    else this.#changeTable();
  }

  /** Every function and PASID, every page. */
  check(step: number): void {
    for (const requesterId of FUNCTIONS) {
      for (const pasid of PASIDS) {
        const by = this.#served.get(`${requesterId} ${pasid}`);
        for (const page of this.#inputs(by)) {
          const outcome = this.#host.rig.request(requesterId, page * 0x1000, Access.WRITE, pasid);
          const frame = by?.reach(page);
          const reached = 'to' in outcome ? Number(outcome.to / 0x1000n) : undefined;
          if (reached !== frame)
            this.#t.fail(`step ${step}: ${requesterId} ${pasid} page ${page}: ${reached}, not ${frame}`);
        }
      }
    }
  }

  /** Pages of a nested table are low ones, those of a parent the guest's. */
  #inputs(by: Parent | Table | undefined): number[] {
    const first = by instanceof Parent ? GUEST : 0x10;
    return Array.from({ length: PAGES }, (_, page) => first + page);
  }

  #attach(): void {
    const requesterId = this.#pick(FUNCTIONS);
    const pasid = this.#pick(PASIDS);
    const by = this.#pick<Parent | Table | undefined>([undefined, ...this.#parents, ...this.#tables]);
    this.#t.is(this.#host.driver.user.setDomain(requesterId, pasid, by?.domain), 0);
    if (by === undefined) this.#served.delete(`${requesterId} ${pasid}`);
    else this.#served.set(`${requesterId} ${pasid}`, by);
  }

  #renew(): void {
    const idle = this.#tables.filter(table => ![...this.#served.values()].includes(table));
    // Ids change hands.
    for (const table of idle) table.domain[Symbol.dispose]();
    for (const table of idle) table.domain[Symbol.dispose]();
    for (const table of idle.reverse()) table.renew();
  }

  #changeParent(): void {
    const { domain, pages } = this.#pick(this.#parents);
    const page = GUEST + this.#random.below(PAGES);
    if (pages.delete(page)) this.#t.is(domain.unmap(page, 1), 0);
    if (this.#random.below(3) === 0) return;
    const frame = HOST + this.#random.below(64);
    this.#t.is(domain.map(page, frame, 1, Access.READ_WRITE), 0);
    pages.set(page, frame);
  }

  #changeTable(): void {
    const { guest, pages, domain } = this.#pick(this.#tables);
    const page = 0x10 + this.#random.below(PAGES);
    if (pages.delete(page)) guest.table.unmap(page, 1);
    if (this.#random.below(3) !== 0) {
      const guestFrame = GUEST + this.#random.below(PAGES);
      guest.map(page, guestFrame);
      pages.set(page, guestFrame);
    }
    const all = this.#random.below(4) === 0;
    const entry = IommuHwptVtdS1Invalidate.encode(
      all ? { npages: 2n ** 64n - 1n } : { addr: page * 0x1000, npages: 1 },
    );
    this.#t.deepEqual({ ...domain.invalidate(0, 24, entry, 1) }, { processed: 1, result: 0 });
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random.below(from.length)]!;
  }
}

for (const [seed, cachingMode] of [
  [1, false],
  [2, false],
  [3, true],
] as const) {
  test(`${STEPS} steps, seed ${seed}${cachingMode ? ', a unit in caching mode' : ''}`, t => {
    const walk = new Walk(t, seed, cachingMode);
    for (let step = 0; step < STEPS; step++) {
      walk.step();
      walk.check(step);
    }
  });
}
