/** Saving a machine to bytes, and loading them into a machine of the same shape. QEMU: savevm, -incoming. */
import { readFileSync } from 'node:fs';
import { frameHi, frameLo } from '@remora/bits';
import { PAGE_BYTES, StateError, StateReader, StateWriter, type Ram, type StateSection } from '@remora/core';
import { SimulatedHost } from '@remora/host-sim';
import { differenceOf } from '../description.js';
import type { MachineGuest } from '../define-machine.js';
import type { Machine } from '../machine.js';
import type { ResumedBy } from '../machine-state.js';
import { readPages } from './ram-pages.js';
import { stateBytes, type StateFile } from './state-file.js';
import type { GuestProgress } from './state-header.js';

/** The guest's software, for state from which it can go on. */
export interface SavedGuest {
  readonly progress: Omit<GuestProgress, 'resumable'>;
  readonly guest: MachineGuest | undefined;
}

const ZEROES = new Uint8Array(PAGE_BYTES);

/**
 * All of a machine's state: RAM, board, devices, and what belongs to it of a simulated host. To be called between two accesses; changes
 * nothing.
 * @throws StateError naming what cannot be saved.
 */
export function saveState(machine: Machine, saved?: SavedGuest): Uint8Array {
  const into = new StateWriter();
  machine.save(into.child('machine'));
  const platform = machine.host?.platform;
  if (platform instanceof SimulatedHost) platform.save(into.child('host'));
  saved?.guest?.save?.(into.child('guest'));
  return stateBytes(
    {
      remora: version(),
      machine: machine.description,
      sections: versionsIn(into.section),
      ...(saved === undefined ? {} : { guest: { ...saved.progress, resumable: saved.guest?.save !== undefined } }),
    },
    into.section,
    machine.board.ram,
  );
}

export interface LoadOptions {
  /** The host was made for this state: it takes what was saved of the one before. Default false. */
  readonly host?: boolean;
}

/** What has come of loading. */
export interface LoadedState {
  /** What stands again outside the machine, in order. */
  readonly resumed: readonly ResumedBy[];
  /** The guest's software, for MachineDefinition.guest; undefined if the state has none. */
  readonly guest: StateReader | undefined;
}

/**
 * Resets a started machine of the same shape and loads a state into it: RAM, then the board and devices, then what they had
 * established at the host.
 * @throws StateError if the machine is of another shape, which is found out before anything changes, or the state cannot be loaded; the
 * machine is then reset and its RAM empty.
 */
export function loadState(machine: Machine, file: StateFile, options: LoadOptions = {}): LoadedState {
  const { header, path } = file;
  const { ram } = machine.board;
  const difference = differenceOf(machine.description, header.machine);
  if (difference !== undefined) throw difference;
  if (ram.size !== header.ram.bytes)
    throw new StateError(path, `has ${header.ram.bytes} bytes of RAM, and the machine ${ram.size}`);
  const from = new StateReader(file.sections, '');
  machine.reset();
  try {
    loadRam(ram, file);
    const resumed = machine.load(from.child('machine'));
    const platform = machine.host?.platform;
    const host = from.optional('host');
    if (options.host === true && platform instanceof SimulatedHost && host !== undefined) platform.load(host);
    const guest = from.optional('guest');
    done(from, options.host === true, guest);
    return { resumed, guest };
  } catch (failure) {
    clear(ram);
    machine.reset();
    throw failure;
  }
}

/** Nobody asks for what is saved of a host that stays behind, and the guest's software only asks once it is made. */
function done(from: StateReader, host: boolean, guest: StateReader | undefined): void {
  from.done(name => (name === 'host' && !host) || (name === 'guest' && guest !== undefined));
}

function loadRam(ram: Ram, file: StateFile): void {
  clear(ram);
  let pages = 0;
  readPages(file.pages, ram.frames, file.path, (frame, bytes) => {
    ram.write(frameHi(frame), frameLo(frame), bytes);
    pages++;
  });
  if (pages !== file.header.ram.pages)
    throw new StateError(file.path, `is damaged: ${pages} pages of RAM found, ${file.header.ram.pages} expected`);
}

function clear(ram: Ram): void {
  for (let frame = 0; frame < ram.frames; frame++) {
    if (!ram.isZero(frame)) ram.write(frameHi(frame), frameLo(frame), ZEROES);
  }
}

/** Sections at the top and of the devices. */
function versionsIn(section: StateSection): Record<string, number> {
  const versions: Record<string, number> = {};
  for (const [name, value] of section.fields) if (isSection(value)) versions[name] = value.version;
  const machine = section.fields.get('machine');
  const devices = machine !== undefined && isSection(machine) ? machine.fields.get('devices') : undefined;
  if (devices === undefined || !isSection(devices)) return versions;
  for (const [name, value] of devices.fields) {
    const state = isSection(value) ? value.fields.get('state') : undefined;
    if (state !== undefined && isSection(state)) versions[`devices.${name}`] = state.version;
  }
  return versions;
}

function isSection(value: unknown): value is StateSection {
  return typeof value === 'object' && value !== null && 'fields' in value;
}

function version(): string {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return manifest.version;
}
