/**
 * What the guest of the shadow machine does: it maps pages for the host's engine and reports that, takes one back, and forgets once to say so.
 * Addresses move with the seed. Each step checks what the engine saw, so a run that goes wrong says so.
 */
import { frameHi, frameLo, Random } from '@remora/bits';
import { Access, type StateReader, type StateWriter } from '@remora/core';
import { legacyContext, type PageTable } from '@hw/intel-iommu/driver';
import type { Machine, MachineGuest, MachineRequest, MachineStep } from '@remora/machine';
import { expect, succeeded } from './guest/checks.js';
import { Guest } from './guest/guest.js';
import type { GuestEngine } from './guest/guest-engine.js';

const DEVICE = '00:03.0';
const REQUESTER = 0x18;
const DOMAIN = 7;
const BYTES = 64;
/** Pages of the buffer that the engine reads. */
const PAGES = 8;
const PAGE = 4096;
/** Page-selective invalidation. */
const PAGES_OF_DOMAIN = 3;
/** A run's IOVA is below 2^32 runs: 47 bits. */
const MAX_RUNS = 2 ** 31;

class ShadowGuest implements MachineGuest {
  readonly #guest: Guest;
  readonly #engine: GuestEngine;
  readonly #random: Random;
  readonly #table: PageTable;
  /** Frames of IOVA, aligned so that one invalidation reports a run: what the engine reads, and where it writes. */
  readonly #from: number;
  readonly #to: number;
  #source = 0;
  #target = 0;

  constructor(machine: Machine, seed: number, state?: StateReader) {
    this.#guest = new Guest(machine, { mode: 'legacy' });
    if (state === undefined) {
      this.#engine = this.#guest.engine(DEVICE);
      this.#random = new Random(seed);
      this.#from = this.#random.below(MAX_RUNS) * PAGES;
      this.#to = (MAX_RUNS + this.#random.below(MAX_RUNS)) * PAGES;
      this.#table = this.#guest.secondStage();
      return;
    }
    this.#guest.load(state.child('guest'));
    this.#random = new Random(state.integer('random'));
    this.#engine = this.#guest.placedEngine(DEVICE);
    this.#from = state.integer('from');
    this.#to = state.integer('to');
    this.#table = this.#guest.secondStage(state.integer('table'));
    this.#source = state.integer('source');
    this.#target = state.integer('target');
  }

  save(into: StateWriter): void {
    this.#guest.save(into.child('guest'));
    into.integer('random', this.#random.state).integer('from', this.#from).integer('to', this.#to);
    into.integer('table', this.#table.rootFrame);
    into.integer('source', this.#source).integer('target', this.#target);
  }

  get steps(): readonly MachineStep[] {
    return [
      {
        id: 'start',
        title: 'enable translation: guest-physical memory is unmapped at the host',
        run: () => this.#start(),
      },
      { id: 'map', title: 'map a run of pages and one more, report them: two mappings', run: () => this.#map() },
      { id: 'copy', title: 'the engine copies between IOVAs', run: () => this.#copy() },
      { id: 'remap', title: 'map the target elsewhere, report it', run: () => this.#remap() },
      { id: 'copy-again', title: 'the engine copies again: to the new page', run: () => this.#copy() },
      { id: 'unmap', title: 'take a page out of the run: the rest is mapped again', run: () => this.#unmap() },
      { id: 'forget', title: 'map it again without a report: the engine does not reach it', run: () => this.#forget() },
      { id: 'report', title: 'report it: now it does', run: () => this.#report() },
      { id: 'stop', title: 'disable translation: guest-physical memory again', run: () => this.#stop() },
    ];
  }

  #start(): void {
    const { iommu } = this.#guest;
    iommu.start();
    succeeded('attach', iommu.attach(REQUESTER, legacyContext(this.#table, DOMAIN)));
  }

  #map(): void {
    this.#source = this.#guest.pages.allocate(PAGES);
    this.#target = this.#guest.page();
    succeeded('map', this.#table.map(this.#from, this.#source, PAGES, Access.READ));
    succeeded('map', this.#table.map(this.#to, this.#target, 1, Access.READ_WRITE));
    this.#invalidate(this.#from, PAGES);
    this.#invalidate(this.#to, 1);
  }

  #copy(): void {
    const page = this.#random.below(PAGES);
    expect(this.#arrives(page), 'the bytes are not where the guest mapped them');
  }

  #remap(): void {
    succeeded('unmap', this.#table.unmap(this.#to, 1));
    this.#target = this.#guest.page();
    succeeded('map', this.#table.map(this.#to, this.#target, 1, Access.READ_WRITE));
    this.#invalidate(this.#to, 1);
  }

  #unmap(): void {
    succeeded('unmap', this.#table.unmap(this.#from + 1, 1));
    this.#invalidate(this.#from + 1, 1);
    expect(!this.#arrives(1), 'a page that was taken back is still reached');
    expect(this.#arrives(0) && this.#arrives(2), 'the rest of the run is not reached any more');
  }

  #forget(): void {
    succeeded('map', this.#table.map(this.#from + 1, this.#source + 1, 1, Access.READ));
    expect(!this.#arrives(1), 'a page is reached that nobody reported');
  }

  #report(): void {
    this.#invalidate(this.#from + 1, 1);
    expect(this.#arrives(1), 'a page that was reported is not reached');
  }

  #stop(): void {
    this.#guest.iommu.disableTranslation();
    const { ok } = this.#engine.fill({ to: this.#target * PAGE, length: BYTES, pattern: 0 });
    expect(ok, 'the engine does not reach guest-physical memory');
  }

  /** Whether the engine gets what is on a page of the run to the target. */
  #arrives(page: number): boolean {
    const message = Uint8Array.from({ length: BYTES }, () => this.#random.below(256));
    this.#guest.write(this.#source + page, message);
    const { ok } = this.#engine.copy({ from: (this.#from + page) * PAGE, to: this.#to * PAGE, length: BYTES });
    const arrived = this.#guest.read(this.#target, BYTES);
    return ok && arrived.every((byte, index) => byte === message[index]);
  }

  #invalidate(frame: number, pages: number): void {
    const range = { hi: frameHi(frame), lo: frameLo(frame), addressMask: Math.log2(pages), leaf: false };
    succeeded('invalidation', this.#guest.iommu.iotlbInvalidate(PAGES_OF_DOMAIN, DOMAIN, range));
  }
}

/** The guest of the shadow machine, once that has started; with `state`, where it was. */
export function shadowGuest(machine: Machine, { seed }: MachineRequest, state?: StateReader): MachineGuest {
  return new ShadowGuest(machine, seed, state);
}
