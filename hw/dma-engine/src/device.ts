/**
 * dma-engine: copies and fills memory, with or without a PASID. One class for the emulated device in a guest and for the
 * physical device on a host: all it has is a function on a bus, a clock and a ledger.
 * Reference: README.md. Omits: ATS, page requests, descriptor rings.
 */
import { hex } from '@remora/bits';
import {
  Access,
  type Device,
  type Inspector,
  type Ledger,
  MemTx,
  type MmioOps,
  NO_PASID,
  PAGE_BYTES,
  Region,
  type ResetPhase,
  type StateReader,
  type StateWriter,
  type Timer,
  type VirtualClock,
} from '@remora/core';
import { ExpressType, type PciDeviceContext, PciFunction } from '@remora/pci';
import type { DmaEngineConfig } from './config.js';
import {
  BAR_BYTES,
  CLASS,
  Ctrl,
  DEVICE,
  EngineError,
  IDENTIFICATION,
  MAX_LENGTH,
  MSIX_BAR,
  Operation,
  PASID_BITS,
  PasidWord,
  Reg,
  REVISION,
  StatusWord,
  VENDOR,
} from './spec.js';

const TWO_32 = 0x1_0000_0000;
const STATUS = Reg.STATUS >>> 2;
const PASID = Reg.PASID >>> 2;

/** A byte address that advances; two words, so that all 64 bits are exact. */
class Cursor {
  hi = 0;
  lo = 0;

  set(hi: number, lo: number): void {
    this.hi = hi >>> 0;
    this.lo = lo >>> 0;
  }

  advance(bytes: number): void {
    const next = this.lo + bytes;
    this.lo = next % TWO_32;
    if (next >= TWO_32) this.hi += 1;
  }

  /** Bytes up to the end of the page. */
  get left(): number {
    return PAGE_BYTES - (this.lo % PAGE_BYTES);
  }

  /** Whether `bytes` bytes from here end at or below 2^64. */
  holds(bytes: number): boolean {
    return this.hi < 0xffff_ffff || this.lo + bytes <= TWO_32;
  }
}

export class DmaEngine implements Device {
  readonly name: string;
  readonly fn: PciFunction;
  readonly #plug: PciDeviceContext['plug'];
  readonly #clock: VirtualClock;
  readonly #ledger: Ledger;
  readonly #latency: number;
  readonly #regs = new Int32Array(BAR_BYTES / 4);
  readonly #buffer = new Uint8Array(PAGE_BYTES);
  readonly #source = new Cursor();
  readonly #target = new Cursor();
  #timer: Timer | undefined;
  /** Counts commands, resets and moves: a command that another of them overtakes moves no more and reports nothing. */
  #epoch = 0;

