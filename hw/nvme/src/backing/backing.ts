import type { StateReader, StateWriter } from '@remora/core';

/**
 * What holds a namespace's bytes. Offsets and lengths are in bytes and inside `size`; whoever calls has checked them. A method that
 * answers false could not do it: a file's disk is full, or gone.
 */
export interface Backing extends Disposable {
  /** In bytes. */
  readonly size: number;
  /** Whether what was deallocated reads as zeroes. */
  readonly zeroes: boolean;
  /** Where it is, for people. */
  readonly place: string;
  read(offset: number, out: Uint8Array): boolean;
  write(offset: number, from: Uint8Array): boolean;
  zero(offset: number, length: number): boolean;
  /** Zeroes everything. */
  erase(): boolean;
  /** Its contents are of no use any more. */
  deallocate(offset: number, length: number): void;
  /** What was written is safe when this returns. */
  flush(): boolean;
  /** Bytes that are really there. */
  allocated(): number;
  save(into: StateWriter): void;
  load(from: StateReader): void;
}
