/** From a command line to a machine: devices get their global options, their places and the board what concerns it. */
import { ConfigError, type Plugin, Trace } from '@remora/core';
import { createMachine, hostScope, Kinds, type Machine } from '@remora/machine/assembly';
import { type AnyDeviceKind, BoardKinds, DeviceKinds, formatDevfn } from '@remora/pci';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import dsaPlugin from '@hw/dsa/plugin';
import eduPlugin from '@hw/edu/plugin';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import iommuTestdevPlugin from '@hw/iommu-testdev/plugin';
import nvmePlugin from '@hw/nvme/plugin';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import type { Asked, CommandLine } from './command-line.js';
import { flagOf, type Value, type Values } from './key-values.js';
import { CommandLineError } from './mistake.js';
import { unknownEvents } from './trace-options.js';

const plugins: readonly Plugin[] = [
  q35Plugin,
  intelIommuPlugin,
  iommuTestdevPlugin,
  nvmePlugin,
  eduPlugin,
  dmaEnginePlugin,
  dsaPlugin,
  vfioPciPlugin,
];

/** Without `-m`, as QEMU's q35. */
const DEFAULT_MEMORY = '128M';
/** Options of QEMU's machines that change nothing here. */
const INDIFFERENT = [
  'accel',
  'kernel-irqchip',
  'usb',
  'smm',
  'vmport',
  'graphics',
  'hpet',
  'sata',
  'smbus',
  'pit',
  'pic',
  'acpi',
];
/** QEMU's names for what is part of our board. */
const BOARD_DRIVERS = ['mch', 'q35-pcihost'];
/** Where QEMU's machine decides: `auto` there. */
const MACHINE_DEFAULTS: Readonly<Record<string, Values>> = { 'intel-iommu': { intremap: true } };
/** What machines of one version of QEMU promise: that version's behaviour. */
const VERSION_DEFAULTS: Readonly<Record<string, Readonly<Record<string, Values>>>> = {
  '10.2': { 'intel-iommu': { compat: 'qemu-10.2' } },
};
const ROOT_BUS = 'pcie.0';
const DEVICES = 32;

export interface Assembled {
  /** Started; undefined for the machine `none`. */
  readonly machine: Machine | undefined;
  readonly warnings: readonly string[];
}

/** Names of the events that devices trace, in the order of the devices. */
export function traceEventNames(): string[] {
  const scope = hostScope(plugins);
  const names = scope.all(DeviceKinds).flatMap(({ traceEvents }) => traceEvents ?? []);
  scope[Symbol.dispose]();
  return names;
}

/** `trace` is the machine's. @throws CommandLineError for what cannot be built. */
export function assemble(line: CommandLine, trace = new Trace()): Assembled {
  const warnings = [...line.warnings];
  const { machineVersion: version } = line;
  if (version !== undefined && VERSION_DEFAULTS[version] === undefined)
    warnings.push(`pc-q35-${version} is q35 here: of versions, ${Object.keys(VERSION_DEFAULTS).join(', ')} is known`);
  const { patterns } = line.trace;
  if (patterns.length > 0) warnings.push(...unknownEvents(patterns, new Set(traceEventNames())));
  if (line.machine === 'none') {
    const [device] = line.devices;
    if (device !== undefined)
      throw new CommandLineError(`${device.written}: No bus found for device '${driverOf(device)}'`);
    return { machine: undefined, warnings };
  }
  const scope = hostScope(plugins);
  const kinds = new Kinds<AnyDeviceKind>('device', scope.all(DeviceKinds));
  const board = scope.all(BoardKinds).find(({ id }) => id === line.machine)!;
  scope[Symbol.dispose]();
  const devices = line.devices.map(device => deviceOf(device, kinds, line, warnings));
  const options = boardOptions(line, name => board.properties.has(name));
  checkGlobals(line, kinds, warnings);
  place(devices, line.reserved);
  let machine: Machine | undefined;
  try {
    machine = createMachine(undefined, {
      ...(line.name === undefined ? {} : { name: line.name }),
      board: { driver: line.machine, options },
      plugins,
      trace,
      devices: devices.map(({ kind, options: each }) => ({ driver: kind.id, options: each })),
    });
    machine.start();
  } catch (failure) {
    if (!(failure instanceof ConfigError)) throw failure;
    throw explained(failure, line);
  }
  return { machine, warnings };
}

interface Device {
  readonly written: string;
  readonly kind: AnyDeviceKind;
  readonly options: Record<string, Value>;
}

function driverOf({ written, values }: Asked): string {
  const driver = values['driver'];
  if (typeof driver === 'string' && driver !== '') return driver;
  throw new CommandLineError(`${written}: Parameter 'driver' is missing`);
}

