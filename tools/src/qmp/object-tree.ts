/** A machine as QEMU's object tree, and its devices as buses have them. Both are made of the machine as it is now. */
import type { DescribedDevice, Machine } from '@remora/machine';
import type { PciBus, PciFunction } from '@remora/pci';
import { container, findObject, type BusDevice, type DeviceBus, type ObjectStore, type QomNode } from '@remora/qmp';
import { boardParts } from './board-parts.js';
import {
  boardDevice,
  busObject,
  deviceObject,
  functionDetails,
  functionObject,
  shortName,
  withoutHotplug,
} from './device-object.js';
import { machineType } from './identity.js';
import type { DeviceNames } from './names.js';

const HOST_PATH = '/machine/q35';
/** The bus of everything that is no PCI device. */
export const SYSTEM_BUS = 'main-system-bus';
const SYSTEM_BUS_PATH = '/machine/unattached/sysbus';
const NOT_FROM_SYSTEM_BUS = withoutHotplug(SYSTEM_BUS);

export interface TreeParts {
  /** Undefined for the machine `none`. */
  readonly machine: Machine | undefined;
  readonly version: string | undefined;
  readonly names: DeviceNames | undefined;
  readonly hotplugged: ReadonlySet<string>;
  readonly processors: number;
  readonly objects: ObjectStore;
}

export function objectTree(parts: TreeParts): QomNode {
  const board = parts.machine?.description.board.driver;
  return container([
    ['machine', container(machineChildren(parts), machineType(board, parts.version))],
    ['objects', container(parts.objects.nodes())],
    ['chardevs', container()],
    ['backend', container()],
  ]);
}

/** Guest RAM, which is an object of its own in QEMU. */
export function ramObject(machine: Machine): QomNode {
  const { size } = machine.board.ram;
  return {
    type: 'memory-backend-ram',
    properties: [{ name: 'size', type: 'int', get: () => size }],
    children: new Map(),
  };
}

function machineChildren(parts: TreeParts): [string, QomNode][] {
  const { machine } = parts;
  const unattached = container(unattachedChildren(parts));
  const empty: [string, QomNode][] = [
    ['peripheral', container()],
    ['peripheral-anon', container()],
    ['unattached', unattached],
  ];
  if (machine === undefined) return empty;
  return [
    ['peripheral', container(devices(parts, false))],
    ['peripheral-anon', container(devices(parts, true))],
    ['unattached', unattached],
    [shortName({ name: HOST_PATH }), hostObject(machine)],
  ];
}

function unattachedChildren({ machine, processors }: TreeParts): [string, QomNode][] {
  const found: [string, QomNode][] = [];
  for (let index = 0; index < processors; index++) {
    const name = `device[${index}]`;
    const device = { key: name, fixed: 'a processor that the machine began with stays' };
    found.push([name, { ...container([], 'qemu64-x86_64-cpu'), device }]);
  }
  found.push(['sysbus', container([], 'System')]);
  if (machine !== undefined) {
    for (const { root } of [machine.memory, machine.ports])
      found.push([`${shortName(root)}[0]`, container([], 'memory-region')]);
  }
  return found;
}

/** The host bridge: the root bus, the functions that belong to the board, and what else does. */
function hostObject(machine: Machine): QomNode {
  const { rootBus } = machine.board;
  const path = busPath(machine, undefined, rootBus);
  const own = boardFunctions(machine).map((fn): [string, QomNode] => [
    shortName(fn),
    functionObject(fn, shortName(fn), `${HOST_PATH}/${shortName(fn)}`, path),
  ]);
  const others = boardParts(machine.board).map(({ name, properties, children }): [string, QomNode] => [
    name,
    boardDevice(name, `${HOST_PATH}/${name}`, SYSTEM_BUS_PATH, NOT_FROM_SYSTEM_BUS, { properties, children }),
  ]);
  const children: [string, QomNode][] = [[rootBus.name, busObject(rootBus.express)], ...own, ...others];
  return boardDevice('q35-pcihost', HOST_PATH, SYSTEM_BUS_PATH, NOT_FROM_SYSTEM_BUS, { children });
}

