/**
 * Programs for any unit, also one that follows QEMU: registers are written at random or with some purpose, memory is bent, requests
 * come at any time, and the unit's registers are themselves in the memory that it reads and writes. No oracle says what must come of
 * it; what must hold of every unit does.
 */
import { Reg, VtdUnit, vtdConfig } from '@hw/intel-iommu';
import { AddressSpace, MemTx, Region, Translation, TxAttrs, type MemoryPort } from '@remora/core';
import type { AnyOperation, AnyProgram } from './any-program.js';
import type { Configuration } from './configurations.js';
import type { Coverage } from './coverage.js';
import { damage, pathOf } from './damage.js';
import type { FuzzMemory } from './fuzz-memory.js';
import { factsOf } from './naive/facts.js';
import { PAGES, PASIDS, RIDS, World } from './world.js';

export const UNIT_BASE = 0xfed9_0000;
const WINDOW = 0x1000;
const TE = 0x8000_0000;
const QIE = 0x0400_0000;
const FECTL = 0x38;
const IECTL = 0xa0;
const RECORDS = 0x220;
/** Accessed, dirty and extended accessed, of both stages. */
const ACCESSED_DIRTY = 0x760n;
/** A queue of 512 KiB of 16-byte descriptors, gone through a few times. */
const MAX_LOADS = 200_000;

/** A promise that holds of every unit is broken. */
export class Broken extends Error {}

export class AnyUnit {
  readonly #program: AnyProgram;
  readonly #memory: FuzzMemory;
  readonly #coverage: Coverage;
  readonly #space: AddressSpace;
  readonly #unit: VtdUnit;
  readonly #world: World;
  readonly #qemu: boolean;
  readonly #attrs = new TxAttrs();
  readonly #out = new Translation();
  /** CAP, ECAP and VER, which never change. */
  readonly #constants: string;
  #queueBytes = 0;
  #translating = false;

