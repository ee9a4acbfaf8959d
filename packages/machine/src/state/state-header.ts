/** The readable part of a state file: who wrote it, of what machine, and where in its guest's program. */
import { StateError } from '@remora/core';
import type { DescribedDevice, MachineDescription } from '../description.js';

/** Where in a machine definition's steps the guest was. */
export interface GuestProgress {
  /** MachineDefinition.name. */
  readonly definition: string;
  readonly seed: number;
  /** Ids of the steps that were done, in order. */
  readonly done: readonly string[];
  /** Whether the guest's software is in the file, so that it can go on. */
  readonly resumable: boolean;
}

export interface StateHeader {
  /** Version of the Remora that wrote it. */
  readonly remora: string;
  readonly machine: MachineDescription;
  /** Bytes of RAM, and pages of it that are in the file. */
  readonly ram: { readonly bytes: number; readonly pages: number };
  /** Names of the sections at the top and of the devices', with their versions: to look at; loading goes by the sections themselves. */
  readonly sections: Readonly<Record<string, number>>;
  readonly guest?: GuestProgress;
}

/** The header in a file's JSON. @throws StateError at `path` if that is not what it is. */
export function parseHeader(text: string, path: string): StateHeader {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw new StateError(path, 'its header is not JSON', { cause });
  }
  const problem = problemIn(header);
  if (problem !== undefined) throw new StateError(path, `its header has no ${problem}`);
  return header as StateHeader;
}

/** What is missing or of another type. The machine's own parts are judged by whoever assembles it. */
function problemIn(header: unknown): string | undefined {
  const { remora, machine, ram, sections, guest } = fields(header);
  const { name, board, plugins, objects, devices, host } = fields(machine);
  const { bytes, pages } = fields(ram);
  if (typeof remora !== 'string') return 'version';
  if (typeof name !== 'string' || !isDevice(board) || !isTexts(plugins) || !isDevices(devices)) return 'machine';
  if (objects !== undefined && !isDevices(objects)) return 'objects of the machine';
  if (!isCount(bytes) || !isCount(pages) || typeof sections !== 'object') return 'description of its contents';
  if (host !== undefined && typeof host !== 'string' && !isHost(host)) return 'description of the host';
  return guest === undefined || isProgress(guest) ? undefined : 'progress of the guest';
}

function isHost(value: unknown): boolean {
  const { memory, seed, kernel, iommu, plugins, devices } = fields(value);
  const { model, options } = fields(iommu);
  return (
    isOptional(memory, 'number') &&
    isOptional(seed, 'number') &&
    isOptions(kernel) &&
    (iommu === undefined || (typeof model === 'string' && isOptions(options))) &&
    isTexts(plugins) &&
    isDevices(devices)
  );
}

function isProgress(value: unknown): boolean {
  const { definition, seed, done, resumable } = fields(value);
  return typeof definition === 'string' && isCount(seed) && isTexts(done) && typeof resumable === 'boolean';
}

function isDevice(value: unknown): value is DescribedDevice {
  const { driver, options } = fields(value);
  return typeof driver === 'string' && isOptions(options);
}

function isDevices(value: unknown): boolean {
  return Array.isArray(value) && value.every(isDevice);
}

function isOptions(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every(each => typeof each === 'string');
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isOptional(value: unknown, type: string): boolean {
  return value === undefined || typeof value === type;
}

function fields(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
