/** Whether saved configuration space belongs to a function: what it is, and which capabilities are where. */
import type { StateReader } from '@remora/core';
import type { PciFunction } from './function.js';
import { Config, HEADER_MULTI_FUNCTION } from './registers.js';

/** `8086:29c0 rev 02 class 060000 header 0 caps 10@40 11@7c ext 001b@100`: equal for functions that have the same registers. */
export function identityOf(fn: PciFunction): string {
  const { config, capabilities } = fn;
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
  const places = (all: readonly { readonly id: number; readonly offset: number }[], digits: number): string =>
    all.map(({ id, offset }) => ` ${hex(id, digits)}@${hex(offset, 2)}`).join('');
  return [
    `${hex(config.get16(Config.VENDOR), 4)}:${hex(config.get16(Config.DEVICE), 4)}`,
    `rev ${hex(config.get8(Config.REVISION), 2)}`,
    `class ${hex(config.get32(Config.REVISION) >>> 8, 6)}`,
    `header ${config.get8(Config.HEADER_TYPE) & ~HEADER_MULTI_FUNCTION}`,
    `caps${places(capabilities.standard, 2)}`,
    `ext${places(capabilities.extended, 4)}`,
  ].join(' ');
}

/** @throws StateError if the saved function is another. */
export function checkIdentity(fn: PciFunction, from: StateReader): void {
  const saved = from.text('identity');
  const here = identityOf(fn);
  if (saved !== here) throw from.problem('identity', `"${saved}" found, "${here}" expected`);
}
