/** The first-stage walk, alone or nested over a second stage (VT-d 3.6, 3.8, vtd.md 3.8, 3.9, 4.6). */
import * as core from '@remora/core';
import type { MemoryPort } from '@remora/core';
import type { PagingStructureCache } from '@remora/iommu';
import * as spec from '../spec/index.js';
import {
  baseMaskHi,
  baseMaskLo,
  inInterruptRange,
  isCanonical,
  levelShift,
  overlapsInterruptRange,
  tableIndex,
} from './address.js';
import type { Behaviour, SecondStageFaults } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import * as pasids from './pasid-entry-cache.js';
import * as secondStage from './second-stage.js';
import type { SecondStageWalk } from './second-stage.js';

// The module's own, for speed: see second-stage.ts.
const { Access, MemTx } = core;
const { Fault, Fs, Pgtt, widthOfLevels } = spec;
const { Pe, PeFlag } = pasids;
const { AdUpdate } = secondStage;

/** What a translation grants, in the IOTLB's access byte: Access bits for user requests, and two marks. */
export const Mark = {
  /** User requests may use the page at all. */
  USER: 0x10,
  /** Privileged requests may write. */
  PRIVILEGED_WRITE: 0x20,
} as const;

const ADDRESS_HI = 0xf_ffff;
const ADDRESS_LO = ~0xfff;
/** Bits 12:0 of a large leaf are attributes. */
const LARGE_ATTRIBUTES = 0x1fff;
const READ_WRITE = Fs.RW | Fs.US;
/** A mark of the paging-structure cache, beside R/W and U/S: XD was met. */
const EXECUTE_DISABLED = 1;

export class FirstStageWalk {
  /** Results of the last walk that returned 0: output page, log2 of its size, Access bits and marks granted. */
  hi = 0;
  lo = 0;
  shift = 12;
  access = 0;
  readonly #caps: Capabilities;
  readonly #behaviour: Behaviour;
  readonly #memory: MemoryPort;
  readonly #second: SecondStageWalk;
  readonly #structures: PagingStructureCache | undefined;
  readonly #faults: SecondStageFaults;
  readonly #entry = new Int32Array(2);
  readonly #reservedHi: number;
  /** Where the current table really is: the result of `#locate`. */
  #atHi = 0;
  #atLo = 0;

  constructor(
    caps: Capabilities,
    behaviour: Behaviour,
    memory: MemoryPort,
    second: SecondStageWalk,
    structures: PagingStructureCache | undefined,
  ) {
    this.#caps = caps;
    this.#structures = structures;
    this.#behaviour = behaviour;
    this.#memory = memory;
    this.#second = second;
    this.#faults = behaviour.scalableSecondStage;
    this.#reservedHi = ADDRESS_HI & (-1 << (caps.haw - 32));
  }

