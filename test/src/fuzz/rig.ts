/**
 * A unit under test beside its oracle: every register access and request goes to both, and after each of them all that software can
 * see must be what the oracle says. The first disagreement throws.
 */
import { Reg, VtdUnit, vtdConfig } from '@hw/intel-iommu';
import { Translation, TxAttrs } from '@remora/core';
import { RemappedInterrupt } from '@remora/iommu';
import type { Configuration } from './configurations.js';
import type { Coverage } from './coverage.js';
import type { FuzzMemory } from './fuzz-memory.js';
import { factsOf, type Facts } from './naive/facts.js';
import { isSuppressed, NaiveFaults, recordOf, type RecordQuads } from './naive/faults.js';
import {
  interruptRecord,
  NaiveInterrupts,
  type InterruptOutcome,
  type InterruptPossibility,
  type InterruptRequest,
} from './naive/interrupts.js';
import { NaiveQueue } from './naive/queue.js';
import { NaiveUnit, type Outcome, type Possibility, type Request } from './naive/translate.js';

/** The unit and the oracle disagree. */
export class Disagreement extends Error {}

const TE = 0x8000_0000;
const SRTP = 0x4000_0000;
const QIE = 0x0400_0000;
const SIRTP = 0x0100_0000;
const RECORDS = 0x220;
const IVA = 0xf0;
const IOTLB = 0xf8;
const FAULT_MESSAGE = 0x31;
const COMPLETION_MESSAGE = 0x41;
/** Far more than any register write or request needs, given the sizes of the queue and of a walk. */
const MAX_LOADS = 5000;

export class Rig {
  readonly unit: VtdUnit;
  readonly facts: Facts;
  readonly naive: NaiveUnit;
  readonly interrupts: NaiveInterrupts;
  readonly queue: NaiveQueue;
  readonly memory: FuzzMemory;
  readonly #faults: NaiveFaults;
  readonly #coverage: Coverage;
  readonly #attrs = new TxAttrs();
  readonly #words = new Int32Array(2);
  readonly #out = new Translation();
  readonly #message = new RemappedInterrupt();
  #messages: number[] = [];
  #offered: bigint[][] = [];
  #suppressed: number[] = [];

