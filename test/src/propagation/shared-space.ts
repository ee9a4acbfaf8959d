/**
 * A guest's address space that is shared with a device of the host: a PASID, a first-stage table in guest RAM, and what the device
 * reads and writes by those virtual addresses.
 */
import assert from 'node:assert/strict';
import { frameHi, frameLo } from '@remora/bits';
import { Access } from '@remora/core';
import type { EngineResult, GuestEngine } from '@remora/machines';
import type { PageTable } from '@hw/intel-iommu/driver';
import type { Rig } from '../rig/rig.js';

const PAGE = 4096;
/** Address bits 51:32 in an entry's high word. */
const ADDRESS_HI = 0xf_ffff;
/** Virtual frame of the pages through which data reaches the engine; far from what tests map. */
const SCRATCH = 0x6_0000_0000;
const SCRATCH_PAGES = 4;
/** PASID-cache and PASID-IOTLB granularities. */
const ONE_PASID = 1;
const WHOLE_PASID = 2;
const PAGES = 3;

export interface SharedSpaceOptions {
  /** Default: one by virtual command. */
  readonly pasid?: number;
  /** Default 7. */
  readonly did?: number;
  /** Index of the host function whose engine uses the space; default 0. */
  readonly device?: number;
  readonly engine?: GuestEngine;
}

export class SharedSpace {
  readonly rig: Rig;
  readonly pasid: number;
  readonly did: number;
  readonly table: PageTable;
  readonly engine: GuestEngine;
  readonly #device: number;
  /** Guest frames of the scratch pages. */
  readonly #scratch: number[] = [];

  constructor(rig: Rig, options: SharedSpaceOptions = {}) {
    this.rig = rig;
    this.pasid = options.pasid ?? rig.allocate();
    this.did = options.did ?? 7;
    this.#device = options.device ?? 0;
    this.table = rig.guest.firstStage();
    this.engine = options.engine ?? rig.engine(this.#device);
    for (let page = 0; page < SCRATCH_PAGES; page++) this.#scratch.push(this.page(SCRATCH + page));
  }

  /** Byte address of the first-stage root, guest-physical. */
  get root(): number {
    return this.table.rootFrame * PAGE;
  }

  /** Maps guest frames at virtual frame `at`; a `large` leaf is 2 ** `large` bytes. */
  map(at: number, guestFrame: number, options: { pages?: number; access?: number; large?: 21 | 30 } = {}): void {
    const { pages = 1, access = Access.READ_WRITE, large = 12 } = options;
    assert.equal(this.table.map(at, guestFrame, pages, access, large), 0);
  }

  /** A zeroed page of guest RAM, mapped at `at`. Returns its guest frame. */
  page(at: number, access: number = Access.READ_WRITE): number {
    const frame = this.rig.guest.page();
    this.map(at, frame, { access });
    return frame;
  }

  /** Makes the leaf at `at` lead to another page: no table changes, so that a flush of leaves covers it. Returns the guest frame. */
  remap(at: number): number {
    const frame = this.rig.guest.page();
    const { table, index, hi, lo } = this.table.walk(at).steps.at(-1)!;
    const leaf = new DataView(new ArrayBuffer(8));
    leaf.setUint32(0, (frameLo(frame) | (lo & (PAGE - 1))) >>> 0, true);
    leaf.setUint32(4, (frameHi(frame) | (hi & ~ADDRESS_HI)) >>> 0, true);
    this.rig.guest.write(table, new Uint8Array(leaf.buffer), index * 8);
    return frame;
  }

  /** Nothing is flushed. */
  unmap(at: number, pages = 1): void {
    assert.equal(this.table.unmap(at, pages), 0);
  }

  /** Writes the PASID entry of a device, and nothing else. */
  enter(device = this.#device): void {
    this.rig.entry(this.pasid, { did: this.did, root: this.root }, device);
  }

  /** The PASID-cache descriptor, which the unit must execute. */
  sync(): void {
    this.rig.pasidCache(ONE_PASID, this.did, this.pasid);
  }

  bind(...devices: number[]): this {
    for (const device of devices.length === 0 ? [this.#device] : devices) this.enter(device);
    this.sync();
    return this;
  }

  unbind(...devices: number[]): void {
    for (const device of devices.length === 0 ? [this.#device] : devices) this.rig.clearEntry(this.pasid, device);
    this.sync();
  }

  /** Flushes 2 ** `addressMask` pages at virtual frame `at`. */
  flushPages(at: number, addressMask = 0, leaf = false): void {
    this.rig.pasidIotlb(PAGES, this.did, this.pasid, { address: at * PAGE, addressMask, leaf });
  }

  flushAll(): void {
    this.rig.pasidIotlb(WHOLE_PASID, this.did, this.pasid);
  }

  /** The device writes `data` at virtual frame `at`. */
  deviceWrites(at: number, data: Uint8Array, offset = 0, engine = this.engine): EngineResult {
    for (let done = 0; done < data.length; done += PAGE) {
      this.rig.guest.write(this.#scratch[done / PAGE]!, data.subarray(done, done + PAGE));
    }
    const to = at * PAGE + offset;
    return engine.copy({ pasid: this.pasid, from: SCRATCH * PAGE, to, length: data.length });
  }

  /** What the device reads at virtual frame `at`; undefined if it is refused. */
  deviceReads(at: number, length: number, offset = 0, engine = this.engine): Uint8Array | undefined {
    const from = at * PAGE + offset;
    if (!engine.copy({ pasid: this.pasid, from, to: SCRATCH * PAGE, length }).ok) return undefined;
    const read = new Uint8Array(length);
    for (let done = 0; done < length; done += PAGE) {
      read.set(this.rig.guest.read(this.#scratch[done / PAGE]!, Math.min(PAGE, length - done)), done);
    }
    return read;
  }
}

/** `length` bytes that differ from page to page and from seed to seed. */
export function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => index * 7 + (index >>> 8) * 13 + seed * 101);
}

/** Maps a page with `data` at virtual frame `at`, in place of what is there if `replace`. Returns its guest frame. */
export function place(at: number, space: SharedSpace, data: Uint8Array, replace = false): number {
  const frame = replace ? space.remap(at) : space.page(at);
  space.rig.guest.write(frame, data);
  return frame;
}

/** The first 16 bytes that each engine reads at virtual frame `at`. */
export function seenBy(at: number, space: SharedSpace, engines: readonly GuestEngine[]): (Uint8Array | undefined)[] {
  return engines.map(engine => space.deviceReads(at, 16, 0, engine));
}
