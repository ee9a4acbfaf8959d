/**
 * Gives a model the inputs of a recording (register writes and reads, translation and interrupt requests, guest memory) and
 * compares what it answers and does with what was recorded.
 *
 * Memory that the recorded unit read is an input: it may have read more, or more often, than the model needs. Everything else that
 * happened during an operation is an expectation, in order: memory writes, messages, offered and suppressed faults, device-TLB
 * invalidations.
 */
import { Reg, type UnitFactory, VtdUnit, type VtdConfig } from '@hw/intel-iommu';
import { Translation, TxAttrs } from '@remora/core';
import { RemappedInterrupt } from '@remora/iommu';
import { rangeMask, recordText, remappingText, translationText } from './model-text.js';
import { ReplayMemory } from './replay-memory.js';
import type { Difference, ReplayResult } from './replay-result.js';
import type { InterruptLine, MemoryLine, RegisterLine, TraceLine, TranslationLine } from './trace-line.js';
import type { TraceOperation } from './trace-reader.js';
import { deviceTlbText, interruptText, memoryText, registerText, resetText, suppressedText } from './trace-text.js';
import type { Words } from './words.js';

/** What the model does besides answering. */
const EFFECTS: ReadonlySet<string> = new Set(['MW', 'IRQ', 'F', 'FPD', 'N']);
const MAX_DIFFERENCES = 100;

export class ReplayEngine {
  readonly #file: string;
  readonly #unit: VtdUnit;
  readonly #memory: ReplayMemory;
  readonly #attrs = new TxAttrs();
  readonly #answer = new Translation();
  readonly #interrupt = new RemappedInterrupt();
  readonly #words = new Int32Array(2);
  /** Requester ids of devices with a TLB: those that the recording has shown to be sent invalidations. */
  readonly #deviceTlbs = new Set<number>();
  /** What the model did during the current operation. */
  #effects: string[] = [];
  /** Whether FPD suppressed a fault during the current operation. */
  #suppressed = false;

  #operations = 0;
  #mismatches = 0;
  readonly #compared = new Map<string, number>();
  readonly #differences: Difference[] = [];

