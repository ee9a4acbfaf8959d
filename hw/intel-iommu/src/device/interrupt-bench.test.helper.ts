/** A unit on a bench with interrupt remapping on: a table whose entries a test writes, and requests of a device. */
import { hiOf, loOf, type RecordType, type RecordValues, type Wide } from '@remora/bits';
import { Inspector } from '@remora/core';
import { RemappedInterrupt } from '@remora/iommu';
import {
  GlobalCommand,
  InterruptEntry,
  InterruptEntryCacheDescriptor,
  InterruptRequest,
  InterruptTableAddress,
  Reg,
} from '../spec/index.js';
import { Bench, type BenchOptions, RID, type Values } from './bench.test.helper.js';

/** What a request became. `undefined`: it was posted, and no message goes on. */
export type InterruptOutcome =
  { readonly address: bigint; readonly data: number } | { readonly fault: number } | undefined;

/** Fixed, edge, vector 0x41, xAPIC destination 3, whoever asks. */
export const PLAIN: Values = { p: 1, v: 0x41, dst: 0x300 };

export class InterruptBench extends Bench {
  /** Frame of the table. */
  table = 0;
  readonly #out = new RemappedInterrupt();

  /** The table has 2^(size + 1) entries. */
  constructor(options: BenchOptions = {}, size = 7, extended = false) {
    super({ intremap: true, ...options });
    this.newTable(size, extended);
    this.enableQueue(false);
    this.command(GlobalCommand.IRE);
  }

  /** Latches a new, empty table. */
  newTable(size: number, extended = false): void {
    this.table = this.page(Math.ceil(2 ** (size + 1) / 256));
    this.latch(this.table, size, extended);
  }

  latch(frame: number, size: number, extended = false): void {
    const words = InterruptTableAddress.encode({ s: size, eime: Number(extended), irta: frame });
    this.write64(Reg.IRTA, (BigInt(words[1]! >>> 0) << 32n) | BigInt(words[0]! >>> 0));
    this.command(GlobalCommand.SIRTP);
  }

  /** Byte address of an entry. */
  at(index: number): number {
    return this.table * 4096 + index * 16;
  }

  irte(
    index: number,
    values: Values,
    type: RecordType<never> | RecordType = InterruptEntry as RecordType<never>,
  ): void {
    this.put(this.at(index), (type as RecordType).encode(values as RecordValues<Record<string, never>>));
  }

  /** Invalidates the 2^mask entries around `index`, or all. Returns whether the queue went on. */
  flush(index?: number, mask = 0): boolean {
    const range = index === undefined ? {} : { g: 1, iidx: index, im: mask };
    return this.submit(InterruptEntryCacheDescriptor as RecordType<never>, { type: 4, ...range });
  }

  /** A write of `data` to `address` by a device. */
  message(address: Wide, data = 0, rid = RID, report = true): InterruptOutcome {
    const out = this.#out;
    const fault = this.unit.remapInterrupt(rid, hiOf(address), loOf(address), data, out, report);
    if (fault !== 0) return { fault };
    if (!out.send) return undefined;
    return { address: (BigInt(out.hi >>> 0) << 32n) | BigInt(out.lo >>> 0), data: out.data >>> 0 };
  }

  inspected(): Record<string, unknown> {
    const into = new Inspector();
    this.unit.inspect(into);
    return into.toJSON();
  }

  /** A request in remappable format; `subhandle` undefined leaves SHV clear. */
  interrupt(handle: number, rid = RID, subhandle?: number): InterruptOutcome {
    const shv = subhandle === undefined ? 0 : 1;
    const request = { head: 0xfee, format: 1, handleLow: handle & 0x7fff, handleHigh: handle >>> 15, shv };
    return this.message(InterruptRequest.encode(request)[0]! >>> 0, subhandle ?? 0, rid);
  }
}
