// Random invalidations of device TLBs, waits, completions in any order, late ones and none, against the oracle in naive/device-tlbs.ts.
import { Reg, VtdUnit, vtdConfig } from '@hw/intel-iommu';
import { TxAttrs, VirtualClock } from '@remora/core';
import fc from 'fast-check';
import test from 'ava';
import { Coverage, requireMinimums } from './coverage.js';
import { FuzzMemory, HIGH, LOW } from './fuzz-memory.js';
import { NaiveDeviceTlbs } from './naive/device-tlbs.js';
import { Disagreement } from './rig.js';

/** Fixed, so that the figures below are the same on every run. */
const SEED = 1;
const PROGRAMS = 600;
/** How many programs saw a thing when this was written; half as many must. */
const MEASURED: Readonly<Record<string, number>> = {
  ICE: 528,
  ITE: 393,
  completion: 546,
  stands: 508,
  'wait aborted': 297,
  'wait completed': 528,
};

const SIDS = [0x0008, 0x0113, 0x0200] as const;
/** Where nobody is. */
const ABSENT = 0x0300;
const SECOND = 1_000_000_000;
const STATUS = BigInt(LOW.first) << 12n;
const QUEUE = BigInt(HIGH.first) << 12n;
/** A queue of 16 pages: no program comes to its end. */
const QS = 4n;
const QIE = 0x0400_0000;

type Operation =
  | { readonly op: 'invalidate'; readonly sid: number; readonly mip: number; readonly atOnce: boolean }
  | { readonly op: 'wait' }
  | { readonly op: 'complete'; readonly which: number }
  | { readonly op: 'elapse'; readonly seconds: number }
  | { readonly op: 'clear'; readonly bits: number };

const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant('invalidate' as const),
      sid: fc.constantFrom(...SIDS, ...SIDS, ABSENT),
      mip: fc.constantFrom(0, 1, 2),
      atOnce: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('wait' as const) }) },
  { weight: 6, arbitrary: fc.record({ op: fc.constant('complete' as const), which: fc.nat(0xffff) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('elapse' as const), seconds: fc.constantFrom(1, 20, 59, 60) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('clear' as const), bits: fc.constantFrom(0x20, 0x40, 0x60) }) },
);

const programs = fc.noBias(fc.array(operation, { minLength: 20, maxLength: 60, size: 'max' }));

class DeviceTlbs {
  readonly #memory: FuzzMemory;
  readonly #coverage: Coverage;
  readonly #clock = new VirtualClock();
  readonly #naive = new NaiveDeviceTlbs();
  readonly #unit: VtdUnit;
  readonly #attrs = new TxAttrs();
  readonly #words = new Int32Array(2);
  /** What functions were sent and were not done with at once: only that may they complete, though once or more, and too late. */
  readonly #sent: { readonly index: number; readonly sid: number; readonly completed: () => void }[] = [];
  readonly #atOnce: boolean[] = [];
  #tail = 0;

