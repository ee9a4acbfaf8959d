/** A device of a machine as an object with properties. */
import type { Region } from '@remora/core';
import type { DescribedDevice, Machine } from '@remora/machine';
import { Config, formatDevfn, type AnyDeviceKind, type PciFunction } from '@remora/pci';
import { container, pciClassName, type QomNode, type QomProperty } from '@remora/qmp';
import { qomTypeOf, shownAs } from './types.js';

const BARS = 6;

/** What the object of a device says beside its options. */
export interface DevicePlace {
  readonly key: string;
  /** Path of the bus that it is on. */
  readonly bus: string;
  /** Why nobody can unplug it; undefined if somebody can. */
  readonly fixed: string | undefined;
  readonly hotplugged: boolean;
  /** The path at which the object will be. */
  readonly path: string;
}

/** The object of the device that `machine` calls `place.key`. */
export function deviceObject(machine: Machine, described: DescribedDevice, place: DevicePlace): QomNode {
  const kind = machine.deviceKinds.find(each => each.id === described.driver)!;
  const functions = machine.functions(place.key);
  return {
    type: kind.id,
    properties: [...common(place), ...optionsOf(kind, described), ...functions.slice(0, 1).flatMap(location)],
    children: new Map(functions.flatMap(parts)),
    device: { key: place.key, fixed: place.fixed },
  };
}

/** A function of the board, at `path`. */
export function functionObject(fn: PciFunction, type: string, path: string, bus: string): QomNode {
  return boardDevice(type, path, bus, withoutHotplug(shortName(fn.bus!)), {
    properties: location(fn),
    children: parts(fn),
  });
}

/** A device of the board, at `path`; `fixed` tells why nobody can unplug it. */
export function boardDevice(
  type: string,
  path: string,
  bus: string,
  fixed: string,
  own: {
    readonly properties?: readonly QomProperty[];
    readonly children?: readonly (readonly [string, QomNode])[];
  } = {},
): QomNode {
  return {
    type,
    properties: [...common({ bus, fixed, hotplugged: false }), ...(own.properties ?? [])],
    children: new Map(own.children),
    device: { key: path, fixed },
  };
}

/** What is said of every device on the bus `name`. */
export function withoutHotplug(name: string): string {
  return `Bus '${name}' does not support hotplugging`;
}

function common({ bus, fixed, hotplugged }: Pick<DevicePlace, 'bus' | 'fixed' | 'hotplugged'>): QomProperty[] {
  return [
    value('parent_bus', 'link<bus>', bus),
    value('realized', 'bool', true),
    value('hotplugged', 'bool', hotplugged),
    value('hotpluggable', 'bool', fixed === undefined),
  ];
}

function optionsOf(kind: AnyDeviceKind, { options }: DescribedDevice): QomProperty[] {
  return kind.properties.help().map(help => {
    const type = qomTypeOf(kind, help);
    const shown = shownAs(type, options[help.name]) ?? '';
    return value(help.name, type, shown);
  });
}

/** QEMU's `addr` is a number, `legacy-addr` what people write. */
function location(fn: PciFunction): QomProperty[] {
  return [value('addr', 'str', fn.devfn), value('legacy-addr', 'str', formatDevfn(fn.devfn))];
}

/** Its regions, and the bus below a bridge. */
function parts(fn: PciFunction): [string, QomNode][] {
  const regions: [string, QomNode][] = [];
  for (let bar = 0; bar < BARS; bar++) {
    const region = fn.bars.region(bar);
    if (region !== undefined)
      regions.push([`${shortName(region)}[${bar}]`, regionObject(region, fn.bars.address(bar))]);
  }
  const { secondary } = fn;
  return secondary === undefined ? regions : [...regions, [shortName(secondary), busObject(secondary.express)]];
}

/** Names of regions and buses may begin with the machine's name. */
export function shortName({ name }: { readonly name: string }): string {
  return name.slice(name.lastIndexOf('/') + 1);
}

export function busObject(express: boolean): QomNode {
  return container([], express ? 'PCIE' : 'PCI');
}

function regionObject(region: Region, address: number | undefined): QomNode {
  const properties = [value('size', 'uint64', region.size), value('addr', 'uint64', address ?? 0)];
  return { type: 'memory-region', properties, children: new Map() };
}

/** Lines of `info qtree` about a function. */
export function functionDetails(fn: PciFunction): string[] {
  const { config } = fn;
  const hex = (number: number, width: number): string => number.toString(16).padStart(width, '0');
  const pair = (vendor: number, device: number): string =>
    `${hex(config.get16(vendor), 4)}:${hex(config.get16(device), 4)}`;
  const sub = fn.secondary === undefined ? ` (sub ${pair(Config.SUBSYSTEM_VENDOR, Config.SUBSYSTEM)})` : '';
  const code = config.get16(Config.CLASS + 1);
  const lines = [
    `addr = ${formatDevfn(fn.devfn)}`,
    `class ${pciClassName(code) ?? `Class ${hex(code, 4)}`}, addr ${fn.bdf.slice(5)}, pci id ${pair(Config.VENDOR, Config.DEVICE)}${sub}`,
  ];
  for (let bar = 0; bar < BARS; bar++) {
    const region = fn.bars.region(bar);
    if (region === undefined) continue;
    const at = fn.bars.address(bar);
    const kind = (config.get32(Config.BAR0 + 4 * bar) & 1) === 0 ? 'mem' : 'i/o';
    const place =
      at === undefined
        ? `not mapped, 0x${hex(region.size, 1)} bytes`
        : `at 0x${hex(at, 1)} [0x${hex(at + region.size - 1, 1)}]`;
    lines.push(`bar ${bar}: ${kind} ${place}`);
  }
  return lines;
}

function value(name: string, type: string, shown: unknown): QomProperty {
  return { name, type, get: () => shown };
}
