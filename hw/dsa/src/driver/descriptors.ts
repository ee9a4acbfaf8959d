/** Descriptors as software makes them, and completion records as it reads them (DSA 8). */
import { CompletionRecord, Descriptor, DESCRIPTOR_WORDS, Flag, Operation } from '../spec/index.js';

export interface DescriptorValues {
  readonly operation: number;
  /** Besides those for the completion record, which come with its address. */
  readonly flags?: number;
  readonly completion?: number;
  readonly source?: number | bigint;
  readonly destination?: number | bigint;
  /** Bytes; of a batch: descriptors. */
  readonly size?: number;
  /** Asks for an interrupt, too. */
  readonly interrupt?: number;
  readonly extra0?: number;
  readonly extra1?: number;
  readonly extra2?: number;
  readonly extra3?: number;
  readonly pasid?: number;
  readonly privileged?: number;
}

/** The 64 bytes of a descriptor. */
export function descriptor(values: DescriptorValues): Uint8Array {
  const { operation, completion, interrupt, source = 0, destination = 0, size = 0, ...rest } = values;
  const flags =
    (values.flags ?? 0) |
    (completion === undefined ? 0 : Flag.COMPLETION_ADDRESS_VALID | Flag.REQUEST_COMPLETION) |
    (interrupt === undefined ? 0 : Flag.REQUEST_INTERRUPT);
  const words = Descriptor.encode({
    ...rest,
    operation,
    size,
    flags: flags >>> 0,
    completionLo: low(completion ?? 0),
    completionHi: high(completion ?? 0),
    sourceLo: low(source),
    sourceHi: high(source),
    destinationLo: low(destination),
    destinationHi: high(destination),
    interruptHandle: interrupt ?? 0,
  });
  if (words.length !== DESCRIPTOR_WORDS) throw new RangeError('a descriptor has 16 words');
  return new Uint8Array(words.buffer);
}

/** What every operation that moves `size` bytes from one place to another needs. */
export function memmove(source: number, destination: number, size: number, completion: number): DescriptorValues {
  return { operation: Operation.MEMMOVE, source, destination, size, completion };
}

/** What a completion record says. */
export interface Completion {
  readonly status: number;
  readonly write: boolean;
  readonly result: number;
  readonly completed: number;
  readonly fault: bigint;
  readonly value: number;
}

/** Decodes 32 bytes. */
export function completionOf(bytes: Uint8Array): Completion {
  const words = new Int32Array(bytes.slice().buffer);
  const { status, write, result, completed, faultLo, faultHi, value } = CompletionRecord.fields;
  return {
    status: status.get(words, 0),
    write: write.get(words, 0) !== 0,
    result: result.get(words, 0),
    completed: completed.get(words, 0),
    fault: (BigInt(faultHi.get(words, 0)) << 32n) | BigInt(faultLo.get(words, 0)),
    value: value.get(words, 0),
  };
}

const LOW = 0xffff_ffffn;

function low(address: number | bigint): bigint {
  return BigInt(address) & LOW;
}

function high(address: number | bigint): bigint {
  return BigInt(address) >> 32n;
}
