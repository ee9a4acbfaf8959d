/** The second-stage walk (VT-d 3.7, vtd.md 3.7, 3.9, 4.5). */
import * as core from '@remora/core';
import type { MemoryPort } from '@remora/core';
import type { PagingStructureCache } from '@remora/iommu';
import * as spec from '../spec/index.js';
import {
  baseMaskHi,
  baseMaskLo,
  inInterruptRange,
  isBeyond,
  levelShift,
  overlapsInterruptRange,
  tableIndex,
} from './address.js';
import type { Behaviour, SecondStageFaults } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import { SecondStageMasks } from './second-stage-masks.js';

// A module's own constants V8 compiles into the code; imported ones it reads at every use: a walk took 10 to 20 % longer.
const { Access, MemTx } = core;
const { Fault, Ss } = spec;

/** Bits 51:12 of an entry. */
const ADDRESS_HI = 0xf_ffff;
const ADDRESS_LO = ~0xfff;
const PERMISSIONS = Ss.R | Ss.W;

/** Why a walk ends at an entry that the paging-structure cache remembers: the marks of its dead ends. */
const DeadEnd = { ABSENT: 1, RESERVED: 2 } as const;

/** How a walk treats accessed and dirty bits. */
export const AdUpdate = {
  /** They are ignored. */
  OFF: 0,
  /** They must be set, but the walk is not snooped: a fault if one is missing. */
  UNSNOOPED: 1,
  ON: 2,
} as const;

export class SecondStageWalk {
  /** Results of the last walk that returned 0: output page, log2 of its size, and R and W as Access bits. */
  hi = 0;
  lo = 0;
  shift = 12;
  access = 0;
  readonly #caps: Capabilities;
  readonly #behaviour: Behaviour;
  readonly #memory: MemoryPort;
  /** Marks: the R and W that are left. */
  readonly #structures: PagingStructureCache | undefined;
  /** Dead ends are remembered. */
  readonly #faultsCached: boolean;
  readonly #entry = new Int32Array(2);
  // SecondStageMasks, at hand.
  readonly #tableReservedHi: number;
  readonly #leafReservedHi: number;
  readonly #tableReserved: Int32Array;
  readonly #leafReserved: Int32Array;

  constructor(
    caps: Capabilities,
    behaviour: Behaviour,
    memory: MemoryPort,
    structures: PagingStructureCache | undefined,
  ) {
    this.#caps = caps;
    this.#behaviour = behaviour;
    this.#memory = memory;
    this.#structures = structures;
    this.#faultsCached = behaviour.faultsCached && caps.cachingMode;
    const masks = new SecondStageMasks(caps, behaviour);
    this.#tableReservedHi = masks.tableHi;
    this.#leafReservedHi = masks.leafHi;
    this.#tableReserved = masks.tableLo;
    this.#leafReserved = masks.leafLo;
  }

