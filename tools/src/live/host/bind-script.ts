/** A device that is bound to an iommufd: its file, what it is attached to, and its transfers. */
import {
  IOMMU_GET_HW_INFO,
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_UNMAP,
  IommuHwInfo,
  IommuHwInfoVtd,
  IommuIoasMap,
  IommuIoasUnmap,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_DETACH_IOMMUFD_PT,
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_RESET,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_SET_CONTAINER,
  VfioContainerFd,
  VfioDeviceAttachIommufdPt,
  VfioDeviceBindIommufd,
  VfioDeviceDetachIommufdPt,
  VfioDeviceInfo,
  viewOf,
} from '@remora/uapi';
import { deviceName, groupOf } from './container-script.js';
import { describe, Regions } from './device-script.js';
import { Tries } from './dma-script.js';
import { askRanges, destroy, newIoas, NOBODY, PAGE } from './ioas-script.js';
import { hex } from './mapping-script.js';
import { IOMMU } from './paths.js';
import type { HostRig } from './rig.js';
import type { Script } from './script.js';

/** `/dev/vfio/devices/vfio0` of a function. */
export function fileOf({ syscalls }: HostRig, device: string): string {
  const names = syscalls.readdir(`/sys/bus/pci/devices/${device}/vfio-dev`);
  return `/dev/vfio/devices/${typeof names === 'number' ? 'none' : names[0]}`;
}

/** A device that is bound, and what it is called in its iommufd. */
export interface Bound {
  readonly iommu: number;
  readonly device: number;
  readonly id: number;
}

/** @throws Error if it cannot be bound. */
export function bound(rig: HostRig, at = 0): Bound {
  const { syscalls, devices } = rig;
  const iommu = syscalls.open(IOMMU);
  const device = syscalls.open(fileOf(rig, devices[at]!));
  const bytes = VfioDeviceBindIommufd.encode({ argsz: VfioDeviceBindIommufd.size, iommufd: iommu });
  const result = syscalls.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, bytes);
  if (result < 0) throw new Error(`no bound device: ${iommu}, ${device}, ${result}`);
  return { iommu, device, id: VfioDeviceBindIommufd.decode(viewOf(bytes)).out_devid };
}

export function attach(script: Script, step: string, device: number, pt_id: number, pasid?: number, argsz = 16): void {
  const flags = pasid === undefined ? 0 : 1;
  const bytes = VfioDeviceAttachIommufdPt.encode({ argsz, flags, pt_id, pasid: pasid ?? 0 });
  script.ioctl(step, device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, bytes);
}

export function detach(script: Script, step: string, device: number, pasid?: number, argsz = 12, flags?: number): void {
  const values = { argsz, flags: flags ?? (pasid === undefined ? 0 : 1), pasid: pasid ?? 0 };
  script.ioctl(step, device, VFIO_DEVICE_DETACH_IOMMUFD_PT, VfioDeviceDetachIommufdPt.encode(values));
}

