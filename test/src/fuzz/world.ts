/**
 * The tables of a fuzz program: a valid skeleton for three functions, four PASIDs and a few pages, to be bent by the program. Frames
 * alternate between both stretches of RAM, and nested first-stage tables hold guest addresses that differ from the real ones,
 * so that a mix-up cannot stay unseen.
 */
import type { Mode } from './configurations.js';
import { HIGH, LOW, NOWHERE, ROM } from './fuzz-memory.js';
import type { Facts } from './naive/facts.js';
import type { TableMemory } from './table-memory.js';

/** 00:01.0, 01:02.3 and, in the upper half of its bus, 01:1f.1. */
export const RIDS = [0x0008, 0x0113, 0x01f9] as const;
export const DOMAINS = [1, 2, 0x8001] as const;
/** Of two tables, and one beyond the smallest directory. */
export const PASIDS = [0, 5, 0x45, 0x2003] as const;

/** Input pages: neighbours, the widths' ends, the interrupt range, both canonical halves. */
export const PAGES: readonly bigint[] = [
  ...[0x1000n, 0x2000n, 0x20_5000n, 0x4000_7000n, 0x12_3456_7000n, 0xfee0_5000n, 0xfed0_0000n, 0x7f_ffff_f000n],
  ...[0x80_0000_0000n, 0x7fff_ffff_f000n, 0xffff_ffff_ffff_f000n, 0x8000_0000_0000n, 0xff_ffff_ffff_f000n],
  ...[0x1ff_ffff_ffff_f000n, 0xff00_0000_0000_0000n],
];

/** Frames that leaves lead to; only the first two have memory, which translation does not need. */
const TARGETS = [LOW.first + LOW.frames - 1, HIGH.first + HIGH.frames - 1, NOWHERE, 0xfee05, 0x7ff_ffff] as const;
/** Nested: guest addresses of tables and data are real ones plus this. */
export const GUEST_OFFSET = 0x40_0000_0000n;
const DATA_FRAMES = 4;

export interface Tables {
  readonly stage: 'first' | 'second';
  readonly root: bigint;
  readonly levels: number;
  /** Nested first stage: what its pointers are ahead of the real addresses. */
  readonly offset: bigint;
}

/** An entry's attribute bits and where it leads. */
export interface LeafGenes {
  readonly level: number;
  readonly target: number;
  readonly attributes: number;
}

export class World {
  readonly memory: TableMemory;
  readonly facts: Facts;
  readonly mode: Mode;
  /** For the wait descriptors' status words. */
  readonly status: bigint;
  /** Two pages for the queue. */
  readonly queue: bigint;
  readonly root: bigint;
  readonly seconds: readonly Tables[];
  readonly firsts: readonly Tables[];
  readonly #contexts: ReadonlyMap<number, bigint>;
  readonly #directories: readonly bigint[];
  readonly #pasidTables: readonly (readonly bigint[])[];
  #lowUsed = 0;
  #highUsed = 0;
  #romUsed = 0;
  #turn = 0;

