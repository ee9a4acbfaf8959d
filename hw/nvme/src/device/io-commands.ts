/** Commands of the NVM command set (NVMe 1.4, 6), with the namespace and the host's memory. */
import {
  ALL_NAMESPACES,
  DNR,
  DSM_DEALLOCATE,
  FeatureId,
  FORCE_UNIT_ACCESS,
  IoOpcode,
  RangeLayout,
  Status,
} from '../spec/index.js';
import { type Command, Location } from './command.js';
import type { Features } from './features.js';
import type { Health } from './health.js';
import type { HostData } from './host-data.js';
import type { Namespace } from './namespace.js';

/** Every namespace here is namespace 1. */
export const NAMESPACE_ID = 1;

export interface IoParts {
  readonly data: HostData;
  readonly features: Features;
  readonly health: Health;
  /** What a transfer passes through, of the size of the largest. */
  readonly buffer: (bytes: number) => Uint8Array;
  /** Largest transfer in bytes. */
  readonly largest: number;
}

export class IoCommands {
  readonly #parts: IoParts;
  readonly #namespace: Namespace | undefined;
  /** Of Dataset Management. */
  readonly #range = new Int32Array(RangeLayout.words);
  readonly #rangeBytes = new Uint8Array(this.#range.buffer);

  constructor(parts: IoParts, namespace: Namespace | undefined) {
    this.#parts = parts;
    this.#namespace = namespace;
  }

  /** Returns a status. `pageBytes` is the size of a memory page. */
  execute(command: Command, pageBytes: number): number {
    if (command.exotic) return command.fail(Status.INVALID_FIELD, Location.FLAGS);
    const { opcode, nsid } = command;
    if (!KNOWN.has(opcode)) return command.fail(Status.INVALID_OPCODE, Location.OPCODE);
    const all = nsid === ALL_NAMESPACES && opcode === IoOpcode.FLUSH;
    const ns = this.#namespace;
    if (nsid !== NAMESPACE_ID && !all) return command.fail(Status.INVALID_NAMESPACE_OR_FORMAT, Location.NSID);
    // It could be there, and is not.
    if (ns === undefined) return command.fail(Status.INVALID_FIELD, Location.NSID);
    switch (opcode) {
      case IoOpcode.FLUSH:
        return ns.backing.flush() ? Status.SUCCESS : this.#mediaError(Status.WRITE_FAULT);
      case IoOpcode.DATASET_MANAGEMENT:
        return this.#datasetManagement(command, ns, pageBytes);
      default:
        return this.#onBlocks(command, ns, pageBytes);
    }
  }

  /** Commands with a starting block in dwords 10 and 11 and a number of blocks, less one, in 12. */
  #onBlocks(command: Command, ns: Namespace, pageBytes: number): number {
    const { opcode } = command;
    const hi = command.dword(11);
    const lo = command.dword(10);
    const count = (command.dword(12) & 0xffff) + 1;
    const bytes = count * 2 ** ns.shift;
    const moves = opcode !== IoOpcode.WRITE_ZEROES && opcode !== IoOpcode.VERIFY;
    // What moves nothing has the same limit: no command keeps the machine longer than the largest transfer.
    if (bytes > this.#parts.largest) return command.fail(Status.INVALID_FIELD, Location.CDW12);
    const writes = opcode === IoOpcode.WRITE || opcode === IoOpcode.WRITE_ZEROES;
    if (writes && ns.readonly) return command.fail(Status.NAMESPACE_WRITE_PROTECTED);
    if (!ns.holds(hi, lo, count)) return command.fail(Status.LBA_OUT_OF_RANGE, Location.CDW10);
    const offset = (hi * 2 ** 32 + lo) * 2 ** ns.shift;
    if (moves) {
      const status = this.#parts.data.resolve(command, bytes, pageBytes);
      if (status !== Status.SUCCESS) return status;
    }
    switch (opcode) {
      case IoOpcode.READ:
        return this.#read(ns, offset, bytes);
      case IoOpcode.WRITE:
        return this.#write(command, ns, offset, bytes);
      case IoOpcode.COMPARE:
        return this.#compare(ns, offset, bytes);
      case IoOpcode.WRITE_ZEROES:
        if (!ns.backing.zero(offset, bytes)) return this.#mediaError(Status.WRITE_FAULT);
        return this.#written(command, ns);
      default:
        return this.#verify(ns, offset, bytes);
    }
  }

