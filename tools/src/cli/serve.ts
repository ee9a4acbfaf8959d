/** `remora serve DEVICE...`: device models in the user's own QEMU. */
import { lstatSync } from 'node:fs';
import { resolve } from 'node:path';
import { checkPlugin, type Plugin } from '@remora/core';
import { hostScope, Kinds } from '@remora/machine/assembly';
import { type AnyDeviceKind, DeviceKinds } from '@remora/pci';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import dsaPlugin from '@hw/dsa/plugin';
import eduPlugin from '@hw/edu/plugin';
import nvmePlugin from '@hw/nvme/plugin';
import { qemuCommand, ServedMachine } from '../serve/index.js';
import { loadModule } from './load-machine.js';
import type { Streams } from './streams.js';
import { UsageError } from './usage-error.js';

/** Devices that have something to offer to a guest that runs elsewhere. */
const plugins: readonly Plugin[] = [eduPlugin, nvmePlugin, dmaEnginePlugin, dsaPlugin];

export interface ServeOptions {
  /** One for each device, or a folder for all. */
  readonly socket: readonly string[];
  /** A file, or BY_MESSAGE. */
  readonly memory?: string;
  /** Clients pass descriptors of memory and interrupts. */
  readonly fds?: boolean;
  /** Resolves when the serving is to end. Default: SIGINT, SIGTERM or SIGHUP. */
  readonly until?: Promise<unknown>;
}

/** In place of a file: QEMU is asked for each transfer. */
const BY_MESSAGE = 'message';

/** Serves `devices` until it is told to end. @throws ConfigError, UsageError for what cannot be served. */
export async function serve(devices: readonly string[], options: ServeOptions, streams: Streams): Promise<void> {
  const report = (text: string): unknown => streams.stderr.write(`remora: ${text}\n`);
  const messages = options.memory === BY_MESSAGE;
  const memory = options.memory === undefined || messages ? undefined : resolve(options.memory);
  if (messages && options.fds === true)
    throw new UsageError('--memory message: with --fds QEMU passes its memory: expected one of the two');
  const asked = await withFiles(devices);
  using served = new ServedMachine({ ...asked, memory, messages, report, descriptors: options.fds === true });
  const { machine } = served;
  const names = served.parts.map(({ id }) => id);
  const sockets = socketPaths(options.socket, names);
  const listening: Disposable[] = [];
  try {
    for (const [index, { id, listen }] of served.parts.entries()) {
      listening.push(await listen(sockets[index]!));
      streams.stdout.write(`${id} is served at ${sockets[index]!}\n`);
    }
    const passed = served.parts.some(({ descriptors }) => descriptors);
    if (memory === undefined && !messages && !served.parts.every(({ descriptors }) => descriptors))
      report('no --memory: what a device reads or writes in memory is refused');
    // Who reads what follows may already tell us to end.
    const end = options.until ?? toldToEnd();
    const places = names.map((id, index) => ({ socket: sockets[index]!, devfn: machine.functions(id)[0]!.devfn }));
    streams.stdout.write(`\nQEMU 10.1 or later, with this on its command line:\n\n`);
    streams.stdout.write(`  ${qemuCommand(places, memory ?? passed).join(' \\\n    ')}\n\n`);
    await end;
  } finally {
    for (const each of listening) each[Symbol.dispose]();
  }
}

/** One socket a device: as many as there are devices, or a folder in which each has the device's name. */
function socketPaths(given: readonly string[], names: readonly string[]): string[] {
  const [first] = given;
  if (given.length === 1 && lstatSync(first!, { throwIfNoEntry: false })?.isDirectory() === true)
    return names.map(name => resolve(first!, `${name}.sock`));
  if (given.length !== names.length) {
    const expected = names.length === 1 ? 'one' : `${names.length}, in the order of the devices, or a folder`;
    throw new UsageError(`--socket: ${given.length} given for ${names.join(', ')}: expected ${expected}`);
  }
  const paths = given.map(path => resolve(path));
  const twice = paths.find((path, index) => paths.indexOf(path) !== index);
  if (twice !== undefined) throw new UsageError(`--socket: ${twice} is given twice`);
  return paths;
}

/** Devices by name, and those that a file brings: the one kind that its plug-in has. */
async function withFiles(devices: readonly string[]): Promise<{ plugins: Plugin[]; devices: string[] }> {
  const brought: Plugin[] = [];
  const named: string[] = [];
  for (const [index, device] of devices.entries()) {
    const [, file, options] = /^(.*?\.[cm]?[jt]s)((?:,.*)?)$/.exec(device) ?? [];
    if (file === undefined) {
      named.push(device);
      continue;
    }
    const plugin = checkPlugin(`devices[${index}]`, (await loadModule(file))['default']);
    if (!brought.includes(plugin)) brought.push(plugin);
    named.push(`${onlyKind(file, plugin).id}${options!}`);
  }
  return { plugins: [...plugins, ...brought], devices: named };
}

/** @throws UsageError unless the plug-in brings one kind of PCI device. */
function onlyKind(file: string, plugin: Plugin): AnyDeviceKind {
  const scope = hostScope([plugin]);
  const kinds = new Kinds<AnyDeviceKind>('device', scope.all(DeviceKinds)).all.filter(kind => kind.bus === 'pci');
  scope[Symbol.dispose]();
  if (kinds.length === 1) return kinds[0]!;
  const found = kinds.map(kind => kind.id).join(', ') || 'none';
  throw new UsageError(`${file}: its plug-in is to bring one kind of PCI device, and brings ${found}`);
}

function toldToEnd(): Promise<void> {
  return new Promise(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(signal, () => resolve());
  });
}
