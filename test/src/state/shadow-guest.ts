/**
 * Software that maps and unmaps for a device of a host that cannot nest, in caching mode: it reports each change, as it must, and the
 * host follows its tables.
 */
import { frameHi, frameLo, type Random } from '@remora/bits';
import { Access } from '@remora/core';
import { Granularity } from '@hw/intel-iommu';
import { legacyContext, legacyPassThrough, type PageTable } from '@hw/intel-iommu/driver';
import { Ctrl, Operation as Command, Reg as EngineReg } from '@hw/dma-engine';
import { Guest, type GuestEngine } from '@remora/machines';
import type { AssignedEngine } from './assigned-guest.js';
import type { Recording } from './operations.js';

const PAGES = [0x100, 0x101, 0x102, 0x103, 0x8_0000, 0x8_0200] as const;
const DOMAINS = [3, 4] as const;

export class ShadowGuest {
  readonly #recording: Recording;
  readonly #random: Random;
  readonly #guest: Guest;
  readonly #engines: readonly GuestEngine[];
  readonly #at: readonly AssignedEngine[];
  readonly #tables: readonly PageTable[];
  readonly #data: readonly number[];

  constructor(recording: Recording, random: Random, at: readonly AssignedEngine[]) {
    this.#recording = recording;
    this.#random = random;
    this.#at = at;
    this.#guest = new Guest(recording.machine, { mode: 'legacy' });
    this.#tables = DOMAINS.map(() => this.#guest.secondStage());
    this.#guest.iommu.start();
    this.#engines = at.map(({ bdf }) => this.#guest.engine(bdf));
    this.#data = Array.from({ length: 6 }, () => this.#guest.page());
    for (const { requesterId } of at)
      this.#guest.iommu.attach(requesterId, legacyContext(this.#tables[0]!, DOMAINS[0]));
  }

  /** One thing that its software does. */
  act(): void {
    const actions = [
      ...Array<() => void>(4).fill(() => this.#map()),
      ...Array<() => void>(2).fill(() => this.#unmap()),
      ...Array<() => void>(5).fill(() => this.#dma()),
      () => this.#move(),
      () => this.#translation(),
      () => this.#recording.do({ op: 'clock', ns: 700 }),
      () => this.#look(),
    ];
    this.#pick(actions)();
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random.below(from.length)]!;
  }

  #map(): void {
    const index = this.#random.below(2);
    const [page, frame] = [this.#pick(PAGES), this.#pick(this.#data)];
    const pages = 1 + this.#random.below(2);
    const access = this.#pick([Access.READ_WRITE, Access.READ_WRITE, Access.READ]);
    if (this.#tables[index]!.map(page, frame, pages, access) === 0) this.#report(index, page);
  }

  #unmap(): void {
    const index = this.#random.below(2);
    const page = this.#pick(PAGES);
    this.#tables[index]!.unmap(page, 1 + this.#random.below(2), { retire: () => undefined });
    this.#report(index, page);
  }

  #report(index: number, page: number): void {
    const start = page & ~1;
    const range = { hi: frameHi(start), lo: frameLo(start), addressMask: 2, leaf: false };
    if (this.#random.below(2) === 0) this.#guest.iommu.iotlbInvalidate(Granularity.DOMAIN, DOMAINS[index]!);
    else this.#guest.iommu.iotlbInvalidate(Granularity.PAGE, DOMAINS[index]!, { ...range, lo: range.lo & ~0x3fff });
  }

  /** The function goes to another domain, or passes through. */
  #move(): void {
    const { iommu } = this.#guest;
    const { requesterId } = this.#pick(this.#at);
    const index = this.#random.below(3);
    const entry = index === 2 ? legacyPassThrough(4, 9) : legacyContext(this.#tables[index]!, DOMAINS[index]!);
    iommu.contextEntry(requesterId, entry);
    iommu.contextCacheInvalidate(Granularity.GLOBAL);
    iommu.iotlbInvalidate(Granularity.GLOBAL);
  }

  #translation(): void {
    const { iommu } = this.#guest;
    if (this.#random.below(2) === 0) iommu.disableTranslation();
    iommu.enableTranslation();
  }

  #dma(): void {
    const engine = this.#pick(this.#engines);
    engine.write(EngineReg.SRC_LO, this.#pick(PAGES) * 4096);
    engine.write(EngineReg.DST_LO, this.#pick(PAGES) * 4096 + this.#random.below(4096));
    engine.write(EngineReg.LEN, 1 + this.#random.below(4096));
    engine.write(EngineReg.PATTERN, this.#random.next());
    const command = this.#pick([Command.COPY, Command.FILL]);
    engine.write(EngineReg.CTRL, Ctrl.encode({ start: 1, command })[0]!);
    engine.read(EngineReg.STATUS);
  }

  #look(): void {
    for (const engine of this.#engines) engine.read(EngineReg.STATUS);
    for (const frame of this.#data) this.#guest.read(frame, 4096);
  }
}
