import { ConfigError } from '../errors.js';

/** A `-device` argument, taken apart. */
export interface DeviceString {
  readonly driver: string;
  /** In the order given. Of a name that is given twice, the last value counts, as in QEMU. */
  readonly options: Record<string, string>;
}

/**
 * Parses QEMU's option syntax: `intel-iommu,caching-mode=on,id=x`. A comma in a value is written twice; an option without a value is
 * on; the driver comes first, or anywhere as `driver=`.
 * @throws ConfigError at `path` if there is no driver or an option has no name.
 */
export function parseDeviceString(text: string, path = '-device'): DeviceString {
  const options = new Map<string, string>();
  for (const [index, part] of splitAtCommas(text).entries()) {
    const equals = part.indexOf('=');
    const name = equals < 0 ? part : part.slice(0, equals);
    if (name === '') throw new ConfigError(path, `"${text}" has an option without a name, expected name=value`);
    if (equals >= 0) options.set(name, part.slice(equals + 1));
    else if (index === 0) options.set('driver', part);
    else options.set(name, 'on');
  }
  const driver = options.get('driver');
  options.delete('driver');
  if (driver === undefined || driver === '') {
    throw new ConfigError(path, `"${text}" names no driver, expected driver,property=value...`);
  }
  return { driver, options: Object.fromEntries(options) };
}

/** The parts between single commas; a pair of commas is one comma of the part. */
function splitAtCommas(text: string): string[] {
  const parts = [''];
  for (let index = 0; index < text.length; index++) {
    const escaped = text[index] === ',' && text[index + 1] === ',';
    if (text[index] === ',' && !escaped) parts.push('');
    else parts[parts.length - 1] += text[index]!;
    if (escaped) index++;
  }
  return parts;
}
