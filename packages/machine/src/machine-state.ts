/** The state of a machine without its RAM: clock, board and devices. */
import {
  memoryBatch,
  StateError,
  type Resumed,
  type StateReader,
  type StateWriter,
  type VirtualClock,
} from '@remora/core';
import type { Board } from '@remora/pci';
import type { AssembledDevice } from './assembled-device.js';

/** Something that a device has established again outside the machine. */
export interface ResumedBy extends Resumed {
  /** Its id. */
  readonly device: string;
}

/** @throws StateError naming what cannot be saved. */
export function saveMachine(
  into: StateWriter,
  clock: VirtualClock,
  board: Board,
  devices: readonly AssembledDevice[],
): void {
  clock.save(into.child('clock'));
  const at = into.child('board');
  if (board.save === undefined || board.load === undefined)
    throw at.refusal(`the board of "${board.name}" has no save and load: its machine cannot be saved`);
  board.save(at);
  const all = into.child('devices');
  for (const each of devices) each.save(all.child(each.name));
}

/**
 * As saveMachine wrote it, into a machine of the same shape that was reset: registers of the board, configuration spaces of all devices,
 * then the devices' own state in order of realization.
 * @throws StateError for what cannot be.
 */
export function loadMachine(
  from: StateReader,
  clock: VirtualClock,
  board: Board,
  devices: readonly AssembledDevice[],
): void {
  clock.load(from.child('clock'));
  const all = from.child('devices');
  const sections = devices.map(each => ({ each, section: all.child(each.name) }));
  memoryBatch(() => {
    board.load?.(from.child('board'));
    for (const { each, section } of sections) each.loadFunctions(section);
  });
  for (const { each, section } of sections) each.load(section);
}

/** @throws StateError naming the device that could not. */
export function resumeMachine(devices: readonly AssembledDevice[]): ResumedBy[] {
  return devices.flatMap(each => {
    try {
      return (each.device.resume?.() ?? []).map(resumed => ({ device: each.name, ...resumed }));
    } catch (cause) {
      if (!(cause instanceof StateError)) throw cause;
      const problem = cause.message.slice(cause.path === '' ? 0 : cause.path.length + 2);
      throw new StateError(`devices.${each.name}`, problem, { cause });
    }
  });
}
