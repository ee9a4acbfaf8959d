/** A machine from a state file alone: its host and itself are assembled from the description in it, then the state is loaded. */
import { StateError, type Ledger, type Plugin } from '@remora/core';
import type { HostIommuFactory, SimulatedHost } from '@remora/host-sim';
import { createHost } from '../create-host.js';
import { createMachine } from '../create-machine.js';
import type { HostDescription } from '../description.js';
import type { Host } from '../host.js';
import type { Machine } from '../machine.js';
import { loadState, type LoadedState } from './machine-files.js';
import type { StateFile } from './state-file.js';

/** What files only name: code. */
export interface RestoreParts {
  /** All that there are; those that the file names are used. */
  readonly plugins: readonly Plugin[];
  /** Physical IOMMUs by model. */
  readonly iommus?: Readonly<Record<string, (options: Record<string, unknown>) => HostIommuFactory>>;
}

export interface RestoreOptions extends RestoreParts {
  /** Runs on this host, which the caller keeps, instead of one like the one that the state was saved on. */
  readonly host?: Host;
  /** Another seed for the host that is made: another machine on another day. */
  readonly seed?: number;
  /** Records what happens from the start. */
  readonly ledger?: Ledger;
}

export interface RestoredMachine extends LoadedState {
  /** Started, and where it was. Disposing of it (or of its host, if that was made for it) is the caller's. */
  readonly machine: Machine;
}

/**
 * @throws StateError if the file names a plug-in or an IOMMU that is not here, or its state cannot be loaded; ConfigError if the machine
 * cannot be assembled any more. Nothing stays open then.
 */
export function restoreMachine(file: StateFile, options: RestoreOptions): RestoredMachine {
  const { name, board, plugins, objects, devices, host } = file.header.machine;
  if (typeof host === 'string' && options.host === undefined) throw new StateError(`${file.path}: host`, host);
  const made = options.host === undefined && typeof host === 'object' ? remakeHost(file, host, options) : undefined;
  const on = options.host ?? made;
  let machine: Machine | undefined;
  try {
    machine = createMachine(on, {
      name,
      board,
      devices,
      ...(objects === undefined ? {} : { objects }),
      plugins: named(file, plugins, options.plugins),
      order: devices.map(device => String(device.options['id'])),
      ...(options.ledger === undefined ? {} : { ledger: options.ledger }),
    });
    machine.start();
    return { machine, ...loadState(machine, file, { host: made !== undefined }) };
  } catch (failure) {
    if (made === undefined) machine?.[Symbol.dispose]();
    else made[Symbol.dispose]();
    throw failure;
  }
}

function remakeHost(file: StateFile, host: HostDescription, options: RestoreOptions): Host<SimulatedHost> {
  const { kernel, memory, seed, iommu, devices, plugins } = host;
  const model = iommu === undefined ? undefined : options.iommus?.[iommu.model];
  if (iommu !== undefined && model === undefined)
    throw new StateError(`${file.path}: host.iommu`, `there is no physical IOMMU "${iommu.model}" here`);
  const chosen = options.seed ?? seed;
  return createHost({
    kernel,
    devices,
    plugins: named(file, plugins, options.plugins),
    ...(memory === undefined ? {} : { memory }),
    ...(chosen === undefined ? {} : { seed: chosen }),
    ...(model === undefined ? {} : { iommu: model({ ...iommu!.options }) }),
    ...(options.ledger === undefined ? {} : { ledger: options.ledger }),
  });
}

function named(file: StateFile, names: readonly string[], known: readonly Plugin[]): Plugin[] {
  return names.map(name => {
    const plugin = known.find(each => each.name === name);
    if (plugin === undefined) throw new StateError(`${file.path}: plugins`, `there is no plug-in "${name}" here`);
    return plugin;
  });
}
