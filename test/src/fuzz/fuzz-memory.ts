/**
 * Physical memory of a fuzz program: two stretches of RAM, one of them above 4 GiB so that a lost high dword shows, and one of ROM.
 * Nothing answers elsewhere. It keeps what the unit under test loads and stores, so that every change can be accounted for.
 */
import { MemTx, type MemoryPort } from '@remora/core';
import type { TableMemory } from './table-memory.js';

/** A stretch of page frames that answers. */
export interface Zone {
  readonly first: number;
  readonly frames: number;
  readonly writable: boolean;
}

export const LOW: Zone = { first: 0x100, frames: 0x200, writable: true };
export const HIGH: Zone = { first: 0x12_3400, frames: 0x200, writable: true };
/** Tables here can be walked, but their accessed and dirty bits cannot be set. */
export const ROM: Zone = { first: 0x20_0000, frames: 0x40, writable: false };
const ZONES = [LOW, HIGH, ROM];
/** A frame of no zone. */
export const NOWHERE = 0x700;

const PAGE_WORDS = 1024;
const FRAMES_PER_HI = 0x10_0000;

/** A store by the unit, of one or more dwords. */
export interface Store {
  readonly address: bigint;
  readonly words: readonly number[];
}

/** A load by the unit. */
export interface Load {
  readonly address: bigint;
  readonly words: readonly number[];
}

/** The unit did not come to an end by itself: a guest must not choose how long it is busy. */
export class LoadBudgetExceeded extends Error {}

export class FuzzMemory implements MemoryPort, TableMemory {
  /** What the unit stored since `forget()`. */
  readonly stores: Store[] = [];
  /** What the unit loaded since `forget()`, if `recordLoads`. */
  readonly loads: Load[] = [];
  recordLoads = false;
  /** How many more loads the unit may do before it counts as hanging. */
  budget = Infinity;
  readonly #words = new Int32Array(ZONES.reduce((sum, zone) => sum + zone.frames, 0) * PAGE_WORDS);
  readonly #used = new Set<number>();

  load(hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx {
    if (this.budget-- <= 0) throw new LoadBudgetExceeded('the unit reads memory without end');
    if ((lo & 3) !== 0) throw new Error(`the unit reads at an odd address: ${hi.toString(16)}:${lo.toString(16)}`);
    for (let i = 0; i < count; i++) {
      const index = this.#indexOf(hi, lo, i, false);
      if (index < 0) return MemTx.DECODE_ERROR;
      out[at + i] = this.#words[index]!;
    }
    if (this.recordLoads) this.loads.push({ address: bigAddress(hi, lo), words: [...out.subarray(at, at + count)] });
    return MemTx.OK;
  }

  store(hi: number, lo: number, from: Int32Array, at: number, count: number): MemTx {
    if ((lo & 3) !== 0) throw new Error(`the unit writes at an odd address: ${hi.toString(16)}:${lo.toString(16)}`);
    for (let i = 0; i < count; i++) if (this.#indexOf(hi, lo, i, true) < 0) return MemTx.DECODE_ERROR;
    for (let i = 0; i < count; i++) this.#put(this.#indexOf(hi, lo, i, true), from[at + i]!);
    this.stores.push({ address: bigAddress(hi, lo), words: [...from.subarray(at, at + count)] });
    return MemTx.OK;
  }

  /** The unit has no use for bytes: structures and status words are dwords. */
  read(): MemTx {
    throw new Error('the unit reads bytes');
  }

  write(): MemTx {
    throw new Error('the unit writes bytes');
  }

  forget(): void {
    this.stores.length = 0;
    this.loads.length = 0;
  }

  /** Zeros everywhere, as for a new program. */
  clear(): void {
    for (const page of this.#used) this.#words.fill(0, page * PAGE_WORDS, (page + 1) * PAGE_WORDS);
    this.#used.clear();
    this.forget();
  }

  /** The program's and the oracle's reads: a quadword, undefined where nothing answers. */
  quad(address: bigint): bigint | undefined {
    const low = this.#indexOf(Number(address >> 32n), Number(BigInt.asIntN(32, address)), 0, false);
    if (low < 0) return undefined;
    return (BigInt(this.#words[low + 1]! >>> 0) << 32n) | BigInt(this.#words[low]! >>> 0);
  }

  /** The program's writes; it may write ROM. Nothing happens where nothing answers. */
  putQuad(address: bigint, value: bigint): void {
    const low = this.#indexOf(Number(address >> 32n), Number(BigInt.asIntN(32, address)), 0, false);
    if (low < 0) return;
    this.#put(low, Number(BigInt.asIntN(32, value)));
    this.#put(low + 1, Number(BigInt.asIntN(32, value >> 32n)));
  }

  putWords(address: bigint, words: Int32Array): void {
    for (let i = 0; i < words.length; i += 2) {
      const quad = (BigInt(words[i + 1]! >>> 0) << 32n) | BigInt(words[i]! >>> 0);
      this.putQuad(address + BigInt(i * 4), quad);
    }
  }

  /** Whether a dword there can be written by the unit. */
  isWritable(address: bigint): boolean {
    return this.#indexOf(Number(address >> 32n), Number(BigInt.asIntN(32, address)), 0, true) >= 0;
  }

  #put(index: number, word: number): void {
    this.#words[index] = word;
    this.#used.add(Math.floor(index / PAGE_WORDS));
  }

  /** Index of the dword `word` places after (hi, lo); -1 if it does not answer. */
  #indexOf(hi: number, lo: number, word: number, write: boolean): number {
    const place = ((lo & 0xfff) >>> 2) + word;
    const frame = (hi >>> 0) * FRAMES_PER_HI + (lo >>> 12) + Math.floor(place / PAGE_WORDS);
    let base = 0;
    for (const zone of ZONES) {
      if (frame >= zone.first && frame < zone.first + zone.frames) {
        return write && !zone.writable ? -1 : (base + frame - zone.first) * PAGE_WORDS + (place % PAGE_WORDS);
      }
      base += zone.frames;
    }
    return -1;
  }
}

function bigAddress(hi: number, lo: number): bigint {
  return (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
}
