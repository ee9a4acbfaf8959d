/**
 * For every back end: a device is attached and does DMA; memory comes and goes; the guest maps and unmaps for the device; the device is
 * unplugged, plugged again, and the VM ends. Where the host nests, the guest's mappings are a PASID's first stage; elsewhere a second stage.
 */
import { Access, Region } from '@remora/core';
import { Guest } from '../guest/guest.js';
import type { GuestEngine } from '../guest/guest-engine.js';
import { backEnds, LENT, LENT_AT, lentBy } from './back-ends.js';
import {
  copyPage,
  type DeviceSpace,
  fillPage,
  legacySpace,
  outcomeOf,
  plainEntries,
  sharedSpace,
} from './lent-device.js';
import { MachineLife } from './machine-life.js';
import type { Observation, Scenario, ScenarioStep } from './scenario.js';

const BDF = `00:${LENT_AT}`;
/** Of memory that is added while the machine runs: beyond its 16 MiB. */
const ADDED_FRAME = 0x2000;
const ADDED_BYTES = 0x4_0000;
/** Frames of what the guest maps. */
const AT = 0x1_2340;
const PAGES = 8;
const VENDOR = 0;

class Lend extends MachineLife {
  readonly steps: readonly ScenarioStep[] = [
    { name: 'start', creates: true, run: () => this.#start() },
    { name: 'guest-physical', run: () => this.#guestPhysical() },
    { name: 'add memory', run: () => this.#addMemory() },
    { name: 'remove memory', run: () => this.#removeMemory() },
    { name: 'translate', run: () => this.#translate() },
    { name: 'map', run: () => this.#map() },
    { name: 'copy', run: () => this.#copy() },
    { name: 'remap', run: () => this.#remap() },
    { name: 'read-only', run: () => this.#readOnly() },
    { name: 'unmap', run: () => this.#unmap() },
    { name: 'detach', run: () => this.#detach() },
    { name: 'unplug', run: () => this.#unplug() },
    { name: 'plug again', creates: true, run: () => this.#plug() },
    { name: 'attach again', run: () => this.#attachAgain() },
    { name: 'exit', run: () => this.#exit() },
  ];
  #guest: Guest | undefined;
  #engine: GuestEngine | undefined;
  #space: DeviceSpace | undefined;
  #added: Region | undefined;
  /** Guest frames behind the mapped ones. */
  readonly #frames: number[] = [];

  #start(): Observation {
    const machine = this.startMachine();
    this.#guest = new Guest(machine, { mode: this.backEnd.nests ? 'scalable' : 'legacy' });
    this.#engine = this.#guest.engine(BDF);
    return { devices: machine.ids };
  }

  #guestPhysical(): Observation {
    const [from, to] = [this.#page(), this.#page()];
    this.#guest!.write(from, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    const copied = outcomeOf(copyPage(this.#engine!, from, to));
    return { copied, arrived: [...this.#guest!.read(to, 8)], beyond: this.#reaches(ADDED_FRAME) };
  }

  #addMemory(): Observation {
    const { process, board } = this.machine!;
    const ram = process!.allocate(ADDED_BYTES);
    if (typeof ram === 'number') return { allocated: ram };
    this.#added = Region.ram('added', ram);
    board.memory.add(ADDED_FRAME * 4096, this.#added);
    const reached = this.#reaches(ADDED_FRAME);
    return { reached, arrived: [...this.#guest!.read(ADDED_FRAME, 4)], last: this.#reaches(ADDED_FRAME + 0x3f) };
  }

  #removeMemory(): Observation {
    if (this.#added !== undefined) this.machine!.board.memory.remove(this.#added);
    this.#added = undefined;
    return { reached: this.#reaches(ADDED_FRAME), still: this.#reaches(this.#page()) };
  }

  #translate(): Observation {
    const { iommu } = this.#guest!;
    let entries = 0;
    iommu.start(undefined, () => {
      if (this.backEnd.nests) entries = plainEntries(this.#guest!);
    });
    return { entries, attached: this.#attach(), mapped: this.#maps(AT) };
  }

  #map(): Observation {
    const first = this.#guest!.pages.allocate(PAGES);
    this.#frames.splice(0, Infinity, ...Array.from({ length: PAGES }, (_, index) => first + index));
    const status = this.#space?.map(AT, first, PAGES);
    const reached = this.#frames.map((_, index) => this.#maps(AT + index));
    return { status, reached, arrived: this.#bytes(), beyond: this.#maps(AT + PAGES) };
  }

  #copy(): Observation {
    this.#guest!.write(this.#frames[2]!, Uint8Array.of(8, 7, 6, 5, 4, 3, 2, 1));
    const copied = outcomeOf(copyPage(this.#engine!, AT + 2, AT + 5, this.#space));
    return { copied, arrived: [...this.#guest!.read(this.#frames[5]!, 8)] };
  }

  #remap(): Observation {
    const frame = this.#page();
    const unmapped = this.#space?.unmap(AT + 3);
    const mapped = this.#space?.map(AT + 3, frame);
    const [before] = this.#frames.splice(3, 1, frame);
    const old = this.#guest!.read(before!, 1)[0];
    const reached = this.#maps(AT + 3, 0x77);
    return { unmapped, mapped, reached, old: this.#guest!.read(before!, 1)[0] === old, arrived: this.#bytes() };
  }

  #readOnly(): Observation {
    const frame = this.#page();
    this.#guest!.write(frame, Uint8Array.of(0x21));
    const status = this.#space?.map(AT + PAGES, frame, 1, Access.READ);
    const written = this.#maps(AT + PAGES, 0x99);
    const read = outcomeOf(copyPage(this.#engine!, AT + PAGES, AT, this.#space));
    return { status, written, read, kept: this.#guest!.read(frame, 1)[0], arrived: this.#bytes() };
  }

  #unmap(): Observation {
    const one = this.#space?.unmap(AT + 1);
    const after = this.#frames.map((_, index) => this.#maps(AT + index));
    const all = [0, 2, 3, 4, 5, 6, 7].map(index => this.#space?.unmap(AT + index));
    return { one, after, all, none: this.#frames.map((_, index) => this.#maps(AT + index)) };
  }

  #detach(): Observation {
    const status = this.#space?.detach();
    const reached = this.#maps(AT + PAGES);
    const pasid = this.#space?.command.pasid;
    return { status, reached, freed: pasid === undefined ? 0 : this.#guest!.iommu.freePasid(pasid) };
  }

  #unplug(): Observation {
    this.machine!.unplug(LENT);
    return { vendor: this.machine!.config.read(BDF, VENDOR, 4), devices: this.machine!.ids };
  }

  #plug(): Observation {
    const id = this.machine!.plug(lentBy(this.backEnd));
    this.#engine = this.#guest!.engine(BDF);
    return { id, vendor: this.machine!.config.read(BDF, VENDOR, 4) };
  }

  #attachAgain(): Observation {
    const attached = this.#attach();
    const frame = this.#page();
    const mapped = this.#space?.map(AT, frame);
    const reached = this.#maps(AT, 0x42);
    return { attached, mapped, reached, arrived: this.#guest!.read(frame, 1)[0] };
  }

  #exit(): Observation {
    this[Symbol.dispose]();
    return {};
  }

  /** A new address space for the engine. */
  #attach(): number {
    const guest = this.#guest!;
    const pasid = this.backEnd.nests ? guest.iommu.allocPasid() : 0;
    if (pasid < 0) return pasid;
    this.#space = this.backEnd.nests ? sharedSpace(guest, pasid) : legacySpace(guest);
    return this.#space.attach();
  }

  #page(): number {
    return this.#guest!.page();
  }

  /** Whether the engine reaches a guest-physical page. */
  #reaches(frame: number): boolean {
    return fillPage(this.#engine!, frame, 0x5a).ok;
  }

  /** Whether it reaches a page that the guest has mapped for it, or not; what it writes there is the page's number, or `value`. */
  #maps(frame: number, value = frame - AT + 1): unknown {
    return outcomeOf(fillPage(this.#engine!, frame, value, this.#space));
  }

  /** The first byte of each page behind the mapping. */
  #bytes(): number[] {
    return this.#frames.map(frame => this.#guest!.read(frame, 1)[0]!);
  }
}

export const lend: Scenario = {
  name: 'lend',
  title: 'attach, DMA, map and unmap, hot-unplug and plug, VM exit',
  backEnds,
  begin: (host, backEnd, options = {}) => new Lend(host, backEnd, options),
};