  /**
   * Translates (hi, lo) by the table of `levels` levels at the byte address (rootHi, rootLo). `access` has the Access bits READ and
   * WRITE. `final` if the result is where a request goes, so that the interrupt range is refused. `space`: the address space whose
   * tables these are, by the paging-structure cache. Returns 0 or the fault reason.
   */
  walk(
    rootHi: number,
    rootLo: number,
    levels: number,
    hi: number,
    lo: number,
    access: number,
    faults: SecondStageFaults,
    ad: number,
    final: boolean,
    space: number,
  ): number {
    if (isBeyond(hi, this.#caps.inputWidth(levels))) return faults.width;
    const entry = this.#entry;
    const memory = this.#memory;
    const write = (access & Access.WRITE) !== 0;
    let tableHi = rootHi;
    let tableLo = rootLo;
    let granted = PERMISSIONS;
    let level = levels;
    const structures = this.#structures;
    const known = structures === undefined ? -1 : structures.lookup(space, levels, hi, lo);
    if (known >= 0) {
      if (structures!.isDeadEnd(known)) {
        if (structures!.marks(known) === DeadEnd.RESERVED) return faults.reserved;
        return write ? faults.notPresentWrite : faults.notPresentRead;
      }
      tableHi = structures!.tableHi(known);
      tableLo = structures!.tableLo(known);
      granted = structures!.marks(known);
      level = structures!.level(known) - 1;
    }
    for (; ; level--) {
      const entryLo = tableLo | (tableIndex(level, hi, lo) << 3);
      const result = memory.load(tableHi, entryLo, entry, 0, 2);
      const low = entry[0]!;
      const high = entry[1]!;
      if (result !== MemTx.OK || (this.#behaviour.allOnesUnreadable && (low & high) === -1)) {
        return level === levels ? faults.rootAccess : faults.access;
      }
      granted &= low;
      if ((low & PERMISSIONS) === 0 || granted === 0) {
        if (this.#faultsCached) structures?.insertDeadEnd(space, level, hi, lo, DeadEnd.ABSENT);
        return write ? faults.notPresentWrite : faults.notPresentRead;
      }
      if (this.#behaviour.earlyPermission && !this.#permits(granted, access)) return write ? faults.write : faults.read;
      const leaf = level === 1 || ((low & Ss.PS) !== 0 && level <= 3);
      const reserved = leaf ? this.#leafReserved[level]! : this.#tableReserved[level]!;
      const reservedHi = leaf ? this.#leafReservedHi : this.#tableReservedHi;
      if ((low & reserved) !== 0 || (high & reservedHi) !== 0) {
        if (this.#faultsCached) structures?.insertDeadEnd(space, level, hi, lo, DeadEnd.RESERVED);
        return faults.reserved;
      }
      if (leaf) return this.#leaf(level, tableHi, entryLo, hi, lo, granted, access, faults, ad, final);
      if (ad !== AdUpdate.OFF && (low & Ss.A) === 0) {
        const failure = this.#update(tableHi, entryLo, Ss.A, ad);
        if (failure !== 0) return failure;
      }
      tableHi = high & ADDRESS_HI;
      tableLo = low & ADDRESS_LO;
      structures?.insert(space, level, hi, lo, tableHi, tableLo, granted);
    }
  }

  #leaf(
    level: number,
    tableHi: number,
    entryLo: number,
    hi: number,
    lo: number,
    granted: number,
    access: number,
    faults: SecondStageFaults,
    ad: number,
    final: boolean,
  ): number {
    if (!this.#permits(granted, access)) {
      const writeDenied = (access & Access.WRITE) !== 0 && (granted & Ss.W) === 0;
      return writeDenied ? faults.write : faults.read;
    }
    const entry = this.#entry;
    const shift = levelShift(level);
    const maskHi = baseMaskHi(shift);
    const maskLo = baseMaskLo(shift);
    const outHi = entry[1]! & ADDRESS_HI & maskHi;
    const outLo = entry[0]! & ADDRESS_LO & maskLo;
    if (final) {
      const fullLo = outLo | (lo & ~maskLo);
      const refused = this.#behaviour.interruptRangeByPage
        ? overlapsInterruptRange(outHi, outLo, shift)
        : inInterruptRange(outHi | (hi & ~maskHi), fullLo);
      if (refused) return faults.interruptRange;
    }
    this.hi = outHi;
    this.lo = outLo;
    this.shift = shift;
    this.access = granted;
    if (ad === AdUpdate.OFF) return 0;
    const needed = access & Access.WRITE ? Ss.A | Ss.D : Ss.A;
    const failure = (entry[0]! & needed) === needed ? 0 : this.#update(tableHi, entryLo, needed, ad);
    // Until D is set, a write must come back here: the answer does not grant it.
    if ((entry[0]! & Ss.D) === 0) this.access &= ~Access.WRITE;
    return failure;
  }

  /** Whether `granted` (R and W, which are the Access bits READ and WRITE) suffices. A zero-length read is a read of either kind. */
  #permits(granted: number, access: number): boolean {
    const wanted = access & Access.READ_WRITE;
    if (wanted === 0) return this.#caps.zeroLengthRead ? granted !== 0 : (granted & Ss.R) !== 0;
    return (granted & wanted) === wanted;
  }

  /** Sets bits in the entry that was read last. */
  #update(hi: number, lo: number, bits: number, ad: number): number {
    if (ad === AdUpdate.UNSNOOPED) return Fault.SSS_5;
    const entry = this.#entry;
    entry[0]! |= bits;
    return this.#memory.store(hi, lo, entry, 0, 2) === MemTx.OK ? 0 : Fault.SSS_6;
  }
}
