/** What each command of the schema does. Arguments have been checked against it. */
import { deviceNotFound, QmpError } from '../errors.js';
import { findObject, type Found } from '../qom.js';
import { checkId } from '../objects.js';
import type { JsonObject } from '../json/parse.js';
import { runMonitorCommand } from '../monitor/index.js';
import { COMMANDS, type CommandName } from '../schema/commands.js';
import { describeSchema } from '../schema/introspect.js';
import type { ArgumentsOf } from '../schema/type.js';
import type { QmpTarget } from '../target.js';
import { describePci } from './pci.js';
import * as qom from './qom.js';

/** What is known of the arguments of command `C` when it is run. */
type Arguments<C extends CommandName> = (typeof COMMANDS)[C] extends { arg: { members: infer M } }
  ? ArgumentsOf<M>
  : JsonObject;

/** Commands that are about the session are its own. */
type Handled = Exclude<CommandName, 'qmp_capabilities'>;

const HANDLERS: { readonly [C in Handled]: (target: QmpTarget, args: Arguments<C>) => unknown } = {
  'query-version': ({ version: { package: name, ...qemu } }) => ({ qemu, package: name }),
  'query-commands': () => Object.keys(COMMANDS).map(name => ({ name })),
  'query-qmp-schema': () => describeSchema(),
  'query-name': ({ name }) => ({ name }),
  'query-kvm': () => ({ enabled: false, present: false }),
  'query-target': () => ({ arch: 'x86_64' }),
  'query-machines': ({ machines }, { 'compat-props': wanted }) =>
    wanted === true ? machines.map(machine => ({ ...machine, 'compat-props': [] })) : machines,
  'query-status': ({ state }) => ({ status: state, running: state === 'running' }),
  'query-cpus-fast': ({ processors }) =>
    processors.map(({ path, thread }, index) => ({
      'cpu-index': index,
      'qom-path': path,
      'thread-id': thread,
      props: { 'socket-id': 0, 'core-id': index, 'thread-id': 0 },
      target: 'x86_64',
    })),
  'query-pci': describePci,
  stop: target => target.stop(),
  cont: target => target.resume(),
  system_reset: target => target.reset('host-qmp-system-reset'),
  quit: target => target.quit('host-qmp-quit'),
  'qom-list': (target, { path }) => qom.listProperties(target, path),
  'qom-list-get': (target, { paths }) => qom.listValues(target, paths),
  'qom-get': (target, { path, property }) => qom.getProperty(target, path, property),
  'qom-set': (target, { path, property, value }) => qom.setProperty(target, path, property, value),
  'qom-list-types': ({ types }, args) => qom.listTypes(types, args['implements'], args['abstract']).map(qom.typeInfo),
  'qom-list-properties': ({ types }, { typename }) => qom.typeProperties(types, typename),
  'device-list-properties': ({ types }, { typename }) => qom.deviceProperties(types, typename),
  device_add: addDevice,
  device_del: removeDevice,
  'object-add': (target, args) => target.objects.add(args),
  'object-del': (target, { id }) => target.objects.remove(id),
  'human-monitor-command': (target, args) => runMonitorCommand(target, args['command-line']),
};

/** Runs a command with arguments that were checked. Returns what it replies. @throws whatever a target throws. */
export function runCommand(name: Handled, target: QmpTarget, args: JsonObject): unknown {
  const run = HANDLERS[name] as (target: QmpTarget, args: JsonObject) => unknown;
  return run(target, args);
}

function addDevice(target: QmpTarget, { driver, ...options }: Arguments<'device_add'>): void {
  if (options.id !== undefined) checkId(options.id);
  target.addDevice(driver, options);
}

function removeDevice(target: QmpTarget, { id }: Arguments<'device_del'>): void {
  const { device } = findDevice(target, id).node;
  if (device === undefined) throw new QmpError(`${id} is not a device`);
  if (device.fixed !== undefined) throw new QmpError(device.fixed);
  target.removeDevice(device.key);
}

/** By path, or by the id that the user gave: what else may end in that name does not count. */
function findDevice(target: QmpTarget, id: string): Found {
  if (id.startsWith('/')) return findObject(target.tree(), id);
  try {
    return findObject(target.tree(), `/machine/peripheral/${id}`);
  } catch (cause) {
    throw cause instanceof QmpError ? deviceNotFound(id) : cause;
  }
}
