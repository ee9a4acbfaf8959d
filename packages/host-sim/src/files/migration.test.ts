/** VFIO_DEVICE_FEATURE as Linux judges it, and a device's state on its way from one host to another. */
import test, { type ExecutionContext } from 'ava';
import { Errno, StateError, type StateReader, type StateWriter } from '@remora/core';
import { owner } from '@remora/testing';
import {
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_DEVICE_RESET,
  VFIO_TYPE1v2_IOMMU,
  VfioDeviceFeature,
  VfioDeviceFeatureFlag,
  VfioDeviceFeatureMigState,
  VfioDeviceState,
  viewOf,
} from '@remora/uapi';
import { bench, deviceOf, ENGINE, Gadget, ready } from '../bench.test.helper.js';
import type { HostProcess } from '../process.js';

const { GET, SET, PROBE } = VfioDeviceFeatureFlag;
const { RUNNING, STOP, STOP_COPY, RESUMING, ERROR, RUNNING_P2P } = VfioDeviceState;
const MIGRATION = VFIO_DEVICE_FEATURE_MIGRATION;
const STATE = VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
const BYTES = 200_000;
const MEMORY = { memory: 0x100_0000 } as const;

/** Its state is its scratch register and a lot of bytes. */
class MovableGadget extends Gadget {
  readonly memory = new Uint8Array(BYTES);
  busy = false;

  save(into: StateWriter): void {
    if (this.busy) throw into.refusal('busy');
    into.integer('scratch', this.scratch).bytes('memory', this.memory);
  }

  load(from: StateReader): void {
    const scratch = from.integer('scratch');
    if (scratch === 13) throw new StateError(this.name, 'superstition');
    this.scratch = scratch;
    from.bytes('memory', this.memory);
  }
}

class Client {
  readonly process: HostProcess;
  readonly fd: number;
  readonly gadget: MovableGadget;

  constructor(t: ExecutionContext, movable = true) {
    const create = { at: ENGINE, create: (context: never) => new (movable ? MovableGadget : Gadget)(context) };
    const { host } = owner(t)(bench({ ...MEMORY, devices: [create] }));
    this.process = host.process('vmm');
    this.fd = deviceOf(this.process, ready(this.process, VFIO_TYPE1v2_IOMMU, 1).groups[0]!, ENGINE);
    this.gadget = host.device(ENGINE);
  }

  /** The result of the ioctl, and what follows its header. */
  feature(
    flags: number,
    data: readonly number[] = [0, 0],
    argsz = 8 + 4 * data.length,
  ): { result: number; data: number[] } {
    const bytes = new Uint8Array(8 + 4 * data.length);
    const view = viewOf(bytes);
    VfioDeviceFeature.write(view, { argsz, flags });
    data.forEach((word, index) => view.setInt32(8 + 4 * index, word, true));
    const result = this.process.ioctl(this.fd, VFIO_DEVICE_FEATURE, bytes);
    return { result, data: data.map((_, index) => view.getInt32(8 + 4 * index, true)) };
  }

  /** The data descriptor, -1 if the state has none, or a negated errno. */
  turnTo(state: number): number {
    const { result, data } = this.feature(STATE | SET, [state, 99]);
    return result < 0 ? result : data[1]!;
  }

  state(): number {
    return this.feature(STATE | GET).data[0]!;
  }

  readAll(fd: number): Uint8Array {
    const pieces: Uint8Array[] = [];
    for (;;) {
      const piece = new Uint8Array(4096);
      const count = this.process.read(fd, piece);
      if (count <= 0) return Uint8Array.from(pieces.flatMap(each => [...each]));
      pieces.push(piece.subarray(0, count));
    }
  }
}

test('a device that can move says so, and one that cannot has no such feature', t => {
  const at = new Client(t);
  t.deepEqual(at.feature(MIGRATION | GET), { result: 0, data: [1, 0] });
  t.is(at.feature(MIGRATION | PROBE | GET, []).result, 0);
  t.is(at.feature(STATE | PROBE | SET, []).result, 0);
  t.is(VfioDeviceFeatureMigState.size, 8);
  const still = new Client(t, false);
  t.is(still.feature(MIGRATION | GET).result, -Errno.ENOTTY);
  t.is(still.turnTo(STOP_COPY), -Errno.ENOTTY);
});

test('what is asked wrongly', t => {
  const at = new Client(t);
  t.is(at.feature(7 | GET).result, -Errno.ENOTTY, 'another feature');
  t.is(at.feature(MIGRATION | GET | 0x10_0000).result, -Errno.EINVAL, 'a flag that is not known');
  t.is(at.feature(MIGRATION | SET).result, -Errno.EINVAL, 'flags are read only');
  t.is(at.feature(MIGRATION | GET, [0, 0], 12).result, -Errno.EINVAL, 'no room, it says');
  t.is(at.feature(MIGRATION | GET, [], 16).result, -Errno.EFAULT, 'no room, though it says so');
  t.is(at.feature(MIGRATION | GET, [0, 0], 4).result, -Errno.EINVAL);
  for (const state of [ERROR, RUNNING_P2P, 6, -1]) t.is(at.turnTo(state), -Errno.EINVAL, `state ${state}`);
  t.is(at.state(), RUNNING);
});

test('from one host to another: stop, copy, resume, run', t => {
  const from = new Client(t);
  from.gadget.scratch = 0x1234;
  from.gadget.memory.forEach((_, index, memory) => (memory[index] = index * 7));
  const out = from.turnTo(STOP_COPY);
  t.true(out >= 0);
  t.is(from.state(), STOP_COPY);
  const state = from.readAll(out);
  t.true(state.length > BYTES);
  t.is(from.process.write(out, new Uint8Array(4)), -Errno.EINVAL);
  t.is(from.process.close(out), 0);
  t.is(from.turnTo(RUNNING), -1);

  const to = new Client(t);
  const into = to.turnTo(RESUMING);
  t.is(to.process.read(into, new Uint8Array(4)), -Errno.EINVAL);
  for (let done = 0; done < state.length; done += 10_000) {
    const piece = state.subarray(done, done + 10_000);
    t.is(to.process.write(into, piece), piece.length);
  }
  t.is(to.gadget.scratch, 0, 'not before all of it is there');
  t.is(to.process.close(into), 0);
  t.is(to.turnTo(STOP), -1);
  t.is(to.turnTo(RUNNING), -1);
  t.is(to.gadget.scratch, 0x1234);
  t.deepEqual(to.gadget.memory, from.gadget.memory);
});

test('what is no state leaves an error that only a reset ends; a device that cannot now stays as it is', t => {
  const at = new Client(t);
  const into = at.turnTo(RESUMING);
  at.process.write(into, Uint8Array.of(1, 2, 3));
  t.is(at.turnTo(RUNNING), -Errno.EINVAL);
  t.is(at.state(), ERROR);
  t.is(at.turnTo(RUNNING), -Errno.EINVAL);
  t.is(at.process.ioctl(at.fd, VFIO_DEVICE_RESET), 0);
  t.is(at.state(), RUNNING);
  at.gadget.busy = true;
  t.is(at.turnTo(STOP_COPY), -Errno.EBUSY);
  t.is(at.state(), RUNNING);
  at.gadget.busy = false;
  at.gadget.scratch = 13;
  const state = at.readAll(at.turnTo(STOP_COPY));
  const other = new Client(t);
  other.process.write(other.turnTo(RESUMING), state);
  t.is(other.turnTo(RUNNING), -Errno.EINVAL, 'the device refuses it');
});