  constructor({ options }: Configuration, memory: FuzzMemory, coverage: Coverage) {
    this.memory = memory;
    this.#coverage = coverage;
    this.unit = new VtdUnit(vtdConfig(options), {
      name: 'fuzz',
      memory,
      sendMsi: (_hi, _lo, data) => this.#messages.push(data),
      faultOffered: record => this.#offered.push(quadsOf(record)),
      faultSuppressed: reason => this.#suppressed.push(reason),
    });
    this.facts = factsOf(this.read64(Reg.CAP), this.read64(Reg.ECAP));
    this.naive = new NaiveUnit(this.facts, memory);
    this.#faults = new NaiveFaults(this.facts);
    this.interrupts = new NaiveInterrupts(this.read64(Reg.CAP), this.read64(Reg.ECAP), memory);
    this.queue = new NaiveQueue(this.facts, memory, this.naive, this.interrupts, this.#faults, coverage);
    this.#write32(Reg.FEDATA, FAULT_MESSAGE);
    this.#write32(Reg.IEDATA, COMPLETION_MESSAGE);
  }

  read32(offset: number): number {
    return this.unit.mmio.read(offset, 4, this.#attrs) >>> 0;
  }

  read64(offset: number): bigint {
    this.unit.mmio.read64!(offset, this.#words, this.#attrs);
    return quadsOf(this.#words)[0]!;
  }

  /** Global commands, several in one write if need be. */
  command(enable: boolean, queue: boolean, rtaddr?: bigint): void {
    // Without SRTP what RTADDR says does not count.
    this.#write64(Reg.RTADDR, rtaddr ?? 0x70_0c00n);
    const { naive } = this;
    this.memory.forget();
    this.memory.recordLoads = true;
    const oneShot = rtaddr === undefined ? 0 : SRTP;
    this.#write32(Reg.GCMD, (enable ? TE : 0) + oneShot + (queue ? QIE : 0) + this.interrupts.status);
    if (rtaddr !== undefined) naive.setRoot(rtaddr);
    if (queue !== this.queue.enabled) {
      if (queue) this.queue.enable(this.read64(Reg.IQT));
      else this.queue.disable();
    }
    naive.enabled = enable;
    this.#settle();
    if (naive.enabled) this.#coverage.hit('TE');
    this.#checkGlobalStatus();
  }

  /** Interrupt remapping, compatibility format let through or not, and another table, in one write. */
  interruptCommand(enable: boolean, compatible: boolean, irta?: bigint): void {
    const { interrupts } = this;
    // Without SIRTP what IRTA says does not count.
    this.#write64(Reg.IRTA, irta ?? 0x70_080fn);
    interrupts.enabled = enable;
    interrupts.compatible = compatible;
    this.#write32(Reg.GCMD, this.#levels + (irta === undefined ? 0 : SIRTP));
    if (irta !== undefined) interrupts.latch(irta);
    this.#settle();
    this.#checkGlobalStatus();
  }

  setQueueAddress(iqa: bigint): void {
    this.#write64(Reg.IQA, iqa);
    this.queue.iqa = this.read64(Reg.IQA);
  }

  /** Writes IQT, 8 bytes or, if it fits, 4. */
  setTail(tail: bigint, wide: boolean): void {
    this.memory.forget();
    this.memory.recordLoads = true;
    if (wide || tail >> 32n !== 0n) this.#write64(Reg.IQT, tail);
    else {
      this.#write32(Reg.IQT + 4, 0);
      this.#write32(Reg.IQT, Number(tail));
    }
    this.queue.tailWritten(tail);
    this.#settle();
  }

  writeFaultStatus(value: number): void {
    this.memory.forget();
    this.memory.recordLoads = true;
    this.#write32(Reg.FSTS, value);
    this.#faults.writeStatus(value);
    this.queue.run();
    this.#settle();
  }

  writeFaultControl(value: number): void {
    this.#write32(Reg.FECTL, value);
    this.#faults.fault.write(value);
    this.#settle();
  }

  writeCompletionControl(value: number): void {
    this.#write32(Reg.IECTL, value);
    this.#faults.completion.write(value);
    this.#settle();
  }

  writeCompletionStatus(value: number): void {
    this.#write32(Reg.ICS, value);
    this.#faults.writeCompletion(value);
    this.#settle();
  }

  writeFaultRecord(index: number, value: number): void {
    this.#write32(RECORDS + index * 16 + 12, value);
    this.#faults.writeRecord(index, value);
    this.#settle();
  }

  /** CCMD with ICC; `granularity` as in the register. */
  contextCommand(granularity: number, domain: number, source: number, functionMask: number): void {
    const high = 0x8000_0000 + granularity * 0x2000_0000 + functionMask;
    this.#write64(Reg.CCMD, (BigInt(high) << 32n) | BigInt(source * 0x1_0000 + domain));
    const performed = this.#commandsAreOpen ? granularity : 0;
    if (performed !== 0) this.naive.shadow.contextCache(performed, domain, source, functionMask, false);
    this.#equal('CCMD.CAIG, ICC', Number(this.read64(Reg.CCMD) >> 59n) & 0x13, performed);
    if (performed !== 0) this.#coverage.hit(`CCMD ${performed}`);
    this.#settle();
  }

  /** `hint`: IVA.IH. */
  iotlbCommand(granularity: number, domain: number, address: bigint, mask: number, hint: boolean): void {
    this.#write64(IVA, address | BigInt(mask) | (hint ? 0x40n : 0n));
    this.#write64(IOTLB, ((0x8n << 28n) | (BigInt(granularity) << 28n) | BigInt(domain)) << 32n);
    let performed = this.#commandsAreOpen ? granularity : 0;
    if (performed === 3 && mask > this.facts.maxAddressMask) performed = 0;
    if (performed !== 0) this.naive.shadow.iotlb(performed, domain, address, mask, hint);
    this.#equal('IOTLB.IAIG, IVT', Number(this.read64(IOTLB) >> 57n) & 0x43, performed);
    if (performed !== 0) this.#coverage.hit(`IOTLB ${performed}`);
    this.#settle();
  }

  /** One request. Returns what came of it. */
  request(request: Request): Outcome {
    this.memory.forget();
    this.memory.recordLoads = false;
    this.memory.budget = MAX_LOADS;
    this.#offered = [];
    this.#suppressed = [];
    const possible = this.naive.possibilities(request);
    const { rid, pasid, address, access } = request;
    const hi = Number(BigInt.asIntN(32, address >> 32n));
    const lo = Number(BigInt.asIntN(32, address));
    const reason = this.unit.translate(rid, pasid, hi, lo, access, this.#out);
    const offered = this.#offered.length > 0;
    const writes = this.#writes();
    const matching = possible.filter(({ outcome, writes: expected }) => {
      if (!sameWrites(expected, writes)) return false;
      if ('reason' in outcome) return outcome.reason === reason && isSuppressed(outcome) === !offered;
      const { hi: outHi, lo: outLo, shift, access: granted } = this.#out;
      const base = (BigInt(outHi) << 32n) | BigInt(outLo);
      return reason === 0 && outcome.base === base && outcome.shift === shift && outcome.access === granted;
    });
    if (matching.length === 0) this.#unjustified(request, reason, writes, possible);
    if (reason !== 0) this.#recorded(reason, recordOf(request, reason));
    this.#count(reason, matching);
    this.#settle();
    return matching[0]!.outcome;
  }

  /** One interrupt request of a device. */
  interrupt(request: InterruptRequest): void {
    this.memory.forget();
    this.memory.recordLoads = false;
    this.memory.budget = MAX_LOADS;
    this.#offered = [];
    this.#suppressed = [];
    const possible = this.interrupts.possibilities(request);
    const { rid, address, data } = request;
    const hi = Number(BigInt.asIntN(32, address >> 32n));
    const reason = this.unit.remapInterrupt(rid, hi, Number(BigInt.asIntN(32, address)), data, this.#message);
    const got = this.#interruptOutcome(reason);
    // The table comes last: what only a cached entry explains is counted as such.
    const matching = possible
      .filter(({ outcome, store }) => sameOutcome(outcome, got) && sameStores(store, this.memory.stores))
      .at(-1);
    if (matching === undefined) {
      throw new Disagreement(`${textOf(request)} gave ${textOf(got)}; possible: ${textOf(possible)}`);
    }
    this.#coverage.hit(reason === 0 ? `interrupt ${matching.by}` : `reason ${hex(reason)}`);
    if (reason !== 0) this.#recorded(reason, interruptRecord(rid, this.interrupts.indexOf(request), reason));
    this.#settle();
  }

  /** What came of an interrupt request. */
  #interruptOutcome(reason: number): InterruptOutcome {
    if (reason !== 0) return { reason, fpd: this.#offered.length === 0 };
    const { send, hi, lo, data } = this.#message;
    if (!send) return 'silent';
    return { address: (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0), data: data >>> 0 };
  }

  get #levels(): number {
    return (this.naive.enabled ? TE : 0) + (this.queue.enabled ? QIE : 0) + this.interrupts.status;
  }

  #checkGlobalStatus(): void {
    this.#equal('GSTS', this.read32(Reg.GSTS) & ~SRTP & ~SIRTP, this.#levels | 0);
  }

  get #commandsAreOpen(): boolean {
    return !this.queue.enabled && this.naive.mode === 0;
  }

  /** A refusal is in the record as it must be, or FPD suppressed it. */
  #recorded(reason: number, record: RecordQuads): void {
    if (this.#offered.length === 0) {
      this.#equal('suppressed faults', this.#suppressed.join(), `${reason}`);
      this.#coverage.hit('FPD');
      return;
    }
    const [low, high] = this.#offered[0]! as [bigint, bigint];
    this.#equal('offered faults', this.#offered.length, 1);
    this.#equal('fault record, low', low, record[0]);
    this.#equal('fault record, high', high, record[1]);
    this.#faults.offer([low, high]);
  }

  #count(reason: number, matching: readonly Possibility[]): void {
    const fresh = matching.find(each => each.stale === undefined);
    if (reason !== 0) this.#coverage.hit(`reason 0x${reason.toString(16).padStart(2, '0')}`);
    else if (fresh !== undefined) this.#coverage.hit(`walk ${fresh.by}`);
    if (fresh === undefined) {
      const stale = new Set(matching.map(each => each.stale!));
      const least = stale.has('page') ? 'page' : stale.has('table') ? 'table' : 'refusal';
      this.#coverage.hit(`stale ${least}${reason === 0 ? '' : `, fault`}`);
    }
  }

  /** What the unit wrote during a request: quadwords, of which only accessed and dirty bits may have changed. */
  #writes(): Map<bigint, bigint> {
    const writes = new Map<bigint, bigint>();
    for (const { address, words } of this.memory.stores) {
      if (words.length !== 2 || address % 8n !== 0n)
        throw new Disagreement('a request stores something else than entries');
      writes.set(address, quadsOf(words)[0]!);
    }
    return writes;
  }

