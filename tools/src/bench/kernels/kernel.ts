/** One side of a comparison: what is timed, and what it computed. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Kernel {
  /** Before each run, not timed: puts back what the last run took away. */
  before?(): void;
  /** The timed part. Returns how many operations it was. */
  run(): number;
  /** What the last run computed: 32 bits that the peer must compute, too. */
  checksum(): number;
}

/** Makes a kernel for `entries` pages, and leaves in `folder` what its peer in C reads: the same tables, the same requests. */
export type MakeKernel = (entries: number, folder: string) => Kernel;

/** Hands words to the peer. */
export function leave(folder: string, name: string, words: Int32Array): void {
  writeFileSync(join(folder, `${name}.bin`), new Uint8Array(words.buffer, words.byteOffset, words.byteLength));
}

/** Takes one more word into a checksum; the C side has the same. */
export function mix(sum: number, word: number): number {
  return (Math.imul(sum, 31) + word) | 0;
}
