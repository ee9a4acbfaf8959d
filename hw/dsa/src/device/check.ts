/** What a descriptor must be before anything of it is done (DSA 8.1, 8.3). */
import { Descriptor, Flag, Operation, Status, Word } from '../spec/index.js';

/** What the work queue and the place of the descriptor allow. */
export interface Limits {
  readonly blockOnFault: boolean;
  readonly maxTransfer: number;
  readonly maxBatch: number;
  readonly inBatch: boolean;
}

/** What a check found: `status` is SUCCESS, or why the descriptor is refused. */
export interface Finding {
  status: number;
  invalidFlags: number;
}

const RECORD_ALIGN = 32;
const LIST_ALIGN = 64;
const SEED_ALIGN = 4;
const LEAST_BATCH = 2;
const TWO_32 = 0x1_0000_0000;

const COMMON =
  Flag.COMPLETION_ADDRESS_VALID |
  Flag.REQUEST_COMPLETION |
  Flag.REQUEST_INTERRUPT |
  Flag.COMPLETION_STEERING |
  Flag.TRAFFIC_CLASSES;
const READS = COMMON | Flag.BLOCK_ON_FAULT;
const WRITES = READS | Flag.CACHE_CONTROL | Flag.STRICT_ORDERING | Flag.DESTINATION_STEERING;
const CRC = Flag.READ_CRC_SEED | Flag.BYPASS_CRC_REFLECTION | Flag.BYPASS_DATA_REFLECTION;

/** Per operation: flags that it takes, and words that it uses from word 4 on, a bit each. */
interface Rule {
  readonly flags: number;
  readonly words: number;
  /** Its result is in the completion record: it must ask for one. */
  readonly result?: true;
}

function used(...words: number[]): number {
  return words.reduce((mask, word) => mask | (1 << word), 0);
}

const RULES: Readonly<Partial<Record<number, Rule>>> = {
  [Operation.NOOP]: { flags: COMMON, words: 0 },
  [Operation.BATCH]: { flags: COMMON & ~Flag.TRAFFIC_CLASSES, words: used(4, 5, 8) },
  [Operation.DRAIN]: { flags: COMMON, words: 0 },
  [Operation.MEMMOVE]: { flags: WRITES, words: used(4, 5, 6, 7, 8) },
  [Operation.FILL]: { flags: WRITES, words: used(4, 5, 6, 7, 8) },
  [Operation.COMPARE]: { flags: READS | Flag.CHECK_RESULT, words: used(4, 5, 6, 7, 8, 10), result: true },
  [Operation.COMPARE_PATTERN]: { flags: READS | Flag.CHECK_RESULT, words: used(4, 5, 6, 7, 8, 10), result: true },
  [Operation.DUALCAST]: { flags: WRITES, words: used(4, 5, 6, 7, 8, 10, 11) },
  [Operation.CRC]: { flags: READS | CRC, words: used(4, 5, 8, 10, 12, 13), result: true },
  [Operation.COPY_CRC]: { flags: WRITES | CRC, words: used(4, 5, 6, 7, 8, 10, 12, 13), result: true },
  [Operation.CACHE_FLUSH]: { flags: READS | Flag.CACHE_CONTROL, words: used(6, 7, 8) },
};

/** Bits of words that are used in part only. */
const PARTS: Readonly<Record<number, number>> = { 9: 0xffff };
const EXPECTED_RESULT = 0xff;
const RESERVED_0 = 0x7ff0_0000;

/** Judges a descriptor. */
export function check(words: Int32Array, limits: Limits, out: Finding): void {
  out.invalidFlags = 0;
  out.status = judge(words, limits, out);
}