  /** `makeUnit`: another one than the model's own. */
  constructor(file: string, config: VtdConfig, makeUnit: UnitFactory = (...parameters) => new VtdUnit(...parameters)) {
    this.#file = file;
    this.#memory = new ReplayMemory((hi, lo, bytes) => this.#effects.push(memoryText('MW', hi, lo, bytes)));
    this.#unit = makeUnit(config, {
      name: 'replay',
      memory: this.#memory,
      sendMsi: (hi, lo, data) => this.#effects.push(interruptText(hi, lo, data)),
      faultOffered: record => this.#effects.push(recordText(record)),
      faultSuppressed: reason => {
        this.#suppressed = true;
        this.#effects.push(suppressedText(reason));
      },
      propagation: {
        deviceTlbInvalidate: (requesterId, pasid, hi, lo, shift) => {
          if (!this.#deviceTlbs.has(requesterId)) return;
          this.#effects.push(deviceTlbText(requesterId, pasid, { hi, lo }, rangeMask(shift)));
        },
      },
    });
  }

  step({ line, nested }: TraceOperation): void {
    this.#effects = [];
    this.#suppressed = false;
    const later = this.#provideMemory(nested);
    for (const each of nested) if (each.kind === 'N') this.#deviceTlbs.add(each.requesterId);
    this.#operations++;
    // The unit's own reads of its registers (a table pointer led there) see them as they were before.
    for (const each of nested) if (each.kind === 'R') this.#compare(each, this.#read(each));
    this.#perform(line);
    this.#compareEffects(line, nested);
    for (const each of later) this.#provide(each);
  }

  result(): ReplayResult {
    return {
      file: this.#file,
      operations: this.#operations,
      compared: [...this.#compared.values()].reduce((sum, each) => sum + each, 0),
      comparedByKind: Object.fromEntries(this.#compared),
      mismatches: this.#mismatches,
      differences: this.#differences,
      excused: {},
      skipped: {},
    };
  }

  #perform(line: TraceLine): void {
    switch (line.kind) {
      case 'RESET':
        this.#unit.reset();
        this.#compare(line, resetText(this.#value(Reg.CAP, 8), this.#value(Reg.ECAP, 8)));
        break;
      case 'W':
        this.#write(line);
        break;
      case 'R':
        this.#compare(line, this.#read(line));
        break;
      case 'T':
      case 'TF':
        this.#compare(line, this.#translate(line));
        break;
      case 'I':
      case 'IF':
        this.#compare(line, this.#remap(line));
        break;
      case 'M':
        this.#memory.put(line.address.hi, line.address.lo, line.bytes!);
        break;
      case 'Z':
        this.#memory.zero(line.address.hi, line.address.lo, line.length);
        break;
      default:
        throw new Error(`${line.kind} is no operation`);
    }
  }

  /**
   * Stores what the unit read: the first time only, since what it wrote itself during the operation comes from the model. Returns what it
   * found changed later in the operation, which holds for the next one.
   */
  #provideMemory(nested: readonly TraceLine[]): MemoryLine[] {
    const seen = new Set<string>();
    const later: MemoryLine[] = [];
    for (const line of nested) {
      if (line.kind !== 'MR' && line.kind !== 'MW') continue;
      const { hi, lo } = line.address;
      const key = `${hi}:${lo}`;
      if (line.kind === 'MR') {
        if (seen.has(key)) later.push(line);
        else this.#provide(line);
      }
      seen.add(key);
    }
    return later;
  }

  #provide({ address, length, bytes }: MemoryLine): void {
    if (bytes === undefined) this.#memory.fail(address.hi, address.lo, length);
    else this.#memory.put(address.hi, address.lo, bytes);
  }

  #read({ offset, size }: RegisterLine): string {
    const { hi, lo } = this.#value(offset, size);
    return registerText('R', offset, size, hi, lo);
  }

  #value(offset: number, size: number): Words {
    const { mmio } = this.#unit;
    if (size === 4) return { hi: 0, lo: mmio.read(offset, 4, this.#attrs) };
    mmio.read64!(offset, this.#words, this.#attrs);
    return { hi: this.#words[1]! >>> 0, lo: this.#words[0]! >>> 0 };
  }

  #write({ offset, size, value }: RegisterLine): void {
    const { mmio } = this.#unit;
    if (size === 4) mmio.write(offset, value.lo, 4, this.#attrs);
    else mmio.write64!(offset, value.hi, value.lo, this.#attrs);
  }

  #translate(line: TranslationLine): string {
    const { address, access } = line;
    const off = !this.#unit.translationEnabled;
    const reason = this.#unit.translate(line.requesterId, line.pasid, address.hi, address.lo, access, this.#answer);
    return translationText(line, reason, this.#answer, off);
  }

  #remap(line: InterruptLine): string {
    const { requesterId, address, data, report } = line;
    const out = this.#interrupt;
    const reason = this.#unit.remapInterrupt(requesterId, address.hi, address.lo, data, out, report);
    if (this.#suppressed) this.#effects = [];
    return remappingText(line, reason, out, this.#suppressed);
  }

  /** The effects of an operation, in order. Only the first difference counts: those after it follow from it. */
  #compareEffects(line: TraceLine, nested: readonly TraceLine[]): void {
    const expected = nested.filter(each => EFFECTS.has(each.kind));
    const got = this.#effects;
    for (const [i, each] of expected.entries()) {
      if (!this.#compare(each, got[i] ?? 'nothing more')) return;
    }
    if (got.length > expected.length) {
      this.#differ({ line: line.number, expected: `nothing more during ${line.text}`, got: got[expected.length]! });
    }
  }

  #compare(line: TraceLine, got: string): boolean {
    count(this.#compared, line.kind);
    if (line.text === got) return true;
    this.#differ({ line: line.number, expected: line.text, got });
    return false;
  }

  #differ(difference: Difference): void {
    this.#mismatches++;
    if (this.#differences.length < MAX_DIFFERENCES) this.#differences.push(difference);
  }
}

function count(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
