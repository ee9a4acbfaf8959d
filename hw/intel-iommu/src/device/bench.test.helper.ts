/**
 * A bare unit on a bench: registers by offset, tables built word by word from the declared layouts. Deliberately not the driver: what
 * a test puts into memory or a register is in the test.
 */
import { hiOf, loOf, type RecordType, type RecordValues, type Wide } from '@remora/bits';
import { Access, MemTx, NO_PASID, Ram, Translation, TxAttrs, type MemoryPort } from '@remora/core';
import { vtdConfig, type VtdConfig } from '../config/index.js';
import {
  ContextEntry,
  FaultRecord,
  GlobalCommand,
  PasidDirectoryEntry,
  PasidEntry,
  Pgtt,
  Reg,
  RootEntry,
  RootTableAddress,
  ScalableContextEntry,
  ScalableRootEntry,
  Ttm,
  WaitDescriptor,
} from '../spec/index.js';
import type { Behaviour } from './behaviour.js';
import type { VtdEnvironment, VtdPropagation } from './environment.js';
import { VtdUnit } from './unit.js';

/** RAM of a bench; what is beyond answers a decode error. */
export const RAM_FRAMES = 0x4000;
/** A frame that no memory backs. */
export const NOWHERE = RAM_FRAMES + 0x10;
/** The device of most tests: 01:02.3. */
export const RID = 0x0113;
/** The domain of most tests. */
export const DID = 7;

/** Values of a record's fields by name, of any record. */
export type Values = Record<string, number | bigint>;

/** Memory that counts stores and refuses them in chosen frames. */
class BenchMemory implements MemoryPort {
  readonly ram = Ram.allocate(RAM_FRAMES * 4096);
  readonly readOnly = new Set<number>();
  readonly stores: { readonly address: number; readonly words: readonly number[] }[] = [];
  loads = 0;

  load(hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx {
    this.loads++;
    return this.ram.load(hi, lo, out, at, count);
  }

  store(hi: number, lo: number, from: Int32Array, at: number, count: number): MemTx {
    const address = (hi >>> 0) * 2 ** 32 + (lo >>> 0);
    if (this.readOnly.has(Math.floor(address / 4096))) return MemTx.ERROR;
    const words = Array.from(from.subarray(at, at + count), word => word >>> 0);
    this.stores.push({ address, words });
    return this.ram.store(hi, lo, from, at, count);
  }

  read(hi: number, lo: number, out: Uint8Array): MemTx {
    return this.ram.read(hi, lo, out);
  }

  write(hi: number, lo: number, from: Uint8Array): MemTx {
    return this.ram.write(hi, lo, from);
  }
}

/** What a unit on a bench has around it beside memory: functions with device TLBs, time, and a ledger. */
export type Surroundings = Pick<VtdEnvironment, 'endpoint' | 'clock' | 'ledger'>;

/** What became of a request. */
export type Outcome =
  { readonly to: number; readonly shift: number; readonly access: number } | { readonly fault: number };

/** Options, and what takes the place of the profile that `compat` names. */
export type BenchOptions = Partial<VtdConfig> & { readonly behaviour?: Behaviour };

/** What is beyond the unit; one that needs the unit itself is made for it. */
export type Beyond = VtdPropagation | ((bench: Bench) => VtdPropagation);

export class Bench {
  readonly memory = new BenchMemory();
  readonly unit: VtdUnit;
  readonly messages: { readonly address: number; readonly data: number }[] = [];
  /** Reasons of faults that were offered to the records, and of those that FPD suppressed. */
  readonly offered: number[] = [];
  readonly suppressed: number[] = [];
  readonly #attrs = new TxAttrs();
  readonly #words = new Int32Array(2);
  readonly #out = new Translation();
  #nextFrame = 0x100;
  #queueFrame = 0;
  #queueTail = 0;
  #descriptorBytes = 16;

  constructor({ behaviour, ...options }: BenchOptions = {}, beyond?: Beyond, surroundings: Surroundings = {}) {
    const propagation = typeof beyond === 'function' ? beyond(this) : beyond;
    const environment: VtdEnvironment = {
      name: 'bench',
      memory: this.memory,
      sendMsi: (hi, lo, data) => this.messages.push({ address: hi * 2 ** 32 + lo, data }),
      faultOffered: record => this.offered.push(FaultRecord.fields.fr.get(record, 0)),
      faultSuppressed: reason => this.suppressed.push(reason),
      ...(propagation === undefined ? {} : { propagation }),
      ...surroundings,
    };
    this.unit = new VtdUnit(vtdConfig(options), environment, behaviour);
  }