function judge(words: Int32Array, limits: Limits, out: Finding): number {
  const operation = Descriptor.fields.operation.get(words, 0);
  const flags = Descriptor.fields.flags.get(words, 0);
  const rule = RULES[operation];
  if (rule === undefined || (limits.inBatch && (operation === Operation.BATCH || operation === Operation.DRAIN)))
    return Status.OPERATION;
  out.invalidFlags = wrongFlags(flags, rule, limits);
  if (out.invalidFlags !== 0) return Status.FLAGS;
  if (usesReserved(words, operation, rule)) return Status.RESERVED;
  if ((flags & Flag.COMPLETION_ADDRESS_VALID) !== 0 && words[Word.COMPLETION]! % RECORD_ALIGN !== 0)
    return Status.COMPLETION_ALIGNMENT;
  const size = words[Word.SIZE]! >>> 0;
  if (operation === Operation.NOOP || operation === Operation.DRAIN) return Status.SUCCESS;
  if (operation === Operation.BATCH) {
    if (size < LEAST_BATCH || size > limits.maxBatch) return Status.DESCRIPTOR_COUNT;
    return words[Word.SOURCE]! % LIST_ALIGN === 0 ? Status.SUCCESS : Status.LIST_ALIGNMENT;
  }
  if (size === 0 || size > limits.maxTransfer) return Status.TRANSFER_SIZE;
  return judgeAddresses(words, operation, flags, size);
}

function wrongFlags(flags: number, rule: Rule, { blockOnFault, inBatch }: Limits): number {
  const taken = rule.flags & ~(blockOnFault ? 0 : Flag.BLOCK_ON_FAULT);
  let wrong = flags & ~(taken | (inBatch ? Flag.FENCE : 0));
  const asks = (flags & Flag.REQUEST_COMPLETION) !== 0;
  const valid = (flags & Flag.COMPLETION_ADDRESS_VALID) !== 0;
  if (asks && !valid) wrong |= Flag.REQUEST_COMPLETION;
  if (rule.result === true && !(asks && valid)) wrong |= Flag.REQUEST_COMPLETION;
  return wrong;
}

function usesReserved(words: Int32Array, operation: number, rule: Rule): boolean {
  if ((words[0]! & RESERVED_0) !== 0) return true;
  for (let word = Word.SOURCE; word < words.length; word++) {
    const partly = PARTS[word];
    if (partly !== undefined) {
      if ((words[word]! & ~partly) !== 0) return true;
    } else if (((rule.words >>> word) & 1) === 0 && words[word] !== 0) return true;
  }
  const compares = operation === Operation.COMPARE || operation === Operation.COMPARE_PATTERN;
  return compares && (words[Word.EXTRA]! & ~EXPECTED_RESULT) !== 0;
}

function judgeAddresses(words: Int32Array, operation: number, flags: number, size: number): number {
  const source = !(operation === Operation.FILL || operation === Operation.CACHE_FLUSH);
  const destination = !(operation === Operation.CRC || operation === Operation.COMPARE_PATTERN);
  if (source && wraps(words, Word.SOURCE, size)) return Status.TRANSFER_SIZE;
  if (destination && wraps(words, Word.DESTINATION, size)) return Status.TRANSFER_SIZE;
  if (operation === Operation.DUALCAST) {
    if (wraps(words, Word.EXTRA, size)) return Status.TRANSFER_SIZE;
    if (((words[Word.DESTINATION]! ^ words[Word.EXTRA]!) & 0xfff) !== 0) return Status.DUALCAST_ALIGNMENT;
    const cast = overlap(words, Word.SOURCE, Word.DESTINATION, size) || overlap(words, Word.SOURCE, Word.EXTRA, size);
    if (cast || overlap(words, Word.DESTINATION, Word.EXTRA, size)) return Status.OVERLAP;
  }
  if (operation === Operation.COPY_CRC && overlap(words, Word.SOURCE, Word.DESTINATION, size)) return Status.OVERLAP;
  const seeded = (flags & Flag.READ_CRC_SEED) !== 0;
  return seeded && words[Word.SEED_ADDRESS]! % SEED_ALIGN !== 0 ? Status.ADDRESS_ALIGNMENT : Status.SUCCESS;
}

/** Whether `size` bytes from an address end beyond 2^64. */
function wraps(words: Int32Array, at: number, size: number): boolean {
  return words[at + 1] === -1 && (words[at]! >>> 0) + size > TWO_32;
}

/** Whether two ranges of `size` bytes have a byte in common. */
export function overlap(words: Int32Array, a: number, b: number, size: number): boolean {
  const apart = distance(words, a, b);
  return apart > -size && apart < size;
}

/** The address at `b` less that at `a`: exact where it is small. */
export function distance(words: Int32Array, a: number, b: number): number {
  return ((words[b + 1]! >>> 0) - (words[a + 1]! >>> 0)) * TWO_32 + ((words[b]! >>> 0) - (words[a]! >>> 0));
}
