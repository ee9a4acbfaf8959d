/** The namespace: blocks on a backing, of a size that Format NVM may change. */
import type { Inspector, StateReader, StateWriter } from '@remora/core';
import type { Backing } from '../backing/backing.js';
import { DLFEAT_ZEROES, IdNamespace, LBA_SHIFTS, NSATTR_PROTECTED } from '../spec/index.js';

export interface NamespaceOptions {
  readonly backing: Backing;
  readonly readonly: boolean;
  /** Bytes of a block: one of the formats. */
  readonly blockBytes: number;
}

export class Namespace {
  readonly backing: Backing;
  readonly readonly: boolean;
  /** Index of the LBA format. */
  #format: number;

  constructor({ backing, readonly, blockBytes }: NamespaceOptions) {
    this.backing = backing;
    this.readonly = readonly;
    this.#format = LBA_SHIFTS.indexOf(Math.log2(blockBytes));
  }

  get format(): number {
    return this.#format;
  }

  /** log2 of a block's bytes. */
  get shift(): number {
    return LBA_SHIFTS[this.#format]!;
  }

  /** In blocks. */
  get blocks(): number {
    return Math.floor(this.backing.size / 2 ** this.shift);
  }

  /** Whether `count` blocks from `(hi, lo)` on are all there. */
  holds(hi: number, lo: number, count: number): boolean {
    return hi * 2 ** 32 + lo + count <= this.blocks;
  }

  /** Erases everything, and has blocks of another size from now on. False if the backing cannot. */
  reformat(format: number): boolean {
    if (!this.backing.erase()) return false;
    this.#format = format;
    return true;
  }

  /** The Identify Namespace data structure (5.15.2.1). */
  identify(page: Uint8Array): void {
    const view = new DataView(page.buffer, page.byteOffset, page.length);
    const wide = (at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);
    wide(IdNamespace.NSZE, this.blocks);
    wide(IdNamespace.NCAP, this.blocks);
    wide(IdNamespace.NUSE, this.blocks);
    view.setUint8(IdNamespace.NLBAF, LBA_SHIFTS.length - 1);
    view.setUint8(IdNamespace.FLBAS, this.#format);
    view.setUint8(IdNamespace.DLFEAT, this.backing.zeroes ? DLFEAT_ZEROES : 0);
    wide(IdNamespace.NVMCAP, this.backing.size);
    view.setUint8(IdNamespace.NSATTR, this.readonly ? NSATTR_PROTECTED : 0);
    for (const [index, shift] of LBA_SHIFTS.entries()) view.setUint8(IdNamespace.LBAF0 + 4 * index + 2, shift);
  }

  save(into: StateWriter): void {
    into.integer('format', this.#format);
    this.backing.save(into.child('backing'));
  }

  load(from: StateReader): void {
    this.#format = from.integer('format', { max: LBA_SHIFTS.length - 1 });
    this.backing.load(from.child('backing'));
  }

  inspect(into: Inspector): void {
    into
      .value('place', this.backing.place)
      .value('blocks', this.blocks)
      .value('blockBytes', 2 ** this.shift);
    into.value('allocated', this.backing.allocated()).value('readonly', this.readonly);
  }
}
