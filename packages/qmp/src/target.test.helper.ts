/** A target that is no machine: a root bus with an endpoint and a root port, objects, and a log of what was asked of it. */
import { AddressSpace, Region } from '@remora/core';
import { PciBridge, PciBus, PciFunction } from '@remora/pci';
import { ObjectStore } from './objects.js';
import { container, type QomNode, type QomProperty } from './qom.js';
import { QmpError } from './errors.js';
import type { DeviceBus, QmpEvent, QmpTarget, RunState, ShutdownCause } from './target.js';

export class FakeTarget implements QmpTarget, Disposable {
  readonly version = { major: 10, minor: 2, micro: 2, package: 'test' };
  readonly name = 'fake';
  readonly machines = [
    {
      name: 'board-1',
      alias: 'board',
      'cpu-max': 1,
      'hotpluggable-cpus': false,
      'numa-mem-supported': false,
      deprecated: false,
      acpi: false,
    },
  ];
  readonly processors = [{ path: '/machine/cpu', thread: 7 }];
  readonly types = [
    { name: 'object', abstract: true },
    { name: 'device', parent: 'object', abstract: true },
    { name: 'widget', parent: 'device', properties: [{ name: 'size', type: 'uint32', 'default-value': 4 }] },
    { name: 'rng', parent: 'object', interfaces: ['user-creatable'] },
  ];
  readonly objects = new ObjectStore();
  readonly rootBuses: readonly PciBus[];
  readonly addressSpaces: readonly AddressSpace[];
  /** What was asked. */
  readonly log: string[] = [];
  state: RunState = 'prelaunch';
  speed = 1;
  readonly #endpoint: PciFunction;
  readonly #bridge = new PciBridge('port', 'root-port', { vendor: 0x1b36, device: 0xc });
  readonly #listeners = new Set<(event: QmpEvent) => void>();

  constructor() {
    const memory = Region.container('memory', 2 ** 64);
    const ports = Region.container('io', 0x1_0000);
    const addressSpace = new AddressSpace('memory', memory);
    this.addressSpaces = [addressSpace];
    const bus = PciBus.root('pcie.0', { memory, ports, addressSpace, msi: () => {} });
    this.rootBuses = [bus];
    this.#endpoint = new PciFunction('widget', {
      vendor: 0x1234,
      device: 0x11e8,
      classCode: 0x010802,
      subsystem: 0x77,
    });
    const ops = { read: () => 0, write: () => {}, valid: { min: 4, max: 4 }, impl: { min: 4, max: 4 } };
    this.#endpoint.addBar(0, Region.mmio('registers', 0x1000, ops), { type: 'mem32' });
    this.#endpoint.addBar(2, Region.mmio('buffer', 0x4000, ops), { type: 'mem64', prefetchable: true });
    this.#endpoint.addBar(4, Region.mmio('ports', 0x20, ops), { type: 'io' });
    bus.plug(this.#endpoint, 0x0b);
    bus.plug(this.#bridge.fn, 0x18);
  }

  /** The function of the device `w0`. */
  get endpoint(): PciFunction {
    return this.#endpoint;
  }

  get bridge(): PciFunction {
    return this.#bridge.fn;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  tell(event: QmpEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }

  tree(): QomNode {
    const speed: QomProperty = {
      name: 'speed',
      type: 'int',
      get: () => this.speed,
      set: value => this.#setSpeed(value),
    };
    const size: QomProperty = { name: 'size', type: 'uint32', get: () => 4 };
    const region = container([], 'memory-region');
    const widget: QomNode = {
      type: 'widget',
      properties: [speed, size],
      children: new Map([['registers[0]', region]]),
      device: { key: 'w0' },
    };
    const peripheral = container([
      ['w0', widget],
      ['twin', container()],
    ]);
    const machine = container([
      ['peripheral', peripheral],
      ['twin', container()],
    ]);
    return container([
      ['machine', machine],
      ['objects', container(this.objects.nodes())],
    ]);
  }

  mainBus(): DeviceBus {
    const node = this.tree().children.get('machine')!.children.get('peripheral')!.children.get('w0')!;
    const device = { path: '/machine/peripheral/w0', node, id: 'w0', details: ['class 0108'], buses: [] };
    return { name: 'main-bus', type: 'System', devices: [device] };
  }

  idOf(fn: PciFunction): string {
    return fn === this.#endpoint ? 'w0' : '';
  }

  describeIommus(): string {
    return 'unit 0\n  on';
  }

  resume(): void {
    this.state = 'running';
    this.tell({ event: 'RESUME' });
  }

  stop(): void {
    this.state = 'paused';
    this.tell({ event: 'STOP' });
  }

  reset(reason: ShutdownCause): void {
    this.log.push(`reset ${reason}`);
    this.tell({ event: 'RESET', data: { guest: false, reason } });
  }

  quit(reason: ShutdownCause): void {
    this.log.push(`quit ${reason}`);
    this.tell({ event: 'SHUTDOWN', data: { guest: false, reason } });
  }

  addDevice(driver: string, options: Readonly<Record<string, unknown>>): void {
    if (driver === 'broken') throw new TypeError('a fault of the target itself');
    this.log.push(`add ${driver} ${JSON.stringify(options)}`);
  }

  removeDevice(key: string): void {
    this.log.push(`remove ${key}`);
    this.tell({ event: 'DEVICE_DELETED', data: { device: key, path: `/machine/peripheral/${key}` } });
  }

  subscribe(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  [Symbol.dispose](): void {
    for (const space of this.addressSpaces) space[Symbol.dispose]();
  }

  #setSpeed(value: unknown): void {
    if (typeof value !== 'number') throw new QmpError("Invalid parameter type for 'speed', expected: integer");
    this.speed = value;
  }
}
