/**
 * The sequence that Linux's own fail_nth test calls `device` (peers.md 3.6): a program makes one object of an iommufd after the other and uses it, on the
 * unit that has all of them. Whatever fails on the way, the program is told or the device reaches less; what it held is given back when it ends, and the
 * next one finds everything as it was.
 */
import test from 'ava';
import { Access, Errno, MemTx, NO_PASID } from '@remora/core';
import type { HostSyscalls } from '@remora/host';
import { PageResponse } from '@remora/iommu';
import {
  assertFailNth,
  FakeSmmuDriver,
  type FailurePorts,
  IommufdUser,
  type ObservedLife,
  type ObservedStep,
  type ObservedWorld,
  type SeenByStep,
  smmuCommand,
  smmuEvent,
  SmmuOpcode,
  SmmuType,
} from '@remora/testing';
import * as uapi from '@remora/uapi';
import { bench, type Bench, ENGINE, ENGINE_ID, gadget } from '../../bench.test.helper.js';
import type { HostProcess } from '../../process.js';
import { GuestSte } from './smmu-host.test.helper.js';

const { NEST_PARENT, PASID, FAULT_ID_VALID } = uapi.IommuHwptAllocFlag;
const MEMORY_AT = 0x10_0000;
const PAGE = 0x1000;
const PAGES = 4;
const VIRTUAL = 0x99;
const FIRST_PASID = 5;
const MASTER = 4;
const EVENT_BYTES = 40;

class World implements ObservedWorld {
  readonly bench: Bench;
  readonly driver = new FakeSmmuDriver({ queues: 2 });
  readonly #ports: FailurePorts;

  constructor(ports: FailurePorts) {
    this.#ports = ports;
    this.bench = bench({ driver: this.driver, failures: ports.inject, devices: [gadget(ENGINE)] });
  }

  begin(): ObservedLife {
    return new Program(this, this.#ports);
  }

  dump(): unknown {
    return this.bench.host.dump();
  }

  [Symbol.dispose](): void {
    this.bench[Symbol.dispose]();
  }
}

class Program implements ObservedLife {
  readonly steps: readonly ObservedStep[];
  readonly #world: World;
  readonly #process: HostProcess;
  readonly #syscalls: HostSyscalls;
  readonly #address: number;
  readonly #payload: number;
  /** Ids and descriptors by name; 0 for what could not be had. */
  readonly #has = new Map<string, number>();

