/** From a command line to what shall run: machine, connections, and how the program ends. */
import { type Chardev, findChardev, parseChardev, parseShortChardev } from './chardevs.js';
import { checkNames, flagOf, parseKeyValues, textOf, type Values } from './key-values.js';
import { CommandLineError } from './mistake.js';
import { type GivenOption, type OptionName, splitCommandLine } from './options.js';
import { type TraceOptions, traceOptions } from './trace-options.js';

/** `-device`, `-object` or `-global`, with what was written. */
export interface Asked {
  readonly written: string;
  readonly values: Values;
}

export interface CommandLine {
  /** `q35` or `none`. */
  readonly machine: string;
  /** Of which version of QEMU the machine is, as `10.2`; undefined for a machine of no version. */
  readonly machineVersion: string | undefined;
  readonly machineOptions: Asked;
  /** In bytes; undefined for the machine's default. */
  readonly memory: string | undefined;
  readonly processors: number;
  readonly devices: readonly Asked[];
  readonly objects: readonly Asked[];
  /** `driver`, `property` and `value`. */
  readonly globals: readonly Asked[];
  /** Slots of default devices, as hexadecimal device numbers: QEMU has something there. */
  readonly reserved: readonly string[];
  readonly name: string | undefined;
  readonly paused: boolean;
  readonly qtest: Chardev;
  /** A file, `none`, or undefined for standard error. */
  readonly qtestLog: string | undefined;
  readonly monitors: readonly Address[];
  readonly exitWithParent: boolean;
  readonly trace: TraceOptions;
  /** What was asked for and is not there, for people. */
  readonly warnings: readonly string[];
  readonly show: 'help' | 'version' | 'machines' | 'trace-events' | undefined;
}

type Address = NonNullable<Chardev>;

/** @throws CommandLineError */
export function parseCommandLine(args: readonly string[]): CommandLine {
  const given = splitCommandLine(args);
  const all = (name: OptionName): GivenOption[] => given.filter(option => option.name === name);
  const last = (name: OptionName): GivenOption | undefined => all(name).at(-1);
  const has = (name: OptionName): boolean => last(name) !== undefined;
  checkAbsent(given);
  const chardevs = new Map<string, Chardev>();
  for (const { argument } of all('chardev')) {
    const [id, chardev] = parseChardev(argument);
    if (chardevs.has(id)) throw new CommandLineError(`-chardev ${argument}: Duplicate ID '${id}' for chardev`);
    chardevs.set(id, chardev);
  }
  const machineOptions = machineValues(all('machine'));
  const type = textOf('-machine', machineOptions.values, 'type') ?? 'q35';
  const qtest = last('qtest');
  const trace = traceOptions(given);
  return {
    ...machineType(type),
    machineOptions,
    memory: memoryOf(last('m')),
    processors: processorsOf(last('smp')),
    devices: all('device').map(option => asked(option, 'driver')),
    objects: all('object').map(option => asked(option, 'qom-type')),
    globals: all('global').map(globalOf),
    reserved: reservedSlots(given),
    name: nameOf(last('name')),
    paused: has('S'),
    qtest: qtest && parseShortChardev(qtest.written, qtest.argument, chardevs),
    qtestLog: last('qtest-log')?.argument,
    monitors: [
      ...all('qmp').map(option => parseShortChardev(option.written, option.argument, chardevs)),
      ...all('mon').map(option => monitorOf(option, chardevs)),
    ].filter(each => each !== undefined),
    exitWithParent: all('run-with').some(option => runWith(option)),
    trace,
    warnings: trace.warnings,
    show: shown(has, type, trace),
  };
}

function shown(has: (name: OptionName) => boolean, machine: string, trace: TraceOptions): CommandLine['show'] {
  if (has('help')) return 'help';
  if (has('version')) return 'version';
  if (machine === 'help') return 'machines';
  return trace.help ? 'trace-events' : undefined;
}

/** Options whose only accepted values mean: nothing of that kind. */
const NOTHING: Partial<Record<OptionName, readonly string[]>> = {
  display: ['none'],
  audio: ['none', 'driver=none'],
  net: ['none'],
  nic: ['none'],
  monitor: ['none', 'null'],
  serial: ['none', 'null'],
  parallel: ['none', 'null'],
};
const ACCELERATORS = ['qtest', 'tcg'];

function checkAbsent(given: readonly GivenOption[]): void {
  for (const { name, argument, written } of given) {
    if (NOTHING[name]?.includes(argument) === false)
      throw new CommandLineError(`${written}: there is no such thing here`);
    const accelerator = argument.split(',')[0]!.replace(/^accel=/, '');
    if (name === 'accel' && !ACCELERATORS.includes(accelerator))
      throw new CommandLineError(`${written}: invalid accelerator ${accelerator}`);
  }
}

