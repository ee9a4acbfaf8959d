/** createHost(): a simulated host from a description. The composition root of the host level. */
import { bdf, bool, ConfigError, properties, required, string, type Plugin } from '@remora/core';
import { SimulatedHost, type HostDevice, type SimulatedHostOptions } from '@remora/host-sim';
import { DeviceKinds, type AnyDeviceKind } from '@remora/pci';
import { located } from './config-error.js';
import { plainOptions, type DescribedDevice, type HostDescription } from './description.js';
import { Kinds } from './device-kinds.js';
import { parseSpec, type DeviceSpec } from './device-spec.js';
import { Host, hostScope } from './host.js';
import type { Machine } from './machine.js';

export interface HostOptions extends Omit<SimulatedHostOptions, 'devices'> {
  /** Bring the physical devices; machines of this host have them too. */
  readonly plugins?: readonly Plugin[];
  /** Physical functions: `'dma-engine,addr=3f:00.0'`. `bound-to=` names the kernel driver, `group=` the IOMMU group. */
  readonly devices?: readonly DeviceSpec[];
}

/** Options of every physical device, beside its kind's own. */
const placement = properties({
  addr: required(bdf(undefined, 'its address on the host')),
  group: string(undefined, 'devices that name the same IOMMU group are lent together; default: a group of its own'),
  resettable: bool(true, 'the kernel knows a way to reset it alone'),
  'bound-to': string('vfio-pci', 'the kernel driver that has it; none for no driver'),
});

/**
 * Assembles a simulated host.
 * @throws ConfigError with a path such as `devices[0].addr` for whatever cannot be built. Nothing stays open then.
 */
export function createHost(options: HostOptions = {}): Host<SimulatedHost> {
  const { plugins = [], devices = [], ...simulated } = options;
  const scope = hostScope(plugins);
  try {
    const kinds = new Kinds<AnyDeviceKind>('device', scope.all(DeviceKinds));
    const physical = devices.map((spec, index) => physicalDevice(`devices[${index}]`, spec, kinds));
    const host = new SimulatedHost({ ...simulated, devices: physical });
    return new Host(host, scope, () => describeHost(options, host));
  } catch (failure) {
    scope[Symbol.dispose]();
    throw failure;
  }
}

function describeHost(options: HostOptions, host: SimulatedHost): HostDescription | string {
  const { plugins = [], devices = [], memory, seed, iommu } = options;
  if (iommu !== undefined && iommu.model === undefined) return 'its physical IOMMU does not say which model it is';
  return {
    ...(memory === undefined ? {} : { memory }),
    ...(seed === undefined ? {} : { seed }),
    kernel: plainOptions('host.kernel', host.knobs),
    ...(iommu?.model === undefined
      ? {}
      : { iommu: { model: iommu.model, options: plainOptions('host.iommu', iommu.options) } }),
    plugins: [...new Set(plugins.map(plugin => plugin.name))],
    devices: devices.map((spec, index): DescribedDevice => {
      const path = `host.devices[${index}]`;
      const { driver, options: given } = parseSpec(path, spec);
      return { driver, options: plainOptions(path, given) };
    }),
  };
}

function physicalDevice(path: string, spec: DeviceSpec, kinds: Kinds<AnyDeviceKind>): HostDevice {
  const { driver, options } = parseSpec(path, spec);
  const kind = kinds.find(path, driver);
  return located(path, [kind.id], () => {
    const given = Object.entries(options);
    const {
      addr,
      group,
      'bound-to': boundTo,
      resettable,
    } = placement.parse(
      path,
      pick(given, name => placement.has(name)),
    );
    const config: unknown = kind.properties.parse(
      path,
      pick(given, name => !placement.has(name)),
    );
    if (kind.bus !== 'pci') throw new ConfigError(path, `"${kind.id}" is not a PCI device`);
    return {
      at: addr,
      ...(group === undefined ? {} : { group }),
      boundTo: boundTo === 'none' ? null : boundTo,
      resettable,
      create: context => located(path, [kind.id, addr], () => kind.create(context, config)),
    };
  });
}

function pick(entries: [string, unknown][], wanted: (name: string) => boolean): Record<string, unknown> {
  return Object.fromEntries(entries.filter(([name]) => wanted(name)));
}

/** The simulated host that `machine` runs on. @throws ConfigError if it runs on another kind of host, or on none. */
export function simulatedHostOf(machine: Machine): SimulatedHost {
  const platform = machine.host?.platform;
  if (platform instanceof SimulatedHost) return platform;
  throw new ConfigError('host', `${machine.name} does not run on a simulated host`);
}
