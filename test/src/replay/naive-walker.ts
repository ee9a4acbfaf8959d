/**
 * A second, deliberately naive VT-d walker: no caches, no reserved bits, no fault records, BigInt throughout, nothing in common
 * with the model. What it finds in the memory that a recording tells of checks the parser and the rebuilt memory.
 */
import { MemTx, type MemoryPort } from '@remora/core';

export interface Walk {
  readonly page: bigint;
  readonly mask: bigint;
  readonly read: boolean;
  readonly write: boolean;
}

const PAGE = ~0xfffn;

export class NaiveWalker {
  readonly #memory: MemoryPort;
  /** RTADDR as latched by SRTP. */
  root = 0n;

  constructor(memory: MemoryPort) {
    this.#memory = memory;
  }

  /** What `address` of a requester without PASID translates to; undefined if a walk ends early. */
  translate(requesterId: number, address: bigint): Walk | undefined {
    const bus = BigInt(requesterId >>> 8);
    const devfn = BigInt(requesterId & 0xff);
    if ((this.root & 0x400n) === 0n) return this.#legacy(bus, devfn, address);
    return this.#scalable(bus, devfn, address);
  }

  #legacy(bus: bigint, devfn: bigint, address: bigint): Walk | undefined {
    const root = this.#quad((this.root & PAGE) + bus * 16n);
    if ((root & 1n) === 0n) return undefined;
    const context = (root & PAGE) + devfn * 16n;
    const low = this.#quad(context);
    if ((low & 1n) === 0n) return undefined;
    const levels = Number(this.#quad(context + 8n) & 7n) + 2;
    return this.#second(low & PAGE, levels, address);
  }

  #scalable(bus: bigint, devfn: bigint, address: bigint): Walk | undefined {
    const root = this.#quad((this.root & PAGE) + bus * 16n + (devfn < 128n ? 0n : 8n));
    if ((root & 1n) === 0n) return undefined;
    const context = (root & PAGE) + (devfn & 127n) * 32n;
    const low = this.#quad(context);
    if ((low & 1n) === 0n) return undefined;
    const pasid = this.#quad(context + 8n) & 0xfffffn;
    const directory = this.#quad((low & PAGE) + (pasid >> 6n) * 8n);
    if ((directory & 1n) === 0n) return undefined;
    const entry = (directory & PAGE) + (pasid & 63n) * 64n;
    const word = this.#quad(entry);
    if ((word & 1n) === 0n) return undefined;
    const type = (word >> 6n) & 7n;
    if (type === 2n) return this.#second(word & PAGE, Number((word >> 2n) & 7n) + 2, address);
    return type === 1n ? this.#first(this.#quad(entry + 16n) & PAGE, address) : undefined;
  }

  #second(table: bigint, levels: number, address: bigint): Walk | undefined {
    if (address >> BigInt(12 + 9 * levels) !== 0n) return undefined;
    let rights = 3n;
    for (let level = levels; ; level--) {
      const shift = BigInt(3 + 9 * level);
      const entry = this.#quad(table + ((address >> shift) & 511n) * 8n);
      rights &= entry;
      if ((rights & 3n) === 0n) return undefined;
      table = entry & 0xffffffffff000n;
      if (level === 1 || (entry & 0x80n) !== 0n) return leaf(table, shift, (rights & 1n) !== 0n, (rights & 2n) !== 0n);
    }
  }

  #first(table: bigint, address: bigint): Walk | undefined {
    if (BigInt.asIntN(48, address) !== BigInt.asIntN(64, address)) return undefined;
    let rights = 7n;
    for (let level = 4; ; level--) {
      const shift = BigInt(3 + 9 * level);
      const entry = this.#quad(table + ((address >> shift) & 511n) * 8n);
      rights &= entry;
      if ((rights & 5n) !== 5n) return undefined;
      table = entry & 0xffffffffff000n;
      if (level === 1 || (entry & 0x80n) !== 0n) return leaf(table, shift, true, (rights & 2n) !== 0n);
    }
  }

  #quad(address: bigint): bigint {
    const words = new Int32Array(2);
    const result = this.#memory.load(Number(address >> 32n), Number(BigInt.asIntN(32, address)), words, 0, 2);
    if (result !== MemTx.OK) throw new Error(`nothing at ${address.toString(16)}`);
    return (BigInt(words[1]! >>> 0) << 32n) | BigInt(words[0]! >>> 0);
  }
}

function leaf(table: bigint, shift: bigint, read: boolean, write: boolean): Walk {
  const mask = (1n << shift) - 1n;
  return { page: table & ~mask, mask, read, write };
}
