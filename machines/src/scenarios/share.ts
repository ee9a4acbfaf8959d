/**
 * For back ends that walk a guest's first stages: two PASIDs with a table each, remapping and flushing, a page that is missing, another table
 * in the place of one, and the end of each.
 */
import { PageResponse } from '@remora/iommu';
import type { PageTable, VtdPageRequest } from '@hw/intel-iommu/driver';
import { Guest } from '../guest/guest.js';
import { GuestAts } from '../guest/guest-ats.js';
import type { GuestEngine } from '../guest/guest-engine.js';
import { type BackEnd, backEnds, type LendingHost, LENT_AT } from './back-ends.js';
import { copyPage, fillPage, outcomeOf, plainEntries, type SharedDeviceSpace, sharedSpace } from './lent-device.js';
import { MachineLife } from './machine-life.js';
import type { Observation, Scenario, ScenarioOptions, ScenarioStep } from './scenario.js';

const BDF = `00:${LENT_AT}`;
const AT = 0x5_4321_0000;
const PAGES = 8;
/** Domain ids of the two spaces. */
const DOMAINS = [7, 8] as const;

class Share extends MachineLife {
  readonly steps: readonly ScenarioStep[];
  #guest: Guest | undefined;
  #engine: GuestEngine | undefined;
  readonly #pasids: number[] = [];
  readonly #spaces: SharedDeviceSpace[] = [];
  /** Guest frames behind each space. */
  readonly #frames: number[][] = [[], []];
  #third: PageTable | undefined;
  /** Guest frame behind the first page of the third table. */
  #behindThird = 0;