  constructor(program: AnyProgram, { options, modes }: Configuration, memory: FuzzMemory, coverage: Coverage) {
    this.#program = program;
    this.#memory = memory;
    this.#coverage = coverage;
    this.#qemu = options.compat === 'qemu-10.2';
    const root = Region.container('system', 2 ** 32);
    this.#space = new AddressSpace('system', root);
    this.#unit = new VtdUnit(vtdConfig(options), { name: 'fuzz', memory: this.#port(), sendMsi: () => {} });
    root.add(UNIT_BASE, Region.mmio('unit', this.#unit.mmioBytes, this.#unit.mmio));
    const facts = factsOf(this.#read64(Reg.CAP), this.#read64(Reg.ECAP));
    const { genes } = program;
    this.#world = new World(memory, facts, modes[genes[0]! % modes.length]!, genes);
    this.#constants = this.#constantRegisters();
  }

  run(): void {
    const { genes, operations } = this.#program;
    for (const [i, rid] of RIDS.entries()) this.#world.putContext(rid, genes.slice(i));
    if (this.#world.mode !== 'legacy') {
      for (const directory of [0, 1]) {
        for (const [i, pasid] of PASIDS.entries()) this.#world.putPasid(directory, pasid, genes.slice(i + directory));
      }
    }
    for (const operation of operations) {
      this.#memory.forget();
      this.#memory.budget = MAX_LOADS;
      this.#perform(operation);
      this.#check();
    }
    this.#space[Symbol.dispose]();
  }

  #perform(operation: AnyOperation): void {
    switch (operation.op) {
      case 'access':
        this.#access(operation.offset, operation.size, operation.write ? operation.value : undefined);
        break;
      case 'aimed':
        this.#aimed(operation.register, operation.gene);
        break;
      case 'descriptors':
        this.#descriptors(operation.genes, operation.slots);
        break;
      case 'damage': {
        const rid = RIDS[operation.rid]!;
        const page = PAGES[operation.page]!;
        const path = pathOf(this.#world, rid, PASIDS[operation.pasid] ?? -1, page);
        const structure = path[operation.gene % (path.length + 1)];
        if (structure !== undefined) damage(this.#world, structure, operation.gene >>> 4, operation.gene >>> 8);
        break;
      }
      case 'request':
        this.#request(RIDS[operation.rid]!, PASIDS[operation.pasid] ?? -1, PAGES[operation.page]!, operation.access);
    }
  }

  /** Any access, of any size and alignment. */
  #access(offset: number, size: number, value: bigint | undefined): void {
    const bytes = new Uint8Array(8);
    if (value !== undefined) new DataView(bytes.buffer).setBigUint64(0, value, true);
    const before = this.#read32(Reg.GSTS);
    if (value === undefined) this.#space.read(0, UNIT_BASE + offset, bytes.subarray(0, size));
    else this.#space.write(0, UNIT_BASE + offset, bytes.subarray(0, size));
    this.#watchQueue(before);
  }

  /** The queue's size counts as it was when QIE went on; a status word may have done that, with IQA as it is. */
  #watchQueue(before: number): void {
    const after = this.#read32(Reg.GSTS);
    if ((after & ~before & QIE) !== 0) this.#queueBytes = 4096 << Number(this.#read64(Reg.IQA) & 7n);
    else if ((after & QIE) !== 0 && this.#memory.stores.length > 0) this.#queueBytes = 4096 << 7;
    if ((after & TE) !== 0) this.#coverage.hit('TE');
    if ((after & QIE) !== 0) this.#coverage.hit('QIE');
  }

  #write(offset: number, size: 4 | 8, value: bigint): void {
    this.#access(offset, size, BigInt.asUintN(64, value));
  }

  /** A register with a value that does something. */
  #aimed(register: number, gene: number): void {
    const world = this.#world;
    const mode = world.mode === 'legacy' ? 0n : 1n << 10n;
    const wide = world.mode === 'legacy' ? BigInt(gene & 1) << 11n : 1n << 11n;
    const gsts = this.#read32(Reg.GSTS) & 0x96ff_ffff;
    const bits = [0x4000_0000, 0xc000_0000, 0x8400_0000, 0x0400_0000, 0xc400_0000, 0x0300_0000];
    const actions = [
      () => this.#write(Reg.RTADDR, 8, world.root | (gene % 8 === 0 ? BigInt(gene % 4) << 10n : mode)),
      () => this.#write(Reg.GCMD, 4, BigInt((gsts | bits[gene % bits.length]!) >>> 0)),
      () =>
        this.#write(Reg.GCMD, 4, BigInt(gene % 8 === 0 ? (gsts & ~(gene << 16)) >>> 0 : (gsts | 0xc400_0000) >>> 0)),
      () => this.#write(Reg.IQA, 8, world.queue | (gene % 8 === 0 ? 0n : wide) | BigInt(gene % 4 === 0 ? gene % 7 : 0)),
      () =>
        this.#write(
          Reg.IQT,
          gene % 2 === 0 ? 4 : 8,
          BigInt((gene % 8 === 0 ? gene : ((gene >>> 4) % 16) << 5) & 0x7_ffff),
        ),
      () => this.#write(Reg.FSTS, 4, BigInt(gene & 0xff)),
      () => this.#write(FECTL, 4, BigInt(gene % 2) << 31n),
      () => this.#write(IECTL, 4, BigInt(gene % 2) << 31n),
      () => this.#write(RECORDS + 12, 4, 1n << 31n),
      () => this.#write(Reg.CCMD, 8, ((8n | (BigInt(gene % 4) << 1n)) << 60n) | BigInt(gene)),
      () => this.#write(0xf8, 8, (8n | BigInt(gene % 4)) << 60n),
      () => this.#write(Reg.ICS, 4, 1n),
      () => this.#write(0xe00 + (gene % 8) * 8, 8, BigInt(gene)),
    ];
    actions[register % actions.length]!();
  }

