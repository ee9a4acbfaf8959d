/** Software that lets a device keep translations and request pages: it answers late, flushes slowly, and is sometimes not there at all. */
import type { Random } from '@remora/bits';
import { Access } from '@remora/core';
import { PageResponse } from '@remora/iommu';
import {
  deviceTlbDescriptor,
  firstStagePasid,
  pasidDeviceTlbDescriptor,
  pasidIotlbDescriptor,
  type PageRequestQueue,
  type PageTable,
  type VtdPageRequest,
  waitDescriptor,
} from '@hw/intel-iommu/driver';
import { Fsts, PasidIotlbGranularity, Reg } from '@hw/intel-iommu';
import { Ctrl, Operation as Command, PasidWord, Reg as EngineReg } from '@hw/dma-engine';
import { Guest, GuestAts, type GuestEngine } from '@remora/machines';
import type { Recording } from './operations.js';

const BDF = '00:05.0';
const REQUESTER = 0x28;
const PASID = 7;
const DOMAINS = { plain: 1, shared: 2 } as const;
const PAGES = [0x5000, 0x5001, 0x5002, 0x1_2345_6000] as const;
const SECOND = 1_000_000_000;

export class AtsGuest {
  readonly #recording: Recording;
  readonly #random: Random;
  readonly #guest: Guest;
  readonly #engine: GuestEngine;
  readonly #ats: GuestAts;
  readonly #plain: PageTable;
  readonly #shared: PageTable;
  readonly #data: readonly number[];
  readonly #requests: PageRequestQueue;
  readonly #withheld: VtdPageRequest[] = [];

