/** How a device or a board is asked for: as on QEMU's command line, or as an object. Both mean the same. */
import { ConfigError, parseDeviceString } from '@remora/core';
import type { TypedDevice } from '@remora/pci';

/** `'vfio-pci,host=0000:3f:00.0,addr=03.0'`; or what `vfioPci({ host: '0000:3f:00.0', addr: '03.0' })` returns. */
export type DeviceSpec = string | { readonly driver: string; readonly options?: TypedDevice['options'] };

/** A spec that is only taken apart: no option was looked at. */
export interface ParsedSpec {
  readonly path: string;
  readonly driver: string;
  readonly options: Readonly<Record<string, unknown>>;
}

/** @throws ConfigError at `path` if a string does not follow the syntax. */
export function parseSpec(path: string, spec: DeviceSpec): ParsedSpec {
  const { driver, options = {} } = typeof spec === 'string' ? parseDeviceString(spec, path) : spec;
  if (typeof driver !== 'string' || driver === '') throw new ConfigError(path, 'no driver is named');
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return { path, driver, options: Object.fromEntries(given) };
}
