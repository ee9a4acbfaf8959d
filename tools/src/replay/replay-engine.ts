/**
 * Gives a model the inputs of a recording (register writes and reads, translation and interrupt requests, guest memory) and
 * compares what it answers and does with what was recorded. Where a device or a host had an answer for the unit, the model gets the same.
 *
 * Memory that the recorded unit read is an input: it may have read more, or more often, than the model needs. Everything else that
 * happened during an operation is an expectation, in order: memory writes, messages, offered and suppressed faults, device-TLB
 * invalidations, page group responses, what hosts are told. Operations within a page group response are given when the model sends it.
 */
import { Reg, type UnitFactory, VtdUnit, type VtdConfig } from '@hw/intel-iommu';
import { Translation, TxAttrs } from '@remora/core';
import { AtsCompletion, RemappedInterrupt } from '@remora/iommu';
import type { DeviceRequestLine, InvalidationDoneLine, PageRequestLine } from './ats-lines.js';
import { completionText, pageRequestText, translatedRequestText } from './ats-text.js';
import type { HostFaultLine } from './host-lines.js';
import { hostFaultText } from './host-text.js';
import { remappingText, translationText } from './model-text.js';
import { replayEnvironment } from './replay-environment.js';
import { ReplayFrame } from './replay-frame.js';
import { ReplayMemory } from './replay-memory.js';
import type { Difference, ReplayResult } from './replay-result.js';
import type { InterruptLine, RegisterLine, TraceLine, TranslationLine } from './trace-line.js';
import type { TraceOperation } from './trace-operations.js';
import { memoryText, registerText, resetText } from './trace-text.js';
import type { Words } from './words.js';

const MAX_DIFFERENCES = 100;

export class ReplayEngine {
  readonly #file: string;
  readonly #unit: VtdUnit;
  readonly #memory: ReplayMemory;
  readonly #attrs = new TxAttrs();
  readonly #answer = new Translation();
  readonly #completion = new AtsCompletion();
  readonly #interrupt = new RemappedInterrupt();
  readonly #words = new Int32Array(2);
  /** Requester ids of devices with a TLB: those that the recording has shown to be sent invalidations. */
  readonly #deviceTlbs = new Set<number>();
  /** Likewise, what hosts are told. */
  readonly #hostCalls = new Set<string>();
  /** Invalidations that devices are at, by their numbers. */
  readonly #awaited = new Map<number, () => void>();
  /** The operation under way; the innermost one, if a device does something while it is told of another. */
  #frame: ReplayFrame | undefined;

  #operations = 0;
  #mismatches = 0;
  readonly #compared = new Map<string, number>();
  readonly #differences: Difference[] = [];

  /** `makeUnit`: another one than the model's own. */
  constructor(file: string, config: VtdConfig, makeUnit: UnitFactory = (...parameters) => new VtdUnit(...parameters)) {
    this.#file = file;
    this.#memory = new ReplayMemory((hi, lo, bytes) => this.#underWay.got.push(memoryText('MW', hi, lo, bytes)));
    this.#unit = makeUnit(
      config,
      replayEnvironment(this.#memory, {
        frame: () => this.#underWay,
        deviceTlbs: this.#deviceTlbs,
        hostCalls: this.#hostCalls,
        responded: text => this.#responded(text),
        awaits: (later, completed) => this.#awaited.set(later, completed),
      }),
    );
  }

  step(operation: TraceOperation): void {
    const { line, nested } = operation;
    const outer = this.#frame;
    const frame = new ReplayFrame(operation, this.#memory);
    this.#frame = frame;
    frame.provideMemory();
    for (const each of nested) {
      if (each.kind === 'N') this.#deviceTlbs.add(each.requesterId);
      else if (each.kind === 'H') this.#hostCalls.add(each.call);
    }
    this.#operations++;
    // The unit's own reads of its registers (a table pointer led there) see them as they were before.
    for (const each of nested) if (each.kind === 'R') this.#compare(each, this.#read(each));
    this.#perform(line);
    this.#compareEffects(line, frame);
    frame.provideRest();
    this.#frame = outer;
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
      case 'A':
      case 'AF':
      case 'D':
      case 'DF':
        this.#compare(line, this.#request(line));
        break;
      case 'P':
      case 'PF':
        this.#compare(line, this.#requestPage(line));
        break;
      case 'C':
        this.#compare(line, this.#complete(line));
        break;
      case 'HF':
        this.#compare(line, this.#reportFault(line));
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

  get #underWay(): ReplayFrame {
    if (this.#frame === undefined) throw new Error('the model did something by itself');
    return this.#frame;
  }

  /** A device has a response to its page requests: what it did before it came back, it does again. */
  #responded(text: string): void {
    const frame = this.#underWay;
    const { next } = frame;
    frame.got.push(text);
    const operations = next?.text === text ? frame.during(next) : undefined;
    if (operations === undefined) return;
    for (const operation of operations) this.step(operation);
    frame.provideMemory();
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
    const frame = this.#underWay;
    const reason = this.#unit.remapInterrupt(requesterId, address.hi, address.lo, data, out, report);
    if (frame.suppressed) frame.got.length = 0;
    return remappingText(line, reason, out, frame.suppressed);
  }

  #request(line: DeviceRequestLine): string {
    const { requesterId, pasid, address, access } = line;
    if (line.kind === 'D' || line.kind === 'DF') {
      const status = this.#unit.translatedRequest(requesterId, pasid, address.hi, address.lo, access);
      return translatedRequestText(line, status);
    }
    const out = this.#completion;
    return completionText(
      line,
      this.#unit.translationRequest(requesterId, pasid, address.hi, address.lo, access, out),
      out,
    );
  }

  #requestPage({ requesterId, pasid, address, access, group, last }: PageRequestLine): string {
    const request = { requesterId, pasid, ...address, access, group, last };
    return pageRequestText(request, this.#unit.pageRequest(request));
  }

  #complete({ later, text }: InvalidationDoneLine): string {
    const completed = this.#awaited.get(later);
    if (completed === undefined) return 'nothing that a device has to do';
    this.#awaited.delete(later);
    completed();
    return text;
  }

  #reportFault({ requesterId, pasid, address, access, addressType, reason }: HostFaultLine): string {
    const fault = { pasid, ...address, access, addressType, reason };
    return hostFaultText(requesterId, fault, this.#unit.hostFault(requesterId, fault));
  }

  /** The effects of an operation, in order. Only the first difference counts: those after it follow from it. */
  #compareEffects(line: TraceLine, { expected, got }: ReplayFrame): void {
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
