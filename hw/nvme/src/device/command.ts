/** The command that is being executed: one object, filled anew for each. */
import { CommandLayout } from '../spec/index.js';
import { DNR, NOWHERE } from '../spec/index.js';

const { fields } = CommandLayout;
// Words of an entry.
const PRP1 = 6;
const PRP2 = 8;
const CDW10 = 10;

/** A command that will be completed later: it has no status yet. */
export const DEFERRED = -1;

export class Command {
  readonly words = new Int32Array(CommandLayout.words);
  readonly bytes = new Uint8Array(this.words.buffer);
  /** The submission queue that it came from. */
  queue = 0;
  /** Dword 0 of its completion. */
  result = 0;
  /** The byte of the command that is wrong, for the error log. */
  location = NOWHERE;

  /** The bytes have been fetched. */
  begin(queue: number): void {
    this.queue = queue;
    this.result = 0;
    this.location = NOWHERE;
  }

  get opcode(): number {
    return fields.opcode.get(this.words, 0);
  }

  get cid(): number {
    return fields.cid.get(this.words, 0);
  }

  get nsid(): number {
    return fields.nsid.get(this.words, 0);
  }

  /** Whether it asks for what is not offered: fused operations, or SGLs. */
  get exotic(): boolean {
    return fields.fuse.get(this.words, 0) !== 0 || fields.psdt.get(this.words, 0) !== 0;
  }

  get prp1Hi(): number {
    return this.words[PRP1 + 1]!;
  }

  get prp1Lo(): number {
    return this.words[PRP1]!;
  }

  get prp2Hi(): number {
    return this.words[PRP2 + 1]!;
  }

  get prp2Lo(): number {
    return this.words[PRP2]!;
  }

  /** Command dword 10 .. 15, unsigned. */
  dword(number: number): number {
    return this.words[CDW10 + number - 10]! >>> 0;
  }

  /** `status`, which would come again, because of the byte at `location`. */
  fail(status: number, location: number = NOWHERE): number {
    this.location = location;
    return status | DNR;
  }
}

/** Where parameters are in a command, for the error log. */
export const Location = {
  OPCODE: 0,
  FLAGS: 1,
  NSID: 4,
  PRP1: 24,
  PRP2: 32,
  CDW10: 40,
  CDW11: 44,
  CDW12: 48,
  CDW13: 52,
} as const;
