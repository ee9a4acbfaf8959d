/** What a machine is made of, as plain data: enough to assemble one of the same shape, in another process or on another day. */
import { StateError } from '@remora/core';

/** What JSON can hold. */
export type PlainValue =
  string | number | boolean | null | readonly PlainValue[] | { readonly [name: string]: PlainValue };
export type PlainOptions = Readonly<Record<string, PlainValue>>;

/** A board, or a device with its id and place, with all options that it has now. */
export interface DescribedDevice {
  readonly driver: string;
  /** By option name; those without a value are left out. */
  readonly options: PlainOptions;
}

/** A simulated host. */
export interface HostDescription {
  readonly memory?: number;
  readonly seed?: number;
  readonly kernel: PlainOptions;
  /** The physical IOMMU's model and options; absent if there is none. */
  readonly iommu?: { readonly model: string; readonly options: PlainOptions };
  readonly plugins: readonly string[];
  readonly devices: readonly DescribedDevice[];
}

export interface MachineDescription {
  readonly name: string;
  readonly board: DescribedDevice;
  /** By name, without those of its host. */
  readonly plugins: readonly string[];
  /** What devices name; absent if there is none. */
  readonly objects?: readonly DescribedDevice[];
  /** In the order in which they were realized. */
  readonly devices: readonly DescribedDevice[];
  /** The host that it runs on; a text says why that cannot be described. Absent without a host. */
  readonly host?: HostDescription | string;
}

/** Options as plain data; what is undefined is left out. @throws StateError at `path` for a value that is none. */
export function plainOptions(path: string, config: unknown): PlainOptions {
  const plain: Record<string, PlainValue> = {};
  for (const [name, value] of Object.entries((config ?? {}) as Record<string, unknown>)) {
    if (value === undefined) continue;
    plain[name] = plainValue(`${path}.${name}`, value);
  }
  return plain;
}

function plainValue(path: string, value: unknown): PlainValue {
  if (typeof value === 'string' || typeof value === 'boolean' || value === null || Number.isFinite(value))
    return value as PlainValue;
  if (Array.isArray(value)) return value.map((each, index) => plainValue(`${path}[${index}]`, each));
  const simple = typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype;
  if (simple) return plainOptions(path, value);
  throw new StateError(path, `${typeof value} is not plain data: it cannot be saved`);
}

/**
 * The first difference between what is here and what state was saved of: where, and what is there and here. Undefined if there is none;
 * hosts and the machine's own name do not count.
 */
export function differenceOf(here: MachineDescription, saved: MachineDescription): StateError | undefined {
  const board = deviceDifference('board', here.board, saved.board);
  if (board !== undefined) return board;
  const ours = new Map(here.devices.map(device => [String(device.options['id']), device]));
  const theirs = new Map(saved.devices.map(device => [String(device.options['id']), device]));
  for (const [id, device] of theirs) {
    const known = ours.get(id);
    if (known === undefined)
      return new StateError(`devices.${id}`, `the state has a "${device.driver}" that is not here`);
    const difference = deviceDifference(`devices.${id}`, known, device);
    if (difference !== undefined) return difference;
  }
  for (const [id, device] of ours) {
    if (!theirs.has(id)) return new StateError(`devices.${id}`, `the "${device.driver}" here is not in the state`);
  }
  return undefined;
}

function deviceDifference(path: string, here: DescribedDevice, saved: DescribedDevice): StateError | undefined {
  if (here.driver !== saved.driver)
    return new StateError(path, `"${saved.driver}" in the state, "${here.driver}" here`);
  // Options that the state does not know came after it: they are what their defaults are, or were chosen here.
  for (const name of Object.keys(saved.options)) {
    const [found, expected] = [saved.options[name], here.options[name]];
    if (JSON.stringify(found) !== JSON.stringify(expected))
      return new StateError(`${path}.${name}`, `${shown(found)} in the state, ${shown(expected)} here`);
  }
  return undefined;
}

function shown(value: PlainValue | undefined): string {
  if (value === undefined) return 'not given';
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
