/** A guest on a machine with a dma-engine, in each of the modes of translation, with tables of a chosen depth. */
import { bigOf } from '@remora/bits';
import { Access } from '@remora/core';
import type { VtdConfig } from '@hw/intel-iommu/config';
import {
  firstStagePasid,
  legacyContext,
  nestedPasid,
  PageTable,
  secondStagePasid,
  type PasidValues,
} from '@hw/intel-iommu/driver';
import { type EngineResult, Guest, type GuestEngine, q35Testdev } from '@remora/machines';
import type { Machine } from '@remora/machine';

export type TableMode = 'legacy' | 'second' | 'first' | 'nested';

/** Frames of guest RAM that hold the guest's tables: a nested guest's first stage must find them behind the second. */
const TABLE_FRAMES = { first: 0x200, count: 0x800 } as const;
export const ENGINE = 0x28;
export const DOMAIN = 9;
const ENGINE_BDF = '00:05.0';

export interface TableModeOptions {
  readonly iommu?: Partial<VtdConfig>;
  readonly pasid?: PasidValues;
  readonly levels?: 4 | 5;
}

/** The options without which a mode is not there. */
const NEEDED: Readonly<Record<TableMode, Partial<VtdConfig>>> = {
  legacy: {},
  second: { 'x-scalable-mode': 'on' },
  first: { 'x-scalable-mode': 'on', 'x-flts': true },
  nested: { nesting: true },
};

export class TableModeGuest {
  readonly machine: Machine;
  readonly guest: Guest;
  readonly engine: GuestEngine;
  readonly mode: TableMode;
  /** What a device's addresses go through first. */
  readonly table: PageTable;
  /** What legacy mode and a second stage use, alone or behind a first. */
  readonly second: PageTable | undefined;

  /** Translation is on; nothing is mapped for the engine. */
  constructor(mode: TableMode, { iommu = {}, pasid = {}, levels = 5 }: TableModeOptions = {}) {
    this.mode = mode;
    this.machine = q35Testdev({ ...NEEDED[mode], ...iommu });
    this.machine.start();
    this.guest = new Guest(this.machine, {
      mode: mode === 'legacy' ? 'legacy' : 'scalable',
      pasidBits: 6,
      firstFrame: TABLE_FRAMES.first,
      frames: TABLE_FRAMES.count,
    });
    this.engine = this.guest.engine(ENGINE_BDF);
    const { iommu: driver } = this.guest;
    const make = (stage: 'first' | 'second'): PageTable =>
      new PageTable(this.machine.memory, this.guest.pages, { stage, levels });
    this.second = mode === 'first' ? undefined : make('second');
    this.table = mode === 'first' || mode === 'nested' ? make('first') : this.second!;
    if (mode === 'nested') {
      this.second!.map(TABLE_FRAMES.first, TABLE_FRAMES.first, TABLE_FRAMES.count, Access.READ_WRITE);
    }
    driver.start(undefined, () => this.#attach(pasid));
  }

  /** A page of RAM that a device reaches at `iovaFrame`; nested, by way of `guestFrame`. */
  map(iovaFrame: number, guestFrame: number, access: number = Access.READ_WRITE): number {
    const page = this.guest.page();
    const behind = this.mode === 'nested' ? guestFrame : page;
    if (this.mode === 'nested') require0(this.second!.map(guestFrame, page, 1, access));
    require0(this.table.map(iovaFrame, behind, 1, access));
    return page;
  }

  fill(iova: bigint, pattern: number): EngineResult {
    return this.engine.fill({ to: iova, length: 8, pattern });
  }

  /** Reason and address of the fault that was recorded last. */
  fault(): { readonly reason: number; readonly address: bigint } | undefined {
    const fault = this.guest.iommu.handleFaults().at(-1);
    if (fault === undefined) return undefined;
    return { reason: fault.reason, address: bigOf(fault.hi, fault.lo) };
  }

  word(frame: number): number {
    return new DataView(this.guest.read(frame, 4).buffer).getUint32(0, true);
  }

  /** Changes the bits of the leaf, or of the entry of a higher level, that translates `iovaFrame` in `table`. */
  flip(table: PageTable, iovaFrame: number, level: number, bits: number): void {
    const { steps } = table.walk(iovaFrame);
    const step = steps.find(each => each.level === level)!;
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, step.lo ^ bits, true);
    this.guest.write(step.table, bytes, step.index * 8);
  }

  #attach(pasid: PasidValues): void {
    const { iommu } = this.guest;
    if (this.mode === 'legacy') {
      require0(iommu.attach(ENGINE, legacyContext(this.table, DOMAIN)));
      return;
    }
    const values = {
      second: () => secondStagePasid(this.table, DOMAIN, pasid),
      first: () => firstStagePasid(this.table, DOMAIN, pasid),
      nested: () => nestedPasid(this.table, this.second!, DOMAIN, pasid),
    }[this.mode]();
    require0(iommu.pasidEntry(ENGINE, 0, values));
    require0(iommu.attach(ENGINE, {}));
  }
}

function require0(status: number): void {
  if (status !== 0) throw new Error(`the guest's driver answered ${status}`);
}
