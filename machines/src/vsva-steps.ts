/**
 * What the guest of the vsva machine does: it gets a PASID, shares a page table with the host's engine, changes it, and takes it
 * back. Addresses move with the seed. Each step checks what the engine saw, so a run that goes wrong says so.
 */
import { frameHi, frameLo, Random } from '@remora/bits';
import { Access, type StateReader, type StateWriter } from '@remora/core';
import { firstStagePasid, passThroughPasid, type PageTable } from '@hw/intel-iommu/driver';
import type { Machine, MachineGuest, MachineRequest, MachineStep } from '@remora/machine';
import { expect, succeeded } from './guest/checks.js';
import { Guest } from './guest/guest.js';
import type { EngineResult, GuestEngine } from './guest/guest-engine.js';

const DEVICE = '00:03.0';
const REQUESTER = 0x18;
const BYTES = 64;
/** The guest's own domain ids: of the engine without PASID, and of the shared table. */
const PLAIN_DOMAIN = 1;
const SHARED_DOMAIN = 7;
const PASID_SELECTIVE = 1;
const PAGES_IN_PASID = 3;
const WHOLE_PASID = 2;
/** Guest virtual page frames are below 2^35: the lower half of a 48-bit address space. */
const MAX_FRAME = 2 ** 35;

class VsvaGuest implements MachineGuest {
  readonly #guest: Guest;
  readonly #engine: GuestEngine;
  readonly #random: Random;
  readonly #table: PageTable;
  /** Guest virtual frames of what the engine reads and writes. */
  readonly #from: number;
  readonly #to: number;
  #pasid = 0;
  #source = 0;
  #target = 0;

  constructor(machine: Machine, seed: number, state?: StateReader) {
    this.#guest = new Guest(machine);
    if (state === undefined) {
      this.#random = new Random(seed);
      this.#engine = this.#guest.engine(DEVICE);
      this.#from = this.#random.below(MAX_FRAME / 2);
      this.#to = MAX_FRAME / 2 + this.#random.below(MAX_FRAME / 2);
      this.#table = this.#guest.firstStage();
      return;
    }
    this.#guest.load(state.child('guest'));
    this.#random = new Random(state.integer('random'));
    this.#engine = this.#guest.placedEngine(DEVICE);
    this.#from = state.integer('from');
    this.#to = state.integer('to');
    this.#table = this.#guest.firstStage(state.integer('table'));
    this.#pasid = state.integer('pasid');
    this.#source = state.integer('source');
    this.#target = state.integer('target');
  }

  save(into: StateWriter): void {
    this.#guest.save(into.child('guest'));
    into.integer('random', this.#random.state).integer('from', this.#from).integer('to', this.#to);
    into.integer('table', this.#table.rootFrame).integer('pasid', this.#pasid);
    into.integer('source', this.#source).integer('target', this.#target);
  }

  get steps(): readonly MachineStep[] {
    return [
      { id: 'start', title: 'enable scalable mode', run: () => this.#start() },
      { id: 'allocate', title: 'get a PASID by virtual command', run: () => this.#allocate() },
      { id: 'bind', title: 'write a first-stage table, bind it to the PASID', run: () => this.#bind() },
      { id: 'copy', title: 'the engine copies between guest virtual addresses', run: () => this.#copy() },
      { id: 'remap', title: 'map the target elsewhere, flush its page', run: () => this.#remap() },
      { id: 'copy-again', title: 'the engine copies again: to the new page', run: () => this.#copy() },
      { id: 'unbind', title: 'clear the PASID entry, invalidate', run: () => this.#unbind() },
      { id: 'free', title: 'give the PASID back', run: () => this.#free() },
      { id: 'fault', title: 'one more copy: the physical unit refuses it', run: () => this.#copyAfterUnbind() },
    ];
  }

  #start(): void {
    const { iommu } = this.#guest;
    iommu.start(undefined, () => {
      iommu.contextEntry(REQUESTER, {});
      iommu.pasidEntry(REQUESTER, 0, passThroughPasid(PLAIN_DOMAIN));
    });
  }

  #allocate(): void {
    this.#pasid = this.#guest.iommu.allocPasid();
    expect(this.#pasid > 0, `no PASID: ${this.#pasid}`);
  }

  #bind(): void {
    this.#source = this.#guest.page();
    this.#target = this.#guest.page();
    succeeded('map', this.#table.map(this.#from, this.#source, 1, Access.READ_WRITE));
    succeeded('map', this.#table.map(this.#to, this.#target, 1, Access.READ_WRITE));
    const { iommu } = this.#guest;
    iommu.pasidEntry(REQUESTER, this.#pasid, firstStagePasid(this.#table, SHARED_DOMAIN));
    succeeded('invalidation', iommu.pasidCacheInvalidate(PASID_SELECTIVE, SHARED_DOMAIN, this.#pasid));
  }

  #copy(): void {
    const message = Uint8Array.from({ length: BYTES }, () => this.#random.below(256));
    this.#guest.write(this.#source, message);
    const result = this.#command();
    expect(result.ok, `the engine failed: error ${result.error}, result ${result.result}`);
    const arrived = this.#guest.read(this.#target, BYTES);
    expect(
      arrived.every((byte, index) => byte === message[index]),
      'the bytes are not where the guest mapped them',
    );
  }

  #remap(): void {
    this.#target = this.#guest.page();
    this.#table.unmap(this.#to, 1);
    succeeded('map', this.#table.map(this.#to, this.#target, 1, Access.READ_WRITE));
    const page = { hi: frameHi(this.#to), lo: frameLo(this.#to), addressMask: 0, leaf: true };
    succeeded('invalidation', this.#guest.iommu.pasidIotlbInvalidate(PAGES_IN_PASID, SHARED_DOMAIN, this.#pasid, page));
  }

  #unbind(): void {
    const { iommu } = this.#guest;
    iommu.clearPasidEntry(REQUESTER, this.#pasid);
    succeeded('invalidation', iommu.pasidCacheInvalidate(PASID_SELECTIVE, SHARED_DOMAIN, this.#pasid));
    succeeded('invalidation', iommu.pasidIotlbInvalidate(WHOLE_PASID, SHARED_DOMAIN, this.#pasid));
  }

  #free(): void {
    succeeded('free', this.#guest.iommu.freePasid(this.#pasid));
  }

  #copyAfterUnbind(): void {
    expect(!this.#command().ok, 'a PASID that is not bound any more still translates');
  }

  #command(): EngineResult {
    return this.#engine.copy({ pasid: this.#pasid, from: this.#from * 4096, to: this.#to * 4096, length: BYTES });
  }
}

/** The guest of the vsva machine, once that has started; with `state`, where it was. */
export function vsvaGuest(machine: Machine, { seed }: MachineRequest, state?: StateReader): MachineGuest {
  return new VsvaGuest(machine, seed, state);
}
