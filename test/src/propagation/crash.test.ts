/**
 * Two VMs on one host, and one of them dies in the middle: its process is killed at each of its host calls in turn, whatever it was about to do.
 * All that it had is reclaimed, its device reaches nothing any more, and the other VM's DMA goes on; over VFIO and over iommufd.
 */
import test from 'ava';
import { MemTx } from '@remora/core';
import type { HostProcess, SimulatedHost } from '@remora/host-sim';
import type { HostSyscalls } from '@remora/host';
import type { Host } from '@remora/machine';
import { ENGINE, lendingHost, SECOND_ENGINE } from '@remora/machines';
import { FailurePoints, owner } from '@remora/testing';
import { Rig, type RigOptions } from '../rig/rig.js';
import { hostBytes } from './host-memory.js';
import { pattern, SharedSpace } from './shared-space.js';

const MIB = 0x10_0000;
const AT = 0x1_0000_0000;
const FRAME = 0x100;
/** Each VM may have so many PASIDs, and so many it uses. */
const QUOTA = 2;
const COMMAND = 4;
const MEMORY_AND_MASTER = 6;

/** What a process sees of its own end: nothing. It unwinds our stack, on which the VMM of the test runs. */
class Killed extends Error {}

const backEnds: readonly { readonly title: string; readonly options: RigOptions; readonly calls: number }[] = [
  { title: 'VFIO', options: {}, calls: 90 },
  { title: 'iommufd', options: { objects: ['iommufd,id=iommufd0'], vfio: 'iommufd=iommufd0' }, calls: 80 },
];

/** Kills its process at call number `at`, counted from 0, before the host hears of it. */
class Killer {
  readonly seen = new FailurePoints();
  killed = false;
  /** It came to the end of what it had to do. */
  finished = false;
  readonly #at: number;
  #process: HostProcess | undefined;

  constructor(at: number) {
    this.#at = at;
  }

  readonly interpose = (syscalls: HostSyscalls): HostSyscalls => {
    this.#process = syscalls as HostProcess;
    return new Proxy(this.seen.syscalls(syscalls), {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== 'function' || name === 'onReadable') return member;
        return (...parameters: unknown[]): unknown => {
          if (!this.killed && this.seen.names.length === this.#at) this.kill();
          return Reflect.apply(member as (...all: unknown[]) => unknown, target, parameters);
        };
      },
    });
  };

  kill(): never {
    this.killed = true;
    this.#process![Symbol.dispose]();
    throw new Killed('killed');
  }
}

/** What the VM does that dies: the more it holds, the more there is to reclaim. In the end it is killed in any case. */
function live(host: Host<SimulatedHost>, options: RigOptions, killer: Killer): void {
  let rig: Rig | undefined;
  try {
    rig = new Rig({ ...options, host, memory: 4, interpose: killer.interpose });
    const space = new SharedSpace(rig).bind();
    const others = Array.from({ length: QUOTA - 1 }, () => new SharedSpace(rig!, { engine: space.engine }).bind());
    space.map(AT, FRAME);
    if (!space.deviceWrites(AT, pattern(16)).ok && !killer.killed) throw new Error('it does not work');
    space.remap(AT);
    space.flushPages(AT);
    for (const other of others) other.unbind();
    space.bind();
    rig.machine.unplug(rig.deviceId());
    rig.machine.plug(rig.deviceString());
    killer.finished = true;
    killer.kill();
  } catch (end) {
    // What it is unwound by may be told on the way.
    if (!killer.killed) throw end;
  }
  try {
    rig?.[Symbol.dispose]();
  } catch (end) {
    // Nobody answers what its objects still ask for.
    if (!(end instanceof AggregateError)) throw end;
  }
}

/** The engine is asked, behind its dead VM's back, for what it could reach. */
function reaches(host: SimulatedHost, bdf: string): boolean {
  const engine = host.function(bdf);
  engine.config.write(COMMAND, MEMORY_AND_MASTER, 2);
  const plain = engine.dma.write(0, FRAME * 4096, Uint8Array.of(1)) === MemTx.OK;
  const shared = engine.dma.write(AT / 0x10_0000, 0, Uint8Array.of(1), 1) === MemTx.OK;
  engine.config.write(COMMAND, 0, 2);
  return plain || shared;
}

for (const { title, options, calls } of backEnds) {
  for (const neighbour of backEnds) {
    test(`a VM over ${title} is killed at each of its host calls; one over ${neighbour.title} goes on`, t => {
      const own = owner(t);
      const host = own(lendingHost({ memory: 64 * MIB, kernel: { pasidQuota: QUOTA } }));
      const functions = [{ addr: '03.0', host: SECOND_ENGINE }];
      const lasting = own(new Rig({ ...neighbour.options, host, functions, memory: 4 }));
      const space = new SharedSpace(lasting).bind();
      space.map(AT, FRAME);
      const before = host.platform.dump();
      // In one pair each call is the last one once; in the others every seventh is enough.
      const stride = title === neighbour.title ? 1 : 7;
      for (let at = 0, killer = new Killer(at); ; at += stride, killer = new Killer(at)) {
        live(host, options, killer);
        t.deepEqual(host.platform.dump(), before, `call ${at}`);
        t.false(reaches(host.platform, ENGINE), `call ${at}`);
        t.true(space.deviceWrites(AT, pattern(16, at)).ok);
        t.deepEqual(hostBytes(lasting, FRAME, 16), pattern(16, at), `call ${at}`);
        host.platform.takeFaults();
        if (!killer.finished) continue;
        const made = killer.seen.names.length;
        t.true(made >= calls, `${made} calls`);
        t.log(`${made} calls`);
        break;
      }
    });
  }
}
