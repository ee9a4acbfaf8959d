/**
 * The life of a machine on a host, step by step, in which something may be made to fail: what whoever acts is told, and what is in force
 * afterwards. Every step can be tried again.
 */
import { Access } from '@remora/core';
import type { HostSyscalls } from '@remora/host';
import type { SimulatedHost } from '@remora/host-sim';
import type { Host } from '@remora/machine';
import { type GuestEngine, lendingHost, physicalVtd } from '@remora/machines';
import { Capability } from '@remora/pci';
import {
  ALL_IS_WELL,
  type FailNthLife,
  type FailNthStep,
  type FailurePorts,
  GOES_WITHOUT,
  withoutPlaces,
  withoutTables,
} from '@remora/testing';
import { VtdUnit } from '@hw/intel-iommu';
import type { PageTable } from '@hw/intel-iommu/driver';
import { type Placement, Rig } from '../rig/rig.js';

const MIB = 0x10_0000;
const PAGE = 4096;
/** Virtual frames of the page that is looked at, and of the one through which that is done. */
const AT = 0x1_0000_0000;
const MAILBOX = 0x1_0000_0001;
const DID = 7;
const MSIX_ENABLE = 0x8000;

export interface Step extends FailNthStep {
  /** What the engines read afterwards, a letter for each: `a` or `b` from the first table, `c` from the second, `-` nothing. */
  readonly sees: string;
}

export class Life implements FailNthLife {
  readonly host: Host<SimulatedHost>;
  readonly steps: readonly Step[];
  readonly #ports: FailurePorts;
  readonly #functions: readonly Placement[];
  readonly #stepwise: boolean;
  #live: Rig | undefined;
  #engines: GuestEngine[] = [];
  #tables: PageTable[] = [];
  #mailbox = 0;
  #pasid = 0;

  /** `stepwise`: several containers are told one after the other, and those before one that fails keep what they did. */
  constructor(functions: readonly Placement[], ports: FailurePorts, stepwise = false) {
    this.host = lendingHost({
      memory: 64 * MIB,
      failures: ports.inject,
      iommu: physicalVtd(
        {},
        (config, environment) => new VtdUnit(config, { ...environment, memory: ports.memory(environment.memory) }),
      ),
    });
    this.#functions = functions;
    this.#ports = ports;
    this.#stepwise = stepwise;
    this.steps = this.#lifeOf(functions.length);
  }

  dump(): unknown {
    return withoutTables(this.host.platform.dump());
  }

  leftovers(): unknown {
    return withoutPlaces(this.host.platform.dump());
  }

  /** What the engines read now. */
  look(): string {
    return this.#engines.map(engine => this.#read(engine)).join('');
  }

  [Symbol.dispose](): void {
    this.host[Symbol.dispose]();
  }

