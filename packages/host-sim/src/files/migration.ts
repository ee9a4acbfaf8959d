/**
 * Migration of a lent device's own state, as a vendor's VFIO driver offers it (linux/vfio.h, VFIO_DEVICE_FEATURE_MIGRATION with
 * STOP_COPY): for devices that can save and load. Configuration space and interrupts stay the kernel's.
 */
import { Errno, sectionBytes, sectionFrom, StateError, StateReader, StateWriter, type Device } from '@remora/core';
import type { IoctlArgument } from '@remora/host';
import {
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VfioDeviceFeature,
  VfioDeviceFeatureFlag,
  VfioDeviceFeatureMigration,
  VfioDeviceFeatureMigState,
  VfioDeviceState,
  VfioMigrationFlag,
} from '@remora/uapi';
import { userStruct } from '../kernel/user.js';
import type { HostProcess } from '../process.js';
import type { HostFile } from './host-file.js';

const NO_FILE = -1;
const MAX_STATE = 64 * 0x10_0000;
const { GET, SET, PROBE } = VfioDeviceFeatureFlag;
const { RUNNING, STOP, STOP_COPY, RESUMING, ERROR } = VfioDeviceState;
/** States between which the kernel finds its way through STOP. */
const REACHABLE: readonly number[] = [STOP, RUNNING, STOP_COPY, RESUMING];

/** The descriptor through which state goes: written to be read once, or filled. */
class StateFile implements HostFile {
  readonly kind = 'vfio-migration';
  readonly #from: Uint8Array | undefined;
  readonly #pieces: Uint8Array[] = [];
  #done = 0;

  constructor(from?: Uint8Array) {
    this.#from = from;
  }

  get written(): Uint8Array {
    const all = new Uint8Array(this.#done);
    let at = 0;
    for (const piece of this.#pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }

  read(buffer: Uint8Array): number {
    if (this.#from === undefined) return -Errno.EINVAL;
    const piece = this.#from.subarray(this.#done, this.#done + buffer.length);
    buffer.set(piece);
    this.#done += piece.length;
    return piece.length;
  }

  write(buffer: Uint8Array): number {
    if (this.#from !== undefined) return -Errno.EINVAL;
    if (this.#done + buffer.length > MAX_STATE) return -Errno.ENOSPC;
    this.#pieces.push(buffer.slice());
    this.#done += buffer.length;
    return buffer.length;
  }

  release(): void {}

  state(): unknown {
    return { bytes: this.#done };
  }
}

export class DeviceMigration {
  readonly #device: Device;
  readonly #loaded: () => void;
  #state: number = RUNNING;
  #incoming: StateFile | undefined;

  /** `loaded` is called when the device has taken the state of another one. */
  constructor(device: Device, loaded: () => void) {
    this.#device = device;
    this.#loaded = loaded;
  }

  /** VFIO_DEVICE_FEATURE. -ENOTTY for what the device or this kernel does not have. */
  feature(argument: IoctlArgument, caller: HostProcess): number {
    const view = userStruct(argument, VfioDeviceFeature.size);
    if (typeof view === 'number') return view;
    const flags = VfioDeviceFeature.fields.flags.get(view);
    const feature = flags & VFIO_DEVICE_FEATURE_MASK;
    const migratable = this.#device.save !== undefined && this.#device.load !== undefined;
    if ((flags & ~(VFIO_DEVICE_FEATURE_MASK | GET | SET | PROBE)) !== 0) return -Errno.EINVAL;
    if (!migratable) return -Errno.ENOTTY;
    if (feature === VFIO_DEVICE_FEATURE_MIGRATION) return this.#getFlags(view, flags);
    return feature === VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE ? this.#deviceState(view, flags, caller) : -Errno.ENOTTY;
  }

  /** A reset of the device ends whatever was going on. */
  reset(): void {
    this.#state = RUNNING;
    this.#incoming = undefined;
  }

  #getFlags(view: DataView, flags: number): number {
    if ((flags & SET) !== 0) return -Errno.EINVAL;
    if ((flags & PROBE) !== 0) return 0;
    const room = this.#room(view, VfioDeviceFeatureMigration.size);
    if (room !== 0) return room;
    VfioDeviceFeatureMigration.fields.flags.setWide(view, VfioMigrationFlag.STOP_COPY, VfioDeviceFeature.size);
    return 0;
  }

  #deviceState(view: DataView, flags: number, caller: HostProcess): number {
    if ((flags & PROBE) !== 0) return 0;
    const room = this.#room(view, VfioDeviceFeatureMigState.size);
    if (room !== 0) return room;
    const { device_state, data_fd } = VfioDeviceFeatureMigState.fields;
    const at = VfioDeviceFeature.size;
    data_fd.set(view, NO_FILE, at);
    if ((flags & GET) !== 0) {
      device_state.set(view, this.#state, at);
      return 0;
    }
    const file = this.#turnTo(device_state.get(view, at));
    if (typeof file === 'number') return file;
    if (file === undefined) return 0;
    const fd = caller.addFile(file);
    if (fd < 0) return fd;
    data_fd.set(view, fd, at);
    return 0;
  }

  #turnTo(state: number): StateFile | undefined | number {
    if (!REACHABLE.includes(state) || this.#state === ERROR) return -Errno.EINVAL;
    if (state === this.#state) return undefined;
    if (this.#state === RESUMING) {
      const result = this.#finishLoading();
      if (result !== 0) return result;
    }
    this.#state = state;
    if (state === STOP_COPY) return this.#outgoing();
    if (state === RESUMING) return (this.#incoming = new StateFile());
    return undefined;
  }

  /** Nothing runs between two accesses but timers, which move only with the clock: the device is stopped already. */
  #outgoing(): StateFile | number {
    const device = this.#device;
    const into = new StateWriter();
    try {
      device.save?.(into.child('device', device.stateVersion ?? 1));
    } catch (failure) {
      if (!(failure instanceof StateError)) throw failure;
      this.#state = RUNNING;
      return -Errno.EBUSY;
    }
    return new StateFile(sectionBytes(into.section));
  }

  #finishLoading(): number {
    const device = this.#device;
    const incoming = this.#incoming!;
    this.#incoming = undefined;
    try {
      const from = new StateReader(sectionFrom(incoming.written, device.name));
      device.load?.(from.child('device', device.stateVersion ?? 1));
      from.done();
      this.#loaded();
      return 0;
    } catch (failure) {
      if (!(failure instanceof StateError)) throw failure;
      this.#state = ERROR;
      return -Errno.EINVAL;
    }
  }

  #room(view: DataView, bytes: number): number {
    const needed = VfioDeviceFeature.size + bytes;
    if (VfioDeviceFeature.fields.argsz.get(view) < needed) return -Errno.EINVAL;
    return view.byteLength < needed ? -Errno.EFAULT : 0;
  }
}