  constructor(world: World, ports: FailurePorts) {
    this.#world = world;
    this.#process = world.bench.host.process('vmm');
    this.#syscalls = ports.syscalls(this.#process);
    const { user: quiet, memory } = ports.uncounted(() => {
      const other = new IommufdUser(this.#process);
      return { user: other, memory: other.memory(PAGES * PAGE).address };
    });
    this.#address = memory;
    this.#payload = ports.uncounted(() => quiet.memory(PAGE).address);
    ports.uncounted(() => quiet.close());
    this.steps = this.#sequence();
  }

  [Symbol.dispose](): void {
    this.#process[Symbol.dispose]();
  }

  #sequence(): ObservedStep[] {
    const step = (name: string, run: () => SeenByStep): ObservedStep => ({ name, run });
    const make = (name: string, run: () => number): ObservedStep =>
      step(name, () => ({ [name]: this.#keep(name, run()) }));
    const nested = GuestSte.TRANSLATE;
    return [
      make('iommufd', () => this.#syscalls.open('/dev/iommu')),
      make('ioas', () => this.#user.ioas()),
      step('map', () => ({ result: this.#user.map(this.#id('ioas'), MEMORY_AT, this.#address, PAGES * PAGE) })),
      make('cdev', () => this.#syscalls.open('/dev/vfio/devices/vfio0')),
      make('device', () => this.#bind()),
      step('hardware', () => ({ result: this.#hardware() })),
      make('hwpt', () => this.#hwpt('ioas')),
      step('attach', () => this.#attach('hwpt')),
      step('replace', () => this.#attach('ioas')),
      make('parent', () => this.#hwpt('ioas', { flags: NEST_PARENT })),
      make('viommu', () => this.#viommu()),
      make('vdevice', () => this.#user.vdevice(this.#id('viommu'), this.#id('device'), VIRTUAL)),
      make('ring', () => this.#user.hardwareQueue(this.#id('viommu'), SmmuType.HW_QUEUE_CMDQV, 0, MEMORY_AT, PAGE)),
      make('second ring', () =>
        this.#user.hardwareQueue(this.#id('viommu'), SmmuType.HW_QUEUE_CMDQV, 1, MEMORY_AT + PAGE, PAGE),
      ),
      step('fault queue', () => this.#faultQueue()),
      make('bypass', () => this.#hwpt('viommu', { data: GuestSte.BYPASS })),
      step('attach bypass', () => this.#attach('bypass')),
      make('nested', () => this.#hwpt('viommu', { data: nested, flags: FAULT_ID_VALID })),
      step('attach nested', () => this.#attach('nested')),
      step('page request', () => this.#pageRequest()),
      step('event queue', () => this.#eventQueue()),
      step('event', () => this.#event()),
      step('invalidate', () => this.#invalidate()),
      step('parent again', () => this.#attach('parent')),
      make('with PASIDs', () => this.#hwpt('ioas', { flags: PASID })),
      make('of a PASID', () => this.#hwpt('ioas', { flags: PASID })),
      step('replace for PASIDs', () => this.#attach('with PASIDs')),
      step('attach PASID', () => this.#attach('with PASIDs', FIRST_PASID)),
      step('replace PASID', () => this.#attach('of a PASID', FIRST_PASID)),
      step('detach PASID', () => ({ result: this.#user.detach(this.#id('cdev'), FIRST_PASID) })),
      step('destroy', () => ({ result: this.#user.destroy(this.#id('of a PASID')) })),
      step('detach', () => ({ result: this.#user.detach(this.#id('cdev')), reaches: this.#reaches() })),
      step('end', () => {
        this.#process[Symbol.dispose]();
        return { reaches: this.#reaches() };
      }),
    ];
  }

  get #user(): IommufdUser {
    return new IommufdUser(this.#syscalls, this.#id('iommufd'));
  }

  #id(name: string): number {
    return this.#has.get(name) ?? 0;
  }

  #keep(name: string, result: number): number {
    this.#has.set(name, Math.max(0, result));
    return result;
  }

  #bind(): number {
    const struct = uapi.VfioDeviceBindIommufd;
    const values = { argsz: struct.size, iommufd: this.#id('iommufd') };
    const { result, out } = this.#user.callOn(this.#id('cdev'), uapi.VFIO_DEVICE_BIND_IOMMUFD, struct, values);
    if (result !== 0) return result;
    this.#world.bench.host.function(ENGINE).config.write(4, MASTER, 2);
    return out.out_devid;
  }

  #hardware(): number {
    const values = { dev_id: this.#id('device'), data_len: 64, data_uptr: this.#payload };
    return this.#user.call(uapi.IOMMU_GET_HW_INFO, uapi.IommuHwInfo, values).result;
  }

  #hwpt(on: string, { flags = 0, data }: { flags?: number; data?: Uint8Array } = {}): number {
    if (data !== undefined) this.#process.memory.write(this.#payload, data);
    const { result, out } = this.#user.call(uapi.IOMMU_HWPT_ALLOC, uapi.IommuHwptAlloc, {
      flags,
      dev_id: this.#id('device'),
      pt_id: this.#id(on),
      fault_id: this.#id('fault queue'),
      ...(data === undefined
        ? {}
        : { data_type: SmmuType.HWPT_SMMUV3, data_len: data.length, data_uptr: this.#payload }),
    });
    return result === 0 ? out.out_hwpt_id : result;
  }

  #viommu(): number {
    const { result, out } = this.#user.call(uapi.IOMMU_VIOMMU_ALLOC, uapi.IommuViommuAlloc, {
      type: SmmuType.VIOMMU_CMDQV,
      dev_id: this.#id('device'),
      hwpt_id: this.#id('parent'),
      data_len: uapi.IommuViommuTegra241Cmdqv.size,
      data_uptr: this.#payload,
    });
    return result === 0 ? out.out_viommu_id : result;
  }

  /** What serves the device now, by where its read of the VM's memory ends. */
  #attach(name: string, pasid?: number): SeenByStep {
    const result = this.#user.attach(this.#id('cdev'), this.#id(name), pasid);
    return { result, reaches: this.#reaches(), withPasid: this.#reaches(FIRST_PASID) };
  }

  #reaches(pasid = NO_PASID): boolean {
    return this.#world.bench.host.function(ENGINE).dma.read(0, MEMORY_AT, new Uint8Array(1), pasid) === MemTx.OK;
  }

  #faultQueue(): SeenByStep {
    const { result, out } = this.#user.call(uapi.IOMMU_FAULT_QUEUE_ALLOC, uapi.IommuFaultAlloc, {});
    this.#keep('fault queue', result === 0 ? out.out_fault_id : 0);
    this.#keep('faults', result === 0 ? out.out_fault_fd : 0);
    return { result };
  }

  /** Asked for, read, answered. */
  #pageRequest(): SeenByStep {
    const { driver, bench: at } = this.#world;
    // What an earlier program left unanswered was answered for it.
    driver.responses.length = 0;
    driver.requestPage({
      requesterId: ENGINE_ID,
      pasid: NO_PASID,
      hi: 0,
      lo: MEMORY_AT,
      access: Access.READ,
      group: 1,
      last: true,
    });
    at.pagesRequested();
    const bytes = new Uint8Array(uapi.IommuHwptPgfault.size);
    const read = this.#syscalls.read(this.#id('faults'), bytes);
    const answer = uapi.IommuHwptPageResponse.encode({ cookie: 1, code: uapi.IommufdPageResponseCode.SUCCESS });
    const written = read > 0 ? this.#syscalls.write(this.#id('faults'), answer) : 0;
    const [response, ...more] = driver.responses.splice(0);
    return {
      read: read < 0 ? read : read > 0,
      written: written < 0 ? written : written > 0,
      granted: response?.code === PageResponse.SUCCESS,
      twice: more.length > 0,
    };
  }

  #eventQueue(): SeenByStep {
    const values = { viommu_id: this.#id('viommu'), type: SmmuType.EVENT_SMMUV3, veventq_depth: 4 };
    const { result, out } = this.#user.call(uapi.IOMMU_VEVENTQ_ALLOC, uapi.IommuVeventqAlloc, values);
    this.#keep('events', result === 0 ? out.out_veventq_fd : 0);
    return { result };
  }

  /** An event arrives, or a header says that it was lost (here as if it were an errno), or it stays with the host. */
  #event(): SeenByStep {
    this.#world.driver.raise(smmuEvent({ type: 0x10, sid: ENGINE_ID, address: MEMORY_AT }));
    const bytes = new Uint8Array(EVENT_BYTES);
    const read = this.#syscalls.read(this.#id('events'), bytes);
    const flags = uapi.IommufdVeventHeader.fields.flags.get(uapi.viewOf(bytes));
    const kept = this.#world.bench.host.takeFaults().length;
    return { read: flags === uapi.IommuVeventFlag.LOST_EVENTS ? -Errno.EOVERFLOW : read, kept };
  }

  #invalidate(): SeenByStep {
    const { caches } = this.#world.driver;
    const command = smmuCommand({ opcode: SmmuOpcode.CFGI_CD, sid: VIRTUAL, ssid: 1 });
    caches.contexts = [{ sid: ENGINE_ID, ssid: 1 }];
    this.#process.memory.write(this.#payload, command);
    const { result, out } = this.#user.call(uapi.IOMMU_HWPT_INVALIDATE, uapi.IommuHwptInvalidate, {
      hwpt_id: this.#id('viommu'),
      data_type: SmmuType.INVALIDATE_SMMUV3,
      data_uptr: this.#payload,
      entry_len: command.length,
      entry_num: 1,
    });
    const stale = caches.contexts.splice(0).length > 0;
    return { result, processed: out.entry_num, flushed: !stale };
  }
}

test('the program does what it should', t => {
  const ports: FailurePorts = {
    syscalls: next => next,
    inject: () => 0,
    memory: next => next,
    struck: undefined,
    uncounted: act => act(),
  };
  using world = new World(ports);
  using life = world.begin();
  const seen = Object.fromEntries(life.steps.map(({ name, run }) => [name, run()]));
  for (const [name, results] of Object.entries(seen)) {
    for (const [key, value] of Object.entries(results))
      t.true(typeof value !== 'number' || value >= 0, `${name}.${key}`);
  }
  t.like(seen, {
    attach: { reaches: true },
    'attach bypass': { reaches: true },
    'attach nested': { reaches: false },
    'page request': { read: true, written: true, granted: true, twice: false },
    event: { read: EVENT_BYTES, kept: 0 },
    invalidate: { processed: 1, flushed: true },
    'attach PASID': { reaches: true, withPasid: true },
    detach: { reaches: false },
    end: { reaches: false },
  });
});

test('fail-nth: `device`', t => {
  assertFailNth(t, { name: 'device', minimum: 54, createWorld: ports => new World(ports) });
});
