/**
 * Writes down what is done to a VT-d unit and what the unit does, in the format of the recordings that `remora replay` takes: beside the
 * model, around its environment and its operations. The unit itself is an ordinary one.
 */
import { Reg, type UnitFactory, type VtdEnvironment, type VtdUnit } from '@hw/intel-iommu';
import { GlobalCommand } from '@hw/intel-iommu/spec';
import type { MmioOps } from '@remora/core';
import { completionText, pageRequestText, pageResponseText, translatedRequestText } from '../../replay/ats-text.js';
import { hostCallText, hostFaultText, virtualCommandAnswerText, virtualCommandText } from '../../replay/host-text.js';
import { rangeMask, recordText, remappingText, translationText } from '../../replay/model-text.js';
import { factsOf, optionsOf } from '../../replay/replay-config.js';
import { END, headerLines, TRUNCATED } from '../../replay/trace-header.js';
import {
  deviceTlbText,
  interruptText,
  memoryErrorText,
  memoryText,
  registerText,
  resetText,
  suppressedText,
} from '../../replay/trace-text.js';
import { Journal } from './journal.js';
import { KnownMemory } from './known-memory.js';
import { RecordedEndpoints } from './recorded-endpoint.js';
import { RecordedMemory } from './recorded-memory.js';
import { recordedPropagation } from './recorded-propagation.js';

export interface RecorderOptions {
  /** Takes the lines, one after the other. */
  readonly write: (line: string) => void;
  /** Of this project. */
  readonly version: string;
  /** What ran: the beginning of the recording's command line. */
  readonly command: string;
  /** Hosts lend functions below the unit: what they are told is written down. */
  readonly lent: boolean;
}

/** What QEMU writes behind a refusal; readers pass over it. */
const NO_MASK = 'fff';

export class UnitRecorder {
  readonly #options: RecorderOptions;
  readonly #known = new KnownMemory();
  readonly #journal: Journal;
  /** FPD suppressed a fault since somebody has last asked. */
  #suppressed = false;
  #taken = false;

  constructor(options: RecorderOptions) {
    this.#options = options;
    this.#journal = new Journal(options.write);
  }

  /** Why the recording is not complete; undefined if it is, so far. */
  get problem(): string | undefined {
    return this.#journal.problem;
  }

  /** Makes the unit that is recorded, with `make`. @throws Error for a second one: a recording has one. */
  units(make: UnitFactory): UnitFactory {
    return (config, environment, ...rest) => {
      if (this.#taken) throw new Error('a recording has one unit');
      this.#taken = true;
      const { write, version, command } = this.#options;
      for (const line of headerLines(version, factsOf(config), command, optionsOf(config))) write(line);
      const endpoints = new RecordedEndpoints(this.#journal, environment.clock);
      return this.#recorded(make(config, this.#around(environment, endpoints), ...rest), endpoints);
    };
  }

  /** Nothing is recorded any more. Returns why the recording was cut off, if it was. */
  end(): string | undefined {
    this.#journal.end(problem => (problem === undefined ? END : TRUNCATED));
    return this.#journal.problem;
  }

  /** Takes the unit's operations over: they are the same, but written down. Its class is its maker's business. */
  #recorded(unit: VtdUnit, endpoints: RecordedEndpoints): VtdUnit {
    const { mmio } = unit;
    const operations: Partial<VtdUnit> = {
      mmio: this.#registers(mmio),
      ...this.#requests(unit),
      ...this.#deviceRequests(unit),
    };
    const reset = unit.reset.bind(unit);
    operations.reset = () => {
      endpoints.reset();
      this.#journal.during('alone', reset, () =>
        resetText({ hi: unit.capHi, lo: unit.capLo }, { hi: unit.ecapHi, lo: unit.ecapLo }),
      );
    };
    // What the format has no words for.
    const load = unit.load.bind(unit);
    operations.load = from => {
      this.#journal.spoil('a state was loaded');
      load(from);
    };
    return Object.assign(unit, operations);
  }