  /** All registers that tell what happened, and the messages, are as the oracle has them. */
  #settle(): void {
    const faults = this.#faults;
    this.#equal('FSTS', this.read32(Reg.FSTS), faults.status);
    this.#equal('FECTL', this.read32(Reg.FECTL), faults.fault.register);
    this.#equal('ICS', this.read32(Reg.ICS), Number(faults.completed));
    this.#equal('IECTL', this.read32(Reg.IECTL), faults.completion.register);
    this.#equal('IQH', this.read64(Reg.IQH), BigInt(this.queue.head));
    if (this.queue.error !== undefined && faults.stopped) {
      this.#equal('IQERCD', this.read64(Reg.IQERCD), BigInt(this.queue.error));
    }
    for (const [index, [low, high]] of faults.records.entries()) {
      this.#equal(`FRCD[${index}] low`, this.read64(RECORDS + index * 16), low);
      this.#equal(`FRCD[${index}] high`, this.read64(RECORDS + index * 16 + 8), high);
    }
    const sent = (data: number): number => this.#messages.filter(each => each === data).length;
    this.#equal('fault messages', sent(FAULT_MESSAGE), faults.fault.sent);
    this.#equal('completion messages', sent(COMPLETION_MESSAGE), faults.completion.sent);
  }

  #write32(offset: number, value: number): void {
    this.memory.budget = MAX_LOADS;
    this.unit.mmio.write(offset, value >>> 0, 4, this.#attrs);
  }

  #write64(offset: number, value: bigint): void {
    this.memory.budget = MAX_LOADS;
    this.unit.mmio.write64!(offset, Number(value >> 32n), Number(value & 0xffff_ffffn), this.#attrs);
  }

  #equal<T>(what: string, got: T, expected: T): void {
    if (got !== expected) throw new Disagreement(`${what}: ${hex(got)}, not ${hex(expected)}`);
  }

  #unjustified(request: Request, reason: number, writes: Map<bigint, bigint>, possible: readonly Possibility[]): never {
    const { hi, lo, shift, access } = this.#out;
    const got = reason === 0 ? { base: (BigInt(hi) << 32n) | BigInt(lo), shift, access } : { reason };
    throw new Disagreement(
      `${textOf(request)} gave ${textOf(got)} writing ${textOf(writes)}; possible: ${textOf(possible)}`,
    );
  }
}