function devices({ machine, names, hotplugged }: TreeParts, nameless: boolean): [string, QomNode][] {
  const described = descriptions(machine!);
  return names!.list(nameless).map(({ key, name }) => {
    const [fn] = machine!.functions(key);
    const bus = fn?.bus === undefined ? SYSTEM_BUS_PATH : busPath(machine!, names, fn.bus);
    const device = described.get(key)!;
    const place = {
      key,
      bus,
      fixed: whyFixed(device.driver, fn),
      hotplugged: hotplugged.has(key),
      path: names!.pathOf(key),
    };
    return [name, deviceObject(machine!, device, place)];
  });
}

/** Why a device with this function, or without any, cannot be unplugged; undefined if it can. As in QEMU, the root bus keeps what it has. */
function whyFixed(driver: string, fn: PciFunction | undefined): string | undefined {
  if (fn?.bus === undefined) return `Device '${driver}' does not support hotplugging`;
  return fn.bus.parent === undefined ? withoutHotplug(shortName(fn.bus)) : undefined;
}

function descriptions(machine: Machine): Map<string, DescribedDevice> {
  return new Map(machine.description.devices.map(each => [String(each.options['id']), each]));
}

/** The path of a bus: below the host bridge, or below the bridge that it belongs to. */
function busPath(machine: Machine, names: DeviceNames | undefined, bus: PciBus): string {
  const bridge = bus.parent === undefined ? undefined : ownerOf(machine, bus.parent);
  return bridge === undefined ? `${HOST_PATH}/${bus.name}` : `${names!.pathOf(bridge)}/${shortName(bus)}`;
}

/** The device that `fn` belongs to; undefined for functions of the board. */
export function ownerOf(machine: Machine, fn: PciFunction): string | undefined {
  return machine.ids.find(key => machine.functions(key).includes(fn));
}

function boardFunctions(machine: Machine): PciFunction[] {
  const plugged = new Set(machine.ids.flatMap(key => machine.functions(key)));
  return machine.board.rootBus.functions.flatMap(fn => (fn === undefined || plugged.has(fn) ? [] : fn));
}

/** What `info qtree` shows; undefined for the machine `none`. */
export function systemBus(parts: TreeParts): DeviceBus | undefined {
  const { machine, names } = parts;
  if (machine === undefined || names === undefined) return undefined;
  const tree = objectTree(parts);
  const at = (path: string): Pick<BusDevice, 'path' | 'node'> => ({ path, node: findObject(tree, path).node });
  const pciBus = (bus: PciBus): DeviceBus => ({
    name: shortName(bus),
    type: bus.express ? 'PCIE' : 'PCI',
    devices: bus.functions.flatMap(fn => (fn === undefined ? [] : pciDevices(fn))),
  });
  /** A device of several functions is one device. */
  const pciDevices = (fn: PciFunction): BusDevice[] => {
    const key = ownerOf(machine, fn);
    if (key !== undefined && machine.functions(key)[0] !== fn) return [];
    const object = key === undefined ? at(`${HOST_PATH}/${shortName(fn)}`) : at(names.pathOf(key));
    const buses = fn.secondary === undefined ? [] : [pciBus(fn.secondary)];
    return [{ ...object, id: key === undefined ? '' : names.idOf(key), details: functionDetails(fn), buses }];
  };
  const system = machine.ids.filter(key => machine.functions(key).length === 0);
  const host = { ...at(HOST_PATH), id: '', details: [], buses: [pciBus(machine.board.rootBus)] };
  const own = system.map(key => ({ ...at(names.pathOf(key)), id: names.idOf(key), details: [], buses: [] }));
  const others = boardParts(machine.board).map(({ name, details }) => ({
    ...at(`${HOST_PATH}/${name}`),
    id: '',
    details,
    buses: [],
  }));
  return { name: SYSTEM_BUS, type: 'System', devices: [...own, ...others, host] };
}
