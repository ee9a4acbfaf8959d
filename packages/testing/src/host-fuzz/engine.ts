/**
 * Fuzzes a host through its system calls: processes that ask for anything, most of it sensible, since what they have is remembered. The same seed makes
 * the same calls.
 */
import { Random } from '@remora/bits';
import { errnoName } from '@remora/core';
import { ioctlName, viewOf } from '@remora/uapi';
import type { FuzzAction } from './call.js';
import { IOMMUFD_ACTIONS } from './iommufd-calls.js';
import { type FuzzProcess, FuzzState } from './state.js';
import { VFIO_ACTIONS } from './vfio-calls.js';

export interface FuzzHost {
  /** A new process; one in three belongs to a user without privileges. */
  process(name: string, privileged: boolean): FuzzProcess;
  /** JSON-able: all that the host holds for anybody. */
  dump(): unknown;
  /** Whoever watches the host forgets what it saw; also a place to change the host between rounds. */
  betweenRounds?(round: number, random: Random): void;
}

export interface FuzzOptions {
  readonly seed: number;
  /** How many ioctls. */
  readonly calls: number;
  /** Addresses of devices. */
  readonly names: readonly string[];
  /** Groups and devices in /dev/vfio. */
  readonly groups: readonly number[];
  readonly devices: readonly number[];
}

export interface FuzzReport {
  readonly calls: number;
  readonly succeeded: number;
  readonly rounds: number;
  /** How often each ioctl answered what: `ok`, or the errno's name. */
  readonly answers: ReadonlyMap<string, ReadonlyMap<string, number>>;
}

/** Ioctls of a round: then every process ends, and the host must be as it was. */
const ROUND = 1500;
const PROCESSES = 2;
/** Bytes that the largest structure has, and more. */
const LARGEST = 256;
const DESCRIPTORS = 24;
/** The command register, in the region of configuration space. */
const COMMAND = 7 * 2 ** 40 + 4;
const MODES = ['cdevs', 'cdevs', 'groups', 'both'] as const;

const ACTIONS: readonly FuzzAction[] = [...IOMMUFD_ACTIONS, ...VFIO_ACTIONS].flatMap(([weight, action]) =>
  new Array<FuzzAction>(weight).fill(action),
);

/** @throws Error naming seed, round and call if anything throws, answers what is no errno, or is left over. */
export function fuzzHost(host: FuzzHost, options: FuzzOptions): FuzzReport {
  const random = new Random(options.seed);
  const answers = new Map<string, Map<string, number>>();
  let calls = 0;
  let succeeded = 0;
  let rounds = 0;
  for (; calls < options.calls; rounds++) {
    const before = JSON.stringify(host.dump());
    let last = 'nothing';
    const mode = MODES[random.below(MODES.length)]!;
    try {
      const states = Array.from(
        { length: PROCESSES },
        (_, index) => new FuzzState(random, host.process(`fuzz${index}`, random.below(3) > 0), options.names, mode),
      );
      states[0]!.peer = states[1];
      states[1]!.peer = states[0];
      for (let call = 0; call < ROUND && calls < options.calls;) {
        const state = random.below(4) === 0 ? states[1]! : states[0]!;
        if (random.below(6) === 0 || state.iommufds.size === 0) other(state, options);
        const made = state.pick(ACTIONS)(state);
        if (made === undefined) {
          other(state, options);
          continue;
        }
        last = `call ${call}, ${ioctlName(made.request)}`;
        const result = state.process.ioctl(made.fd, made.request, made.argument);
        call++;
        calls++;
        note(answers, made.request, result);
        if (result < 0) continue;
        succeeded++;
        made.done?.(result, answered(made.argument));
      }
      last = 'the end of the processes';
      for (const { process } of states) process[Symbol.dispose]();
    } catch (error) {
      throw new Error(`seed ${options.seed}, round ${rounds}, ${last}: ${String(error)}`, { cause: error });
    }
    const after = JSON.stringify(host.dump());
    if (after !== before)
      throw new Error(`seed ${options.seed}, round ${rounds}: left over: ${difference(before, after)}`);
    host.betweenRounds?.(rounds, random);
  }
  return { calls, succeeded, rounds, answers };
}

/** What a process sees of its argument afterwards; zeros where it was shorter than any structure. */
function answered(argument: Uint8Array | number | undefined): DataView {
  return argument instanceof Uint8Array && argument.length >= LARGEST ? viewOf(argument) : padded(argument);
}

function padded(argument: Uint8Array | number | undefined): DataView {
  const bytes = new Uint8Array(LARGEST);
  if (argument instanceof Uint8Array) bytes.set(argument);
  return viewOf(bytes);
}