  get #rig(): Rig {
    return this.#live!;
  }

  #lifeOf(devices: number): Step[] {
    const all = Array.from({ length: devices }, (_, device) => device);
    const every = (letter: string): string => letter.repeat(devices);
    const last = devices - 1;
    const bindAll = (name: string): Step => this.#queue(name, every('a'), () => this.#enter(0, all));
    const machine = { build: () => this.#build(), use: () => this.#prepare(), undo: () => this.#end() };
    const device = {
      build: () => void this.#rig.machine.plug(this.#rig.deviceString(last)),
      use: () => void this.#engines.push(this.#rig.engine(last)),
      undo: () => this.#unplug(last),
    };
    return [
      this.#building('create and realize', every('-'), machine),
      this.#command('allocate', every('-'), () => this.#allocate()),
      bindAll('bind'),
      this.#silent('enable interrupts', every('a'), () => this.#interrupts()),
      this.#queue('flush', every('b'), () => this.#remap(), true),
      this.#queue('rebind to another root', every('c'), () => this.#enter(1, all)),
      this.#queue('unbind', every('-'), () => all.forEach(each => this.#rig.clearEntry(this.#pasid, each))),
      this.#command('free', every('-'), () => this.#rig.guest.iommu.freePasid(this.#pasid) === 0),
      this.#command('allocate again', every('-'), () => this.#allocate()),
      this.#queue('bind again', every('c'), () => this.#enter(1, all)),
      this.#silent('reset', every('-'), () => this.#reset()),
      this.#command('allocate after the reset', every('-'), () => this.#allocate()),
      bindAll('bind after the reset'),
      this.#silent('unplug', 'a'.repeat(last), () => this.#unplug(last)),
      // The last device took its PASID along; a device that others stay behind for finds it still there.
      this.#building('plug', devices > 1 ? every('a') : '-', device),
      ...(devices > 1
        ? []
        : [this.#command('allocate after the plug', '-', () => this.#allocate()), bindAll('bind after the plug')]),
      this.#silent('end', '', () => this.#end()),
    ];
  }

  // Kinds of steps.

  /** `undo` takes back what there is of it, `use` makes use of what was built. */
  #building(name: string, sees: string, act: { build(): void; use(): void; undo(): void }): Step {
    const run = (): string => {
      const before = this.#ports.struck;
      act.build();
      if (this.#ports.struck !== before) return GOES_WITHOUT;
      this.#ports.uncounted(() => act.use());
      return ALL_IS_WELL;
    };
    const retry = (): string => {
      act.undo();
      return run();
    };
    return { name, creates: true, run, retry, sees };
  }

  #command(name: string, sees: string, act: () => boolean): Step {
    const run = (): string => (act() ? ALL_IS_WELL : 'command failed');
    return { name, tells: 'command failed', run, sees };
  }

  /** `prepare` writes memory, then a descriptor tells the unit. After a queue error the unit tries the same descriptor again. */
  #queue(name: string, sees: string, prepare: () => void, flush = false): Step {
    const run = (): string => {
      prepare();
      const { descriptor, guest } = this.#rig;
      const words = flush
        ? descriptor.pasidIotlb(3, DID, this.#pasid, { address: AT * PAGE })
        : descriptor.pasidCache(1, DID, this.#pasid);
      const { queue } = guest.iommu;
      const index = queue.tail;
      const result = queue.submit(words);
      if (result === 0) return ALL_IS_WELL;
      if (queue.head !== index) throw new Error(`${name}: IQH is not at the descriptor`);
      return 'queue error';
    };
    const retry = (): string => {
      this.#rig.clearError();
      return ALL_IS_WELL;
    };
    // A flush may be done although its completion is not told.
    const partial = flush || this.#stepwise ? ({ partial: true } as const) : {};
    return { name, tells: 'queue error', ...partial, run, retry, sees };
  }

  #silent(name: string, sees: string, act: () => void): Step {
    const run = (): string => {
      act();
      return ALL_IS_WELL;
    };
    return { name, run, sees };
  }

  // What is done.

  #build(): void {
    const { host } = this;
    const interpose = (syscalls: HostSyscalls): HostSyscalls => this.#ports.syscalls(syscalls);
    this.#live = new Rig({ host, functions: this.#functions, interpose, memory: 4 });
  }

  #reset(): void {
    this.#rig.machine.reset();
    this.#ports.uncounted(() => {
      this.#rig.boot();
      this.#prepare();
    });
  }

  #end(): void {
    this.#live?.[Symbol.dispose]();
    this.#live = undefined;
    this.#engines = [];
  }

  #unplug(device: number): void {
    if (!this.#rig.machine.ids.includes(this.#rig.deviceId(device))) return;
    this.#rig.machine.unplug(this.#rig.deviceId(device));
    this.#engines.length = device;
  }

  #allocate(): boolean {
    const pasid = this.#rig.guest.iommu.allocPasid();
    if (pasid > 0) this.#pasid = pasid;
    return pasid > 0;
  }

  #enter(table: number, devices: readonly number[]): void {
    const root = this.#tables[table]!.rootFrame * PAGE;
    for (const device of devices) this.#rig.entry(this.#pasid, { did: DID, root }, device);
  }

  /** Another page in the first table. Once is enough, however often it is tried. */
  #remap(): void {
    const [table] = this.#tables;
    table!.unmap(AT, 1);
    table!.map(AT, this.#page('b'), 1, Access.READ_WRITE);
  }

  /** Off and on again, so that it can be tried twice. */
  #interrupts(): void {
    const [fn] = this.#rig.machine.functions(this.#rig.deviceId());
    const at = fn!.capabilities.find(Capability.MSIX)! + 2;
    for (const control of [0, MSIX_ENABLE]) this.#rig.machine.config.write(fn!.bdf, at, control, 2);
  }

  /** Two tables with a page each, and engines that can be used. */
  #prepare(): void {
    this.#pasid = 0;
    this.#engines = this.#functions.map((_, device) => this.#rig.engine(device));
    this.#mailbox = this.#rig.guest.page();
    this.#tables = ['a', 'c'].map(letter => {
      const table = this.#rig.guest.firstStage();
      table.map(AT, this.#page(letter), 1, Access.READ_WRITE);
      table.map(MAILBOX, this.#mailbox, 1, Access.READ_WRITE);
      return table;
    });
  }

  #page(letter: string): number {
    const frame = this.#rig.guest.page();
    this.#rig.guest.write(frame, Buffer.from(letter));
    return frame;
  }

  #read(engine: GuestEngine): string {
    if (this.#pasid === 0) return '-';
    const { ok } = engine.copy({ pasid: this.#pasid, from: AT * PAGE, to: MAILBOX * PAGE, length: 1 });
    this.host.platform.takeFaults();
    return ok ? String.fromCharCode(...this.#rig.guest.read(this.#mailbox, 1)) : '-';
  }
}