function deviceOf(asked: Asked, kinds: Kinds<AnyDeviceKind>, line: CommandLine, warnings: string[]): Device {
  const { written, values } = asked;
  const driver = driverOf(asked);
  const kind = kinds.all.find(({ id, aliases }) => id === driver || aliases?.includes(driver) === true);
  if (kind === undefined) throw new CommandLineError(`${written}: '${driver}' is not a valid device model name`);
  const promised = VERSION_DEFAULTS[line.machineVersion ?? ''];
  const options: Record<string, Value> = { ...MACHINE_DEFAULTS[kind.id], ...promised?.[kind.id] };
  for (const { values: each } of line.globals) {
    if (each['driver'] === kind.id || each['driver'] === driver)
      options[canonical(kind, String(each['property']))] = each['value']!;
  }
  for (const [name, value] of Object.entries(values)) {
    if (name === 'driver') continue;
    const known = kind.properties.has(name) || ['id', 'bus', 'addr'].includes(name);
    if (!known) throw new CommandLineError(`${written}: Property '${driver}.${name}' not found`);
    options[canonical(kind, name)] = value;
  }
  if (kind.bus === 'system' && options['addr'] !== undefined)
    throw new CommandLineError(`${written}: Property '${driver}.addr' not found`);
  if (options['addr'] !== undefined) options['addr'] = placeText(written, options['addr']);
  if (kind.id === 'vfio-pci') warnings.push(`${written}: there is no host here that could lend a device`);
  return { written, kind, options };
}

/** An option by the name under which it is declared, so that a global one gives way to one that is written otherwise. */
function canonical(kind: AnyDeviceKind, name: string): string {
  return kind.properties.help().find(each => each.aliases.includes(name))?.name ?? name;
}

/** `4`, `04.0`, `0x4` and JSON's number (device * 8 + function) are the same place. */
function placeText(written: string, addr: Value): string {
  if (typeof addr === 'number' && Number.isInteger(addr) && addr >= 0 && addr < 256) return formatDevfn(addr);
  const [, device, fn = '0'] = /^(?:0x)?([0-9a-f]{1,2})(?:\.([0-7]))?$/i.exec(String(addr)) ?? [];
  if (device === undefined || parseInt(device, 16) >= DEVICES)
    throw new CommandLineError(`${written}: '${String(addr)}' is not a slot: device[.function], hexadecimal`);
  return formatDevfn(parseInt(device, 16) * 8 + Number(fn));
}

/** In the order written, each takes the first free slot, as QEMU has it; those that ask for one come before. */
function place(devices: readonly Device[], reserved: readonly string[]): void {
  const taken = new Set<number>([0, ...reserved.map(slot => parseInt(slot, 16))]);
  const onRoot = devices.filter(({ kind, options }) => kind.bus === 'pci' && (options['bus'] ?? ROOT_BUS) === ROOT_BUS);
  for (const { options } of onRoot) {
    if (typeof options['addr'] === 'string') taken.add(parseInt(options['addr'], 16));
  }
  for (const { options } of onRoot) {
    if (options['addr'] !== undefined) continue;
    const free = Array.from({ length: DEVICES }, (_, slot) => slot).find(slot => !taken.has(slot));
    // The machine says it if there is none.
    if (free === undefined) return;
    taken.add(free);
    options['addr'] = formatDevfn(free * 8);
  }
}

function boardOptions(line: CommandLine, has: (name: string) => boolean): Record<string, Value> {
  const { written, values } = line.machineOptions;
  const options: Record<string, Value> = { ecam: false };
  for (const [name, value] of Object.entries(values)) {
    if (name === 'type' || INDIFFERENT.includes(name)) continue;
    if (!has(name) || name === 'memory' || name === 'reserved')
      throw new CommandLineError(`${written}: Property '${line.machine}-machine.${name}' not found`);
    options[name] = name === 'ecam' ? flagOf(written, values, name, false) : value;
  }
  for (const global of line.globals) {
    const { driver, property, value } = global.values as { driver: string; property: string; value: string };
    if (!BOARD_DRIVERS.includes(driver)) continue;
    if (!has(property)) throw new CommandLineError(`${global.written}: Property '${driver}.${property}' not found`);
    options[property] = value;
  }
  return { ...options, memory: line.memory ?? DEFAULT_MEMORY, reserved: line.reserved.join(' ') };
}

/** QEMU, too, only warns of a global option for what it does not know. */
function checkGlobals(line: CommandLine, kinds: Kinds<AnyDeviceKind>, warnings: string[]): void {
  for (const { written, values } of line.globals) {
    const driver = String(values['driver']);
    if (BOARD_DRIVERS.includes(driver)) continue;
    const kind = kinds.all.find(({ id, aliases }) => id === driver || aliases?.includes(driver) === true);
    const property = String(values['property']);
    if (kind === undefined) warnings.push(`${written}: there is no device '${driver}'`);
    else if (!kind.properties.has(property))
      throw new CommandLineError(`${written}: Property '${driver}.${property}' not found`);
  }
}

/** The option that was written, in place of its number. */
function explained(failure: ConfigError, line: CommandLine): CommandLineError {
  const [, index, inner = ''] = /^devices\[(\d+)\]\.?(.*)$/.exec(failure.path) ?? [];
  const problem = failure.message.slice(failure.path.length + 2);
  if (index !== undefined) {
    const { written } = line.devices[Number(index)]!;
    return new CommandLineError(`${written}: ${inner === '' ? '' : `${inner}: `}${problem}`);
  }
  if (failure.path === 'board.memory') return new CommandLineError(`-m: ${problem}`);
  return new CommandLineError(failure.message);
}