function note(answers: Map<string, Map<string, number>>, request: number, result: number): void {
  const name = ioctlName(request);
  const answer = result >= 0 ? 'ok' : errnoName(result);
  if (!Number.isInteger(result) || answer.startsWith('errno')) throw new Error(`${name} answered ${result}`);
  const of = answers.get(name) ?? new Map<string, number>();
  answers.set(name, of.set(answer, (of.get(answer) ?? 0) + 1));
}

/** The other system calls: files are opened, read, written and closed, memory comes and goes. */
function other(state: FuzzState, options: FuzzOptions): void {
  const { random, process, fds } = state;
  if (fds.size > DESCRIPTORS) return close(state, state.pick([...fds.keys()]));
  switch (random.below(16)) {
    case 0:
    case 1:
      return open(state, '/dev/iommu', 'iommufd', state.iommufds.size < 2);
    case 2:
      return open(state, '/dev/vfio/vfio', 'container', state.mode !== 'cdevs' && count(state, 'container') < 2);
    case 3:
    case 4:
      return open(
        state,
        `/dev/vfio/${state.pick(options.groups)}`,
        'group',
        state.mode !== 'cdevs' && count(state, 'group') < 2,
      );
    case 5:
    case 6:
    case 7:
      return open(
        state,
        `/dev/vfio/devices/vfio${state.pick(options.devices)}`,
        'cdev',
        state.mode !== 'groups' && count(state, 'cdev') < 2,
      );
    case 8:
      return took(state, process.eventfd(), 'eventfd');
    case 9:
      if (count(state, 'memfd') < 2) took(state, process.memfd?.((1 + random.below(8)) * 0x1000) ?? -1, 'memfd');
      return;
    case 10:
    case 11: {
      const fd = state.fd(state.pick(['fault', 'events']));
      const buffer = new Uint8Array(state.pick([0, 7, 8, 39, 40, 80, 400]));
      if (fd !== undefined) checked(random.below(2) === 0 ? process.read(fd, buffer) : process.write(fd, buffer));
      return;
    }
    case 12: {
      const fd = state.fd('device');
      if (fd !== undefined && state.chance(50)) {
        checked(process.pwrite(fd, Uint8Array.of(state.pick([0, 2, 6, 6]), 0), COMMAND));
        return;
      }
      const at = random.below(9) * 2 ** 40 + random.below(0x1004);
      const buffer = new Uint8Array(random.below(9));
      if (fd !== undefined)
        checked(random.below(2) === 0 ? process.pread(fd, buffer, at) : process.pwrite(fd, buffer, at));
      return;
    }
    case 14:
      return send(state);
    case 13: {
      const memory = state.chance(10) ? state.memory[0] : undefined;
      if (memory !== undefined) checked(process.munmap(memory.address, 0x1000 * random.below(16)));
      return;
    }
    default:
      if (fds.size > 6 && state.chance(15)) close(state, state.pick([...fds.keys()]));
  }
}

/** The other process has the same /dev/iommu, and its objects, from then on. */
function send(state: FuzzState): void {
  const of = state.iommufd();
  const { peer } = state;
  if (of === undefined || peer === undefined || peer.iommufds.size > 1 || !state.chance(10)) return;
  const fd = state.process.send?.(of.fd, peer.process) ?? -1;
  took(peer, fd, 'iommufd');
  if (fd >= 0) peer.iommufds.set(fd, { ...of, fd });
}

function count(state: FuzzState, kind: string): number {
  return [...state.fds.values()].filter(each => each === kind).length;
}

function open(state: FuzzState, path: string, kind: 'iommufd' | 'container' | 'group' | 'cdev', wanted: boolean): void {
  if (!wanted) return;
  const fd = state.process.open(path);
  took(state, fd, kind);
  if (fd >= 0 && kind === 'iommufd') state.iommufds.set(fd, { fd, ids: new Map(), shows: new Map(), maps: [] });
}

function took(state: FuzzState, fd: number, kind: Parameters<FuzzState['fds']['set']>[1]): void {
  checked(fd);
  if (fd >= 0) state.fds.set(fd, kind);
}

function close(state: FuzzState, fd: number): void {
  checked(state.process.close(fd));
  state.fds.delete(fd);
  state.iommufds.delete(fd);
}

function checked(result: number): void {
  if (!Number.isInteger(result)) throw new Error(`a system call answered ${result}`);
}

/** Where two dumps part. */
function difference(before: string, after: string): string {
  let at = 0;
  while (before[at] === after[at]) at++;
  const around = (text: string): string => text.slice(Math.max(0, at - 80), at + 120);
  return `${around(before)} | ${around(after)}`;
}
