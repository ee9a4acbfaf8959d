/**
 * Intel's Data Streaming Accelerator by its architecture specification, version 1.0: work queues, groups, engines, and the operations
 * that README.md lists.
 * Omits: delta records and DIF, Interrupt Message Storage, performance monitoring, occupancy interrupts, traffic classes.
 */
import {
  type Device,
  type Inspector,
  type MmioOps,
  Region,
  type ResetPhase,
  type StateReader,
  type StateWriter,
} from '@remora/core';
import { DeviceTlb, ExpressType, type PciDeviceContext, PciFunction } from '@remora/pci';
import type { DsaConfig } from '../config.js';
import {
  CLASS,
  CommandStatus,
  DEVICE,
  Gensts,
  MSIX_BAR,
  PAGE,
  PASID_BITS,
  PORTAL_BAR,
  PORTAL_PAGES,
  Reg,
  REGISTER_BAR,
  REGISTER_BYTES,
  REVISION,
  Swerr,
  VENDOR,
} from '../spec/index.js';
import { Commands } from './commands.js';
import { Portal } from './portal.js';
import { Registers } from './registers.js';
import { Scheduler } from './scheduler.js';

const PORTAL_BYTES = PORTAL_PAGES * PAGE;

export class Dsa implements Device {
  readonly name: string;
  readonly fn: PciFunction;
  readonly #plug: PciDeviceContext['plug'];
  readonly #tlb: DeviceTlb | undefined;
  readonly #registers: Registers;
  readonly #scheduler: Scheduler;
  readonly #commands: Commands;
  readonly #portals: readonly Portal[];

  constructor(context: Pick<PciDeviceContext, 'name' | 'clock' | 'plug'>, config: DsaConfig) {
    this.name = context.name;
    this.#plug = fn => context.plug(fn);
    this.fn = new PciFunction(context.name, {
      vendor: VENDOR,
      device: DEVICE,
      revision: REVISION,
      classCode: CLASS,
      pcie: true,
    });
    this.fn.enableExpress(ExpressType.INTEGRATED_ENDPOINT, { endToEndPrefixes: config.pasid });
    this.fn.enableMsix(config['work-queues'] + 1, MSIX_BAR);
    const pasidAt = config.pasid ? this.fn.enablePasid(PASID_BITS, { privileged: true }) : undefined;
    if (config.ats) {
      this.fn.enableAts();
      if (config.pri) this.fn.enablePri();
      this.#tlb = new DeviceTlb(this.fn, {
        entries: 256,
        clock: context.clock,
        invalidateLatency: config['x-invalidate-latency'],
      });
    }
    this.#registers = new Registers(config, this.fn, pasidAt);
    this.#scheduler = new Scheduler({ registers: this.#registers, fn: this.fn, tlb: this.#tlb }, context.clock, () =>
      this.#commands.poll(),
    );
    this.#commands = new Commands({
      registers: this.#registers,
      fn: this.fn,
      scheduler: this.#scheduler,
      reset: () => this.#clear(),
    });
    this.#portals = Array.from({ length: this.#registers.queues }, () => new Portal());
    const name = context.name;
    this.fn.addBar(REGISTER_BAR, Region.mmio(`${name}.registers`, REGISTER_BYTES, this.#registerOps), {
      type: 'mem64',
    });
    const bytes = 2 ** Math.ceil(Math.log2(PORTAL_BYTES * this.#registers.queues));
    this.fn.addBar(PORTAL_BAR, Region.mmio(`${name}.portals`, bytes, this.#portalOps), { type: 'mem64' });
    this.fn.onReset(() => this.#clear());
    this.fn.onMove(() => this.#scheduler.reset());
  }

  readonly #registerOps: MmioOps = {
    valid: { min: 4, max: 8 },
    impl: { min: 4, max: 4 },
    read: offset => this.#registers.read(offset) >>> 0,
    write: (offset, value) => {
      if (offset === Reg.CMD) this.#commands.write(value | 0);
      else this.#registers.write(offset, value | 0);
    },
  };

  readonly #portalOps: MmioOps = {
    valid: { min: 4, max: 8 },
    impl: { min: 4, max: 4 },
    read: () => 0xffff_ffff,
    write: (offset, value) => {
      const queue = Math.floor(offset / PORTAL_BYTES);
      const portal = this.#portals[queue];
      const words = portal?.write(offset % PORTAL_BYTES, value | 0);
      // Odd pages are limited portals.
      if (words !== undefined) this.#scheduler.submit(queue, words, Math.floor(offset / PAGE) % 2 === 1);
    },
  };

  realize(): void {
    this.#plug(this.fn);
  }

  /** Work is given up in the first phase: IOMMUs reset later. */
  reset(phase: ResetPhase): void {
    if (phase === 'enter') this.#scheduler.reset();
    else if (phase === 'hold') this.fn.reset();
  }

  unplug(): void {
    this.fn.bus?.unplug(this.fn);
  }

  save(into: StateWriter): void {
    this.#registers.save(into);
    into.list('portals', this.#portals, (each, portal) => portal.save(each));
    this.#tlb?.save(into.child('device-tlb'));
    this.#scheduler.save(into);
  }

  load(from: StateReader): void {
    this.#registers.load(from);
    const portals = from.list('portals', this.#portals.length);
    if (portals.length !== this.#portals.length)
      throw from.problem('portals', `is not ${this.#portals.length} portals`);
    for (const [index, portal] of this.#portals.entries()) portal.load(portals[index]!);
    this.#tlb?.load(from.child('device-tlb'));
    this.#scheduler.load(from);
  }

  inspect(into: Inspector): void {
    this.fn.inspect(into);
    const { words } = this.#registers;
    into.record('gensts', Gensts, words, Reg.GENSTS >>> 2);
    into.record('cmdsts', CommandStatus, words, Reg.CMDSTS >>> 2);
    into.record('swerr', Swerr, words, Reg.SWERR >>> 2);
    for (let queue = 0; queue < this.#registers.queues; queue++) {
      const state = this.#registers.queueState(queue);
      into.value(`wq${queue}`, { state, occupancy: this.#scheduler.occupancy(queue) });
    }
    this.#tlb?.inspect(into.child('deviceTlb'));
  }

  [Symbol.dispose](): void {
    this.#scheduler.reset();
    this.#tlb?.[Symbol.dispose]();
    this.fn.bus?.unplug(this.fn);
  }

  #clear(): void {
    this.#scheduler.reset();
    this.#registers.reset();
    for (const portal of this.#portals) portal.reset();
  }
}
