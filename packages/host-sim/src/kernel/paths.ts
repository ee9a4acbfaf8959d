/** The few files and links of /dev and /sys that a VMM looks at. */
import { Errno } from '@remora/core';
import type { HostFile } from '../files/host-file.js';
import { VfioCdevFile } from '../files/vfio-cdev.js';
import { VfioGroupFile } from '../files/vfio-group.js';
import type { HostProcess } from '../process.js';
import { Container, ContainerFile } from './container.js';
import { IommufdContext } from './iommufd/context.js';
import { IommufdFile } from './iommufd/file.js';
import type { Kernel } from './kernel.js';

const CONTAINER = '/dev/vfio/vfio';
const IOMMUFD = '/dev/iommu';
const GROUP = /^\/dev\/vfio\/(0|[1-9][0-9]*)$/;
const CDEV = /^\/dev\/vfio\/devices\/(vfio[0-9]+)$/;
const VFIO_PCI = '/sys/bus/pci/drivers/vfio-pci';
const DEVICE_FOLDER = /^\/sys\/bus\/pci\/devices\/([^/]+)(?:\/(vfio-dev|iommu_group\/devices))?$/;
const DEVICE_LINK = /^\/sys\/bus\/pci\/devices\/([^/]+)\/(iommu_group|driver)$/;

/** The file at `path`, opened by `process`, or -errno. A group that nobody may have yet does not exist: -ENOENT. */
export function openPath(kernel: Kernel, process: HostProcess, path: string): HostFile | number {
  if (path === CONTAINER) return openContainer(kernel, process);
  if (path === IOMMUFD && kernel.knobs.iommufd) return new IommufdFile(new IommufdContext(kernel, process));
  const cdev = CDEV.exec(path)?.[1];
  if (cdev !== undefined) return openCdev(kernel, cdev);
  const number = GROUP.exec(path)?.[1];
  const group = number === undefined ? undefined : kernel.groups.get(Number(number));
  if (group === undefined || !group.offered) return -Errno.ENOENT;
  const error = group.open();
  return error === 0 ? new VfioGroupFile(kernel, group) : error;
}

function openCdev(kernel: Kernel, name: string): HostFile | number {
  const [bdf] = [...vfioCdevs(kernel)].find(([, each]) => each === name) ?? [];
  const device = bdf === undefined || !kernel.knobs.iommufd ? undefined : kernel.devices.get(bdf);
  return device === undefined
    ? -Errno.ENOENT
    : new VfioCdevFile(kernel, device, kernel.groups.get(device.groupNumber)!);
}

/** VFIO's own container, or an iommufd that accounts as one does: by process. */
function openContainer(kernel: Kernel, process: HostProcess): HostFile {
  if (kernel.knobs.vfioContainer === 'type1') return new ContainerFile(new Container(kernel, process));
  const context = new IommufdContext(kernel, process);
  context.accounting = 'process';
  return new IommufdFile(context);
}

/** Names in a directory of sysfs: a device that vfio-pci has, and that an IOMMU fences in, has one in `vfio-dev`. */
export function readDirectory(kernel: Kernel, path: string): readonly string[] | number {
  if (path === VFIO_PCI)
    return [...kernel.devices.values()].flatMap(each => (each.driver === 'vfio-pci' ? each.bdf : []));
  const [, bdf = '', what] = DEVICE_FOLDER.exec(path) ?? [];
  const device = kernel.devices.get(bdf);
  if (device === undefined) return -Errno.ENOENT;
  const cdev = vfioCdevs(kernel).get(bdf);
  const group = kernel.groups.get(device.groupNumber);
  switch (what) {
    case 'vfio-dev':
      return cdev === undefined ? -Errno.ENOENT : [cdev];
    case 'iommu_group/devices':
      return group?.devices.map(each => each.bdf) ?? -Errno.ENOENT;
    default: {
      const entries = { driver: device.driver, iommu_group: group, 'vfio-dev': cdev };
      return Object.entries(entries).flatMap(([name, there]) => (there === undefined ? [] : name));
    }
  }
}

/** The names below /dev/vfio/devices, by the address of their device. */
export function vfioCdevs(kernel: Kernel): ReadonlyMap<string, string> {
  const lent = [...kernel.devices].filter(
    ([, { driver, groupNumber }]) => driver === 'vfio-pci' && kernel.groups.has(groupNumber),
  );
  return new Map(lent.map(([bdf], index) => [bdf, `vfio${index}`]));
}

/** -ENOENT for what is not there: a device without an IOMMU in front of it has no group, one without a driver no driver. */
export function readLink(kernel: Kernel, path: string): string | number {
  const [, bdf, what] = DEVICE_LINK.exec(path) ?? [];
  const device = bdf === undefined ? undefined : kernel.devices.get(bdf);
  if (device === undefined) return -Errno.ENOENT;
  if (what === 'driver') {
    return device.driver === undefined ? -Errno.ENOENT : `../../../bus/pci/drivers/${device.driver}`;
  }
  return kernel.groups.has(device.groupNumber) ? `../../../kernel/iommu_groups/${device.groupNumber}` : -Errno.ENOENT;
}
