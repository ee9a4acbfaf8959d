/** A submission queue and the completion queue of the same number, as a driver holds them. */
import type { MemoryPort } from '@remora/core';
import { CommandLayout, CompletionLayout, CQ_ENTRY_SHIFT, SQ_ENTRY_SHIFT } from '../spec/index.js';

/** What a completion queue entry says. */
export interface Completion {
  readonly cid: number;
  readonly status: number;
  readonly result: number;
  readonly sqid: number;
  readonly sqhd: number;
}

/** A command, but for its identifier, which the queue gives. */
export interface CommandValues {
  readonly opcode: number;
  readonly nsid?: number;
  readonly prp1?: number | bigint;
  readonly prp2?: number | bigint;
  readonly cdw10?: number;
  readonly cdw11?: number;
  readonly cdw12?: number;
  readonly cdw13?: number;
  readonly cdw14?: number;
  readonly cdw15?: number;
  readonly fuse?: number;
  readonly psdt?: number;
  /** Given by the queue if it is not. */
  readonly cid?: number;
}

export interface QueuePlace {
  readonly id: number;
  /** Entries of each. */
  readonly entries: number;
  /** Where they are in memory. */
  readonly submission: number;
  readonly completion: number;
}

const TWO_32 = 0x1_0000_0000;

export class QueuePair {
  readonly place: QueuePlace;
  tail = 0;
  head = 0;
  readonly #memory: MemoryPort;
  #phase = 1;
  #cid = 0;

  constructor(memory: MemoryPort, place: QueuePlace) {
    this.#memory = memory;
    this.place = place;
    const pages = Math.ceil((place.entries << CQ_ENTRY_SHIFT) / 4096);
    // What is there must not look like completions.
    this.#memory.write(hi(place.completion), lo(place.completion), new Uint8Array(pages * 4096));
  }

  /** Puts a command at the tail; its doorbell tells the controller. Returns the command's identifier. */
  put(values: CommandValues): number {
    const cid = values.cid ?? this.#cid;
    this.#cid = (this.#cid + 1) & 0x7fff;
    const at = this.place.submission + (this.tail << SQ_ENTRY_SHIFT);
    const entry = CommandLayout.encode({ ...values, cid });
    this.#memory.write(hi(at), lo(at), new Uint8Array(entry.buffer));
    this.tail = (this.tail + 1) % this.place.entries;
    return cid;
  }

  /** The next completion; undefined if there is none. Its doorbell gives its place back. */
  take(): Completion | undefined {
    const at = this.place.completion + (this.head << CQ_ENTRY_SHIFT);
    const entry = new Int32Array(CompletionLayout.words);
    this.#memory.read(hi(at), lo(at), new Uint8Array(entry.buffer));
    const { phase, cid, status, result, sqid, sqhd } = CompletionLayout.fields;
    if (phase.get(entry, 0) !== this.#phase) return undefined;
    this.head = (this.head + 1) % this.place.entries;
    if (this.head === 0) this.#phase ^= 1;
    return {
      cid: cid.get(entry, 0),
      status: status.get(entry, 0),
      result: result.get(entry, 0),
      sqid: sqid.get(entry, 0),
      sqhd: sqhd.get(entry, 0),
    };
  }
}

function hi(address: number): number {
  return Math.floor(address / TWO_32);
}

function lo(address: number): number {
  return address % TWO_32;
}