export function bindScript(script: Script, rig: HostRig): void {
  const { syscalls, devices } = rig;
  script.chapter('bind');
  script.open('device that is not there', '/dev/vfio/devices/vfio4095');
  const path = fileOf(rig, devices[0]);
  const device = script.open('open', path);
  if (device < 0) return;
  const twice = script.open('open twice', path);
  const iommu = syscalls.open(IOMMU);
  const bind = (step: string, fd: number, values: Parameters<typeof VfioDeviceBindIommufd.encode>[0] = {}): number => {
    const bytes = VfioDeviceBindIommufd.encode({ argsz: VfioDeviceBindIommufd.size, iommufd: iommu, ...values });
    script.ioctl(step, fd, VFIO_DEVICE_BIND_IOMMUFD, bytes, view => VfioDeviceBindIommufd.decode(view).out_devid > 0);
    return VfioDeviceBindIommufd.decode(viewOf(bytes)).out_devid;
  };
  const info = VfioDeviceInfo.encode({ argsz: VfioDeviceInfo.size });
  script.ioctl('information before', device, VFIO_DEVICE_GET_INFO, info);
  script.ioctl('reset before', device, VFIO_DEVICE_RESET);
  script.say('read before', syscalls.pread(device, new Uint8Array(4), 7 * 2 ** 40));
  script.say('write before', syscalls.pwrite(device, new Uint8Array(4), 7 * 2 ** 40));
  script.ioctl('unknown ioctl before', device, 0x3b63);
  attach(script, 'attach before', device, 1);
  detach(script, 'detach before', device);
  bind('of 8 bytes', device, { argsz: 8 });
  bind('unknown flag', device, { flags: 2 });
  bind('with a token nowhere', device, { flags: 1 });
  bind('to no descriptor', device, { iommufd: -1 });
  bind('to a closed descriptor', device, { iommufd: 4095 });
  bind('to itself', device, { iommufd: device });
  const group = script.open('group beside an open device file', groupOf(rig, devices[0]));
  const beside = { argsz: VfioDeviceBindIommufd.size, iommufd: iommu };
  script.ioctl('while the group is open', device, VFIO_DEVICE_BIND_IOMMUFD, VfioDeviceBindIommufd.encode(beside));
  script.close(group);
  const id = bind('bind', device, { argsz: 16 });
  bind('bind again', device);
  bind('bind the second file', twice);
  const other = syscalls.open(IOMMU);
  bind('bind to another', twice, { iommufd: other });
  script.open('group of a bound device', groupOf(rig, devices[0]));
  destroy(script, 'destroy the device', iommu, id);
  script.ioctl('unknown ioctl', device, 0x3b63);
  script.chapter('bound device');
  describe(script, device);

  script.chapter('attach');
  const [first, second] = [newIoas(script, iommu), newIoas(script, iommu)];
  attach(script, 'of 8 bytes', device, first, undefined, 8);
  script.ioctl(
    'unknown flag',
    device,
    VFIO_DEVICE_ATTACH_IOMMUFD_PT,
    VfioDeviceAttachIommufdPt.encode({ argsz: 16, flags: 2, pt_id: first }),
  );
  attach(script, 'nobody', device, NOBODY);
  attach(script, 'the device itself', device, id);
  detach(script, 'detach from nothing', device);
  attach(script, 'attach', device, first);
  attach(script, 'the same again', device, first);
  destroy(script, 'destroy what is attached', iommu, first);
  attach(script, 'replace', device, second);
  destroy(script, 'destroy what was attached', iommu, first);
  attach(script, 'with a PASID', device, second, 1);
  attach(script, 'with PASID 0', device, second, 0);
  attach(script, 'with a PASID of 21 bits', device, second, 0x10_0000);
  detach(script, 'detach a PASID', device, 1);
  detach(script, 'detach of 4 bytes', device, undefined, 4);
  detach(script, 'detach with an unknown flag', device, undefined, 12, 2);
  attach(script, 'replace by nobody', device, NOBODY);
  const list = script.memory(PAGE);
  askRanges(script, 'ranges', iommu, { ioas_id: second, num_iovas: 16, allowed_iovas: list.address }, list.ram);
  askRanges(
    script,
    'ranges with too little room',
    iommu,
    { ioas_id: second, num_iovas: 1, allowed_iovas: list.address },
    list.ram,
  );
  detach(script, 'detach', device);
  detach(script, 'detach again', device);
  destroy(script, 'destroy', iommu, second);
  hardware(script, iommu, id);
  mappings(script, iommu, device);
  transfers(script, rig, iommu, device);
  pairs(script, rig, iommu, device, id);
  for (const fd of [twice, other]) syscalls.close(fd);
  iommufdAsContainer(script, rig);
}

