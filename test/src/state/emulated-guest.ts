/**
 * Software that does at random what guests do to a vIOMMU in front of emulated devices, right and wrong: tables change with and without
 * flushes, descriptors are refused, faults stay pending, registers are written and not yet acted upon.
 */
import type { Random } from '@remora/bits';
import { Access } from '@remora/core';
import {
  type ContextValues,
  type PageTable,
  type PasidValues,
  contextCacheDescriptor,
  firstStagePasid,
  iotlbDescriptor,
  legacyContext,
  passThroughPasid,
  pasidCacheDescriptor,
  secondStagePasid,
} from '@hw/intel-iommu/driver';
import { EventControl, Fsts, GlobalCommand, InterruptEntry, InterruptRequest, Reg } from '@hw/intel-iommu';
import { Ctrl, Operation as Command, PasidWord, Reg as EngineReg } from '@hw/dma-engine';
import { IOAPIC_BASE, IoApicOffset, RemappableRedirectionEntry } from '@hw/q35';
import { Guest, type GuestEngine } from '@remora/machines';
import type { Recording } from './operations.js';

export type Stage = 'legacy' | 'second' | 'first';

const ENGINE = { bdf: '00:05.0', requesterId: 0x28 } as const;
const TESTDEV = { bdf: '00:04.0', requesterId: 0x20 } as const;
const TESTDEV_BAR = 0xe080_0000;
const REQUESTERS = [ENGINE.requesterId, TESTDEV.requesterId] as const;
const PASIDS = [5, 0x45] as const;
const DOMAINS = [1, 2] as const;
const PAGES = [0x1000, 0x1001, 0x1002, 0x4_0000, 0x20_0205] as const;
const LEVEL_BITS = 0x96ff_ffff;
const TABLE_ENTRIES = 8;
const MSIX_TABLE = 0x1_0000;
const FAULT_MESSAGE = { hi: 0, lo: 0xfee0_1000, data: 0x21 } as const;

export class EmulatedGuest {
  readonly #recording: Recording;
  readonly #random: Random;
  readonly #stage: Stage;
  readonly #guest: Guest;
  readonly #engine: GuestEngine;
  readonly #tables: readonly PageTable[];
  readonly #data: readonly number[];
  readonly #interruptTable: number;

  constructor(recording: Recording, random: Random, stage: Stage) {
    this.#recording = recording;
    this.#random = random;
    this.#stage = stage;
    const { machine } = recording;
    this.#guest = new Guest(machine, { mode: stage === 'legacy' ? 'legacy' : 'scalable', pasidBits: 14 });
    const guest = this.#guest;
    guest.iommu.enableQueue();
    guest.iommu.queue.recovers = false;
    guest.iommu.setRootTable();
    guest.iommu.enableFaultEvents(FAULT_MESSAGE.hi, FAULT_MESSAGE.lo, FAULT_MESSAGE.data);
    this.#engine = guest.engine(ENGINE.bdf);
    machine.config.write(TESTDEV.bdf, 0x10, TESTDEV_BAR, 4);
    machine.config.write(TESTDEV.bdf, 0x04, 6, 2);
    this.#tables = DOMAINS.map(() => (stage === 'first' ? guest.firstStage() : guest.secondStage()));
    this.#data = [0, 1, 2, 3].map(() => guest.page());
    this.#interruptTable = guest.page();
    for (const requesterId of REQUESTERS) this.#attach(requesterId, 0);
    guest.iommu.enableTranslation();
  }

