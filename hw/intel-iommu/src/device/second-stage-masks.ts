/** Which bits of second-stage entries are reserved (VT-d 9.8, vtd.md 3.7): it depends on the level and on what the unit offers. */
import { Ss } from '../spec/index.js';
import { baseMaskLo, levelShift } from './address.js';
import type { Behaviour } from './behaviour.js';
import type { Capabilities } from './capabilities.js';

const RESERVED_62 = 0x4000_0000;

export class SecondStageMasks {
  /** Bits 51:12 of an entry: the high and the low word's part. */
  readonly addressHi = 0xf_ffff;
  readonly addressLo = ~0xfff;
  /** High-word reserved bits, of tables and of leaves: address bits at and above the host width, and bit 62. */
  readonly tableHi: number;
  readonly leafHi: number;
  /** Low-word reserved bits of tables and of leaves, by level. */
  readonly tableLo: Int32Array;
  readonly leafLo: Int32Array;

  constructor(caps: Capabilities, behaviour: Behaviour) {
    const lenient = behaviour.lenientLeaves;
    this.tableHi = (this.addressHi & (-1 << (caps.haw - 32))) | RESERVED_62;
    this.leafHi = lenient && caps.deviceTlb ? this.tableHi & ~RESERVED_62 : this.tableHi;
    const leafSnoop = caps.snoopControl || (lenient && caps.scalable) ? 0 : Ss.SNP;
    const large = (level: number): number =>
      caps.largePageLevels & (1 << level) ? leafSnoop | (~baseMaskLo(levelShift(level)) & this.addressLo) : Ss.PS;
    this.tableLo = Int32Array.of(0, 0, Ss.SNP, Ss.SNP, Ss.SNP | Ss.PS, Ss.SNP | Ss.PS);
    this.leafLo = Int32Array.of(0, leafSnoop, large(2), large(3), 0, 0);
  }

  /** Whether an entry that grants something has reserved bits set. */
  violates(level: number, leaf: boolean, low: number, high: number): boolean {
    return leaf
      ? (low & this.leafLo[level]!) !== 0 || (high & this.leafHi) !== 0
      : (low & this.tableLo[level]!) !== 0 || (high & this.tableHi) !== 0;
  }
}
