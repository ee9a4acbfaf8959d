/**
 * A program that lends itself two DMA engines of a host with a real physical unit, through /dev/iommu and /dev/vfio/devices: no guest, no client of
 * ours in between. Its memory is a guest's: at IOVA 0, with first-stage tables in it where a test wants them.
 */
import assert from 'node:assert/strict';
import { frameHi, frameLo } from '@remora/bits';
import { Access, MemTx, NO_PASID } from '@remora/core';
import type { HostProcess, SimulatedHost } from '@remora/host-sim';
import { createHost, type Host } from '@remora/machine';
import { ENGINE, physicalVtd, SECOND_ENGINE } from '@remora/machines';
import { IommufdUser } from '@remora/testing';
import { IommuHwptDataType, IommuHwptVtdS1, IommuHwptVtdS1Invalidate, IommuInvalidateDataType } from '@remora/uapi';
import { Ctrl, Operation, PasidWord, Reg, StatusWord } from '@hw/dma-engine';
import { dmaEngine } from '@hw/dma-engine/config';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import type { VtdConfig } from '@hw/intel-iommu/config';
import { FrameAllocator, PageTable } from '@hw/intel-iommu/driver';

const MIB = 0x10_0000;
const PAGE = 4096;
/** Pages of the guest's memory; the last 64 are for tables. */
const PAGES = 256;
const TABLE_PAGES = 64;
/** Where configuration space is in a VFIO device's file; its command register, and memory and bus mastering in that. */
const CONFIG = 7 * 2 ** 40;
const COMMAND = 4;
const MASTER = 6;

export const ENGINES = [ENGINE, SECOND_ENGINE] as const;

/** What of the guest's memory a first stage maps. */
export class GuestStage1 {
  readonly table: PageTable;

  constructor(table: PageTable) {
    this.table = table;
  }

  /** The payload of HWPT_ALLOC. */
  data(more: { flags?: number; addr_width?: number; pgtbl_addr?: number } = {}): Uint8Array {
    return IommuHwptVtdS1.encode({ pgtbl_addr: this.table.rootFrame * PAGE, addr_width: 48, ...more });
  }

  /** Maps a page of input to a page of the guest's memory; whatever was there is replaced, and nothing is flushed. */
  map(page: number, guestPage: number): void {
    this.table.unmap(page, 1);
    assert.equal(this.table.map(page, guestPage, 1, Access.READ_WRITE), 0);
  }
}

export class RawHost implements Disposable {
  readonly hostLevel: Host<SimulatedHost>;
  readonly host: SimulatedHost;
  readonly process: HostProcess;
  readonly user: IommufdUser;
  readonly devices: readonly [
    { readonly fd: number; readonly id: number },
    { readonly fd: number; readonly id: number },
  ];
  readonly ioas: number;
  readonly #ram;
  readonly #tables: FrameAllocator;

  constructor(unit: Partial<VtdConfig> = {}, engines: { readonly ats?: boolean; readonly pri?: boolean } = {}) {
    this.hostLevel = createHost({
      memory: 64 * MIB,
      iommu: physicalVtd({ 'fault-records': 8, ...unit }),
      seed: 7,
      plugins: [dmaEnginePlugin],
      devices: ENGINES.map(addr => dmaEngine({ addr, ...engines })),
    });
    this.host = this.hostLevel.platform;
    this.process = this.host.process('vmm');
    this.user = new IommufdUser(this.process);
    this.devices = [this.user.bind('/dev/vfio/devices/vfio0'), this.user.bind('/dev/vfio/devices/vfio1')];
    for (const bdf of ENGINES) this.host.function(bdf).config.write(COMMAND, MASTER, 2);
    this.ioas = this.user.ioas();
    const { address, ram } = this.user.memory(PAGES * PAGE);
    this.#ram = ram;
    assert.equal(this.user.map(this.ioas, 0, address, PAGES * PAGE), 0);
    this.#tables = new FrameAllocator(ram, PAGES - TABLE_PAGES, TABLE_PAGES);
  }