  #read(ns: Namespace, offset: number, bytes: number): number {
    const buffer = this.#parts.buffer(bytes);
    if (!ns.backing.read(offset, buffer)) return this.#mediaError(Status.UNRECOVERED_READ_ERROR);
    const status = this.#parts.data.put(buffer);
    if (status === Status.SUCCESS) this.#parts.health.read(bytes);
    return status;
  }

  #write(command: Command, ns: Namespace, offset: number, bytes: number): number {
    const buffer = this.#parts.buffer(bytes);
    const status = this.#parts.data.get(buffer);
    if (status !== Status.SUCCESS) return status;
    if (!ns.backing.write(offset, buffer)) return this.#mediaError(Status.WRITE_FAULT);
    this.#parts.health.written(bytes);
    return this.#written(command, ns);
  }

  #compare(ns: Namespace, offset: number, bytes: number): number {
    const buffer = this.#parts.buffer(2 * bytes);
    const theirs = buffer.subarray(0, bytes);
    const ours = buffer.subarray(bytes);
    const status = this.#parts.data.get(theirs);
    if (status !== Status.SUCCESS) return status;
    if (!ns.backing.read(offset, ours)) return this.#mediaError(Status.UNRECOVERED_READ_ERROR);
    this.#parts.health.read(bytes);
    return Buffer.compare(theirs, ours) === 0 ? Status.SUCCESS : Status.COMPARE_FAILURE | DNR;
  }

  /** Reads, and gives nothing to the host. */
  #verify(ns: Namespace, offset: number, bytes: number): number {
    if (!ns.backing.read(offset, this.#parts.buffer(bytes))) return this.#mediaError(Status.UNRECOVERED_READ_ERROR);
    this.#parts.health.read(bytes);
    return Status.SUCCESS;
  }

  /** Without a write cache, or if this command asks for it, what was written is safe before it is completed. */
  #written(command: Command, ns: Namespace): number {
    const cached = this.#parts.features.value(FeatureId.VOLATILE_WRITE_CACHE) !== 0;
    if (cached && (command.dword(12) & FORCE_UNIT_ACCESS) === 0) return Status.SUCCESS;
    return ns.backing.flush() ? Status.SUCCESS : this.#mediaError(Status.WRITE_FAULT);
  }

  /** All ranges are checked before anything happens to one. */
  #datasetManagement(command: Command, ns: Namespace, pageBytes: number): number {
    const count = (command.dword(10) & 0xff) + 1;
    const deallocate = (command.dword(11) & DSM_DEALLOCATE) !== 0;
    if (deallocate && ns.readonly) return command.fail(Status.NAMESPACE_WRITE_PROTECTED);
    const bytes = count * RangeLayout.bytes;
    let status = this.#parts.data.resolve(command, bytes, pageBytes);
    if (status !== Status.SUCCESS) return status;
    const ranges = this.#parts.buffer(bytes);
    status = this.#parts.data.get(ranges);
    if (status !== Status.SUCCESS) return status;
    for (let index = 0; index < count; index++) {
      this.#load(ranges, index);
      if (!ns.holds(this.#startHi, this.#startLo, this.#blocks))
        return command.fail(Status.LBA_OUT_OF_RANGE, Location.PRP1);
    }
    if (!deallocate) return Status.SUCCESS;
    for (let index = 0; index < count; index++) {
      this.#load(ranges, index);
      const start = this.#startHi * 2 ** 32 + this.#startLo;
      ns.backing.deallocate(start * 2 ** ns.shift, this.#blocks * 2 ** ns.shift);
    }
    return Status.SUCCESS;
  }

  #load(ranges: Uint8Array, index: number): void {
    this.#rangeBytes.set(ranges.subarray(index * RangeLayout.bytes, (index + 1) * RangeLayout.bytes));
  }

  get #blocks(): number {
    return RangeLayout.fields.blocks.get(this.#range, 0);
  }

  get #startLo(): number {
    return this.#range[RangeLayout.fields.start.word]! >>> 0;
  }

  get #startHi(): number {
    return this.#range[RangeLayout.fields.start.word + 1]! >>> 0;
  }

  #mediaError(status: number): number {
    this.#parts.health.mediaErrors++;
    return status;
  }
}

const KNOWN: ReadonlySet<number> = new Set(Object.values(IoOpcode));
