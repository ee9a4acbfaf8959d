/** Objects beside devices, which devices name: QEMU's `-object`. */
import { ConfigError } from '@remora/core';
import type { DescribedDevice } from './description.js';
import { parseSpec, type DeviceSpec } from './device-spec.js';

/** `'iommufd,id=iommufd0'`, or what `iommufd({ id: 'iommufd0' })` returns. */
export type ObjectSpec = DeviceSpec;

/** QEMU's rule. */
const ID = /^[A-Za-z][A-Za-z0-9._-]*$/;

/** `-object iommufd,id=...`: the host's /dev/iommu, for `vfio-pci,iommufd=...`. */
export function iommufd(options: { readonly id: string }): ObjectSpec {
  return { driver: 'iommufd', options: { ...options } };
}

/** As they will be made: of kind iommufd, the only one that a device here can use. @throws ConfigError with a path such as `objects[0].id`. */
export function parseObjects(specs: readonly ObjectSpec[]): readonly DescribedDevice[] {
  const taken = new Map<unknown, string>();
  return specs.map((spec, index) => {
    const path = `objects[${index}]`;
    const { driver, options } = parseSpec(path, typeof spec === 'string' ? spec.replace(/^qom-type=/, '') : spec);
    if (driver !== 'iommufd') throw new ConfigError(path, `there is no object type "${driver}", expected iommufd`);
    const { id, ...rest } = options;
    if (id === undefined) throw new ConfigError(`${path}.id`, 'an object has an id, as iommufd0');
    if (typeof id !== 'string' || !ID.test(id)) {
      const expected = 'expected a letter, then letters, digits, "-", "." and "_"';
      throw new ConfigError(`${path}.id`, `${JSON.stringify(id)} is no id: ${expected}`);
    }
    for (const [name, value] of Object.entries(rest)) {
      throw new ConfigError(`${path}.${name}`, `"${String(value)}": iommufd has no option "${name}", expected id`);
    }
    const other = taken.get(id);
    if (other !== undefined) throw new ConfigError(`${path}.id`, `"${id}" is the id of ${other} already`);
    taken.set(id, path);
    return { driver, options: { id } };
  });
}
