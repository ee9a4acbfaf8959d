/** Why a host that is Linux would not lend one of its PCI functions to us, and what to do about it. */
import { Errno, errnoName } from '@remora/core';
import type { HostSyscalls } from '@remora/host';

export interface Obstacle {
  /** What is missing, or in the way. */
  readonly what: string;
  /** What a user can do. */
  readonly remedy: string;
}

export interface LendingOptions {
  /** By /dev/iommu and the function's own file, not by its group. */
  readonly iommufd?: boolean;
}

const FUNCTIONS = '/sys/bus/pci/devices';
const CONTAINER = '/dev/vfio/vfio';
const IOMMUFD = '/dev/iommu';
/** Drivers of bridges: functions that they have do not keep the others of their group from being lent. */
const HARMLESS = ['vfio-pci', 'pcieport', 'pci-stub'];

/**
 * All that can be told by looking, in the order in which it has to be mended; none if the function at `bdf` (`0000:3f:00.0`) can be lent. Files
 * are opened, and closed again.
 */
export function obstacles(syscalls: HostSyscalls, bdf: string, { iommufd = false }: LendingOptions = {}): Obstacle[] {
  const folder = `${FUNCTIONS}/${bdf}`;
  if (typeof syscalls.readdir(folder) === 'number')
    return [{ what: `there is no PCI function ${bdf}`, remedy: '`lspci -D` lists those that there are' }];
  const group = lastOf(syscalls.readlink(`${folder}/iommu_group`));
  if (group === undefined) {
    const remedy = 'switch VT-d or AMD-Vi on in the firmware, and boot with intel_iommu=on or amd_iommu=on';
    return [{ what: `no IOMMU stands in front of ${bdf}`, remedy }];
  }
  const found = [...driverObstacles(syscalls, bdf, folder), ...groupObstacles(syscalls, bdf, folder, group)];
  return [...found, ...(iommufd ? iommufdObstacles(syscalls, folder) : vfioObstacles(syscalls, group))];
}

function driverObstacles(syscalls: HostSyscalls, bdf: string, folder: string): Obstacle[] {
  const driver = lastOf(syscalls.readlink(`${folder}/driver`));
  if (driver === 'vfio-pci') return [];
  const found: Obstacle[] = [];
  if (typeof syscalls.readdir('/sys/bus/pci/drivers/vfio-pci') === 'number')
    found.push({ what: 'the driver vfio-pci is not loaded', remedy: 'modprobe vfio-pci' });
  const letGo = driver === undefined ? [] : [`echo ${bdf} >${folder}/driver/unbind`];
  const remedy = [`echo vfio-pci >${folder}/driver_override`, ...letGo, `echo ${bdf} >/sys/bus/pci/drivers_probe`].join(
    '; ',
  );
  const has = driver === undefined ? 'no driver has it' : `the driver ${driver} has it`;
  found.push({ what: `${bdf} is not bound to vfio-pci: ${has}`, remedy });
  return found;
}

function groupObstacles(syscalls: HostSyscalls, bdf: string, folder: string, group: string): Obstacle[] {
  const members = syscalls.readdir(`${folder}/iommu_group/devices`);
  if (typeof members === 'number') return [];
  return members
    .filter(member => member !== bdf)
    .flatMap(member => {
      const driver = lastOf(syscalls.readlink(`${FUNCTIONS}/${member}/driver`));
      if (driver === undefined || HARMLESS.includes(driver)) return [];
      const what = `${member} is in the same IOMMU group ${group}, and the driver ${driver} has it`;
      return [{ what, remedy: `bind it to vfio-pci, too: what is in a group is lent together` }];
    });
}

function vfioObstacles(syscalls: HostSyscalls, group: string): Obstacle[] {
  const container = tried(syscalls, CONTAINER);
  if (container === -Errno.ENOENT)
    return [{ what: `there is no ${CONTAINER}`, remedy: 'modprobe vfio vfio_iommu_type1' }];
  const path = `/dev/vfio/${group}`;
  return [
    ...refused(CONTAINER, container, 'vfio_iommu_type1 is not loaded: modprobe vfio_iommu_type1'),
    ...refused(path, tried(syscalls, path), 'it comes when vfio-pci has the function'),
  ];
}

function iommufdObstacles(syscalls: HostSyscalls, folder: string): Obstacle[] {
  const found = refused(
    IOMMUFD,
    tried(syscalls, IOMMUFD),
    'modprobe iommufd; if there is no such module, this kernel was built without CONFIG_IOMMUFD, as Debian builds it: use groups, without iommufd=',
  );
  const names = syscalls.readdir(`${folder}/vfio-dev`);
  if (typeof names === 'number' || names[0] === undefined) {
    const remedy = 'the kernel needs CONFIG_VFIO_DEVICE_CDEV, and vfio-pci has to have the function';
    return [...found, { what: `${folder} has no vfio-dev: it has no file of its own`, remedy }];
  }
  const path = `/dev/vfio/devices/${names[0]}`;
  return [...found, ...refused(path, tried(syscalls, path), 'udev makes it: is it running here?')];
}

/** 0, or the -errno of opening it. */
function tried(syscalls: HostSyscalls, path: string): number {
  const fd = syscalls.open(path);
  if (fd >= 0) syscalls.close(fd);
  return Math.min(fd, 0);
}

function refused(path: string, result: number, missing: string): Obstacle[] {
  switch (result) {
    case 0:
      return [];
    case -Errno.ENOENT:
    case -Errno.ENODEV:
      return [{ what: `there is no ${path}`, remedy: missing }];
    case -Errno.EACCES:
    case -Errno.EPERM:
      return [{ what: `${path} may not be opened by this user`, remedy: `chown it to the user, or run as root` }];
    case -Errno.EBUSY:
      return [{ what: `somebody else has ${path} open`, remedy: `\`fuser ${path}\` tells who` }];
    default:
      return [{ what: `${path} cannot be opened: ${errnoName(result)}`, remedy: 'the kernel log may tell why' }];
  }
}

function lastOf(link: string | number): string | undefined {
  return typeof link === 'number' ? undefined : link.split('/').at(-1);
}