  constructor(memory: FuzzMemory, coverage: Coverage) {
    this.#memory = memory;
    this.#coverage = coverage;
    this.#unit = new VtdUnit(vtdConfig({ 'device-iotlb': true }), {
      name: 'fuzz',
      memory,
      sendMsi: () => undefined,
      clock: this.#clock,
      endpoint: sid => {
        if (sid === ABSENT) return undefined;
        return {
          invalidate: (_pasid, _global, _hi, lo, _shift, completed) => {
            // The page says which invalidation it is.
            const index = lo >>> 12;
            const atOnce = this.#atOnce[index]!;
            if (!atOnce) this.#sent.push({ index, sid, completed });
            return atOnce;
          },
          pageResponse: () => undefined,
        };
      },
    });
    this.#write64(Reg.IQA, QUEUE | QS);
    this.#write32(Reg.GCMD, QIE);
  }

  perform(operation: Operation): void {
    const naive = this.#naive;
    const { now } = this.#clock;
    switch (operation.op) {
      case 'invalidate': {
        const atOnce = operation.atOnce && operation.sid !== ABSENT;
        const page = BigInt(this.#atOnce.length) << 12n;
        this.#atOnce.push(atOnce);
        naive.submit({ sid: operation.sid, mip: operation.mip, atOnce }, now);
        this.#submit(3n | (BigInt(operation.mip) << 16n) | (BigInt(operation.sid) << 32n), page);
        break;
      }
      case 'wait':
        naive.submit('wait', now);
        // Status data 1 to a word of its own.
        this.#submit(0x1_0000_0025n, STATUS + BigInt(this.#tail / 4));
        break;
      case 'complete':
        this.#complete(operation.which);
        break;
      case 'elapse':
        this.#clock.step(operation.seconds * SECOND);
        naive.elapse(this.#clock.now);
        break;
      case 'clear':
        naive.clear(operation.bits, now);
        this.#write32(Reg.FSTS, operation.bits);
    }
    this.#settle();
  }

  /** Mostly one of the last few: it may have been completed before, or timed out. */
  #complete(which: number): void {
    const from = which % 4 === 0 ? 0 : Math.max(0, this.#sent.length - 5);
    const sent = this.#sent[from + ((which >>> 2) % Math.max(1, this.#sent.length - from))];
    if (sent === undefined) return;
    sent.completed();
    this.#coverage.hit('completion');
    this.#naive.complete(sent.index, sent.sid, this.#clock.now);
  }

  #submit(low: bigint, high: bigint): void {
    this.#memory.putQuad(QUEUE + BigInt(this.#tail), low);
    this.#memory.putQuad(QUEUE + BigInt(this.#tail + 8), high);
    this.#tail += 16;
    this.#write32(Reg.IQT, this.#tail);
  }

  #settle(): void {
    const naive = this.#naive;
    this.#equal('IQH', this.#read64(Reg.IQH), BigInt(naive.head * 16));
    this.#equal('FSTS', this.#read64(Reg.FSTS) & 0xffn, BigInt(naive.status));
    const sids = (BigInt(naive.icesid) << 48n) | (BigInt(naive.itesid) << 32n);
    this.#equal('IQERCD', this.#read64(Reg.IQERCD), sids);
    for (let at = 0; at < this.#tail; at += 16) {
      const done = (this.#memory.quad(STATUS + BigInt(at / 4)) ?? 0n) & 0xffff_ffffn;
      this.#equal(`wait ${at / 16}`, done, naive.completed.has(at / 16) ? 1n : 0n);
    }
    if ((naive.status & 0x40) !== 0) this.#coverage.hit('ITE');
    if ((naive.status & 0x20) !== 0) this.#coverage.hit('ICE');
    if (naive.status === 0 && naive.head * 16 < this.#tail) this.#coverage.hit('stands');
    if (naive.aborted.size > 0) this.#coverage.hit('wait aborted');
    if (naive.completed.size > 0) this.#coverage.hit('wait completed');
  }

  #equal(what: string, got: bigint, expected: bigint): void {
    if (got !== expected) throw new Disagreement(`${what}: 0x${got.toString(16)}, not 0x${expected.toString(16)}`);
  }

  #read64(offset: number): bigint {
    this.#unit.mmio.read64!(offset, this.#words, this.#attrs);
    return (BigInt(this.#words[1]! >>> 0) << 32n) | BigInt(this.#words[0]! >>> 0);
  }

  #write32(offset: number, value: number): void {
    this.#unit.mmio.write(offset, value >>> 0, 4, this.#attrs);
  }

  #write64(offset: number, value: bigint): void {
    this.#unit.mmio.write64!(offset, Number(value >> 32n), Number(value & 0xffff_ffffn), this.#attrs);
  }
}

test('what is awaited of device TLBs, and what comes of it, is what the reference says', t => {
  const coverage = new Coverage();
  const memory = new FuzzMemory();
  fc.assert(
    fc.property(programs, operations => {
      memory.clear();
      const tlbs = new DeviceTlbs(memory, coverage);
      for (const each of operations) tlbs.perform(each);
      coverage.endProgram();
    }),
    { seed: SEED, numRuns: PROGRAMS, includeErrorInReport: true },
  );
  requireMinimums(t, coverage, MEASURED);
});
