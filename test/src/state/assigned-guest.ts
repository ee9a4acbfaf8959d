/**
 * Software that shares its address spaces with devices of a host at random: PASIDs come and go, entries change, pages move, engines
 * copy. It flushes what it changes, for what a physical unit still holds of an old mapping is nobody's promise.
 */
import { frameHi, frameLo, type Random } from '@remora/bits';
import { Access, errnoName } from '@remora/core';
import { firstStagePasid, passThroughPasid, type PageTable, type PasidValues } from '@hw/intel-iommu/driver';
import { Ctrl, Operation as Command, PasidWord, Reg as EngineReg } from '@hw/dma-engine';
import { Guest, type GuestEngine } from '@remora/machines';
import type { Machine } from '@remora/machine';
import { Capability, MsixLayout } from '@remora/pci';
import type { Recording } from './operations.js';

/** An engine of the host, where the guest has it. */
export interface AssignedEngine {
  readonly bdf: string;
  readonly requesterId: number;
}

const PAGES = [0x100, 0x101, 0x7_0000, 0x40_0000] as const;
const MOST_PASIDS = 5;
const PLAIN_DOMAIN = 1;
const SHARED_DOMAIN = 7;
const ONE_PASID = 1;
const PAGES_IN_PASID = 3;
const WHOLE_PASID = 2;

interface Space {
  readonly pasid: number;
  readonly domain: number;
  table: PageTable;
  /** Index of the engine whose table has it. */
  readonly engine: number;
  bound: boolean;
}

export class AssignedGuest {
  readonly #recording: Recording;
  readonly #random: Random;
  readonly #machine: Machine;
  readonly #guest: Guest;
  readonly #at: readonly AssignedEngine[];
  readonly #engines: readonly GuestEngine[];
  readonly #data: readonly number[];
  readonly #spaces: Space[] = [];

  constructor(recording: Recording, random: Random, at: readonly AssignedEngine[]) {
    this.#recording = recording;
    this.#random = random;
    this.#at = at;
    this.#machine = recording.machine;
    this.#guest = new Guest(this.#machine, {});
    const { iommu } = this.#guest;
    iommu.start(undefined, () => {
      for (const { requesterId } of at) {
        iommu.contextEntry(requesterId, {});
        iommu.pasidEntry(requesterId, 0, passThroughPasid(PLAIN_DOMAIN));
      }
    });
    this.#engines = at.map(({ bdf }) => this.#guest.engine(bdf));
    this.#data = [0, 1, 2, 3, 4, 5].map(() => this.#guest.page());
  }

  /** One thing that its software does. */
  act(): void {
    const actions = [
      () => this.#allocate(),
      () => this.#allocate(),
      () => this.#bind(),
      () => this.#bind(),
      () => this.#change(),
      () => this.#unbind(),
      () => this.#free(),
      () => this.#move(),
      () => this.#move(),
      ...Array<() => void>(6).fill(() => this.#dma()),
      () => this.#plain(),
      () => this.#interrupts(),
      () => this.#master(),
      () => this.#time(),
      () => this.#time(),
      () => this.#look(),
      () => this.#everything(),
    ];
    this.#pick(actions)();
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random.below(from.length)]!;
  }

