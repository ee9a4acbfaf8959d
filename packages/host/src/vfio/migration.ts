/**
 * A device's own state through VFIO: what it holds behind its registers goes from one host to another by way of a descriptor
 * (linux/vfio.h, VFIO_DEVICE_FEATURE_MIGRATION). Configuration space and interrupts are not part of it: the VMM has those.
 */
import { Errno } from '@remora/core';
import {
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VfioDeviceFeature,
  VfioDeviceFeatureFlag,
  VfioDeviceFeatureMigration,
  VfioDeviceFeatureMigState,
  VfioDeviceState,
  VfioMigrationFlag,
  viewOf,
} from '@remora/uapi';
import type { HostSyscalls } from '../syscalls.js';

const CHUNK = 0x1_0000;
/** More than a device that is worth simulating has; a host that sends more is not believed. */
const MAX_STATE = 64 * 0x10_0000;

/** Whether the host can move the state of the device behind `fd`. */
export function canMigrate(syscalls: HostSyscalls, fd: number): boolean {
  const bytes = featureBytes(
    VFIO_DEVICE_FEATURE_MIGRATION | VfioDeviceFeatureFlag.GET,
    VfioDeviceFeatureMigration.size,
  );
  if (syscalls.ioctl(fd, VFIO_DEVICE_FEATURE, bytes) < 0) return false;
  const flags = VfioDeviceFeatureMigration.fields.flags.lo(viewOf(bytes), VfioDeviceFeature.size);
  return (flags & VfioMigrationFlag.STOP_COPY) !== 0;
}

/** Stops the device, reads its state and lets it run on. The state, or a negated errno. */
export function readDeviceState(syscalls: HostSyscalls, fd: number): Uint8Array | number {
  const data = setState(syscalls, fd, VfioDeviceState.STOP_COPY);
  if (data < 0) return data;
  const state = readAll(syscalls, data);
  syscalls.close(data);
  const running = setState(syscalls, fd, VfioDeviceState.RUNNING);
  return running < 0 ? running : state;
}

/** Gives a device the state of another of its kind, and lets it run. 0 or a negated errno. */
export function writeDeviceState(syscalls: HostSyscalls, fd: number, state: Uint8Array): number {
  const data = setState(syscalls, fd, VfioDeviceState.RESUMING);
  if (data < 0) return data;
  let result = 0;
  for (let done = 0; done < state.length && result >= 0; done += result) {
    result = syscalls.write(data, state.subarray(done, done + CHUNK));
    if (result === 0) result = -Errno.EIO;
  }
  syscalls.close(data);
  if (result < 0) return result;
  const running = setState(syscalls, fd, VfioDeviceState.RUNNING);
  return running < 0 ? running : 0;
}

/** The data descriptor where the state has one, else 0; or a negated errno. */
function setState(syscalls: HostSyscalls, fd: number, state: number): number {
  const flags = VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE | VfioDeviceFeatureFlag.SET;
  const bytes = featureBytes(flags, VfioDeviceFeatureMigState.size);
  const { device_state, data_fd } = VfioDeviceFeatureMigState.fields;
  device_state.set(viewOf(bytes), state, VfioDeviceFeature.size);
  data_fd.set(viewOf(bytes), -1, VfioDeviceFeature.size);
  const result = syscalls.ioctl(fd, VFIO_DEVICE_FEATURE, bytes);
  return result < 0 ? result : Math.max(0, data_fd.get(viewOf(bytes), VfioDeviceFeature.size));
}

function readAll(syscalls: HostSyscalls, fd: number): Uint8Array | number {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const piece = new Uint8Array(CHUNK);
    const result = syscalls.read(fd, piece);
    if (result < 0) return result;
    if (result === 0) break;
    pieces.push(piece.subarray(0, result));
    length += result;
    if (length > MAX_STATE) return -Errno.E2BIG;
  }
  const all = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

function featureBytes(flags: number, dataBytes: number): Uint8Array {
  const argsz = VfioDeviceFeature.size + dataBytes;
  const bytes = new Uint8Array(argsz);
  VfioDeviceFeature.write(viewOf(bytes), { argsz, flags });
  return bytes;
}
