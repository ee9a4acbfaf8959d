/** All commands and events: the one table from which arguments are checked, and query-commands and query-qmp-schema are answered. */
import { command, type CommandType, type EventType, struct } from './type.js';
import { EMPTY } from './types.js';

export const COMMANDS = {
  qmp_capabilities: command({ 'enable?': '[QMPCapability]' }, EMPTY),
  'query-version': command({}, 'VersionInfo'),
  'query-commands': command({}, '[CommandInfo]'),
  'query-qmp-schema': command({}, '[SchemaInfo]'),
  'query-name': command({}, 'NameInfo'),
  'query-kvm': command({}, 'KvmInfo'),
  'query-target': command({}, 'TargetInfo'),
  'query-machines': command({ 'compat-props?': 'bool' }, '[MachineInfo]'),
  'query-status': command({}, 'StatusInfo'),
  'query-cpus-fast': command({}, '[CpuInfoFast]'),
  'query-pci': command({}, '[PciInfo]'),
  stop: command({}, EMPTY),
  cont: command({}, EMPTY),
  system_reset: command({}, EMPTY),
  quit: command({}, EMPTY),
  'qom-list': command({ path: 'str' }, '[ObjectPropertyInfo]'),
  'qom-list-get': command({ paths: '[str]' }, '[ObjectPropertiesValues]'),
  'qom-get': command({ path: 'str', property: 'str' }, 'any'),
  'qom-set': command({ path: 'str', property: 'str', value: 'any' }, EMPTY),
  'qom-list-types': command({ 'implements?': 'str', 'abstract?': 'bool' }, '[ObjectTypeInfo]'),
  'qom-list-properties': command({ typename: 'str' }, '[ObjectPropertyInfo]'),
  'device-list-properties': command({ typename: 'str' }, '[ObjectPropertyInfo]'),
  device_add: command({ driver: 'str', 'bus?': 'str', 'id?': 'str' }, EMPTY, { open: true }),
  device_del: command({ id: 'str' }, EMPTY),
  'object-add': { arg: 'ObjectOptions', ret: EMPTY },
  'object-del': command({ id: 'str' }, EMPTY),
  'human-monitor-command': command({ 'command-line': 'str', 'cpu-index?': 'int' }, 'str'),
} satisfies Readonly<Record<string, CommandType>>;

export type CommandName = keyof typeof COMMANDS;

export const EVENTS = {
  SHUTDOWN: struct({ guest: 'bool', reason: 'ShutdownCause' }),
  RESET: struct({ guest: 'bool', reason: 'ShutdownCause' }),
  STOP: struct(),
  RESUME: struct(),
  DEVICE_DELETED: struct({ 'device?': 'str', path: 'str' }),
} satisfies Readonly<Record<string, EventType>>;

/** The command called `name`, if there is one. */
export function findCommand(name: string): [CommandName, CommandType] | undefined {
  return Object.hasOwn(COMMANDS, name) ? [name as CommandName, COMMANDS[name as CommandName]] : undefined;
}
