/** The controller: its registers, and how it is enabled, disabled and shut down (NVMe 1.4, 3.1 and 7.6). */
import { type Inspector, type Ledger, type StateReader, type StateWriter, type VirtualClock } from '@remora/core';
import { hex } from '@remora/bits';
import type { PciFunction } from '@remora/pci';
import type { NvmeConfig } from '../config.js';
import {
  Aqa,
  Cap,
  Cc,
  CommandSets,
  CSS_IDENTIFIED,
  CSS_NVM,
  Csts,
  MAX_MPS,
  MIN_PAGE_SHIFT,
  Reg,
  SHUTDOWN_COMPLETE,
  VERSION,
} from '../spec/index.js';
import { Engine } from './engine.js';
import type { Interrupts } from './interrupts.js';
import type { Namespace } from './namespace.js';
import { Parts } from './parts.js';
import type { QueueFormat, Queues } from './queue-commands.js';
import { CompletionQueue, SubmissionQueue } from './queues.js';

// Words of the registers that are kept.
const CC = 0;
const CSTS = 1;
const AQA = 2;
const ASQ = 3;
const ACQ = 5;
const WORDS = 7;

/** CAP.TO: 7.5 s. */
const READY_TIMEOUT = 15;
/** The bits of ASQ and ACQ that are an address. */
const PAGE_MASK = -(1 << MIN_PAGE_SHIFT);
const WHILE_ENABLED = Cc.encode({ shn: 3, iosqes: 15, iocqes: 15, en: 1 })[0]!;

export interface ControllerOptions {
  readonly fn: PciFunction;
  readonly clock: VirtualClock;
  readonly ledger: Ledger;
  readonly config: NvmeConfig;
  readonly serial: string;
  readonly queues: Queues;
  readonly interrupts: Interrupts;
  readonly vectors: number;
  readonly namespace: Namespace | undefined;
}

export class Controller {
  readonly #regs = new Int32Array(WORDS);
  readonly #cap: Int32Array;
  readonly #interrupts: Interrupts;
  readonly #namespace: Namespace | undefined;
  readonly #queues: Queues;
  readonly #parts: Parts;
  readonly #engine: Engine;