  constructor(recording: Recording, random: Random) {
    this.#recording = recording;
    this.#random = random;
    const { machine } = recording;
    this.#guest = new Guest(machine);
    const { iommu } = this.#guest;
    this.#plain = this.#guest.firstStage();
    this.#shared = this.#guest.firstStage();
    let requests: PageRequestQueue | undefined;
    iommu.start({ hi: 0, lo: 0xfee0_1000, data: 0x21 }, () => {
      requests = iommu.enablePageRequests({ handler: request => this.#answer(request), order: 0 });
      iommu.attach(REQUESTER, { dte: 1, pre: 1 });
      iommu.addPasid(REQUESTER, 0, firstStagePasid(this.#plain, DOMAINS.plain));
      iommu.addPasid(REQUESTER, PASID, firstStagePasid(this.#shared, DOMAINS.shared));
    });
    iommu.queue.recovers = false;
    this.#guest.registers.write32(Reg.IEADDR, 0xfee0_2000 | 0);
    this.#guest.registers.write32(Reg.IECTL, 0);
    this.#requests = requests!;
    this.#data = [0, 1, 2, 3].map(() => this.#guest.page());
    this.#engine = this.#guest.engine(BDF);
    this.#ats = new GuestAts(machine, BDF);
    this.#ats.enablePasid();
    this.#ats.enable();
    this.#ats.enablePageRequests(4);
  }

  /** One thing that its software does. */
  act(): void {
    const actions = [
      ...Array<() => void>(3).fill(() => this.#map()),
      ...Array<() => void>(6).fill(() => this.#dma()),
      ...Array<() => void>(4).fill(() => this.#handle()),
      ...Array<() => void>(3).fill(() => this.#respond()),
      ...Array<() => void>(3).fill(() => this.#time()),
      ...Array<() => void>(3).fill(() => this.#flush()),
      () => this.#repair(),
      () => this.#switch(),
      () => this.#look(),
    ];
    this.#pick(actions)();
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random.below(from.length)]!;
  }

  #map(): void {
    const table = this.#pick([this.#plain, this.#shared]);
    const page = this.#pick(PAGES);
    table.unmap(page, 1, { retire: () => undefined });
    if (this.#random.below(4) > 0)
      table.map(page, this.#pick(this.#data), 1, this.#pick([Access.READ, Access.READ_WRITE]));
  }

  #dma(): void {
    const engine = this.#engine;
    const [from, to] = [this.#pick(PAGES), this.#pick(PAGES)];
    for (const [register, page] of [
      [EngineReg.SRC_LO, from],
      [EngineReg.DST_LO, to],
    ] as const) {
      engine.write(register, (page * 4096) | 0);
      engine.write(register + 4, Math.floor(page / 0x10_0000));
    }
    engine.write(EngineReg.LEN, 1 + this.#random.below(0x1400));
    engine.write(EngineReg.PATTERN, this.#random.next());
    engine.write(EngineReg.PASID, PasidWord.encode({ pasid: PASID, valid: this.#random.below(2) })[0]!);
    const command = this.#pick([Command.COPY, Command.FILL]);
    engine.write(EngineReg.CTRL, Ctrl.encode({ start: 1, command, interrupt: 1 })[0]!);
    engine.read(EngineReg.STATUS);
  }

  /** Answers are waited for, and so is what was posted before them. */
  #settle(): void {
    this.#guest.registers.write32(Reg.FSTS, Fsts.ITE | Fsts.ICE);
    this.#recording.do({ op: 'clock', ns: 5000 });
    for (const offset of [Reg.IQH, Reg.ICS, Reg.FSTS]) this.#guest.registers.read32(offset);
    this.#recording.do({ op: 'clock', ns: 5000 });
  }

  #handle(): void {
    this.#settle();
    this.#requests.handle();
  }

  /** At once, or later. */
  #answer(request: VtdPageRequest): number | undefined {
    if (this.#random.below(2) === 0) {
      this.#withheld.push(request);
      return undefined;
    }
    return this.#present(request);
  }

  #present({ pasid, hi, lo }: VtdPageRequest): number {
    const table = pasid === PASID ? this.#shared : this.#plain;
    const page = (hi >>> 0) * 0x10_0000 + (lo >>> 12);
    table.unmap(page, 1, { retire: () => undefined });
    table.map(page, this.#pick(this.#data), 1, Access.READ_WRITE);
    return this.#random.below(8) === 0 ? PageResponse.INVALID_REQUEST : PageResponse.SUCCESS;
  }

  #respond(): void {
    const request = this.#withheld.shift();
    this.#settle();
    if (request !== undefined) this.#requests.respond(request, this.#present(request));
  }

  #time(): void {
    this.#recording.do({ op: 'clock', ns: this.#pick([100, 2000, 10_000, 61 * SECOND]) });
  }

  /** The unit's IOTLB at once; the function's, whose answer takes a while, without waiting for it. */
  #flush(): void {
    const { queue } = this.#guest.iommu;
    queue.post(
      pasidIotlbDescriptor(PasidIotlbGranularity.PASID, DOMAINS.shared, PASID),
      pasidIotlbDescriptor(PasidIotlbGranularity.PASID, DOMAINS.plain, 0),
    );
    const page = this.#pick(PAGES);
    const [hi, lo] = [Math.floor(page / 0x10_0000), (page * 4096) | 0];
    queue.post(
      this.#random.below(2) === 0
        ? deviceTlbDescriptor(REQUESTER, hi, lo, 12)
        : pasidDeviceTlbDescriptor(REQUESTER, PASID, hi, lo, 64),
      waitDescriptor({ interrupt: true }),
    );
    this.#recording.do({ op: 'clock', ns: 1500 });
  }

  #repair(): void {
    this.#guest.iommu.queue.recover();
    this.#guest.registers.write32(Reg.ICS, 1);
    this.#guest.registers.write32(Reg.FSTS, Fsts.ITE | Fsts.ICE | Fsts.PFO);
    this.#guest.iommu.handleFaults();
  }

  #switch(): void {
    this.#pick([
      () => this.#ats.enable(false),
      () => this.#ats.enable(),
      () => this.#ats.enable(),
      () => this.#ats.disablePageRequests(),
      () => this.#ats.enablePageRequests(4),
      () => this.#ats.enablePageRequests(4),
    ])();
  }

  #look(): void {
    for (const offset of [Reg.FSTS, Reg.IQH, Reg.PRS, Reg.PQH, Reg.PQT, Reg.PECTL, Reg.IQERCD])
      this.#guest.registers.read32(offset);
    this.#engine.read(EngineReg.STATUS);
    this.#engine.read(EngineReg.MOVED);
    for (const frame of this.#data) this.#guest.read(frame, 64);
  }
}
