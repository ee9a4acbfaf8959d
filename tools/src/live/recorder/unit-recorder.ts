/**
 * Writes down what is done to a VT-d unit and what the unit does, in the format of the recordings that `remora replay` takes: beside the
 * model, around its environment and its operations. The unit itself is an ordinary one.
 */
import { Reg, type UnitFactory, type VtdEnvironment, type VtdUnit } from '@hw/intel-iommu';
import { GlobalCommand } from '@hw/intel-iommu/spec';
import type { MmioOps } from '@remora/core';
import type { AtsEndpoint } from '@remora/iommu';
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
import { KnownMemory } from './known-memory.js';
import { RecordedMemory } from './recorded-memory.js';
import { recordedPropagation } from './recorded-propagation.js';

export interface RecorderOptions {
  /** Takes the lines, one after the other. */
  readonly write: (line: string) => void;
  /** Of this project. */
  readonly version: string;
  /** What ran: the beginning of the recording's command line. */
  readonly command: string;
}

/** What QEMU writes behind a refusal; readers pass over it. */
const NO_MASK = 'fff';

export class UnitRecorder {
  readonly #options: RecorderOptions;
  readonly #known = new KnownMemory();
  /** Of the operation under way: its own line, and those of what happens during it. */
  #lines: string[] = [];
  #depth = 0;
  /** FPD suppressed a fault of the operation under way. */
  #suppressed = false;
  #taken = false;
  #ended = false;
  #problem: string | undefined;

  constructor(options: RecorderOptions) {
    this.#options = options;
  }

