/** createMachine(): from a description to a machine. The composition root of the machine level. */
import { ConfigError, errnoName, Ledger, Ram, Trace, VirtualClock, type Plugin } from '@remora/core';
import { MachineProcess, RecordingSyscalls, type HostSyscalls } from '@remora/host';
import { BoardKinds, DeviceKinds, type AnyDeviceKind, type BoardKind } from '@remora/pci';
import { located } from './config-error.js';
import { Kinds } from './device-kinds.js';
import { plainOptions } from './description.js';
import { parseSpec, type DeviceSpec } from './device-spec.js';
import { Host } from './host.js';
import { Machine } from './machine.js';
import { parseObjects, type ObjectSpec } from './objects.js';
import { pluginModules } from './plugins.js';
import { Scope } from './scope.js';

export interface MachineOptions {
  /** Unique on its host. Default `vm0`, `vm1` ... */
  readonly name?: string;
  /** `'q35,memory=512M'`, or the same as an object. */
  readonly board: DeviceSpec;
  /** Bring boards and devices, besides those that the host's plug-ins bring. */
  readonly plugins?: readonly Plugin[];
  /** In any order. */
  readonly devices?: readonly DeviceSpec[];
  /** What devices name: `'iommufd,id=iommufd0'`. */
  readonly objects?: readonly ObjectSpec[];
  /** Ids of the devices in the order in which to realize them: that of a machine whose state will be loaded. */
  readonly order?: readonly string[];
  /** Default: the host's, or one of its own. */
  readonly ledger?: Ledger;
  /** Default: one of its own. One that is watched already sees what devices do from the start. */
  readonly trace?: Trace;
  /** Stands between the machine and the host's system calls: a recorder, or a test that makes calls fail. */
  readonly interpose?: (syscalls: HostSyscalls) => HostSyscalls;
}

/**
 * Assembles a machine: on a `Host`, in a process of its own; in the process behind some HostSyscalls; or, with undefined, by itself.
 * On a host, guest RAM is memory of that process.
 * @throws ConfigError with a path such as `devices[1].host` for whatever cannot be built. Nothing stays open then.
 */
export function createMachine(host: Host | HostSyscalls | undefined, options: MachineOptions): Machine {
  const level = host instanceof Host ? host : undefined;
  const name = nameFor(level, options.name);
  const scope = openScope(name, level, options);
  try {
    const clock = level?.clock ?? new VirtualClock();
    const ledger = options.ledger ?? level?.ledger ?? new Ledger();
    const syscalls = level === undefined ? (host as HostSyscalls | undefined) : scope.own(level.platform.process(name));
    const process = syscalls && scope.own(machineProcess(name, syscalls, ledger, options));
    const objects = parseObjects(options.objects ?? []);
    for (const { options: given } of objects) process?.addIommufd(String(given['id']));
    const boards = new Kinds<BoardKind<unknown>>('board', scope.all(BoardKinds));
    const kinds = new Kinds<AnyDeviceKind>('device', scope.all(DeviceKinds));
    const spec = parseSpec('board', options.board);
    const kind = boards.find('board', spec.driver);
    const config = located('board', [kind.id, name], () => kind.properties.parse('board', spec.options));
    const board = located('board', [kind.id, name], () => {
      const ram = allocateRam(kind.ramBytes(config), process);
      return kind.create({ name, ram, clock, ledger }, config);
    });
    const asked = {
      board: { driver: kind.id, options: plainOptions('board', config) },
      plugins: [...new Set((options.plugins ?? []).map(plugin => plugin.name))],
      ...(objects.length === 0 ? {} : { objects }),
    };
    const { order, devices = [], trace = new Trace() } = options;
    const parts = { name, scope, board, kinds, clock, ledger, trace, host: level, process, asked, order };
    return new Machine(parts, devices);
  } catch (failure) {
    scope[Symbol.dispose]();
    throw failure;
  }
}

function nameFor(host: Host | undefined, wanted: string | undefined): string {
  if (host === undefined) return wanted ?? 'vm0';
  const name = host.claimName(wanted);
  if (name === undefined) throw new ConfigError('name', `"${wanted}" is the name of another machine on this host`);
  return name;
}

function openScope(name: string, host: Host | undefined, options: MachineOptions): Scope {
  try {
    const scope = new Scope(name, pluginModules('plugins', options.plugins ?? []), host?.scope);
    scope.own({ [Symbol.dispose]: () => host?.releaseName(name) });
    return scope;
  } catch (failure) {
    host?.releaseName(name);
    throw failure;
  }
}

/** The ledger records what the machine asked, and the answer that reached it. */
function machineProcess(name: string, bare: HostSyscalls, ledger: Ledger, options: MachineOptions): MachineProcess {
  const syscalls = options.interpose?.(bare) ?? bare;
  return new MachineProcess(new RecordingSyscalls(syscalls, ledger, `${name}/host-syscalls`), name);
}

/** Memory of the process, if there is one: what a guest writes is then in host pages that devices of the host can reach. */
function allocateRam(bytes: number, process: MachineProcess | undefined): Ram {
  const ram = process === undefined ? Ram.allocate(bytes) : process.allocate(bytes);
  if (typeof ram !== 'number') return ram;
  throw new ConfigError('memory', `the host has no ${bytes} bytes of memory left (${errnoName(ram)})`);
}