  // Registers.

  read32(offset: number): number {
    return this.unit.mmio.read(offset, 4, this.#attrs) >>> 0;
  }

  write32(offset: number, value: number): void {
    this.unit.mmio.write(offset, value >>> 0, 4, this.#attrs);
  }

  read64(offset: number): bigint {
    this.unit.mmio.read64!(offset, this.#words, this.#attrs);
    return (BigInt(this.#words[1]! >>> 0) << 32n) | BigInt(this.#words[0]! >>> 0);
  }

  write64(offset: number, value: Wide): void {
    this.unit.mmio.write64!(offset, hiOf(value), loOf(value), this.#attrs);
  }

  /** Sets a GCMD bit beside the level bits that are on. */
  command(bit: number): void {
    this.write32(Reg.GCMD, (this.read32(Reg.GSTS) & 0x96ff_ffff) | bit);
  }

  // Memory.

  /** The number of a zeroed frame (or the first of several). */
  page(count = 1): number {
    const first = this.#nextFrame;
    this.#nextFrame += count;
    return first;
  }

  put(address: number, words: Int32Array): void {
    this.memory.ram.store(Math.floor(address / 2 ** 32), address % 2 ** 32, words, 0, words.length);
  }

  /** Stores a record. */
  entry<F extends Record<string, never>>(address: number, type: RecordType<F>, values: Values): void;
  entry(address: number, type: RecordType, values: Values): void {
    this.put(address, type.encode(values as RecordValues<Record<string, never>>));
  }

  put64(address: number, value: bigint): void {
    this.put(address, Int32Array.of(loOf(value) | 0, hiOf(value) | 0));
  }

  get64(address: number): bigint {
    const words = new Int32Array(2);
    this.memory.ram.load(Math.floor(address / 2 ** 32), address % 2 ** 32, words, 0, 2);
    return (BigInt(words[1]! >>> 0) << 32n) | BigInt(words[0]! >>> 0);
  }

  /** Inverts one bit of a structure. */
  flip(address: number, bit: number): void {
    const at = address + Math.floor(bit / 64) * 8;
    this.put64(at, this.get64(at) ^ (1n << BigInt(bit % 64)));
  }

  /** Builds the table path for `iova` and stores `leaf` at `level`; `link` is the non-leaf entries' attribute bits. Returns the leaf's address. */
  mapAt(root: number, levels: number, iova: bigint, leaf: bigint, link: bigint, level = 1): number {
    let table = root;
    for (let at = levels; ; at--) {
      const index = Number((iova >> BigInt(3 + 9 * at)) & 0x1ffn);
      const address = table * 4096 + index * 8;
      if (at === level) {
        this.put64(address, leaf);
        return address;
      }
      const present = this.get64(address);
      if ((present & 3n) === 0n) {
        const next = this.page();
        this.put64(address, (BigInt(next) << 12n) | link);
        table = next;
      } else {
        table = Number((present >> 12n) & 0xff_ffff_ffffn);
      }
    }
  }

  // The unit in operation.

  request(iova: Wide, access: number = Access.READ, pasid: number = NO_PASID, rid = RID): Outcome {
    const out = this.#out;
    const reason = this.unit.translate(rid, pasid, hiOf(iova), loOf(iova), access, out);
    if (reason !== 0) return { fault: reason };
    return { to: out.hi * 2 ** 32 + out.lo, shift: out.shift, access: out.access };
  }

  /** The reason for which a request is refused; 0 if it is not. */
  fault(iova: Wide, access: number = Access.READ, pasid: number = NO_PASID, rid = RID): number {
    const outcome = this.request(iova, access, pasid, rid);
    return 'fault' in outcome ? outcome.fault : 0;
  }

  /** Latches a root table. */
  setRoot(frame: number, ttm: number = Ttm.LEGACY): void {
    const words = RootTableAddress.encode({ rta: frame, ttm });
    this.write64(Reg.RTADDR, (BigInt(words[1]! >>> 0) << 32n) | BigInt(words[0]! >>> 0));
    this.command(GlobalCommand.SRTP);
  }

  /** Enables a queue of one page. */
  enableQueue(wide: boolean): void {
    this.#queueFrame = this.page();
    this.#descriptorBytes = wide ? 32 : 16;
    this.#queueTail = 0;
    this.write32(Reg.IQT, 0);
    this.write64(Reg.IQA, this.#queueFrame * 4096 + (wide ? 0x800 : 0));
    this.command(GlobalCommand.QIE);
  }

  /** Submits one descriptor. Returns whether the queue went on. */
  submit(type: RecordType<never> | RecordType, values: Values): boolean {
    return this.submitWords((type as RecordType).encode(values as RecordValues<Record<string, never>>));
  }

  submitWords(words: Int32Array): boolean {
    this.put(this.#queueFrame * 4096 + this.#queueTail, words.slice(0, this.#descriptorBytes / 4));
    this.#queueTail = (this.#queueTail + this.#descriptorBytes) % 4096;
    this.write32(Reg.IQT, this.#queueTail);
    return this.read32(Reg.IQH) === this.#queueTail;
  }

  /** Overwrites the descriptor at the head with an empty wait and clears the error. */
  recover(): void {
    const words = WaitDescriptor.encode({ type: 5, fn: 1 });
    this.put(this.#queueFrame * 4096 + this.read32(Reg.IQH), words.slice(0, this.#descriptorBytes / 4));
    this.write32(Reg.FSTS, 0x10);
  }
}

/** Addresses and frames of what `legacyBench` and `scalableBench` built. */
export interface Tables {
  readonly bench: Bench;
  /** Byte address of the root entry of RID's bus. */
  readonly rootEntry: number;
  readonly context: number;
  /** Frame of the second-stage root. */
  readonly second: number;
}

/** A unit in legacy mode with translation on; RID has an empty second-stage table of `levels` levels. */
export function legacyBench(
  options: BenchOptions = {},
  context: Values = {},
  levels = 4,
  surroundings: Surroundings = {},
): Tables {
  const bench = new Bench(options, undefined, surroundings);
  const root = bench.page();
  const contexts = bench.page();
  const second = bench.page();
  const rootEntry = root * 4096 + (RID >>> 8) * 16;
  const contextEntry = contexts * 4096 + (RID & 0xff) * 16;
  bench.put(rootEntry, RootEntry.encode({ p: 1, ctp: contexts }));
  bench.put(contextEntry, ContextEntry.encode({ p: 1, tt: 0, ssptptr: second, aw: levels - 2, did: DID, ...context }));
  bench.setRoot(root);
  bench.command(GlobalCommand.TE);
  return { bench, rootEntry, context: contextEntry, second };
}

export interface ScalableTables extends Tables {
  /** Frame of the first-stage root. */
  readonly first: number;
  readonly directory: number;
  /** Byte address of the entry of PASID 0. */
  readonly entry: number;
  /** Byte address of the entry of a PASID below 64. */
  entryOf(pasid: number): number;
}

/** `nesting=on` and all that goes with the first stage: what most scalable-mode tests need. */
export const FULL: Partial<VtdConfig> = { nesting: true, 'x-smpwcs': true, 'x-ssads': true, 'x-eafs': true };

/**
 * A unit in scalable mode with translation on; RID's PASID 0 entry is `entry` over a present second-stage entry with empty tables of
 * both stages.
 */
export function scalableBench(
  options: BenchOptions = FULL,
  entry: Values = {},
  context: Values = {},
  beyond?: Beyond,
  surroundings: Surroundings = {},
): ScalableTables {
  const bench = new Bench(options, beyond, surroundings);
  const root = bench.page();
  const contexts = bench.page();
  const directory = bench.page();
  const table = bench.page();
  const second = bench.page();
  const first = bench.page();
  const rootEntry = root * 4096 + (RID >>> 8) * 16;
  const contextEntry = contexts * 4096 + (RID & 0x7f) * 32;
  const entryOf = (pasid: number): number => table * 4096 + pasid * 64;
  bench.put(rootEntry, ScalableRootEntry.encode({ lp: 1, lctp: contexts }));
  bench.put(contextEntry, ScalableContextEntry.encode({ p: 1, pasiddirptr: directory, ...context }));
  bench.put(directory * 4096, PasidDirectoryEntry.encode({ p: 1, smptblptr: table }));
  bench.put(entryOf(0), PasidEntry.encode({ ...baseEntry(second, first), ...entry }));
  bench.setRoot(root, Ttm.SCALABLE);
  bench.command(GlobalCommand.TE);
  const entryAddress = entryOf(0);
  return { bench, rootEntry, context: contextEntry, second, first, directory, entry: entryAddress, entryOf };
}

/** A second-stage PASID entry that has a first-stage root too: other types need only their PGTT. */
export function baseEntry(second: number, first: number): Values {
  return { p: 1, pgtt: Pgtt.SECOND_STAGE, aw: 2, ssptptr: second, fsptptr: first, did: DID };
}