  constructor(memory: TableMemory, facts: Facts, mode: Mode, genes: readonly number[]) {
    this.memory = memory;
    this.facts = facts;
    this.mode = mode;
    const gene = (i: number): number => genes[i % genes.length]!;
    this.queue = this.#pages(2);
    this.status = this.#page();
    this.root = this.#page();
    this.#contexts = new Map([0x000, 0x100, 0x180].map(part => [part, this.#page()]));
    this.#directories = [this.#page(), this.#page()];
    this.#pasidTables = this.#directories.map(() => [this.#page(), this.#page()]);
    const width = (i: number): number => facts.widths[gene(i) % facts.widths.length]! + 2;
    this.seconds = [0, 1, 2].map(i => ({ stage: 'second', root: this.#page(), levels: width(i), offset: 0n }));
    this.firsts = [0, 1, 2].map(i => ({
      stage: 'first',
      root: this.#page(),
      levels: facts.firstStage5Level && gene(i + 3) % 2 === 1 ? 5 : 4,
      offset: i === 2 && mode === 'nested' ? GUEST_OFFSET : 0n,
    }));
    this.#lookups();
    if (mode === 'nested') this.#nest();
    for (const tables of this.#used()) {
      for (const [i, page] of PAGES.entries()) {
        // Three of four pages permit everything.
        const granted = gene(i + 5) % 4 === 0 ? 0xfc : 0xff;
        const level = i === 2 ? 2 : i === 3 ? 3 : 1;
        if (gene(i + 6) % 8 !== 7)
          this.map(tables, page, { level, target: gene(i), attributes: gene(i + 9) | granted });
      }
    }
  }

  /** Byte ranges that hold the program's tables. */
  get used(): readonly { readonly first: bigint; readonly bytes: number }[] {
    return [
      { first: BigInt(LOW.first) << 12n, bytes: this.#lowUsed * 4096 },
      { first: BigInt(HIGH.first) << 12n, bytes: this.#highUsed * 4096 },
    ];
  }

  /** Byte address of a requester's context entry. */
  contextAddress(rid: number): bigint {
    const part = rid & (this.mode === 'legacy' ? 0xff00 : 0xff80);
    return this.mode === 'legacy'
      ? this.#contexts.get(part)! + BigInt(rid & 0xff) * 16n
      : this.#contexts.get(part)! + BigInt(rid & 0x7f) * 32n;
  }

  putContext(rid: number, genes: readonly number[]): void {
    const at = this.contextAddress(rid);
    const [first, second, third, fourth] = genes as [number, number, number, number];
    if (this.mode === 'legacy') {
      const tables = this.seconds[first % 3]!;
      const type = second % 8 === 7 ? 2 : second % 8 === 6 && this.facts.deviceTlb ? 1 : 0;
      const levels = type === 2 ? Math.max(...this.facts.widths) + 2 : tables.levels;
      const fpd = fourth % 8 === 0 ? 2n : 0n;
      this.memory.putQuad(at, tables.root | fpd | BigInt(type << 2) | 1n);
      this.memory.putQuad(at + 8n, (BigInt(DOMAINS[third % 3]!) << 8n) | BigInt(levels - 2));
      return;
    }
    const fpd = fourth % 8 === 0 ? 2n : 0n;
    const paside = this.facts.pasids && second % 8 !== 7 ? 8n : 0n;
    const pdts = BigInt(third % 4 === 3 ? 0 : 1) << 9n;
    const ridPasid = this.facts.ridPasid ? BigInt(PASIDS[fourth % 16] ?? 0) : 0n;
    this.memory.putQuad(at, this.#directories[first % 2]! | pdts | paside | fpd | 1n);
    this.memory.putQuad(at + 8n, ridPasid);
  }

  putPasid(directory: number, pasid: number, genes: readonly number[]): void {
    const table = this.#pasidTables[directory % 2]![pasid >>> 6 === 0 ? 0 : 1]!;
    const at = table + BigInt(pasid & 63) * 64n;
    const [first, second, third, fourth, fifth] = genes as [number, number, number, number, number];
    const { facts } = this;
    const kinds = this.mode === 'nested' ? [3, 3, 3, 1, 2] : this.mode === 'first' ? [1, 1, 1, 1] : [2, 2, 2];
    if (facts.passThrough) kinds.push(4);
    const kind = kinds[first % kinds.length]!;
    const ss = this.seconds[kind === 3 ? 2 : second % 2]!;
    const fs = this.firsts[kind === 3 ? 2 : second % 2]!;
    let low = 1n | BigInt(kind << 6) | (third % 8 === 0 ? 2n : 0n);
    if (facts.secondStage) low |= ss.root | BigInt((ss.levels - 2) << 2);
    if (facts.secondStage && facts.secondStageAccessedDirty && third % 2 === 1) low |= 0x200n;
    let high = BigInt(DOMAINS[fourth % 3]!);
    if (facts.pageWalkSnoop && fifth % 8 !== 7) high |= 1n << 23n;
    if (facts.snoopControl) high |= BigInt(fifth & 1) << 24n;
    let third64 = 0n;
    if (facts.firstStage) third64 |= (fs.root + fs.offset) | BigInt((fs.levels - 4) << 2) | BigInt((fourth & 4) << 2);
    if (facts.firstStage && facts.extendedAccessed) third64 |= BigInt(fifth & 2) << 6n;
    if (facts.supervisorRequests && second % 4 !== 0) third64 |= 1n;
    this.memory.putQuad(at, low);
    this.memory.putQuad(at + 8n, high);
    this.memory.putQuad(at + 16n, third64);
  }

  /** Builds the path for an input page, as far as it is not there, and its leaf. */
  map(tables: Tables, page: bigint, { level, target, attributes }: LeafGenes): void {
    let table = tables.root;
    for (let at = tables.levels; ; at--) {
      const address = table + ((page >> BigInt(3 + 9 * at)) & 511n) * 8n;
      if (at === level) {
        this.memory.putQuad(address, this.#leaf(tables, level, target, attributes));
        return;
      }
      const entry = this.memory.quad(address) ?? 0n;
      const next = (entry & 0xf_ffff_ffff_f000n) - tables.offset;
      if ((entry & 3n) !== 0n && (entry & 0x80n) === 0n && this.memory.quad(next) !== undefined) {
        table = next;
        continue;
      }
      table = this.#page();
      // Non-leaf entries permit everything; first-stage ones may have A (and EA) set before.
      const link = tables.stage === 'second' ? 3n : 7n | (attributes % 3 === 0 ? 0x420n : 0n);
      this.memory.putQuad(address, (table + tables.offset) | link);
    }
  }

  /** Copies a page of entries to ROM, without the bits `drop`. Returns its address there; undefined if ROM is full. */
  toRom(page: bigint, drop: bigint): bigint | undefined {
    if (this.#romUsed === ROM.frames) return undefined;
    const copy = BigInt(ROM.first + this.#romUsed++) << 12n;
    for (let at = 0n; at < 4096n; at += 8n) {
      const value = this.memory.quad(page + at) ?? 0n;
      if (value !== 0n) this.memory.putQuad(copy + at, value & ~drop);
    }
    return copy;
  }

  /** The page tables that entries of this mode point to. */
  #used(): readonly Tables[] {
    if (this.mode === 'nested') return [...this.seconds, ...this.firsts];
    return this.mode === 'first' ? this.firsts : this.seconds;
  }

  #leaf(tables: Tables, level: number, target: number, attributes: number): bigint {
    const choice = TARGETS[target % (TARGETS.length * 4)] ?? TARGETS[target % 2]!;
    const frame = BigInt(choice) & ~((1n << BigInt(9 * (level - 1))) - 1n);
    const large = level > 1 ? 0x80n : 0n;
    const bit = (position: number, to: number): bigint => BigInt((attributes >>> position) & 1) << BigInt(to);
    if (tables.stage === 'second') {
      const snoop = this.facts.snoopControl ? bit(10, 11) : 0n;
      return (frame << 12n) | large | bit(0, 0) | bit(1, 1) | bit(8, 8) | bit(9, 9) | snoop;
    }
    const flags = large | 1n | bit(0, 1) | bit(1, 2) | bit(8, 5) | bit(9, 6);
    const guest = tables.offset >> 12n;
    return ((frame + guest) << 12n) | flags | ((attributes >>> 10) % 4 === 3 ? 1n << 63n : 0n);
  }

  #lookups(): void {
    if (this.mode === 'legacy') {
      this.memory.putQuad(this.root, this.#contexts.get(0x000)! | 1n);
      this.memory.putQuad(this.root + 16n, this.#contexts.get(0x100)! | 1n);
      return;
    }
    this.memory.putQuad(this.root, this.#contexts.get(0x000)! | 1n);
    this.memory.putQuad(this.root + 16n, this.#contexts.get(0x100)! | 1n);
    this.memory.putQuad(this.root + 24n, this.#contexts.get(0x180)! | 1n);
    for (const [i, directory] of this.#directories.entries()) {
      const [low, other] = this.#pasidTables[i] as [bigint, bigint];
      this.memory.putQuad(directory, low | 1n);
      this.memory.putQuad(directory + 8n, other | 1n);
      this.memory.putQuad(directory + BigInt(0x2003 >>> 6) * 8n, other | 1n);
    }
  }

  /** The third second stage shows all memory at its guest addresses. */
  #nest(): void {
    const large = (first: number): void => {
      const address = (BigInt(first) << 12n) & ~0x1f_ffffn;
      this.#identity(GUEST_OFFSET + address, address);
    };
    large(LOW.first);
    large(LOW.first + LOW.frames - 1);
    large(HIGH.first);
    large(ROM.first);
  }

  #identity(guest: bigint, address: bigint): void {
    const tables = this.seconds[2]!;
    let table = tables.root;
    for (let level = tables.levels; level > 2; level--) {
      const at = table + ((guest >> BigInt(3 + 9 * level)) & 511n) * 8n;
      const entry = this.memory.quad(at)!;
      table = entry === 0n ? this.#page() : entry & ~0xfffn;
      if (entry === 0n) this.memory.putQuad(at, table | 3n);
    }
    this.memory.putQuad(table + ((guest >> 21n) & 511n) * 8n, address | 0x83n);
  }

  /** A zeroed page, of either stretch of RAM in turn. */
  #page(): bigint {
    return this.#pages(1);
  }

  #pages(count: number): bigint {
    const low = this.#turn++ % 2 === 1;
    const used = low ? this.#lowUsed : this.#highUsed;
    if (used + count > LOW.frames - DATA_FRAMES) throw new Error('the program needs more RAM than there is');
    if (low) this.#lowUsed += count;
    else this.#highUsed += count;
    return BigInt((low ? LOW : HIGH).first + used) << 12n;
  }
}
