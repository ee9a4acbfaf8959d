/** Get Log Page (NVMe 1.4, 5.14). */
import {
  ADMIN_NAMES,
  ALL_NAMESPACES,
  CHANGED_NAMESPACES_BYTES,
  Effect,
  EFFECTS_BYTES,
  EFFECTS_IO,
  ERROR_ENTRIES,
  ERROR_ENTRY_BYTES,
  FIRMWARE,
  FIRMWARE_BYTES_OF_PAGE,
  AdminOpcode,
  IO_NAMES,
  IoOpcode,
  LogPage,
  NVM_COMMAND_SET,
  SMART_BYTES,
} from '../spec/index.js';
import type { Command } from './command.js';
import type { ErrorLog } from './error-log.js';
import type { Health } from './health.js';
import { NAMESPACE_ID } from './io-commands.js';

const SIZES: ReadonlyMap<number, number> = new Map([
  [LogPage.ERROR, ERROR_ENTRIES * ERROR_ENTRY_BYTES],
  [LogPage.SMART, SMART_BYTES],
  [LogPage.FIRMWARE, FIRMWARE_BYTES_OF_PAGE],
  [LogPage.CHANGED_NAMESPACES, CHANGED_NAMESPACES_BYTES],
  [LogPage.EFFECTS, EFFECTS_BYTES],
]);

/** Commands that change what is in blocks. */
const WRITERS: readonly number[] = [IoOpcode.WRITE, IoOpcode.WRITE_ZEROES, IoOpcode.DATASET_MANAGEMENT];
const FIRST_SLOT = 8;

/** The log page that `command` asks for; undefined if there is none. `warnings` is what of the device is critical. */
export function logPageOf(
  command: Command,
  errors: ErrorLog,
  health: Health,
  warnings: number,
): Uint8Array | undefined {
  const id = command.dword(10) & 0xff;
  const size = SIZES.get(id);
  if (size === undefined) return undefined;
  const page = new Uint8Array(size);
  if (id === LogPage.ERROR) errors.fill(page);
  else if (id === LogPage.SMART) health.fill(page, errors.count, warnings);
  else if (id === LogPage.FIRMWARE) firmware(page);
  else if (id === LogPage.EFFECTS) effects(page, command.dword(14) >>> 24);
  return page;
}

/** Whether a log page can be asked for in the name of `nsid`. */
export function hasLogPage(id: number, nsid: number): boolean {
  return id !== LogPage.SMART || nsid === 0 || nsid === NAMESPACE_ID || nsid === ALL_NAMESPACES;
}

/** Slot 1 is active. */
function firmware(page: Uint8Array): void {
  page[0] = 1;
  page.set(
    [...FIRMWARE.padEnd(8)].map(letter => letter.charCodeAt(0)),
    FIRST_SLOT,
  );
}

function effects(page: Uint8Array, set: number): void {
  const view = new DataView(page.buffer);
  for (const opcode of ADMIN_NAMES.keys()) view.setUint32(4 * opcode, Effect.SUPPORTED, true);
  view.setUint32(4 * AdminOpcode.FORMAT_NVM, Effect.SUPPORTED | Effect.BLOCKS | Effect.NAMESPACE, true);
  if (set !== NVM_COMMAND_SET) return;
  for (const opcode of IO_NAMES.keys()) {
    const what = Effect.SUPPORTED | (WRITERS.includes(opcode) ? Effect.BLOCKS : 0);
    view.setUint32(EFFECTS_IO + 4 * opcode, what, true);
  }
}