function hardware(script: Script, iommu: number, dev_id: number): void {
  script.chapter('hardware');
  const memory = script.memory(PAGE);
  const info = (step: string, values: Parameters<typeof IommuHwInfo.encode>[0]): void => {
    memory.ram.write(0, 0, new Uint8Array(64).fill(0x5a));
    const given = { size: IommuHwInfo.size, dev_id, data_len: IommuHwInfoVtd.size, data_uptr: memory.address };
    const bytes = IommuHwInfo.encode({ ...given, ...values });
    const result = script.syscalls.ioctl(iommu, IOMMU_GET_HW_INFO, bytes);
    const view = viewOf(bytes);
    const { data_len, out_max_pasid_log2, out_capabilities } = IommuHwInfo.decode(view);
    const data = new Uint8Array(64);
    memory.ram.read(0, 0, data);
    // What the kernel wrote of it, and whether what follows is cleared.
    const written = data.findLastIndex(byte => byte !== 0x5a) + 1;
    const out = {
      data_len,
      type: view.getUint32(24, true),
      pasids: out_max_pasid_log2,
      capabilities: hex(out_capabilities),
      written,
    };
    script.say(step, result, result < 0 ? undefined : out);
  };
  info('of nobody', { dev_id: NOBODY });
  info('unknown flag', { flags: 2 });
  info('information', {});
  info('type 1 wanted', { flags: 1, in_data_type: 1 });
  info('type 2 wanted', { flags: 1, in_data_type: 2 });
  info('only how long it is', { data_len: 0, data_uptr: 0 });
  info('no room, somewhere', { data_len: 0 });
  info('room nowhere', { data_uptr: 0 });
  info('less room', { data_len: 8 });
  info('more room', { data_len: 48 });
  info('to where no memory is', { data_uptr: 0x1000 });
}

/** Where a device's unit maps, it says no to some of what an address space alone takes. */
function mappings(script: Script, iommu: number, device: number): void {
  script.chapter('attached map');
  const address = script.alignedMemory(4 * PAGE);
  const ioas = newIoas(script, iommu);
  const base = { size: IommuIoasMap.size, flags: 7, ioas_id: ioas, user_va: address, length: PAGE };
  const map = (step: string, values: Parameters<typeof IommuIoasMap.encode>[0]): void => {
    const bytes = IommuIoasMap.encode({ ...base, iova: 0x10_0000, ...values });
    script.ioctl(step, iommu, IOMMU_IOAS_MAP, bytes, view => hex(IommuIoasMap.decode(view).iova));
  };
  attach(script, 'attach', device, ioas);
  map('one', {});
  map('crooked address', { user_va: address + 1, iova: 0x20_0000 });
  map('crooked IOVA', { iova: 0x30_0001 });
  map('crooked length', { length: PAGE + 1, iova: 0x40_0000 });
  map('address that is not there', { user_va: 0x1000, iova: 0x50_0000 });
  map('address that is there in part', { user_va: address + 3 * PAGE, length: 4096 * PAGE, iova: 0x4000_0000 });
  map('where messages go', { iova: 0xfee0_0000 });
  map('across where messages go', { iova: 0xfedf_f000, length: 2 * PAGE });
  map('beyond 48 bits', { iova: 2n ** 48n });
  map('wherever', { flags: 6, iova: 0 });
  map('wherever, four pages', { flags: 6, iova: 0, length: 4 * PAGE });
  detach(script, 'detach', device);
  map('crooked address without it', { user_va: address + 1, iova: 0x20_0000 });
  attach(script, 'attach to what it cannot map', device, ioas);
  const out = newIoas(script, iommu);
  map('last page of all elsewhere', { ioas_id: out, iova: 2n ** 64n - 4096n });
  attach(script, 'attach to what is out of reach', device, out);
  const reserved = newIoas(script, iommu);
  map('where messages go, elsewhere', { ioas_id: reserved, iova: 0xfee0_0000 });
  attach(script, 'attach to where messages go', device, reserved);
  const gone = newIoas(script, iommu);
  map('address that is not there, elsewhere', { ioas_id: gone, user_va: 0x1000 });
  attach(script, 'attach to what is not there', device, gone);
  for (const [name, id] of Object.entries({ ioas, out, reserved, gone })) destroy(script, name, iommu, id);
}