  /** One thing that its software does. */
  act(): void {
    const actions = [
      ...Array<() => void>(4).fill(() => this.#map()),
      ...Array<() => void>(7).fill(() => this.#dma()),
      ...Array<() => void>(3).fill(() => this.#invalidate()),
      () => this.#unmap(),
      () => this.#attach(this.#pick(REQUESTERS), this.#random.below(2)),
      () => this.#testdev(),
      () => this.#time(),
      () => this.#time(),
      () => this.#wrongDescriptor(),
      () => this.#repair(),
      () => this.#repair(),
      () => this.#events(),
      () => this.#unlatched(),
      () => this.#latch(),
      ...Array<() => void>(2).fill(() => this.#interrupts()),
      ...Array<() => void>(3).fill(() => this.#pins()),
      () => this.#ports(),
      () => this.#halfCommand(),
      () => this.#look(),
    ];
    this.#pick(actions)();
  }

  get #registers(): Guest['registers'] {
    return this.#guest.registers;
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random.below(from.length)]!;
  }

  #map(): void {
    const access = this.#pick([Access.READ_WRITE, Access.READ_WRITE, Access.READ]);
    this.#pick(this.#tables).map(this.#pick(PAGES), this.#pick(this.#data), 1, access);
  }

  #unmap(): void {
    this.#pick(this.#tables).unmap(this.#pick(PAGES), 1);
  }

  #attach(requesterId: number, index: number): void {
    const { iommu } = this.#guest;
    const table = this.#tables[index]!;
    const domain = DOMAINS[index]!;
    if (this.#stage === 'legacy') {
      iommu.contextEntry(requesterId, legacyContext(table, domain) as ContextValues);
      return;
    }
    iommu.contextEntry(requesterId, {});
    const values: PasidValues =
      this.#stage === 'first' ? firstStagePasid(table, domain) : secondStagePasid(table, domain);
    iommu.pasidEntry(requesterId, 0, this.#random.below(8) === 0 ? passThroughPasid(domain) : values);
    for (const pasid of PASIDS) iommu.pasidEntry(requesterId, pasid, values);
  }

  #dma(): void {
    const to = this.#pick(PAGES) * 4096 + this.#random.below(4096);
    const length = 1 + this.#random.below(0x1800);
    const tagged = this.#stage === 'first' && this.#random.below(2) === 0;
    const common = { to, length, interrupt: this.#random.below(3) === 0, ...(tagged ? { pasid: PASIDS[0] } : {}) };
    if (this.#random.below(2) === 0) this.#engine.fill({ ...common, pattern: this.#random.next() });
    else this.#engine.copy({ ...common, from: this.#pick(PAGES) * 4096 + this.#random.below(64) });
  }

  /** Registers are set, and the command comes later, if at all. */
  #halfCommand(): void {
    this.#engine.write(EngineReg.DST_LO, this.#pick(PAGES) * 4096);
    this.#engine.write(EngineReg.LEN, 1 + this.#random.below(64));
    this.#engine.write(EngineReg.PASID, PasidWord.encode({ pasid: PASIDS[1], valid: this.#random.below(2) })[0]!);
    if (this.#random.below(2) === 0) return;
    this.#engine.write(EngineReg.CTRL, Ctrl.encode({ start: 1, command: Command.FILL, interrupt: 1 })[0]!);
  }

  #testdev(): void {
    const { memory } = this.#guest.machine;
    const write = (offset: number, value: number): void => {
      memory.store(0, TESTDEV_BAR + offset, Int32Array.of(value), 0, 1);
    };
    write(0x04, this.#pick(PAGES) * 4096);
    write(0x08, 0);
    write(0x0c, 8);
    write(0x14, 1);
    if (this.#random.below(3) > 0) memory.load(0, TESTDEV_BAR, new Int32Array(1), 0, 1);
  }

  #time(): void {
    this.#recording.do({ op: 'clock', ns: this.#pick([1, 400, 1000, 5000]) });
  }

  #invalidate(): void {
    const { iommu } = this.#guest;
    const domain = this.#pick(DOMAINS);
    const page = { hi: 0, lo: this.#pick(PAGES) * 4096, addressMask: this.#random.below(2), leaf: true };
    const range = { ...page, lo: page.lo & ~((1 << (12 + page.addressMask)) - 1) };
    this.#pick([
      () => iommu.contextCacheInvalidate(1),
      () => iommu.contextCacheInvalidate(3, domain, this.#pick(REQUESTERS)),
      () => iommu.iotlbInvalidate(1),
      () => iommu.iotlbInvalidate(2, domain),
      () => iommu.iotlbInvalidate(3, domain, range),
      () => iommu.pasidCacheInvalidate(3),
      () => iommu.pasidIotlbInvalidate(2, domain, this.#pick(PASIDS)),
      () => iommu.pasidIotlbInvalidate(3, domain, this.#pick(PASIDS), range),
      () => iommu.interruptEntryCacheInvalidate(),
    ])();
  }

  /** What a guest would not queue: the queue stops there, at this and whatever follows. */
  #wrongDescriptor(): void {
    const { queue } = this.#guest.iommu;
    queue.post(
      this.#pick([
        Int32Array.from({ length: 8 }, (_, word) => (word === 0 ? 0xf : 0)),
        pasidCacheDescriptor(2, 1, 5),
        contextCacheDescriptor(0),
        iotlbDescriptor(0, 1, { reads: true, writes: true }),
      ]),
    );
  }

  #repair(): void {
    if (this.#random.below(2) === 0) this.#guest.iommu.queue.recover();
    else this.#registers.write32(Reg.FSTS, this.#pick([Fsts.IQE, Fsts.PFO, 0xff]));
  }