  constructor(host: LendingHost, backEnd: BackEnd, options: ScenarioOptions) {
    super(host, backEnd, options);
    const whenPagesAreMissing = { name: 'page fault', run: () => this.#pageFault() };
    this.steps = [
      { name: 'start', creates: true, run: () => this.#start() },
      { name: 'first', run: () => this.#share(0) },
      { name: 'second', run: () => this.#share(1) },
      { name: 'remap', run: () => this.#remap() },
      { name: 'remap many', run: () => this.#remapMany() },
      ...(backEnd.pageRequests ? [whenPagesAreMissing] : []),
      { name: 'replace', run: () => this.#replace() },
      { name: 'replaced table', run: () => this.#changeReplaced() },
      { name: 'unbind', run: () => this.#unbind(1) },
      { name: 'unbind the other', run: () => this.#unbind(0) },
      { name: 'free', run: () => this.#free() },
      { name: 'exit', run: () => this.#exit() },
    ];
  }

  #start(): Observation {
    const machine = this.startMachine();
    const guest = (this.#guest = new Guest(machine));
    this.#engine = guest.engine(BDF);
    const { pageRequests } = this.backEnd;
    let entries = 0;
    guest.iommu.start(undefined, () => {
      if (pageRequests) this.#takePageRequests();
      entries = plainEntries(guest, pageRequests ? { dte: 1, pre: 1 } : {});
    });
    return { entries };
  }

  /** As a guest does with a function that has PRI. */
  #takePageRequests(): void {
    const ats = new GuestAts(this.machine!, BDF);
    ats.enablePasid();
    ats.enable();
    ats.enablePageRequests();
    this.#guest!.iommu.enablePageRequests({ handler: request => this.#answer(request) });
  }

  /** The page is made present where it was missing. */
  #answer({ pasid, hi, lo }: VtdPageRequest): number {
    const index = this.#pasids.indexOf(pasid);
    const frame = hi * 0x10_0000 + (lo >>> 12);
    const space = this.#spaces[index];
    const behind = this.#guest!.page();
    if (space === undefined || space.table.map(frame, behind, 1, 3) !== 0) return PageResponse.INVALID_REQUEST;
    this.#frames[index]![frame - AT] = behind;
    return PageResponse.SUCCESS;
  }

  #share(index: 0 | 1): Observation {
    const pasid = this.#guest!.iommu.allocPasid();
    if (pasid <= 0) return { pasid };
    const space = sharedSpace(this.#guest!, pasid, DOMAINS[index]);
    this.#pasids[index] = pasid;
    this.#spaces[index] = space;
    const first = this.#guest!.pages.allocate(PAGES);
    this.#frames[index] = Array.from({ length: PAGES }, (_, page) => first + page);
    const mapped = space.table.map(AT, first, PAGES, 3);
    const attached = space.attach();
    const filled = this.#fillAll(index, 0x10 * (index + 1));
    const copied = outcomeOf(copyPage(this.#engine!, AT + 1, AT + 6, space));
    return { different: new Set(this.#pasids).size, mapped, attached, filled, copied, arrived: this.#bytes() };
  }

  #remap(): Observation {
    const space = this.#spaces[0];
    const behind = this.#guest!.page();
    const unmapped = space?.table.unmap(AT + 2, 1);
    const mapped = space?.table.map(AT + 2, behind, 1, 3);
    const flushed = space?.flush(AT + 2);
    const [old] = this.#frames[0]!.splice(2, 1, behind);
    const filled = outcomeOf(fillPage(this.#engine!, AT + 2, 0x51, space));
    return { unmapped, mapped, flushed, filled, old: this.#guest!.read(old!, 1)[0], arrived: this.#bytes() };
  }

  /** Each page is flushed by itself: the host is told of all of them at once, if it can be. */
  #remapMany(): Observation {
    const space = this.#spaces[1];
    const first = this.#guest!.pages.allocate(PAGES);
    const old = this.#frames[1]!.splice(0, Infinity, ...Array.from({ length: PAGES }, (_, page) => first + page));
    const unmapped = space?.table.unmap(AT, PAGES);
    const mapped = space?.table.map(AT, first, PAGES, 3);
    const { iommu } = this.#guest!;
    const flushed = space && iommu.invalidate(...old.map((_, page) => space.flushDescriptor(AT + page)));
    const filled = this.#fillAll(1, 0x60);
    const kept = old.map(frame => this.#guest!.read(frame, 1)[0]);
    return { unmapped, mapped, flushed, filled, kept, arrived: this.#bytes() };
  }

  #pageFault(): Observation {
    const result = fillPage(this.#engine!, AT + PAGES, 0x71, this.#spaces[0]);
    const handled = this.#guest!.iommu.pageRequests.handle();
    const after = this.#engine!.result();
    const behind = this.#frames[0]![PAGES];
    const arrived = behind === undefined ? undefined : this.#guest!.read(behind, 1)[0];
    return { waits: result.busy, handled, after: outcomeOf(after), arrived };
  }

  #replace(): Observation {
    const table = (this.#third = this.#guest!.firstStage());
    this.#behindThird = this.#guest!.page();
    const mapped = table.map(AT, this.#behindThird, 1, 3);
    const replaced = this.#spaces[0]?.replace(table);
    const filled = outcomeOf(fillPage(this.#engine!, AT, 0x81, this.#spaces[0]));
    const third = this.#guest!.read(this.#behindThird, 1)[0];
    return { mapped, replaced, filled, third, arrived: this.#bytes() };
  }

  /** What the table that was replaced says has no effect any more; what the new one says has. */
  #changeReplaced(): Observation {
    const behind = this.#guest!.page();
    const unmapped = this.#third?.unmap(AT, 1);
    const mapped = this.#third?.map(AT, behind, 1, 3);
    const flushed = this.#spaces[0]?.flush(AT);
    const filled = outcomeOf(fillPage(this.#engine!, AT, 0x91, this.#spaces[0]));
    const read = (frame: number): number | undefined => this.#guest!.read(frame, 1)[0];
    return { unmapped, mapped, flushed, filled, old: read(this.#behindThird), arrived: read(behind) };
  }

  #unbind(index: 0 | 1): Observation {
    const unbound = this.#spaces[index]?.detach();
    const reached = this.#spaces.map(space => outcomeOf(fillPage(this.#engine!, AT, 0xa0, space)).ok);
    return { unbound, reached };
  }

  #free(): Observation {
    return { freed: this.#pasids.map(pasid => this.#guest!.iommu.freePasid(pasid)) };
  }

  #exit(): Observation {
    this[Symbol.dispose]();
    return {};
  }

  /** The engine writes to each page, through the space, its number and `base`. */
  #fillAll(index: 0 | 1, base: number): boolean[] {
    return Array.from(
      { length: PAGES },
      (_, page) => fillPage(this.#engine!, AT + page, base + page, this.#spaces[index]).ok,
    );
  }

  /** The first byte of each page behind both spaces. */
  #bytes(): (number | undefined)[][] {
    return this.#frames.map(frames => frames.slice(0, PAGES).map(frame => this.#guest!.read(frame, 1)[0]));
  }
}

export const share: Scenario = {
  name: 'share',
  title: 'two PASIDs, remap and flush, page fault and response, replace, unbind',
  backEnds: backEnds.filter(({ nests }) => nests),
  begin: (host, backEnd, options = {}) => new Share(host, backEnd, options),
};
