/** What a client reads of sysfs. */
import type { HostSyscalls } from '../syscalls.js';
import { VfioError } from './vfio-error.js';

/** The IOMMU group of a device that vfio-pci has. @throws VfioError that says what is missing. */
export function requireVfioPci(syscalls: HostSyscalls, bdf: string): number {
  const device = `/sys/bus/pci/devices/${bdf}`;
  const link = syscalls.readlink(`${device}/iommu_group`);
  if (typeof link === 'number') {
    throw new VfioError(bdf, link, 'the host has no such device, or no IOMMU in front of it');
  }
  const driver = syscalls.readlink(`${device}/driver`);
  if (typeof driver === 'number') throw new VfioError(bdf, driver, 'no driver is bound to it');
  const bound = driver.split('/').at(-1);
  if (bound !== 'vfio-pci') throw new VfioError(bdf, 0, `it is bound to "${bound}", not to vfio-pci`);
  return Number(link.split('/').at(-1));
}