  constructor(context: Pick<PciDeviceContext, 'name' | 'clock' | 'ledger' | 'plug'>, config: DmaEngineConfig) {
    this.name = context.name;
    this.#plug = fn => context.plug(fn);
    this.#clock = context.clock;
    this.#ledger = context.ledger;
    this.#latency = config.latency;
    this.fn = new PciFunction(context.name, {
      vendor: VENDOR,
      device: DEVICE,
      revision: REVISION,
      classCode: CLASS,
      pcie: true,
    });
    this.fn.enableExpress(ExpressType.ENDPOINT);
    this.fn.enableMsi(1);
    this.fn.enableMsix(1, MSIX_BAR);
    this.fn.enablePasid(PASID_BITS, { execute: true, privileged: true });
    this.fn.addBar(0, Region.mmio(`${context.name}.registers`, BAR_BYTES, this.#ops), { type: 'mem32' });
    this.fn.onReset(() => this.#clear());
    this.fn.onMove(() => this.#cancel());
    this.#clear();
  }

  readonly #ops: MmioOps = {
    valid: { min: 4, max: 4 },
    impl: { min: 4, max: 4 },
    read: offset => this.#regs[offset >>> 2]! >>> 0,
    write: (offset, value) => this.#write(offset, value),
  };

  /** While a command runs, registers keep their values: the engine works on what software started. */
  #write(offset: number, value: number): void {
    if (StatusWord.fields.busy.get(this.#regs, STATUS) !== 0) return;
    switch (offset) {
      case Reg.LEN:
      case Reg.SRC_LO:
      case Reg.SRC_HI:
      case Reg.DST_LO:
      case Reg.DST_HI:
      case Reg.PATTERN:
        this.#regs[offset >>> 2] = value;
        break;
      case Reg.PASID:
        this.#regs[PASID] = value & ~PasidWord.reserved[0]!;
        break;
      case Reg.CTRL:
        this.#regs[Reg.CTRL >>> 2] = value & ~Ctrl.reserved[0]!;
        this.#start();
        break;
      default:
    }
  }

  #start(): void {
    const at = Reg.CTRL >>> 2;
    if (Ctrl.fields.start.get(this.#regs, at) === 0) return;
    Ctrl.fields.start.set(this.#regs, at, 0);
    this.#regs[STATUS] = 0;
    this.#regs[Reg.FAIL_LO >>> 2] = 0;
    this.#regs[Reg.FAIL_HI >>> 2] = 0;
    this.#regs[Reg.MOVED >>> 2] = 0;
    StatusWord.fields.busy.set(this.#regs, STATUS, 1);
    if (this.#latency === 0) this.#run();
    else this.#timer = this.#clock.after(this.#latency, () => this.#run());
  }

  #run(): void {
    this.#timer = undefined;
    const event = this.#ledger.on ? this.#ledger.open(this.name, 'dma-command', this.#described()) : 0;
    const epoch = ++this.#epoch;
    const error = this.#execute(epoch);
    if (epoch === this.#epoch) this.#finish(error);
    if (event !== 0) {
      this.#ledger.close(event, { status: StatusWord.format(this.#regs, STATUS), moved: this.#reg(Reg.MOVED) });
    }
  }

  #finish(error: number): void {
    StatusWord.fields.busy.set(this.#regs, STATUS, 0);
    StatusWord.fields.done.set(this.#regs, STATUS, 1);
    StatusWord.fields.error.set(this.#regs, STATUS, error);
    if (Ctrl.fields.interrupt.get(this.#regs, Reg.CTRL >>> 2) !== 0) this.fn.msi(0);
  }

  #execute(epoch: number): number {
    const length = this.#reg(Reg.LEN);
    const command = Ctrl.fields.command.get(this.#regs, Reg.CTRL >>> 2);
    if (command !== Operation.COPY && command !== Operation.FILL) return EngineError.COMMAND;
    if (length === 0 || length > MAX_LENGTH) return EngineError.LENGTH;
    this.#source.set(this.#reg(Reg.SRC_HI), this.#reg(Reg.SRC_LO));
    this.#target.set(this.#reg(Reg.DST_HI), this.#reg(Reg.DST_LO));
    if (!this.#target.holds(length)) return EngineError.ADDRESS;
    if (command === Operation.FILL) return this.#fill(length, epoch);
    return this.#source.holds(length) ? this.#copy(length, epoch) : EngineError.ADDRESS;
  }

  /** Page by page in ascending order, so that a failure names the first byte that could not be moved. */
  #copy(length: number, epoch: number): number {
    for (let left = length; left > 0;) {
      const count = Math.min(left, this.#source.left, this.#target.left);
      const chunk = this.#buffer.subarray(0, count);
      if (!this.#access(false, this.#source, chunk, epoch) || !this.#access(true, this.#target, chunk, epoch))
        return EngineError.MEMORY;
      this.#source.advance(count);
      this.#moved(count);
      left -= count;
    }
    return EngineError.NONE;
  }

  #fill(length: number, epoch: number): number {
    const pattern = this.#reg(Reg.PATTERN);
    for (let done = 0; done < length;) {
      const count = Math.min(length - done, this.#target.left);
      for (let i = 0; i < count; i++) this.#buffer[i] = pattern >>> (8 * ((done + i) & 3));
      if (!this.#access(true, this.#target, this.#buffer.subarray(0, count), epoch)) return EngineError.MEMORY;
      this.#moved(count);
      done += count;
    }
    return EngineError.NONE;
  }

  #moved(count: number): void {
    this.#target.advance(count);
    this.#regs[Reg.MOVED >>> 2]! += count;
  }

  /** Whether the command may go on. */
  #access(write: boolean, at: Cursor, chunk: Uint8Array, epoch: number): boolean {
    const { valid, pasid, execute, privileged } = PasidWord.fields;
    const tagged = valid.get(this.#regs, PASID) !== 0;
    const value = tagged ? pasid.get(this.#regs, PASID) : NO_PASID;
    const flags = tagged
      ? (!write && execute.get(this.#regs, PASID) !== 0 ? Access.EXECUTE : 0) |
        (privileged.get(this.#regs, PASID) !== 0 ? Access.PRIVILEGED : 0)
      : 0;
    const result = write
      ? this.fn.dma.write(at.hi, at.lo, chunk, value, flags)
      : this.fn.dma.read(at.hi, at.lo, chunk, value, flags);
    if (epoch !== this.#epoch) return false;
    if (result === MemTx.OK) return true;
    StatusWord.fields.result.set(this.#regs, STATUS, result);
    StatusWord.fields.failedWrite.set(this.#regs, STATUS, write ? 1 : 0);
    this.#regs[Reg.FAIL_LO >>> 2] = at.lo;
    this.#regs[Reg.FAIL_HI >>> 2] = at.hi;
    return false;
  }

  #reg(offset: number): number {
    return this.#regs[offset >>> 2]! >>> 0;
  }

  #described(): Record<string, unknown> {
    const tagged = PasidWord.fields.valid.get(this.#regs, PASID) !== 0;
    return {
      operation: Ctrl.fields.command.get(this.#regs, Reg.CTRL >>> 2) === Operation.FILL ? 'fill' : 'copy',
      pasid: tagged ? PasidWord.fields.pasid.get(this.#regs, PASID) : NO_PASID,
      source: hex(this.#reg(Reg.SRC_HI), this.#reg(Reg.SRC_LO)),
      target: hex(this.#reg(Reg.DST_HI), this.#reg(Reg.DST_LO)),
      length: this.#reg(Reg.LEN),
    };
  }

  #cancel(): void {
    this.#epoch++;
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    StatusWord.fields.busy.set(this.#regs, STATUS, 0);
  }

  #clear(): void {
    this.#cancel();
    this.#regs.fill(0);
    this.#regs[Reg.ID >>> 2] = IDENTIFICATION;
    this.#regs[Reg.MAX_LEN >>> 2] = MAX_LENGTH;
  }

  realize(): void {
    this.#plug(this.fn);
  }

  /** DMA is cancelled in the first phase: IOMMUs reset later. */
  reset(phase: ResetPhase): void {
    if (phase === 'enter') this.#cancel();
    else if (phase === 'hold') this.fn.reset();
  }

  unplug(): void {
    this.fn.bus?.unplug(this.fn);
  }

  /** A command that waits for its latency goes on waiting. The physical engine of a host is saved alike, through VFIO. */
  save(into: StateWriter): void {
    into.words('registers', this.#regs).timer('command', this.#timer, this.#clock.now);
  }

  load(from: StateReader): void {
    this.#cancel();
    from.words('registers', this.#regs);
    this.#timer = from.timer('command', this.#clock, () => this.#run());
  }

  inspect(into: Inspector): void {
    this.fn.inspect(into);
    into.record('ctrl', Ctrl, this.#regs, Reg.CTRL >>> 2);
    into.record('status', StatusWord, this.#regs, STATUS);
    into.record('pasid', PasidWord, this.#regs, PASID);
  }

  [Symbol.dispose](): void {
    this.#cancel();
    this.fn.bus?.unplug(this.fn);
  }
}
