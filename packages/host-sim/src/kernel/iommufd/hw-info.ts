/** IOMMU_GET_HW_INFO: what the unit in front of a device can do, in its vendor's words, and what the kernel makes of it. */
import { Errno } from '@remora/core';
import { ExtendedCapability, PasidLayout } from '@remora/pci';
import {
  IOMMU_GET_HW_INFO,
  IommuHwCap,
  IommuHwInfo,
  IommuHwInfoFlag,
  IommuHwInfoType,
  type WideField,
} from '@remora/uapi';
import type { PhysicalDevice } from '../../devices/physical-device.js';
import type { IommufdContext } from './context.js';
import { IommufdDevice } from './device.js';
import { iommufdIoctl } from './ioctls.js';

/** Bytes up to the end of `__reserved`. */
const MINIMUM = 32;
const ZEROES = new Uint8Array(0x1_0000);

const getHardwareInfo = iommufdIoctl(
  'IOMMU_GET_HW_INFO',
  IOMMU_GET_HW_INFO,
  IommuHwInfo,
  (context, view) => {
    const { fields } = IommuHwInfo;
    const flags = fields.flags.get(view);
    if ((flags & ~IommuHwInfoFlag.INPUT_TYPE) !== 0 || IommuHwInfo.hasPadding(view)) return -Errno.EOPNOTSUPP;
    const asked = flags === 0 ? IommuHwInfoType.DEFAULT : fields.in_data_type.get(view);
    const device = context.objects.get(fields.dev_id.get(view), IommufdDevice);
    if (typeof device === 'number') return device;
    const { user } = context.kernel.iommu!.driver;
    const info = user!.hardwareInfo(device.requesterId, asked);
    if (typeof info === 'number') return info;
    const room = fields.data_len.get(view);
    const copied = copyOut(context, fields.data_uptr, view, info.data, room);
    if (copied !== 0) return copied;
    fields.data_len.set(view, info.data.length);
    fields.out_data_type.set(view, info.type);
    fields.out_max_pasid_log2.set(view, device.pasidBits);
    const tracking = user!.dirtyTracking ? IommuHwCap.DIRTY_TRACKING : 0;
    fields.out_capabilities.setWide(view, tracking | capabilitiesOf(device));
    return 0;
  },
  MINIMUM,
);

/** As much of `data` as there is room for; what room is left is zeroed. -EFAULT if it is not there. */
function copyOut(context: IommufdContext, pointer: WideField, view: DataView, data: Uint8Array, room: number): number {
  const { memory } = context.process;
  const address = pointer.number(view);
  const error = memory.write(address, data.subarray(0, room));
  if (error !== 0) return error;
  for (let at = data.length; at < room; at += ZEROES.length) {
    const failed = memory.write(address + at, ZEROES.subarray(0, Math.min(ZEROES.length, room - at)));
    if (failed !== 0) return failed;
  }
  return 0;
}

function capabilitiesOf(device: IommufdDevice): number {
  const noAts = device.physical.fn.atsCapability === undefined ? IommuHwCap.PCI_ATS_NOT_SUPPORTED : 0;
  return device.pasidBits === 0 ? noAts : noAts | pasidCapabilities(device.physical);
}

/** What the kernel enabled of it, which is neither: a real 7.3.4 says so, too. */
function pasidCapabilities({ fn }: PhysicalDevice): number {
  const at = fn.capabilities.findExtended(ExtendedCapability.PASID)! / 4;
  const { executeEnable, privilegedEnable } = PasidLayout.fields;
  return (
    (executeEnable.get(fn.config.words, at) === 0 ? 0 : IommuHwCap.PCI_PASID_EXEC) |
    (privilegedEnable.get(fn.config.words, at) === 0 ? 0 : IommuHwCap.PCI_PASID_PRIV)
  );
}

export const hardwareInfoIoctls = [getHardwareInfo];