  constructor(options: ControllerOptions) {
    const { config, fn, queues, interrupts } = options;
    this.#cap = Cap.encode({
      mqes: config.mqes,
      cqr: 1,
      to: READY_TIMEOUT,
      css: CSS_NVM | CSS_IDENTIFIED,
      mpsmax: MAX_MPS,
    });
    this.#interrupts = interrupts;
    this.#queues = queues;
    this.#namespace = options.namespace;
    const parts = new Parts(options, {
      completeRequest: (cid, status, result, others) => this.#engine.completeRequest(cid, status, result, others),
      format: () => this.#engine.format,
    });
    this.#parts = parts;
    const { errors, events, execute } = parts;
    this.#engine = new Engine({ fn, queues, interrupts, errors, events, execute, fatal: () => this.#fatal() });
  }

  /** A register, or the half of one; zero where there is none. */
  read(offset: number): number {
    switch (offset) {
      case Reg.CAP:
      case Reg.CAP + 4:
        return this.#cap[offset >>> 2]! >>> 0;
      case Reg.VS:
        return VERSION;
      case Reg.INTMS:
      case Reg.INTMC:
        return this.#interrupts.mask >>> 0;
      case Reg.CC:
        return this.#regs[CC]! >>> 0;
      case Reg.CSTS:
        return this.#regs[CSTS]! >>> 0;
      case Reg.AQA:
      case Reg.ASQ:
      case Reg.ASQ + 4:
      case Reg.ACQ:
      case Reg.ACQ + 4:
        return this.#regs[AQA + ((offset - Reg.AQA) >>> 2)]! >>> 0;
      default:
        return 0;
    }
  }

  /** Writes a register, or the half of one. */
  write(offset: number, value: number): void {
    if (offset >= Reg.DOORBELLS) {
      const id = (offset - Reg.DOORBELLS) >>> 3;
      if ((offset & 4) === 0) this.#engine.submissionDoorbell(id, value & 0xffff);
      else this.#engine.completionDoorbell(id, value & 0xffff);
      return;
    }
    switch (offset) {
      case Reg.INTMS:
        this.#interrupts.maskOff(value);
        break;
      case Reg.INTMC:
        this.#interrupts.unmask(value);
        break;
      case Reg.CC:
        this.#configure(value);
        break;
      case Reg.AQA:
        this.#regs[AQA] = value & ~Aqa.reserved[0]!;
        break;
      case Reg.ASQ:
      case Reg.ACQ:
        this.#regs[AQA + ((offset - Reg.AQA) >>> 2)] = value & PAGE_MASK;
        break;
      case Reg.ASQ + 4:
      case Reg.ACQ + 4:
        this.#regs[AQA + ((offset - Reg.AQA) >>> 2)] = value;
        break;
      default:
    }
  }

  /** While the controller is enabled, only what may change then does. */
  #configure(written: number): void {
    const { en, shn } = Cc.fields;
    const value = written & ~Cc.reserved[0]!;
    const before = this.#regs[CC]!;
    const enabled = en.get(this.#regs, CC) !== 0;
    this.#regs[CC] = enabled && (value & 1) !== 0 ? (before & ~WHILE_ENABLED) | (value & WHILE_ENABLED) : value;
    const enable = en.get(this.#regs, CC) !== 0;
    if (enable && !enabled) this.#enable();
    else if (enabled && !enable) this.#disable();
    else if (enabled) this.#engine.format = this.#format();
    const { shst } = Csts.fields;
    if (shn.get(this.#regs, CC) === 0) {
      shst.set(this.#regs, CSTS, 0);
    } else if (shst.get(this.#regs, CSTS) === 0) {
      this.#namespace?.backing.flush();
      shst.set(this.#regs, CSTS, SHUTDOWN_COMPLETE);
    }
  }

  /** What cannot be is a fatal status: the controller does not become ready. */
  #enable(): void {
    const { mps, ams, css } = Cc.fields;
    const { asqs, acqs } = Aqa.fields;
    const regs = this.#regs;
    const commandSets = css.get(regs, CC);
    const known = commandSets === CommandSets.NVM || commandSets === CommandSets.ALL;
    const format = this.#format();
    const misplaced = ((regs[ASQ]! | regs[ACQ]!) & (format.pageBytes - 1)) !== 0;
    const sizes = [asqs.get(regs, AQA), acqs.get(regs, AQA)] as const;
    if (mps.get(regs, CC) > MAX_MPS || ams.get(regs, CC) !== 0 || !known || misplaced || sizes.includes(0)) {
      this.#fatal();
      return;
    }
    const submission = new SubmissionQueue(0, regs[ASQ + 1]!, regs[ASQ]!, sizes[0] + 1, 0);
    const completion = new CompletionQueue(0, regs[ACQ + 1]!, regs[ACQ]!, sizes[1] + 1, 0, true);
    this.#engine.start(format, submission, completion);
    Csts.fields.rdy.set(regs, CSTS, 1);
  }

  /** A controller reset (7.3.2): everything but the admin queues' registers. */
  #disable(): void {
    this.#stop();
    this.#regs[CSTS] = 0;
    this.#interrupts.mask = 0;
    this.#interrupts.changed();
  }

  #stop(): void {
    const { rdy, shst } = Csts.fields;
    if (rdy.get(this.#regs, CSTS) !== 0 && shst.get(this.#regs, CSTS) === 0) this.#parts.health.unsafeShutdowns++;
    this.#engine.stop();
    this.#parts.features.reset();
  }

  #fatal(): void {
    Csts.fields.cfs.set(this.#regs, CSTS, 1);
  }

  #format(): QueueFormat {
    const { mps, iosqes, iocqes } = Cc.fields;
    return {
      pageBytes: 2 ** (MIN_PAGE_SHIFT + Math.min(mps.get(this.#regs, CC), MAX_MPS)),
      sqEntry: iosqes.get(this.#regs, CC),
      cqEntry: iocqes.get(this.#regs, CC),
    };
  }

  /** After a reset of the function. */
  reset(): void {
    this.#disable();
    this.#regs.fill(0);
  }

  save(into: StateWriter): void {
    into.words('registers', this.#regs).integer('interrupt-mask', this.#interrupts.mask >>> 0);
    this.#engine.save(into.child('queues'));
    this.#parts.save(into);
  }

  load(from: StateReader): void {
    from.words('registers', this.#regs);
    this.#interrupts.mask = from.integer('interrupt-mask', { max: 0xffff_ffff }) | 0;
    this.#engine.load(from.child('queues'));
    this.#engine.format = this.#format();
    this.#parts.load(from);
  }

  inspect(into: Inspector): void {
    into.record('cap', Cap, this.#cap).record('cc', Cc, this.#regs, CC).record('csts', Csts, this.#regs, CSTS);
    into.record('aqa', Aqa, this.#regs, AQA);
    into.value('asq', hex(this.#regs[ASQ + 1]!, this.#regs[ASQ]!));
    into.value('acq', hex(this.#regs[ACQ + 1]!, this.#regs[ACQ]!));
    for (const queue of this.#queues.submission) queue?.inspect(into.child(`sq${queue.id}`));
    for (const queue of this.#queues.completion) queue?.inspect(into.child(`cq${queue.id}`));
    this.#parts.inspect(into);
  }
}