function transfers(script: Script, rig: HostRig, iommu: number, device: number): void {
  script.chapter('iommufd DMA');
  const regions = new Regions(rig.syscalls, device);
  regions.enable();
  const memory = script.memory(4 * PAGE);
  const tries = new Tries(script, rig, regions, memory);
  const [one, two] = [newIoas(script, iommu), newIoas(script, iommu)];
  const map = (step: string, ioas_id: number, iova: number, page: number, access: number): void => {
    const values = { size: IommuIoasMap.size, ioas_id, flags: 1 | access, user_va: memory.address + page * PAGE };
    script.ioctl(step, iommu, IOMMU_IOAS_MAP, IommuIoasMap.encode({ ...values, length: PAGE, iova }));
  };
  const unmap = (step: string, ioas_id: number, iova: number): void => {
    const values = { size: IommuIoasUnmap.size, ioas_id, iova, length: PAGE };
    script.ioctl(step, iommu, IOMMU_IOAS_UNMAP, IommuIoasUnmap.encode(values));
  };
  const [RW, READ, WRITE] = [6, 4, 2];
  map('source, before it is attached', one, 0x10_0000, 0, RW);
  tries.copy('before it is attached', 0x10_0000, 0x20_0000);
  attach(script, 'attach', device, one);
  map('target', one, 0x20_0000, 1, RW);
  tries.copy('copy', 0x10_0000, 0x20_0000);
  tries.copy('to where nothing is mapped', 0x10_0000, 0x30_0000);
  tries.alive('alive after that');
  map('target, to be read only', one, 0x30_0000, 1, READ);
  tries.copy('to what may be read only', 0x10_0000, 0x30_0000);
  map('target, to be written only', one, 0x40_0000, 1, WRITE);
  tries.copy('to what may be written only', 0x10_0000, 0x40_0000);
  map('source in the other', two, 0x50_0000, 0, RW);
  map('target in the other', two, 0x60_0000, 1, RW);
  attach(script, 'replace', device, two);
  tries.copy('as it was', 0x10_0000, 0x20_0000);
  tries.copy('as it is now', 0x50_0000, 0x60_0000);
  attach(script, 'replace by nobody', device, NOBODY);
  tries.copy('as it still is', 0x50_0000, 0x60_0000);
  unmap('unmap the target', two, 0x60_0000);
  tries.copy('to what is unmapped', 0x50_0000, 0x60_0000);
  attach(script, 'back', device, one);
  tries.copy('copy after that', 0x10_0000, 0x20_0000);
  detach(script, 'detach', device);
  tries.copy('when it is detached', 0x10_0000, 0x20_0000);
  destroy(script, 'destroy one', iommu, one);
  destroy(script, 'destroy the other', iommu, two);
}

/** Two devices of one iommufd; and what becomes of a device whose file is closed. */
function pairs(script: Script, rig: HostRig, iommu: number, device: number, id: number): void {
  const { syscalls, devices } = rig;
  script.chapter('two devices');
  const second = syscalls.open(fileOf(rig, devices[1]));
  const bytes = VfioDeviceBindIommufd.encode({ argsz: VfioDeviceBindIommufd.size, iommufd: iommu });
  script.ioctl('bind', second, VFIO_DEVICE_BIND_IOMMUFD, bytes);
  const other = VfioDeviceBindIommufd.decode(viewOf(bytes)).out_devid;
  const ioas = newIoas(script, iommu);
  attach(script, 'attach the first', device, ioas);
  attach(script, 'attach the second', second, ioas);
  detach(script, 'detach the first', device);
  destroy(script, 'destroy with the second', iommu, ioas);
  script.say('close the second', syscalls.close(second));
  destroy(script, 'destroy the second device', iommu, other);
  destroy(script, 'destroy what it was attached to', iommu, ioas);
  const left = newIoas(script, iommu);
  attach(script, 'attach again', device, left);
  script.say('close the iommufd', syscalls.close(iommu));
  script.ioctl('information after that', device, VFIO_DEVICE_GET_INFO, VfioDeviceInfo.encode({ argsz: 20 }));
  script.say('the device has an id', 0, id > 0);
  script.say('close the device', syscalls.close(device));
}

/** A group takes an iommufd in place of a container. */
function iommufdAsContainer(script: Script, rig: HostRig): void {
  const { syscalls, devices } = rig;
  script.chapter('iommufd as container');
  const group = script.open('group', groupOf(rig, devices[0]));
  const iommu = syscalls.open(IOMMU);
  script.ioctl('enter', group, VFIO_GROUP_SET_CONTAINER, VfioContainerFd.encode({ fd: iommu }));
  script.ioctl('enter again', group, VFIO_GROUP_SET_CONTAINER, VfioContainerFd.encode({ fd: iommu }));
  const device = script.openBy('device', group, VFIO_GROUP_GET_DEVICE_FD, deviceName(devices[0]));
  attach(script, 'attach by the device', device, 1);
  for (const request of [0x3b64, 0x3b65, 0x3b66, 0x3b70]) script.ioctl(hex(request), iommu, request, 3);
  script.close(device);
  script.close(group);
  syscalls.close(iommu);
}