function textOf(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) =>
    typeof each === 'bigint' ? hex(each) : each instanceof Map ? [...each] : each,
  );
}

function hex(value: unknown): string {
  return typeof value === 'number' || typeof value === 'bigint' ? `0x${value.toString(16)}` : String(value);
}

function sameWrites(a: ReadonlyMap<bigint, bigint>, b: ReadonlyMap<bigint, bigint>): boolean {
  return a.size === b.size && [...a].every(([address, value]) => b.get(address) === value);
}

/** A possible outcome against what came of a request; of a refusal `fpd` says whether it was suppressed. */
function sameOutcome(possible: InterruptOutcome, got: InterruptOutcome): boolean {
  if (possible === 'silent' || got === 'silent') return possible === got;
  if ('reason' in possible || 'reason' in got) {
    return (
      'reason' in possible && 'reason' in got && possible.reason === got.reason && isSuppressed(possible) === got.fpd
    );
  }
  return possible.address === got.address && possible.data === got.data;
}

/** Whether the unit stored the posted descriptor that it must, whole and at once, and nothing else. */
function sameStores(expected: InterruptPossibility['store'], stores: FuzzMemory['stores']): boolean {
  if (expected === undefined) return stores.length === 0;
  const [only, another] = stores;
  if (only === undefined || another !== undefined || only.address !== expected.address) return false;
  return quadsOf(only.words).join() === expected.quads.join();
}

/** Dwords as quadwords. */
function quadsOf(words: ArrayLike<number>): bigint[] {
  return Array.from(
    { length: words.length / 2 },
    (_, i) => (BigInt(words[2 * i + 1]! >>> 0) << 32n) | BigInt(words[2 * i]! >>> 0),
  );
}
