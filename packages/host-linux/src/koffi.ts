/**
 * What koffi gives: functions of the C library. It is loaded when something asks for it, and never before: without it everything works
 * that needs no descriptors.
 */
import { createRequire } from 'node:module';
import { ConfigError } from '@remora/core';

/** A function of the C library; `async` runs it on a thread of Node's pool. Integers and pointers in, an integer out. */
export interface CFunction {
  (...parameters: readonly (number | bigint | Uint8Array | null)[]): number;
  readonly async: (...parameters: readonly (number | Uint8Array | null | AsyncResult)[]) => void;
}
export type AsyncResult = (failure: unknown, result: number) => void;

/** What is used of koffi. */
export interface Koffi {
  readonly load: (library: string) => { readonly func: (prototype: string) => CFunction };
  /** Where the bytes are; they do not move as long as they are in an ArrayBuffer of their own. */
  readonly address: (bytes: Uint8Array) => bigint;
  /** The memory at a pointer. */
  readonly view: (pointer: bigint, length: number) => ArrayBuffer;
  /** Of the last call. */
  readonly errno: () => number;
}

/** @throws ConfigError at `path`, about what koffi is for, if it is not installed, or this is no system whose structures are known. */
export function loadKoffi(path: string, purpose: string): Koffi {
  if (process.platform !== 'linux' || !['x64', 'arm64', 'riscv64', 'loong64'].includes(process.arch)) {
    const here = `${process.platform} on ${process.arch}`;
    throw new ConfigError(path, `${purpose} needs 64-bit Linux, and this is ${here}`);
  }
  try {
    return createRequire(import.meta.url)('koffi') as Koffi;
  } catch (cause) {
    throw new ConfigError(path, `${purpose} needs koffi, which is not installed here: npm install koffi`, { cause });
  }
}