  #events(): void {
    const { iommu } = this.#guest;
    this.#pick([
      () => iommu.maskFaultEvents(),
      () => iommu.enableFaultEvents(FAULT_MESSAGE.hi, FAULT_MESSAGE.lo, FAULT_MESSAGE.data + this.#random.below(8)),
      () => iommu.handleFaults(),
      () => this.#registers.write32(Reg.IECTL, EventControl.encode({ im: this.#random.below(2) as 0 | 1 })[0]!),
      () => iommu.wait({ statusData: 0, statusHi: 0, statusLo: 0, interrupt: true }),
    ])();
  }

  /** Registers that count only once a command latches them. */
  #unlatched(): void {
    const registers = this.#registers;
    this.#pick([
      () => registers.write64(Reg.RTADDR, 0, this.#data[0]! * 4096),
      () => registers.write64(Reg.IQA, 0, this.#data[1]! * 4096),
      () => registers.write64(Reg.IRTA, 0, this.#data[2]! * 4096),
      () => registers.write32(Reg.RTADDR + 4, 1),
    ])();
  }

  #latch(): void {
    const { iommu } = this.#guest;
    const status = this.#registers.read32(Reg.GSTS) & LEVEL_BITS;
    this.#pick([
      () => iommu.setRootTable(),
      () => iommu.setRootTable(),
      () => this.#registers.write32(Reg.GCMD, status ^ GlobalCommand.TE),
      () => this.#registers.write32(Reg.GCMD, status | GlobalCommand.TE),
      () => this.#registers.write32(Reg.GCMD, status | GlobalCommand.SRTP),
    ])();
  }

  #interrupts(): void {
    const { iommu } = this.#guest;
    if (iommu.capabilities.ecap.ir === 0) return;
    const index = this.#random.below(TABLE_ENTRIES);
    this.#pick([
      () => iommu.setInterruptTable(this.#interruptTable, 2, false),
      () => iommu.enableInterruptRemapping(),
      () => {
        const entry = InterruptEntry.encode({ p: 1, v: 0x30 + this.#random.below(64), dst: 0x200 });
        this.#guest.write(this.#interruptTable, new Uint8Array(entry.buffer), index * 16);
      },
      () => this.#routeEngine(index),
      () => this.#routePin(index),
    ])();
  }

  #routeEngine(index: number): void {
    const address = InterruptRequest.encode({ head: 0xfee, format: 1, handleLow: index, shv: 1 })[0]!;
    for (const [word, value] of [address, 0, 0, this.#random.below(2)].entries())
      this.#engine.write(MSIX_TABLE + 4 * word, value);
    // The function masked as a whole, or not.
    this.#guest.machine.config.write(ENGINE.bdf, this.#msix, this.#pick([0x8000, 0xc000]), 2);
  }

  get #msix(): number {
    const fn = this.#guest.machine.config.functionAt(ENGINE.bdf)!;
    return fn.capabilities.find(0x11)! + 2;
  }

  #routePin(index: number): void {
    const pin = this.#random.below(4);
    const trigger = this.#random.below(2);
    const words = RemappableRedirectionEntry.encode({ vector: 0x60 + pin, trigger, format: 1, indexLow: index });
    for (const word of [0, 1]) {
      this.#store(IOAPIC_BASE + IoApicOffset.SELECT, 0x10 + 2 * pin + word);
      this.#store(IOAPIC_BASE + IoApicOffset.DATA, words[word]!);
    }
  }

  #pins(): void {
    const pin = this.#random.below(4);
    this.#pick([
      () => this.#recording.do({ op: 'pin', pin, on: true }),
      () => this.#recording.do({ op: 'pin', pin, on: false }),
      () => this.#store(IOAPIC_BASE + IoApicOffset.SELECT, 0x10 + 2 * pin),
      () => this.#load(IOAPIC_BASE + IoApicOffset.DATA),
      () => this.#store(IOAPIC_BASE + IoApicOffset.EOI, 0x60 + pin),
    ])();
  }

  /** The address port keeps what was written there. */
  #ports(): void {
    if (this.#random.below(2) === 0) this.#recording.do({ op: 'port-read', at: 0xcfc, count: 4 });
    else
      this.#recording.do({
        op: 'port',
        at: 0xcf8,
        bytes: this.#pick(['00280080', '10280080', '04200080', '60000080']),
      });
  }

  /** As a person who debugs. */
  #look(): void {
    for (const offset of [Reg.GSTS, Reg.FSTS, Reg.IQH, Reg.IQT, Reg.FECTL, Reg.ICS, 0x220, 0x228])
      this.#registers.read32(offset);
    this.#engine.read(EngineReg.STATUS);
    for (const frame of this.#data) this.#guest.read(frame, 64);
  }

  #store(address: number, value: number): void {
    this.#guest.machine.memory.store(0, address, Int32Array.of(value), 0, 1);
  }

  #load(address: number): void {
    this.#guest.machine.memory.load(0, address, new Int32Array(1), 0, 1);
  }
}
