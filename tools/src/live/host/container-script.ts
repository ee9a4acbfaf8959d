/** Containers and groups: who may do what in which order. */
import {
  VFIO_CHECK_EXTENSION,
  VFIO_GET_API_VERSION,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_IOMMU_GET_INFO,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1_NESTING_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VfioContainerFd,
  VfioGroupStatus,
} from '@remora/uapi';
import { obstacles } from '@remora/host-linux';
import type { HostSyscalls } from '@remora/host';
import { CONTAINER } from './paths.js';
import type { HostRig } from './rig.js';
import type { Output, Script } from './script.js';

/** Of VFIO's numbers none is there. */
const UNKNOWN_IOCTL = 0x3b63;

/** The last name of a symbolic link. */
function lastOf(link: string | number): Output {
  return typeof link === 'number' ? link : link.split('/').at(-1)!;
}

export function groupOf({ syscalls }: HostRig, device: string): string {
  const link = syscalls.readlink(`/sys/bus/pci/devices/${device}/iommu_group`);
  return `/dev/vfio/${String(lastOf(link))}`;
}

/** Why a function cannot be lent, for people. */
function inTheWay(syscalls: HostSyscalls, device: string): Output {
  return obstacles(syscalls, device).map(({ what }) => what);
}

const containerFd = (fd: number): Uint8Array => VfioContainerFd.encode({ fd });
export const deviceName = (name: string): Uint8Array => new TextEncoder().encode(`${name}\0`);
const status = (argsz: number = VfioGroupStatus.size): Uint8Array => VfioGroupStatus.encode({ argsz });
const flagsOf = (view: DataView): Output => VfioGroupStatus.fields.flags.get(view);

export function containerScript(script: Script, rig: HostRig): void {
  const { syscalls, devices } = rig;
  const group = groupOf(rig, devices[0]);
  script.chapter('host');
  for (const device of devices) script.say(`in the way of ${device}`, 0, inTheWay(syscalls, device));
  script.say('in the way of what is not there', 0, inTheWay(syscalls, '0000:00:1e.7'));
  script.chapter('container');
  script.say('driver', 'text', lastOf(syscalls.readlink(`/sys/bus/pci/devices/${devices[0]}/driver`)));
  const container = script.open('open', CONTAINER);
  script.ioctl('version', container, VFIO_GET_API_VERSION);
  for (let extension = 0; extension <= 12; extension++)
    script.ioctl(`extension ${extension}`, container, VFIO_CHECK_EXTENSION, extension);
  script.ioctl('extension 2^31', container, VFIO_CHECK_EXTENSION, 2 ** 31);
  script.ioctl('unknown ioctl', container, UNKNOWN_IOCTL);
  script.ioctl('information without a group', container, VFIO_IOMMU_GET_INFO, new Uint8Array(24).fill(24, 0, 1));
  script.ioctl('type without a group', container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
  script.say('read', syscalls.pread(container, new Uint8Array(8), 0));
  script.say('write', syscalls.pwrite(container, new Uint8Array(8), 0));

  script.chapter('group');
  const none = script.open('open one that is not there', '/dev/vfio/4095');
  script.close(none);
  const first = script.open('open', group);
  script.open('open twice', group);
  script.ioctl('unknown ioctl', first, UNKNOWN_IOCTL);
  script.ioctl('status', first, VFIO_GROUP_GET_STATUS, status(), flagsOf);
  script.ioctl('status of 4 bytes', first, VFIO_GROUP_GET_STATUS, status(4));
  script.openBy('device without a container', first, VFIO_GROUP_GET_DEVICE_FD, deviceName(devices[0]));
  script.ioctl('leave no container', first, VFIO_GROUP_UNSET_CONTAINER);
  script.ioctl('enter what is no descriptor', first, VFIO_GROUP_SET_CONTAINER, containerFd(-1));
  script.ioctl('enter a closed descriptor', first, VFIO_GROUP_SET_CONTAINER, containerFd(4095));
  const event = syscalls.eventfd();
  script.ioctl('enter an eventfd', first, VFIO_GROUP_SET_CONTAINER, containerFd(event));
  script.close(event);
  script.ioctl('enter a group', first, VFIO_GROUP_SET_CONTAINER, containerFd(first));
  script.ioctl('enter', first, VFIO_GROUP_SET_CONTAINER, containerFd(container));
  script.ioctl('enter again', first, VFIO_GROUP_SET_CONTAINER, containerFd(container));
  script.ioctl('status inside', first, VFIO_GROUP_GET_STATUS, status(), flagsOf);
  script.openBy('device without a type', first, VFIO_GROUP_GET_DEVICE_FD, deviceName(devices[0]));
  script.ioctl('information without a type', container, VFIO_IOMMU_GET_INFO, new Uint8Array(24).fill(24, 0, 1));

  script.chapter('type');
  script.ioctl('0', container, VFIO_SET_IOMMU, 0);
  script.ioctl('99', container, VFIO_SET_IOMMU, 99);
  script.ioctl('of POWER', container, VFIO_SET_IOMMU, 2);
  script.ioctl('without an IOMMU', container, VFIO_SET_IOMMU, 8);
  script.ioctl('nesting', container, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU);
  script.ioctl('version 2', container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
  script.ioctl('again', container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
  script.ioctl('version 1 after version 2', container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU);
  for (const extension of [1, 3, 6, 9])
    script.ioctl(`extension ${extension}`, container, VFIO_CHECK_EXTENSION, extension);
  script.ioctl('unknown ioctl', container, UNKNOWN_IOCTL);

  script.chapter('two groups');
  const second = script.open('open', groupOf(rig, devices[1]));
  script.ioctl('enter', second, VFIO_GROUP_SET_CONTAINER, containerFd(container));
  const other = script.open('another container', CONTAINER);
  script.ioctl('enter another', second, VFIO_GROUP_SET_CONTAINER, containerFd(other));
  script.openBy("the other's device", second, VFIO_GROUP_GET_DEVICE_FD, deviceName(devices[0]));
  script.openBy('no device', second, VFIO_GROUP_GET_DEVICE_FD, deviceName('0000:00:1e.7'));
  script.openBy('no name', second, VFIO_GROUP_GET_DEVICE_FD, deviceName(''));
  const device = script.openBy('device', second, VFIO_GROUP_GET_DEVICE_FD, deviceName(devices[1]));
  script.ioctl('leave with an open device', second, VFIO_GROUP_UNSET_CONTAINER);
  const again = script.openBy('device twice', second, VFIO_GROUP_GET_DEVICE_FD, deviceName(devices[1]));
  script.close(device);
  script.ioctl('leave with one still open', second, VFIO_GROUP_UNSET_CONTAINER);
  script.close(again);
  script.ioctl('leave', second, VFIO_GROUP_UNSET_CONTAINER);
  script.ioctl('leave again', second, VFIO_GROUP_UNSET_CONTAINER);
  script.ioctl('enter a container without a type', second, VFIO_GROUP_SET_CONTAINER, containerFd(other));
  script.ioctl('version 1', other, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU);
  script.close(second);
  script.ioctl('information after the last group', other, VFIO_IOMMU_GET_INFO, new Uint8Array(24).fill(24, 0, 1));
  script.close(other);

  script.chapter('closing');
  const held = script.openBy('device', first, VFIO_GROUP_GET_DEVICE_FD, deviceName(devices[0]));
  script.close(container);
  script.ioctl('status when the container is closed', first, VFIO_GROUP_GET_STATUS, status(), flagsOf);
  script.close(first);
  script.open('group while its device is open', group);
  script.close(held);
  script.close(script.open('group when its device is closed', group));
}