  #registers(mmio: MmioOps): MmioOps {
    return {
      ...mmio,
      read: (offset, size, attrs) =>
        this.#journal.during(
          'part',
          () => mmio.read(offset, size, attrs),
          value => registerText('R', offset, size, 0, value),
        ),
      read64: (offset, out, attrs) =>
        this.#journal.during(
          'part',
          () => mmio.read64!(offset, out, attrs),
          () => registerText('R', offset, 8, out[1]!, out[0]!),
        ),
      write: (offset, value, size, attrs) =>
        this.#journal.during(
          'alone',
          () => mmio.write(offset, value, size, attrs),
          () => registerText('W', offset, size, 0, value),
        ),
      write64: (offset, hi, lo, attrs) =>
        this.#journal.during(
          'alone',
          () => mmio.write64!(offset, hi, lo, attrs),
          () => registerText('W', offset, 8, hi, lo),
        ),
    };
  }

  #requests(unit: VtdUnit): Pick<VtdUnit, 'translate' | 'remapInterrupt'> {
    const translate = unit.translate.bind(unit);
    const remapInterrupt = unit.remapInterrupt.bind(unit);
    return {
      translate: (requesterId, pasid, hi, lo, access, out) => {
        const off = !unit.translationEnabled;
        return this.#journal.during(
          'answer',
          () => translate(requesterId, pasid, hi, lo, access, out),
          reason => {
            const request = { requesterId, pasid, address: wordsOf(hi, lo), access };
            return `${translationText(request, reason, out, off)}${reason === 0 ? '' : ` ${NO_MASK}`}`;
          },
        );
      },
      remapInterrupt: (requesterId, hi, lo, data, out, report = true) => {
        const remap = (): number => remapInterrupt(requesterId, hi, lo, data, out, report);
        if ((unit.registers.get(Reg.GSTS) & GlobalCommand.IRE) === 0) return remap();
        this.#suppressed = false;
        return this.#journal.during('answer', remap, reason => {
          if (this.#suppressed) this.#journal.withdraw('FPD ');
          const request = { requesterId, address: wordsOf(hi, lo), data, report };
          return remappingText(request, reason, out, this.#suppressed);
        });
      },
    };
  }

  /** Of devices with a TLB, and of hosts. */
  #deviceRequests(
    unit: VtdUnit,
  ): Pick<VtdUnit, 'translationRequest' | 'translatedRequest' | 'pageRequest' | 'hostFault'> {
    const translationRequest = unit.translationRequest.bind(unit);
    const translatedRequest = unit.translatedRequest.bind(unit);
    const pageRequest = unit.pageRequest.bind(unit);
    const hostFault = unit.hostFault.bind(unit);
    return {
      translationRequest: (requesterId, pasid, hi, lo, access, out) =>
        this.#journal.during(
          'answer',
          () => translationRequest(requesterId, pasid, hi, lo, access, out),
          status => completionText({ requesterId, pasid, address: wordsOf(hi, lo), access }, status, out),
        ),
      translatedRequest: (requesterId, pasid, hi, lo, access) =>
        this.#journal.during(
          'answer',
          () => translatedRequest(requesterId, pasid, hi, lo, access),
          status => translatedRequestText({ requesterId, pasid, address: wordsOf(hi, lo), access }, status),
        ),
      pageRequest: request =>
        this.#journal.during(
          'answer',
          () => pageRequest(request),
          taken => pageRequestText(request, taken),
        ),
      hostFault: (requesterId, fault) =>
        this.#journal.during(
          'answer',
          () => hostFault(requesterId, fault),
          told => hostFaultText(requesterId, fault, told),
        ),
    };
  }

  #around(environment: VtdEnvironment, endpoints: RecordedEndpoints): VtdEnvironment {
    const journal = this.#journal;
    const { memory, propagation, endpoint } = environment;
    return {
      ...environment,
      memory: new RecordedMemory(memory, {
        read: (hi, lo, length, bytes) => this.#read(hi, lo, length, bytes),
        wrote: (hi, lo, length, bytes) => this.#wrote(hi, lo, length, bytes),
      }),
      sendMsi: (hi, lo, data) => {
        this.#journal.effect(interruptText(hi, lo, data));
        environment.sendMsi(hi, lo, data);
      },
      faultOffered: record => {
        this.#journal.effect(recordText(record));
        environment.faultOffered?.(record);
      },
      faultSuppressed: reason => {
        this.#suppressed = true;
        this.#journal.effect(suppressedText(reason));
        environment.faultSuppressed?.(reason);
      },
      propagation: recordedPropagation(propagation ?? {}, {
        deviceTlb: (requesterId, pasid, hi, lo, shift) =>
          journal.effect(deviceTlbText(requesterId, pasid, wordsOf(hi, lo), rangeMask(shift))),
        told: (name, parameters, refused) => {
          if (this.#options.lent || refused !== undefined) journal.effect(hostCallText(name, parameters, refused));
        },
        commanded: (opcode, operand, answer) =>
          journal.effect(`${virtualCommandText(opcode, operand)}${virtualCommandAnswerText(answer)}`),
        response: (requesterId, pasid, group, code, respond) =>
          propagation?.pageResponse === undefined
            ? undefined
            : journal.telling(respond, result =>
                result === undefined ? undefined : pageResponseText(requesterId, pasid, group, code, -result),
              ),
      }),
      ...(endpoint === undefined ? {} : { endpoint: id => endpoints.recorded(id, endpoint.call(environment, id)) }),
    };
  }

  #read(hi: number, lo: number, length: number, bytes: Uint8Array | undefined): void {
    // Somebody looks at the unit's tables: no part of what the unit does.
    if (this.#journal.idle) return;
    if (bytes === undefined) {
      if (this.#known.fail(hi, lo, length)) this.#journal.effect(memoryErrorText(hi, lo, length));
    } else if (this.#known.learn(hi, lo, bytes)) this.#journal.effect(memoryText('MR', hi, lo, bytes));
  }

  /** A write that failed, and one to a place that failed before, tell of the place as reads do. */
  #wrote(hi: number, lo: number, length: number, bytes: Uint8Array | undefined): void {
    if (bytes === undefined) {
      this.#read(hi, lo, length, bytes);
      return;
    }
    if (this.#known.fails(hi, lo, length)) this.#journal.effect(memoryText('MR', hi, lo, bytes));
    this.#known.learn(hi, lo, bytes);
    this.#journal.effect(memoryText('MW', hi, lo, bytes));
  }
}

function wordsOf(hi: number, lo: number): { hi: number; lo: number } {
  return { hi: hi >>> 0, lo: lo >>> 0 };
}