  #space(bound: boolean): Space | undefined {
    const spaces = this.#spaces.filter(space => space.bound === bound);
    return spaces.length === 0 ? undefined : this.#pick(spaces);
  }

  #allocate(): void {
    if (this.#spaces.length >= MOST_PASIDS) return;
    const pasid = this.#guest.iommu.allocPasid();
    if (pasid <= 0) throw new Error(`no PASID: ${errnoName(pasid)}`);
    const engine = this.#random.below(this.#at.length);
    const table = this.#guest.firstStage();
    this.#spaces.push({ pasid, domain: SHARED_DOMAIN + this.#random.below(2), table, engine, bound: false });
  }

  #bind(): void {
    const space = this.#space(false);
    if (space === undefined) return;
    for (const page of PAGES) {
      if (this.#random.below(4) > 0) space.table.map(page, this.#pick(this.#data), 1, Access.READ_WRITE);
    }
    this.#entry(space, firstStagePasid(space.table, space.domain));
    space.bound = true;
  }

  /** The guest moves to another table, and tells: the host's binding is replaced. */
  #change(): void {
    const space = this.#space(true);
    if (space === undefined) return;
    space.table = this.#guest.firstStage();
    space.table.map(this.#pick(PAGES), this.#pick(this.#data), 1, Access.READ_WRITE);
    this.#entry(space, firstStagePasid(space.table, space.domain));
  }

  #unbind(): void {
    const space = this.#space(true);
    if (space === undefined) return;
    this.#guest.iommu.clearPasidEntry(this.#at[space.engine]!.requesterId, space.pasid);
    this.#flush(space);
    space.bound = false;
  }

  #free(): void {
    const space = this.#space(false);
    if (space === undefined) return;
    this.#guest.iommu.freePasid(space.pasid);
    this.#spaces.splice(this.#spaces.indexOf(space), 1);
  }

  #move(): void {
    const space = this.#space(true);
    if (space === undefined) return;
    const page = this.#pick(PAGES);
    space.table.unmap(page, 1, { retire: () => undefined });
    if (this.#random.below(3) > 0) space.table.map(page, this.#pick(this.#data), 1, Access.READ_WRITE);
    const range = { hi: frameHi(page), lo: frameLo(page), addressMask: 0, leaf: false };
    this.#guest.iommu.pasidIotlbInvalidate(PAGES_IN_PASID, space.domain, space.pasid, range);
  }

  #dma(): void {
    const space = this.#pick(this.#spaces.length > 0 ? this.#spaces : [undefined]);
    if (space === undefined) return;
    this.#command(space.engine, this.#pick(PAGES) * 4096, { pasid: space.pasid, valid: 1 });
  }

  /** Without PASID: guest-physical addresses. */
  #plain(): void {
    this.#command(this.#random.below(this.#at.length), this.#pick(this.#data) * 4096, {});
  }

  #command(index: number, to: number, pasid: { pasid?: number; valid?: 0 | 1 }): void {
    const engine = this.#engines[index]!;
    const copy = this.#random.below(2) === 0;
    const from = pasid.valid === 1 ? this.#pick(PAGES) : this.#pick(this.#data);
    engine.write(EngineReg.SRC_LO, from * 4096);
    engine.write(EngineReg.DST_LO, to + this.#random.below(2048));
    engine.write(EngineReg.LEN, 1 + this.#random.below(2048));
    engine.write(EngineReg.PATTERN, this.#random.next());
    engine.write(EngineReg.PASID, PasidWord.encode(pasid)[0]!);
    const command = copy ? Command.COPY : Command.FILL;
    engine.write(EngineReg.CTRL, Ctrl.encode({ start: 1, command, interrupt: 1 })[0]!);
    engine.read(EngineReg.STATUS);
  }

  /** MSI-X on, masked or off: the host connects and disconnects its vectors. */
  #interrupts(): void {
    const index = this.#random.below(this.#at.length);
    const { bdf } = this.#at[index]!;
    const fn = this.#machine.config.functionAt(bdf)!;
    const at = fn.capabilities.find(Capability.MSIX);
    if (at === undefined) return;
    const bar = MsixLayout.fields.tableBar.get(fn.config.words, at / 4);
    const table = fn.bars.address(bar);
    const words = [0xfee0_1000, 0, 0x40 + index, this.#random.below(4) === 0 ? 1 : 0];
    if (table !== undefined) this.#machine.memory.store(0, table, Int32Array.from(words), 0, 4);
    this.#machine.config.write(bdf, at + 2, this.#pick([0x8000, 0x8000, 0xc000, 0]), 2);
  }

  #master(): void {
    this.#engines[this.#random.below(this.#at.length)]!.master(this.#random.below(3) > 0);
  }

  #time(): void {
    this.#recording.do({ op: 'clock', ns: this.#pick([100, 900, 2000]) });
  }

  #look(): void {
    for (const engine of this.#engines) {
      engine.read(EngineReg.STATUS);
      engine.read(EngineReg.MOVED);
    }
    for (const frame of this.#data) this.#guest.read(frame, 4096);
  }

  #everything(): void {
    if (this.#random.below(2) === 0) this.#guest.iommu.pasidCacheInvalidate(3);
    else this.#guest.iommu.contextCacheInvalidate(1);
  }

  #entry(space: Space, values: PasidValues): void {
    this.#guest.iommu.pasidEntry(this.#at[space.engine]!.requesterId, space.pasid, values);
    this.#flush(space);
  }

  #flush({ domain, pasid }: Space): void {
    const { iommu } = this.#guest;
    iommu.pasidCacheInvalidate(ONE_PASID, domain, pasid);
    iommu.pasidIotlbInvalidate(WHOLE_PASID, domain, pasid);
  }
}