  /** Why the recording is not complete; undefined if it is, so far. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Makes the unit that is recorded, with `make`. @throws Error for a second one: a recording has one. */
  units(make: UnitFactory): UnitFactory {
    return (config, environment, ...rest) => {
      if (this.#taken) throw new Error('a recording has one unit');
      this.#taken = true;
      const { write, version, command } = this.#options;
      for (const line of headerLines(version, factsOf(config), command, optionsOf(config))) write(line);
      return this.#recorded(make(config, this.#around(environment), ...rest));
    };
  }

  /** Nothing is recorded any more. Returns why the recording was cut off, if it was. */
  end(): string | undefined {
    if (!this.#ended) this.#options.write(this.#problem === undefined ? END : TRUNCATED);
    this.#ended = true;
    return this.#problem;
  }

  /** Takes the unit's operations over: they are the same, but written down. Its class is its maker's business. */
  #recorded(unit: VtdUnit): VtdUnit {
    const { mmio } = unit;
    const operations: Partial<VtdUnit> = {
      mmio: this.#registers(mmio),
      ...this.#requests(unit),
      ...this.#unknown(unit),
    };
    const reset = unit.reset.bind(unit);
    operations.reset = () =>
      this.#during(reset, () => resetText({ hi: unit.capHi, lo: unit.capLo }, { hi: unit.ecapHi, lo: unit.ecapLo }));
    return Object.assign(unit, operations);
  }

  #registers(mmio: MmioOps): MmioOps {
    return {
      ...mmio,
      read: (offset, size, attrs) =>
        this.#during(
          () => mmio.read(offset, size, attrs),
          value => registerText('R', offset, size, 0, value),
          true,
        ),
      read64: (offset, out, attrs) =>
        this.#during(
          () => mmio.read64!(offset, out, attrs),
          () => registerText('R', offset, 8, out[1]!, out[0]!),
          true,
        ),
      write: (offset, value, size, attrs) =>
        this.#during(
          () => mmio.write(offset, value, size, attrs),
          () => registerText('W', offset, size, 0, value),
        ),
      write64: (offset, hi, lo, attrs) =>
        this.#during(
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
        return this.#during(
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
        return this.#during(remap, reason => {
          if (this.#suppressed) this.#lines = this.#lines.filter(line => !line.startsWith(' FPD '));
          const request = { requesterId, address: wordsOf(hi, lo), data, report };
          return remappingText(request, reason, out, this.#suppressed);
        });
      },
    };
  }

  /** What the format has no words for. */
  #unknown(unit: VtdUnit): Pick<VtdUnit, 'translationRequest' | 'translatedRequest' | 'pageRequest' | 'load'> {
    const translationRequest = unit.translationRequest.bind(unit);
    const translatedRequest = unit.translatedRequest.bind(unit);
    const pageRequest = unit.pageRequest.bind(unit);
    const load = unit.load.bind(unit);
    return {
      translationRequest: (...parameters) => {
        this.#spoil('a device asked for a translation');
        return translationRequest(...parameters);
      },
      translatedRequest: (...parameters) => {
        this.#spoil('a device sent a translated request');
        return translatedRequest(...parameters);
      },
      pageRequest: request => {
        this.#spoil('a device sent a page request');
        return pageRequest(request);
      },
      load: from => {
        this.#spoil('a state was loaded');
        load(from);
      },
    };
  }

  #around(environment: VtdEnvironment): VtdEnvironment {
    const { memory, propagation, endpoint } = environment;
    return {
      ...environment,
      memory: new RecordedMemory(memory, {
        read: (hi, lo, length, bytes) => this.#read(hi, lo, length, bytes),
        wrote: (hi, lo, length, bytes) => this.#wrote(hi, lo, length, bytes),
      }),
      sendMsi: (hi, lo, data) => {
        this.#effect(interruptText(hi, lo, data));
        environment.sendMsi(hi, lo, data);
      },
      faultOffered: record => {
        this.#effect(recordText(record));
        environment.faultOffered?.(record);
      },
      faultSuppressed: reason => {
        this.#suppressed = true;
        this.#effect(suppressedText(reason));
        environment.faultSuppressed?.(reason);
      },
      propagation: recordedPropagation(propagation ?? {}, {
        deviceTlb: (requesterId, pasid, hi, lo, shift) =>
          this.#effect(deviceTlbText(requesterId, pasid, wordsOf(hi, lo), rangeMask(shift))),
        decided: what => this.#spoil(what),
      }),
      ...(endpoint === undefined ? {} : { endpoint: id => this.#endpoint(endpoint.call(environment, id)) }),
    };
  }

  /** A device with a TLB: a replay takes it that it has done at once what it is told. */
  #endpoint(below: AtsEndpoint | undefined): AtsEndpoint | undefined {
    if (below === undefined) {
      this.#spoil('a device TLB was to be invalidated that is not there');
      return undefined;
    }
    return {
      invalidate: (...parameters) => {
        const done = below.invalidate(...parameters);
        if (!done) this.#spoil('a device took its time over an invalidation');
        return done;
      },
      pageResponse: (...parameters) => below.pageResponse(...parameters),
    };
  }

  #read(hi: number, lo: number, length: number, bytes: Uint8Array | undefined): void {
    // Somebody looks at the unit's tables: no part of what the unit does.
    if (this.#depth === 0) return;
    if (bytes === undefined) {
      if (this.#known.fail(hi, lo, length)) this.#effect(memoryErrorText(hi, lo, length));
    } else if (this.#known.learn(hi, lo, bytes)) this.#effect(memoryText('MR', hi, lo, bytes));
  }

  /** A write that failed, and one to a place that failed before, tell of the place as reads do. */
  #wrote(hi: number, lo: number, length: number, bytes: Uint8Array | undefined): void {
    if (bytes === undefined) {
      this.#read(hi, lo, length, bytes);
      return;
    }
    if (this.#known.fails(hi, lo, length)) this.#effect(memoryText('MR', hi, lo, bytes));
    this.#known.learn(hi, lo, bytes);
    this.#effect(memoryText('MW', hi, lo, bytes));
  }

  /** Writes down an operation, whose line comes first although its result is known last. `nests`: it may be part of another one. */
  #during<T>(perform: () => T, text: (result: T) => string, nests = false): T {
    if (this.#depth > 0 && !nests) this.#spoil('an operation came during another one');
    if (this.#problem !== undefined || this.#ended) return perform();
    const indent = ' '.repeat(this.#depth++);
    if (this.#depth === 1) this.#suppressed = false;
    const at = this.#lines.push('') - 1;
    try {
      const result = perform();
      const line = text(result);
      this.#lines[at] = `${indent}${line}`;
      return result;
    } catch (failure) {
      this.#spoil(`the unit failed: ${String(failure)}`);
      throw failure;
    } finally {
      if (--this.#depth === 0) this.#flush();
    }
  }

  #effect(text: string): void {
    if (this.#problem !== undefined || this.#ended) return;
    if (this.#depth === 0) this.#spoil('the unit did something by itself');
    else this.#lines.push(`${' '.repeat(this.#depth)}${text}`);
  }

  #flush(): void {
    if (this.#problem === undefined) for (const line of this.#lines) this.#options.write(line);
    this.#lines = [];
  }

  /** What comes from here on could not be replayed. */
  #spoil(problem: string): void {
    this.#problem ??= problem;
  }
}

function wordsOf(hi: number, lo: number): { hi: number; lo: number } {
  return { hi: hi >>> 0, lo: lo >>> 0 };
}