  /** Descriptors into the queue's first slots, over and over; some waits aim at the unit itself. */
  #descriptors(genes: readonly number[], slots: number): void {
    const bytes = this.#world.mode === 'legacy' ? 16n : 32n;
    for (let slot = 0; slot < slots; slot++) {
      const gene = genes[slot % genes.length]!;
      const at = this.#world.queue + BigInt(slot) * bytes;
      const own = BigInt(UNIT_BASE) + [0x88n, 0x18n, 0x34n, 0x90n, 0x8cn][(gene >>> 8) % 5]!;
      const status = gene % 8 < 3 ? own : this.#world.status;
      const data = BigInt((gene >>> 4) % 3 === 0 ? ((gene >>> 5) % 16) << 5 : gene) << 32n;
      const known: readonly (readonly [bigint, bigint])[] = [
        [0x25n | data, status],
        [0x35n | data, status],
        [0x11n, 0n],
        [0x12n, 0n],
        [0x37n, 0n],
        [BigInt(gene), BigInt(gene) << 12n],
      ];
      const [low, high] = known[gene % 7 < 4 ? gene % 2 : gene % 6]!;
      this.#memory.putQuad(at, low);
      this.#memory.putQuad(at + 8n, high);
      if (bytes === 32n) for (const rest of [16n, 24n]) this.#memory.putQuad(at + rest, 0n);
    }
  }

  #request(rid: number, pasid: number, page: bigint, access: number): void {
    const hi = Number(BigInt.asIntN(32, page >> 32n));
    const lo = Number(BigInt.asIntN(32, page)) | (access << 4);
    const before = this.#read32(Reg.GSTS);
    this.#translating = true;
    const reason = this.#unit.translate(rid, pasid, hi, lo, access & (pasid < 0 ? 3 : 15), this.#out);
    this.#translating = false;
    this.#watchQueue(before);
    if (reason === 0 && this.#out.shift < 64) this.#coverage.hit('walk');
    if (reason !== 0)
      this.#coverage.hit(this.#qemu ? `QEMU reason 0x${reason.toString(16).padStart(2, '0')}` : 'fault');
  }

  /** What holds of every unit after anything. */
  #check(): void {
    if (this.#constantRegisters() !== this.#constants) throw new Broken('a read-only register has changed');
    const head = this.#read64(Reg.IQH);
    const enabled = (this.#read32(Reg.GSTS) & QIE) !== 0;
    if ((head & ~0x7_fff0n) !== 0n || (enabled && head >= BigInt(this.#queueBytes))) {
      throw new Broken(`the queue's head is at 0x${head.toString(16)}`);
    }
    const status = this.#read32(Reg.FSTS);
    const pending = this.#records().filter(high => high >>> 31 === 1).length;
    if (((status & 2) !== 0) !== pending > 0) throw new Broken(`FSTS is ${status.toString(16)}, pending: ${pending}`);
    if ((status & ~0xff73) !== 0 || status >>> 8 >= this.#records().length)
      throw new Broken(`FSTS is ${status.toString(16)}`);
    for (const control of [FECTL, IECTL]) {
      const value = this.#read32(control);
      if ((value & 0x3fff_ffff) !== 0 || value === 0x4000_0000)
        throw new Broken(`an event control is ${value.toString(16)}`);
    }
  }

  #records(): number[] {
    const count = Number((this.#read64(Reg.CAP) >> 40n) & 0xffn) + 1;
    return Array.from({ length: count }, (_, i) => this.#read32(RECORDS + i * 16 + 12));
  }

  #constantRegisters(): string {
    return `${this.#read64(Reg.CAP)} ${this.#read64(Reg.ECAP)} ${this.#read32(Reg.VER)}`;
  }

  #read32(offset: number): number {
    return this.#unit.mmio.read(offset, 4, this.#attrs) >>> 0;
  }

  #read64(offset: number): bigint {
    return (BigInt(this.#read32(offset + 4)) << 32n) | BigInt(this.#read32(offset));
  }

  /**
   * The unit's view of memory: RAM, and its own registers. It may store status words while it works on its queue, and accessed and dirty
   * bits while it translates; where nothing answers, nothing changes.
   */
  #port(): MemoryPort {
    const memory = this.#memory;
    const own = (hi: number, lo: number): boolean => hi === 0 && (lo & -WINDOW) === (UNIT_BASE | 0);
    return {
      load: (hi, lo, out, at, count) => {
        if (own(hi, lo)) return this.#space.load(hi, lo, out, at, count);
        return memory.load(hi, lo, out, at, count);
      },
      store: (hi, lo, from, at, count) => {
        if (own(hi, lo)) {
          this.#coverage.hit('store to its own registers');
          return this.#space.store(hi, lo, from, at, count);
        }
        const address = (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
        const before = memory.quad(address);
        const result = memory.store(hi, lo, from, at, count);
        if (result === MemTx.OK) this.#stored(count, before!, memory.quad(address)!);
        return result;
      },
      read: () => memory.read(),
      write: () => memory.write(),
    };
  }

  #stored(count: number, before: bigint, after: bigint): void {
    if (count === 1) {
      this.#coverage.hit('status word');
      return;
    }
    if (!this.#translating) throw new Broken('the queue stores something else than status words');
    if (count !== 2 || (before & ~after) !== 0n || (before ^ after) & ~ACCESSED_DIRTY) {
      throw new Broken(`a request changes ${before.toString(16)} to ${after.toString(16)}`);
    }
    this.#coverage.hit('accessed or dirty bit');
  }
}
