/**
 * dma-engine: copies and fills memory, with or without a PASID. One class for the emulated device in a guest and for the
 * physical device on a host: all it has is a function on a bus, a clock and a ledger.
 * Reference: README.md. Omits: descriptor rings.
 */
import { hex } from '@remora/bits';
import {
  type Device,
  type Inspector,
  type Ledger,
  type MmioOps,
  NO_PASID,
  Region,
  type ResetPhase,
  type StateReader,
  type StateWriter,
  type Timer,
  type VirtualClock,
} from '@remora/core';
import { DeviceTlb, DeviceTlbChannel, ExpressType, type PciDeviceContext, PciFunction } from '@remora/pci';
import type { DmaEngineConfig } from './config.js';
import {
  BAR_BYTES,
  CLASS,
  Ctrl,
  DEVICE,
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
import { Stop, Transfer } from './transfer.js';

const STATUS = Reg.STATUS >>> 2;
const PASID = Reg.PASID >>> 2;

export class DmaEngine implements Device {
  readonly name: string;
  readonly fn: PciFunction;
  readonly #plug: PciDeviceContext['plug'];
  readonly #clock: VirtualClock;
  readonly #ledger: Ledger;
  readonly #latency: number;
  readonly #regs = new Int32Array(BAR_BYTES / 4);
  /** The function's own cache of translations, and the way through it; undefined without ATS. */
  readonly #tlb: DeviceTlb | undefined;
  readonly #channel: DeviceTlbChannel | undefined;
  readonly #transfer: Transfer;
  #timer: Timer | undefined;
  /** The command waits for a page. */
  #waiting = false;

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
    if (config.ats) {
      this.fn.enableAts();
      if (config.pri) this.fn.enablePri();
      this.#tlb = new DeviceTlb(this.fn, { clock: context.clock, invalidateLatency: config['x-invalidate-latency'] });
      this.#channel = new DeviceTlbChannel(this.fn, this.#tlb, () => this.#resume());
    }
    this.#transfer = new Transfer(this.#channel ?? this.fn.dma, this.#regs);
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
    this.#perform(false);
  }

  /** The answer to a page request came. */
  #resume(): void {
    this.#perform(true);
  }

  #perform(resumed: boolean): void {
    const event = this.#ledger.on ? this.#ledger.open(this.name, 'dma-command', this.#described(resumed)) : 0;
    const outcome = resumed ? this.#transfer.resume() : this.#transfer.begin();
    if (outcome !== Stop.OVERTAKEN) {
      this.#waiting = outcome === Stop.WAITING;
      if (!this.#waiting) this.#finish(outcome);
    }
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

  #reg(offset: number): number {
    return this.#regs[offset >>> 2]! >>> 0;
  }

  #described(resumed: boolean): Record<string, unknown> {
    const tagged = PasidWord.fields.valid.get(this.#regs, PASID) !== 0;
    return {
      operation: Ctrl.fields.command.get(this.#regs, Reg.CTRL >>> 2) === Operation.FILL ? 'fill' : 'copy',
      pasid: tagged ? PasidWord.fields.pasid.get(this.#regs, PASID) : NO_PASID,
      source: hex(this.#reg(Reg.SRC_HI), this.#reg(Reg.SRC_LO)),
      target: hex(this.#reg(Reg.DST_HI), this.#reg(Reg.DST_LO)),
      length: this.#reg(Reg.LEN),
      ...(resumed ? { resumed } : {}),
    };
  }

  #cancel(): void {
    this.#transfer.cancel();
    this.#channel?.cancel();
    this.#waiting = false;
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

  /** A command that waits, for its latency or for a page, goes on waiting. The physical engine of a host is saved alike, through VFIO. */
  save(into: StateWriter): void {
    into.words('registers', this.#regs).timer('command', this.#timer, this.#clock.now);
    this.#tlb?.save(into.child('device-tlb'));
    if (!this.#waiting) return;
    const waiting = into.child('waiting');
    this.#transfer.save(waiting);
    this.#channel?.save(waiting.child('page'));
  }

  load(from: StateReader): void {
    this.#cancel();
    from.words('registers', this.#regs);
    this.#timer = from.timer('command', this.#clock, () => this.#run());
    this.#tlb?.load(from.child('device-tlb'));
    const waiting = from.optional('waiting');
    if (waiting === undefined) return;
    this.#waiting = true;
    this.#transfer.load(waiting);
    this.#channel?.load(waiting.child('page'));
  }

  inspect(into: Inspector): void {
    this.fn.inspect(into);
    into.record('ctrl', Ctrl, this.#regs, Reg.CTRL >>> 2);
    into.record('status', StatusWord, this.#regs, STATUS);
    into.record('pasid', PasidWord, this.#regs, PASID);
    if (this.#tlb !== undefined) {
      into.value('waitsForPage', this.#waiting);
      this.#tlb.inspect(into.child('deviceTlb'));
    }
  }

  [Symbol.dispose](): void {
    this.#cancel();
    this.#tlb?.[Symbol.dispose]();
    this.fn.bus?.unplug(this.fn);
  }
}