/** Those of all `-machine`, the later ones counting. */
function machineValues(options: readonly GivenOption[]): Asked {
  const values = Object.assign(
    {},
    ...options.map(({ written, argument }) => parseKeyValues(written, argument, 'type')),
  ) as Values;
  return { written: options.at(-1)?.written ?? '-machine q35', values };
}

function machineType(type: string): Pick<CommandLine, 'machine' | 'machineVersion'> {
  const [, version] = /^pc-q35-(\d+\.\d+)$/.exec(type) ?? [];
  if (version !== undefined) return { machine: 'q35', machineVersion: version };
  if (['none', 'help', 'q35'].includes(type)) return { machine: type, machineVersion: undefined };
  throw new CommandLineError(`unsupported machine type: "${type}"\nUse -machine help to list supported machines`);
}

/** Plain numbers are MiB. */
function memoryOf(option: GivenOption | undefined): string | undefined {
  if (option === undefined) return undefined;
  const values = parseKeyValues(option.written, option.argument, 'size');
  checkNames(option.written, values, ['size', 'slots', 'maxmem']);
  const size = textOf(option.written, values, 'size');
  if (size === undefined) return undefined;
  if (!/^\d+(\.\d+)?[bkmgt]?$/i.test(size)) throw new CommandLineError(`${option.written}: '${size}' is not a size`);
  return /[bkmgt]$/i.test(size) ? size : `${size}M`;
}

function processorsOf(option: GivenOption | undefined): number {
  if (option === undefined) return 1;
  const values = parseKeyValues(option.written, option.argument, 'cpus');
  checkNames(option.written, values, [
    'cpus',
    'maxcpus',
    'drawers',
    'books',
    'sockets',
    'dies',
    'clusters',
    'modules',
    'cores',
    'threads',
  ]);
  const cpus = textOf(option.written, values, 'cpus') ?? '1';
  if (!/^[1-9]\d{0,3}$/.test(cpus))
    throw new CommandLineError(`${option.written}: '${cpus}' is not a number of processors`);
  return Number(cpus);
}

function asked({ written, argument }: GivenOption, implied: string): Asked {
  return { written, values: parseKeyValues(written, argument, implied) };
}

/** `driver.property=value`, or the three by name. */
function globalOf({ written, argument }: GivenOption): Asked {
  const [, driver, property, value] = /^([^.=,]+)\.([^=]+)=(.*)$/.exec(argument) ?? [];
  if (driver !== undefined) return { written, values: { driver, property: property!, value: value! } };
  const values = parseKeyValues(written, argument);
  checkNames(written, values, ['driver', 'property', 'value']);
  for (const name of ['driver', 'property', 'value'])
    if (values[name] === undefined) throw new CommandLineError(`${written}: Parameter '${name}' is missing`);
  return { written, values };
}

/** ICH9 is at 1f. The VGA adapter and the network card come before what the user asks for, and so take 1 and 2. */
function reservedSlots(given: readonly GivenOption[]): string[] {
  const bare = given.some(({ name }) => name === 'nodefaults');
  const vga = given.findLast(({ name }) => name === 'vga')?.argument ?? (bare ? 'none' : 'std');
  const network = !bare && !given.some(({ name }) => name === 'net' || name === 'nic');
  const defaults = [...(vga === 'none' ? [] : ['vga']), ...(network ? ['network'] : [])];
  return [...defaults.map((_, index) => String(index + 1)), '1f'];
}

function nameOf(option: GivenOption | undefined): string | undefined {
  if (option === undefined) return undefined;
  const values = parseKeyValues(option.written, option.argument, 'guest');
  checkNames(option.written, values, ['guest', 'process', 'debug-threads']);
  return textOf(option.written, values, 'guest');
}

function monitorOf({ written, argument }: GivenOption, chardevs: ReadonlyMap<string, Chardev>): Chardev {
  const values = parseKeyValues(written, argument, 'chardev');
  checkNames(written, values, ['chardev', 'mode', 'pretty', 'id']);
  if (textOf(written, values, 'mode') !== 'control')
    throw new CommandLineError(`${written}: only mode=control is there`);
  return findChardev(written, textOf(written, values, 'chardev') ?? '', chardevs);
}

function runWith({ written, argument }: GivenOption): boolean {
  const values = parseKeyValues(written, argument);
  checkNames(written, values, ['exit-with-parent', 'async-teardown']);
  return flagOf(written, values, 'exit-with-parent', false);
}