  /** An empty first stage in the guest's memory. */
  stage1(): GuestStage1 {
    return new GuestStage1(new PageTable(this.#ram, this.#tables, { stage: 'first', levels: 4 }));
  }

  /** A nested HWPT of an engine, or -errno. */
  nested(parent: number, stage1: GuestStage1, flags = 0, engine: 0 | 1 = 0): number {
    const asked = { flags, data: stage1.data(), dataType: IommuHwptDataType.VTD_S1 };
    return this.user.hwpt(this.devices[engine].id, parent, asked);
  }

  invalidate(
    hwpt: number,
    ...entries: { addr?: number; npages?: number | bigint; flags?: number }[]
  ): {
    readonly result: number;
    readonly processed: number;
  } {
    const encoded = entries.map(entry => IommuHwptVtdS1Invalidate.encode({ npages: 1, ...entry }));
    return this.user.invalidate(hwpt, IommuInvalidateDataType.VTD_S1, encoded);
  }

  /** Whether an engine's write of one byte to the start of page `page` arrives somewhere. */
  write(page: number, byte: number, pasid: number = NO_PASID, engine: 0 | 1 = 0): boolean {
    const { dma } = this.host.function(ENGINES[engine]);
    return dma.write(frameHi(page), frameLo(page), Uint8Array.of(byte), pasid) === MemTx.OK;
  }

  /**
   * A command of the first engine: it fills 16 bytes at the start of page `page`, through its device TLB if it has one. Its EngineError; with
   * `interrupt` a message tells of the end.
   */
  fill(page: number, byte: number, pasid: number = NO_PASID, interrupt = false): number {
    const tagged = pasid === NO_PASID ? 0 : PasidWord.encode({ valid: 1, pasid })[0]!;
    const command = Ctrl.encode({ start: 1, command: Operation.FILL, interrupt: Number(interrupt) })[0]!;
    const [{ fd }] = this.devices;
    this.process.pwrite(fd, Uint8Array.of(MASTER, 0), CONFIG + COMMAND);
    for (const [register, value] of [
      [Reg.LEN, 16],
      [Reg.DST_LO, page * PAGE],
      [Reg.DST_HI, 0],
      [Reg.PATTERN, byte],
      [Reg.PASID, tagged],
      [Reg.CTRL, command],
    ] as const) {
      this.process.pwrite(fd, new Uint8Array(Int32Array.of(value).buffer), register);
    }
    const status = new Int32Array(1);
    this.process.pread(fd, new Uint8Array(status.buffer), Reg.STATUS);
    return StatusWord.fields.error.get(status, 0);
  }

  /** The first byte of a page, as an engine reads it; undefined if it is refused. */
  read(page: number, pasid: number = NO_PASID, engine: 0 | 1 = 0): number | undefined {
    const byte = new Uint8Array(1);
    const { dma } = this.host.function(ENGINES[engine]);
    return dma.read(frameHi(page), frameLo(page), byte, pasid) === MemTx.OK ? byte[0] : undefined;
  }

  /** The first byte of a page of the guest's memory. */
  guest(page: number): number {
    const byte = new Uint8Array(1);
    this.#ram.read(0, page * PAGE, byte);
    return byte[0]!;
  }

  setGuest(page: number, byte: number): void {
    this.#ram.write(0, page * PAGE, Uint8Array.of(byte));
  }

  /** All that the host holds, but for the memory of processes: each payload takes some. */
  dump(): unknown {
    const all = structuredClone(this.host.dump());
    return { ...all, frames: 0, processes: (all['processes'] as { files: unknown }[]).map(({ files }) => files) };
  }

  [Symbol.dispose](): void {
    this.process[Symbol.dispose]();
    this.hostLevel[Symbol.dispose]();
  }
}
