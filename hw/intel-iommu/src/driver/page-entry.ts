/** The two formats of paging entries, as a page table writer sees them. */
import { Access } from '@remora/core';
import { Fs, Ss } from '../spec/index.js';

/** An entry is two words: `lo` with the flags and address bits 31:12, `hi` with address bits 51:32 and flags above. */
export interface EntryFormat {
  /** Flags of an entry that points to a table: everything is allowed there, the leaf decides. */
  readonly table: number;
  /** Flags of a leaf that grants `access`; PS not included. */
  leafLo(access: number): number;
  leafHi(access: number): number;
  present(lo: number): boolean;
  /** Access bits that an entry grants. */
  access(hi: number, lo: number): number;
}

/** PS, in the same place in both formats. */
export const LARGE = Ss.PS;

/** VT-d 9.8. */
export const SECOND_STAGE: EntryFormat = {
  table: Ss.R | Ss.W,
  leafLo: access => (access & Access.READ ? Ss.R : 0) | (access & Access.WRITE ? Ss.W : 0),
  leafHi: () => 0,
  present: lo => (lo & (Ss.R | Ss.W)) !== 0,
  access: (_hi, lo) => (lo & Ss.R ? Access.READ : 0) | (lo & Ss.W ? Access.WRITE : 0),
};

/**
 * VT-d 9.7. Access.PRIVILEGED makes a supervisor page, and without Access.EXECUTE a page is execute-disabled. With `preset`, accessed
 * and dirty bits are set from the start, as Linux does it.
 */
export function firstStage(preset: boolean): EntryFormat {
  const used = preset ? Fs.A : 0;
  const written = preset ? Fs.D : 0;
  return {
    table: Fs.P | Fs.RW | Fs.US | used,
    leafLo: access =>
      Fs.P | used | (access & Access.WRITE ? Fs.RW | written : 0) | (access & Access.PRIVILEGED ? 0 : Fs.US),
    leafHi: access => (access & Access.EXECUTE ? 0 : Fs.XD_HI),
    present: lo => (lo & Fs.P) !== 0,
    access: (hi, lo) =>
      Access.READ |
      (lo & Fs.RW ? Access.WRITE : 0) |
      (lo & Fs.US ? 0 : Access.PRIVILEGED) |
      (hi & Fs.XD_HI ? 0 : Access.EXECUTE),
  };
}
