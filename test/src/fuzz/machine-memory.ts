import { MemTx, type AddressSpace, type Section } from '@remora/core';
import type { TableMemory } from './table-memory.js';

/** A machine's RAM, as its processor and the oracle see it. Registers of devices are no memory here. */
export class MachineMemory implements TableMemory {
  readonly #space: AddressSpace;
  readonly #words = new Int32Array(2);

  constructor(space: AddressSpace) {
    this.#space = space;
  }

  /** The section that answers at an address. */
  section(address: bigint): Section | undefined {
    const at = Number(address);
    return this.#space.sections().find(({ start, size }) => at >= start && at < start + size);
  }

  quad(address: bigint): bigint | undefined {
    if (this.section(address) === undefined) return undefined;
    const { hi, lo } = split(address);
    if (this.#space.load(hi, lo, this.#words, 0, 2) !== MemTx.OK) return undefined;
    return (BigInt(this.#words[1]! >>> 0) << 32n) | BigInt(this.#words[0]! >>> 0);
  }

  putQuad(address: bigint, value: bigint): void {
    if (!this.isWritable(address)) return;
    this.#words[0] = Number(BigInt.asIntN(32, value));
    this.#words[1] = Number(BigInt.asIntN(32, value >> 32n));
    const { hi, lo } = split(address);
    this.#space.store(hi, lo, this.#words, 0, 2);
  }

  isWritable(address: bigint): boolean {
    const section = this.section(address);
    return section?.region.kind === 'ram' && !section.readonly;
  }

  bytes(address: bigint, length: number): Uint8Array {
    const out = new Uint8Array(length);
    const { hi, lo } = split(address);
    this.#space.read(hi, lo, out);
    return out;
  }

  putBytes(address: bigint, bytes: Uint8Array): void {
    const { hi, lo } = split(address);
    this.#space.write(hi, lo, bytes);
  }
}

/** RAM as it must be after what is about to happen: a machine's, with changes on top. */
export class ExpectedMemory implements TableMemory {
  /** Quadwords that change, by address. */
  readonly changes = new Map<bigint, bigint>();
  readonly #memory: MachineMemory;

  constructor(memory: MachineMemory) {
    this.#memory = memory;
  }

  quad(address: bigint): bigint | undefined {
    return this.changes.get(address) ?? this.#memory.quad(address);
  }

  putQuad(address: bigint, value: bigint): void {
    if (this.isWritable(address)) this.changes.set(address, value);
  }

  isWritable(address: bigint): boolean {
    return this.#memory.isWritable(address);
  }

  byte(address: bigint): number {
    return Number((this.quad(address & ~7n)! >> ((address & 7n) * 8n)) & 0xffn);
  }

  putByte(address: bigint, byte: number): void {
    const shift = (address & 7n) * 8n;
    const quad = this.quad(address & ~7n)!;
    this.putQuad(address & ~7n, (quad & ~(0xffn << shift)) | (BigInt(byte) << shift));
  }
}

function split(address: bigint): { hi: number; lo: number } {
  return { hi: Number(address >> 32n), lo: Number(address & 0xffff_ffffn) };
}
