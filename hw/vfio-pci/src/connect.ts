/** How vfio-pci gets its function from the host: through a VFIO container, or through iommufd. */
import { ConfigError, type AddressSpace } from '@remora/core';
import type { IommufdBackend, IommufdConnection, MachineProcess, VfioConnection } from '@remora/host';
import { type PciDeviceContext, type PciFunction, pciIommuOf } from '@remora/pci';
import type { VfioPciConfig } from './config.js';

/** Options that mean nothing without a container. */
const CONTAINER_ONLY = [
  'x-vmid',
  'quirk-attributes-collapse',
  'quirk-flush-argsz',
  'quirk-format-only-logged',
  'quirk-missing-capability',
  'quirk-call-per-device',
  'quirk-vmid-after-set-iommu',
] as const;

/** A function of the host that is open here. */
export type HostFunction = VfioConnection | IommufdConnection;

/**
 * Opens the function: a host that nests maps what the guest takes for physical memory, whatever the guest translates.
 * @throws ConfigError for options that do not go together; VfioError if the host refuses.
 */
export function connectHost(
  process: MachineProcess,
  fn: PciFunction,
  context: PciDeviceContext,
  config: VfioPciConfig,
): HostFunction {
  if (process.holds(config.host))
    throw new ConfigError('host', `${config.host}: it is attached to this machine already`);
  const { ledger, trace, guestMemory } = context;
  const ops = pciIommuOf(fn);
  const followed = (): AddressSpace => ops?.mapSpaceFor?.(fn.bus!, fn.devfn) ?? fn.dma.addressSpace;
  const wantsNesting = ops?.wantsNesting ?? false;
  const vmid = config['x-vmid'];
  // Containers with one VMID share what the host's IOMMU caches: they have to map the same.
  if (vmid && (wantsNesting || followed() !== guestMemory)) {
    throw new ConfigError('x-vmid', 'on takes a device whose requests no vIOMMU translates');
  }
  const options = {
    wantsNesting,
    space: wantsNesting ? guestMemory : followed(),
    spaceWithoutNesting: followed,
    fresh: config.container === 'new',
    memory: { addressOf: process.addressOf, ledger },
    ledger,
    trace,
  };
  const iommufd = iommufdOf(process, config);
  if (iommufd !== undefined) return iommufd.connect(config.host, options);
  return process.vfio.connect(config.host, {
    ...options,
    vmid,
    quirks: {
      attributeFlags: config['quirk-attributes-collapse'],
      flushArgsz: config['quirk-flush-argsz'],
      anyFormat: config['quirk-format-only-logged'],
      missingNestingCap: config['quirk-missing-capability'],
      perDevice: config['quirk-call-per-device'],
      vmidAfterSetIommu: config['quirk-vmid-after-set-iommu'],
    },
  });
}

/** The object that `iommufd=` names. @throws ConfigError if there is none, or with options that mean containers. */
function iommufdOf(process: MachineProcess, config: VfioPciConfig): IommufdBackend | undefined {
  const { iommufd: id } = config;
  if (id === undefined) return undefined;
  const backend = process.iommufds.get(id);
  if (backend === undefined) {
    const known = [...process.iommufds.keys()].join(', ');
    const expected = known === '' ? 'this machine has none: give it `-object iommufd,id=...`' : `expected ${known}`;
    throw new ConfigError('iommufd', `there is no iommufd object "${id}" (${expected})`);
  }
  for (const name of CONTAINER_ONLY) {
    if (config[name]) throw new ConfigError(name, `it is about VFIO containers: iommufd=${id} has none`);
  }
  return backend;
}
