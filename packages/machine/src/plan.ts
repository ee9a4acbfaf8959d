/**
 * From what was asked for to what will be built: options parsed, names given, places chosen, the order of realization fixed.
 * Nothing here depends on the order in which devices were listed.
 */
import { ConfigError } from '@remora/core';
import { formatDevfn, parseBdf, type AnyDeviceKind } from '@remora/pci';
import { located } from './config-error.js';
import type { Kinds } from './device-kinds.js';
import { inRealizationOrder, type Ordered } from './device-order.js';
import { parseSpec, type DeviceSpec } from './device-spec.js';
import type { Slots } from './slots.js';

/** Where a PCI device goes. */
export interface Place {
  readonly bus: string;
  readonly devfn: number;
}

export interface PlannedDevice extends Ordered {
  readonly kind: AnyDeviceKind;
  /** Parsed by the kind's properties. */
  readonly config: unknown;
  /** Undefined for devices of the system bus. */
  readonly place: Place | undefined;
  /** Whether it was given its name, or got one here. */
  readonly named: boolean;
}

/** What is there already: for a machine that is being built, the board and nothing else. */
export interface Surroundings {
  readonly kinds: Kinds<AnyDeviceKind>;
  readonly slots: Slots;
  /** The bus of PCI devices that name none. */
  readonly defaultBus: string;
  /** Buses that devices may name, besides those of bridges among the planned devices. */
  readonly buses: readonly string[];
  /** Names that are given. */
  readonly names: ReadonlySet<string>;
}

/** A device before it has a name and a place. */
interface Request {
  readonly path: string;
  readonly kind: AnyDeviceKind;
  readonly config: unknown;
  readonly id: string | undefined;
  readonly bus: string | undefined;
  readonly devfn: number | undefined;
  readonly key: string;
}

/**
 * Plans `specs`, of which the first is at `paths[0]`. Returns them in the order of realization; their places are taken in `around`.
 * @throws ConfigError for anything that cannot be built.
 */
export function planDevices(
  specs: readonly DeviceSpec[],
  paths: (index: number) => string,
  around: Surroundings,
): PlannedDevice[] {
  const requests = specs.map((spec, index) => request(paths(index), spec, around));
  requests.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  const named = nameAll(requests, around.names);
  checkBuses(requests, around.buses);
  const ordered = inRealizationOrder(named.map(([name, each]) => ({ ...needs(name, each), request: each })));
  return placeAll(ordered, around);
}

function request(path: string, spec: DeviceSpec, around: Surroundings): Request {
  const { driver, options } = parseSpec(path, spec);
  const kind = around.kinds.find(path, driver);
  return located(path, [kind.id], () => {
    const { id, ...rest } = options;
    const name = text(`${path}.id`, id);
    if (kind.bus === 'system') {
      const config: unknown = kind.properties.parse(path, rest);
      return {
        path,
        kind,
        config,
        id: name,
        bus: undefined,
        devfn: undefined,
        key: keyOf(kind.id, name, '', '', config),
      };
    }
    const { bus, addr, ...own } = rest;
    const config: unknown = kind.properties.parse(path, own);
    const at = text(`${path}.addr`, addr);
    const devfn = at === undefined ? undefined : devfnAt(`${path}.addr`, at);
    const on = text(`${path}.bus`, bus) ?? around.defaultBus;
    const key = keyOf(kind.id, name, on, devfn === undefined ? '' : formatDevfn(devfn), config);
    return { path, kind, config, id: name, bus: on, devfn, key };
  });
}

function text(path: string, value: unknown): string | undefined {
  if (value === undefined || (typeof value === 'string' && value !== '')) return value;
  throw new ConfigError(path, `${JSON.stringify(value)} is not a name`);
}

/** QEMU's `addr`: device and function, without a bus (that is what `bus` is for). */
function devfnAt(path: string, at: string): number {
  const { bus, devfn } = parseBdf(path, at);
  if (bus !== undefined) throw new ConfigError(path, `"${at}" names a bus by number: expected device[.function]`);
  return devfn;
}

function keyOf(kind: string, id: string | undefined, bus: string, at: string, config: unknown): string {
  const plain = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? `${value}n` : value);
  return [kind, id ?? '', bus, at, JSON.stringify(config, plain)].join('\0');
}

/** Ids as given; a device without one is called like its kind, with a number from the second on. */
function nameAll(requests: readonly Request[], given: ReadonlySet<string>): [string, Request][] {
  const taken = new Map<string, string>([...given].map(name => [name, 'a device of this machine']));
  for (const { id, path } of requests.toSorted((a, b) => comparePaths(a.path, b.path))) {
    if (id === undefined) continue;
    const other = taken.get(id);
    if (other !== undefined) throw new ConfigError(`${path}.id`, `"${id}" is the id of ${other} already`);
    taken.set(id, path);
  }
  return requests.map(each => {
    if (each.id !== undefined) return [each.id, each];
    let name = each.kind.id;
    for (let count = 1; taken.has(name); count++) name = `${each.kind.id}.${count}`;
    taken.set(name, each.path);
    return [name, each];
  });
}

/** In listed order, so that the later of two equals is the one at fault: `devices[10]` comes after `devices[9]`. */
function comparePaths(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}

function checkBuses(requests: readonly Request[], buses: readonly string[]): void {
  const ids = requests.flatMap(({ id }) => id ?? []);
  for (const { path, bus } of requests) {
    if (bus === undefined || buses.includes(bus) || ids.includes(bus)) continue;
    throw new ConfigError(
      `${path}.bus`,
      `there is no bus "${bus}": expected one of ${buses.join(', ')}, or a bridge's id`,
    );
  }
}

function needs(name: string, { path, kind, key, bus }: Request): Ordered {
  return {
    path,
    name,
    key,
    provides: [...(kind.provides ?? []), `bus:${name}`],
    after: [...(kind.after ?? []), ...(bus === undefined ? [] : [`bus:${bus}`])],
  };
}

/** Asked-for places first, then free ones for the rest. */
function placeAll(
  ordered: readonly (Ordered & { readonly request: Request })[],
  around: Surroundings,
): PlannedDevice[] {
  const { slots } = around;
  for (const { path, name, request } of ordered.toSorted((a, b) => comparePaths(a.path, b.path))) {
    if (request.bus === undefined || request.devfn === undefined) continue;
    slots.take(`${path}.addr`, request.bus, request.devfn, `"${name}"`);
  }
  return ordered.map(({ request, ...order }) => {
    const { kind, config, bus } = request;
    const named = request.id !== undefined;
    if (bus === undefined) return { ...order, kind, config, place: undefined, named };
    const devfn = request.devfn ?? slots.takeFree(order.path, bus, `"${order.name}"`);
    return { ...order, kind, config, place: { bus, devfn }, named };
  });
}