  /**
   * Translates (hi, lo) as the PASID record `pe[record ..]` says; its type is first-stage or nested. `access` are the request's Access
   * bits. Returns 0 or the fault reason.
   */
  walk(pe: Int32Array, record: number, hi: number, lo: number, access: number): number {
    const levels = pe[record + Pe.FS_LEVELS]!;
    if (!isCanonical(hi, lo, this.#inputWidth(pe, record, levels))) return Fault.SGN_1;
    const entry = this.#entry;
    const nested = pe[record + Pe.PGTT] === Pgtt.NESTED;
    const memory = this.#memory;
    const early = this.#behaviour.earlyPermission;
    const allOnesUnreadable = this.#behaviour.allOnesUnreadable;
    const accessed = pe[record + Pe.FLAGS]! & PeFlag.EAFE ? Fs.A | Fs.EA : Fs.A;
    let tableHi = pe[record + Pe.FS_HI]!;
    let tableLo = pe[record + Pe.FS_LO]!;
    let path = READ_WRITE;
    let executeDisable = 0;
    let level = levels;
    const structures = this.#structures;
    const space = pe[record + Pe.FIRST_SPACE]!;
    const known = structures === undefined ? -1 : structures.lookup(space, levels, hi, lo);
    if (known >= 0) {
      tableHi = structures!.tableHi(known);
      tableLo = structures!.tableLo(known);
      path = structures!.marks(known) & READ_WRITE;
      executeDisable = structures!.marks(known) & EXECUTE_DISABLED;
      level = structures!.level(known) - 1;
    }
    for (; ; level--) {
      const entryLo = tableLo | (tableIndex(level, hi, lo) << 3);
      let result: core.MemTx;
      if (nested) {
        const located = this.#locate(pe, record, tableHi, entryLo, level === levels);
        if (located !== 0) return located;
        result = memory.load(this.#atHi, this.#atLo, entry, 0, 2);
      } else {
        result = memory.load(tableHi, entryLo, entry, 0, 2);
      }
      const low = entry[0]!;
      const high = entry[1]!;
      if (result !== MemTx.OK || (allOnesUnreadable && (low & high) === -1)) {
        return level === levels ? Fault.SFS_4 : Fault.SFS_1;
      }
      if ((low & Fs.P) === 0) return Fault.SFS_2;
      path &= low;
      executeDisable |= high & Fs.XD_HI;
      if (early) {
        const denied = this.#denied(pe, record, path, executeDisable, access);
        if (denied !== 0) return denied;
      }
      const leaf = level === 1 || ((low & Fs.PS) !== 0 && level <= 3);
      if (this.#hasReserved(level, leaf, low, high)) return Fault.SFS_3;
      if (leaf) return this.#leaf(level, pe, record, nested, tableHi, entryLo, hi, lo, path, executeDisable, access);
      if ((low & accessed) !== accessed) {
        const failure = this.#setFlags(pe, record, nested, tableHi, entryLo, Fs.A);
        if (failure !== 0) return failure;
      }
      tableHi = high & ADDRESS_HI;
      tableLo = low & ADDRESS_LO;
      const marks = executeDisable === 0 ? path : path | EXECUTE_DISABLED;
      structures?.insert(space, level, hi, lo, tableHi, tableLo, marks);
    }
  }

  #leaf(
    level: number,
    pe: Int32Array,
    record: number,
    nested: boolean,
    tableHi: number,
    entryLo: number,
    hi: number,
    lo: number,
    path: number,
    executeDisable: number,
    access: number,
  ): number {
    const denied = this.#denied(pe, record, path, executeDisable, access);
    if (denied !== 0) return denied;
    const entry = this.#entry;
    const write = (access & Access.WRITE) !== 0;
    const shift = levelShift(level);
    const maskHi = baseMaskHi(shift);
    const maskLo = baseMaskLo(shift);
    const outHi = entry[1]! & ADDRESS_HI & maskHi;
    const outLo = entry[0]! & ADDRESS_LO & maskLo;
    this.hi = outHi;
    this.lo = outLo;
    this.shift = shift;
    let granted = Access.READ_WRITE as number;
    if (nested) {
      const failure = this.#finish(pe, record, outHi | (hi & ~maskHi), outLo | (lo & ~maskLo), access);
      if (failure !== 0) return failure;
      granted = this.#second.access;
    } else if (
      !this.#behaviour.interruptRangeByPage &&
      inInterruptRange(outHi | (hi & ~maskHi), outLo | (lo & ~maskLo))
    ) {
      return Fault.SGN_8;
    }
    const failure = this.#setFlags(pe, record, nested, tableHi, entryLo, write ? Fs.A | Fs.D : Fs.A);
    if (failure !== 0) return failure;
    if (this.#behaviour.interruptRangeByPage && overlapsInterruptRange(outHi, outLo, shift)) return Fault.SGN_8;
    this.access = this.#grant(pe, record, granted, path, executeDisable);
    return 0;
  }

  /** Nested: finds where the second stage maps the entry at guest address (hi, lo). */
  #locate(pe: Int32Array, record: number, hi: number, lo: number, root: boolean): number {
    const reason = this.#throughSecond(pe, record, hi, lo, Access.READ, false);
    if (reason === this.#faults.width) return Fault.SFS_5;
    if (reason === this.#faults.read) return root ? Fault.SFS_6 : Fault.SFS_7;
    return reason;
  }

  /** Nested: takes the first stage's output through the second; results go to `hi`, `lo`, `shift`. */
  #finish(pe: Int32Array, record: number, hi: number, lo: number, access: number): number {
    const fsShift = this.shift;
    const reason = this.#throughSecond(pe, record, hi, lo, access & Access.READ_WRITE, true);
    if (reason !== 0) return reason;
    const shift = Math.min(fsShift, this.#second.shift);
    this.hi = this.#atHi & baseMaskHi(shift);
    this.lo = this.#atLo & baseMaskLo(shift);
    this.shift = shift;
    return 0;
  }

  /** Translates a guest address; the whole result goes to `#atHi`, `#atLo`. */
  #throughSecond(pe: Int32Array, record: number, hi: number, lo: number, access: number, final: boolean): number {
    const second = this.#second;
    const flags = pe[record + Pe.FLAGS]!;
    const ad =
      (flags & PeFlag.SSADE) === 0 ? AdUpdate.OFF : (flags & PeFlag.PWSNP) === 0 ? AdUpdate.UNSNOOPED : AdUpdate.ON;
    const rootHi = pe[record + Pe.SS_HI]!;
    const rootLo = pe[record + Pe.SS_LO]!;
    const levels = pe[record + Pe.SS_LEVELS]!;
    const space = pe[record + Pe.SECOND_SPACE]!;
    const reason = second.walk(rootHi, rootLo, levels, hi, lo, access, this.#faults, ad, final, space);
    if (reason !== 0) return reason;
    this.#atHi = second.hi | (hi & ~baseMaskHi(second.shift));
    this.#atLo = second.lo | (lo & ~baseMaskLo(second.shift));
    return 0;
  }

  /** The reason for which the permissions of the path refuse the request; 0 if they do not. */
  #denied(pe: Int32Array, record: number, path: number, executeDisable: number, access: number): number {
    const everyoneIsUser = this.#behaviour.everyRequestIsUser;
    const user = everyoneIsUser || (access & Access.PRIVILEGED) === 0;
    if (user && (path & Fs.US) === 0) return Fault.SGN_2;
    const writeProtected = user || (pe[record + Pe.FLAGS]! & PeFlag.WPE) !== 0;
    if (access & Access.WRITE && (path & Fs.RW) === 0 && writeProtected) return Fault.SGN_6;
    if (access & Access.EXECUTE && executeDisable !== 0 && !everyoneIsUser) return Fault.SGN_3;
    return 0;
  }

  /** Bits of canonical addresses. */
  #inputWidth(pe: Int32Array, record: number, levels: number): number {
    const width = widthOfLevels(levels);
    if (!this.#behaviour.firstStageWidthLimited) return width;
    return Math.min(width, widthOfLevels(pe[record + Pe.SS_LEVELS]!), this.#caps.haw);
  }

  #hasReserved(level: number, leaf: boolean, low: number, high: number): boolean {
    if ((high & this.#reservedHi) !== 0) return true;
    if (level > 3) return (low & Fs.PS) !== 0;
    if (!leaf || level === 1) return false;
    if (level === 3 && !this.#caps.firstStage1GiB) return true;
    return (low & ~baseMaskLo(levelShift(level)) & ~LARGE_ATTRIBUTES) !== 0;
  }

  /** Sets accessed and dirty bits in the entry that was read last, whose guest address is (hi, lo). */
  #setFlags(pe: Int32Array, record: number, nested: boolean, hi: number, lo: number, flags: number): number {
    const entry = this.#entry;
    const wanted = pe[record + Pe.FLAGS]! & PeFlag.EAFE ? flags | Fs.EA : flags;
    const present = entry[0]! & wanted;
    if (present === wanted || (present !== 0 && !this.#behaviour.dirtyAfterAccessed)) return 0;
    if ((pe[record + Pe.FLAGS]! & PeFlag.PWSNP) === 0 && !this.#behaviour.updateUnsnooped) return Fault.SFS_9;
    if (nested) {
      const reason = this.#throughSecond(pe, record, hi, lo, Access.WRITE, false);
      if (reason !== 0) return reason === this.#faults.write ? Fault.SFS_8 : reason;
    } else {
      this.#atHi = hi;
      this.#atLo = lo;
    }
    entry[0]! |= wanted;
    return this.#memory.store(this.#atHi, this.#atLo, entry, 0, 2) === MemTx.OK ? 0 : Fault.SFS_10;
  }

  /** What the leaf grants, for the IOTLB. Until D is set, a write must come back to the walk, so the answer does not grant it. */
  #grant(pe: Int32Array, record: number, granted: number, path: number, executeDisable: number): number {
    const dirty = (this.#entry[0]! & Fs.D) !== 0 || this.#behaviour.readHidesWrite;
    const writable = dirty && (granted & Access.WRITE) !== 0;
    let access = granted & Access.READ;
    if (path & Fs.US) access |= Mark.USER;
    if (path & Fs.RW && writable) access |= Access.WRITE | Mark.PRIVILEGED_WRITE;
    else if (writable && (pe[record + Pe.FLAGS]! & PeFlag.WPE) === 0) access |= Mark.PRIVILEGED_WRITE;
    if (executeDisable === 0) access |= Access.EXECUTE;
    return access;
  }
}
