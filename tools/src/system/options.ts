/** The options of QEMU's command line that are understood, and a command line taken apart by them. Names are QEMU's. */
import { CommandLineError } from './mistake.js';

const WITH_ARGUMENT = [
  ...[
    'machine',
    'm',
    'smp',
    'cpu',
    'accel',
    'device',
    'global',
    'object',
    'name',
    'run-with',
    'trace',
    'd',
    'D',
    'msg',
  ],
  ...['qtest', 'qtest-log', 'chardev', 'mon', 'qmp', 'monitor', 'serial', 'parallel'],
  ...['display', 'vga', 'audio', 'net', 'nic'],
] as const;
const WITHOUT_ARGUMENT = ['nodefaults', 'no-user-config', 'S', 'nographic', 'version', 'help'] as const;
const ALIASES: Readonly<Record<string, OptionName>> = { M: 'machine', h: 'help' };

export type OptionName = (typeof WITH_ARGUMENT)[number] | (typeof WITHOUT_ARGUMENT)[number];

export interface GivenOption {
  readonly name: OptionName;
  /** Empty for options that take none. */
  readonly argument: string;
  /** As it was written, for messages: `-device edu,addr=4`. */
  readonly written: string;
}

/** All options in the order given. One dash or two. @throws CommandLineError for what is not understood. */
export function splitCommandLine(args: readonly string[]): GivenOption[] {
  const given: GivenOption[] = [];
  for (let index = 0; index < args.length; index++) {
    const word = args[index]!;
    if (!word.startsWith('-') || word === '-') throw new CommandLineError(`${word}: disk images are not supported`);
    const bare = word.replace(/^--?/, '');
    const name = ALIASES[bare] ?? bare;
    if (isOneOf(WITHOUT_ARGUMENT, name)) given.push({ name, argument: '', written: word });
    else if (isOneOf(WITH_ARGUMENT, name)) {
      const argument = args[++index];
      if (argument === undefined) throw new CommandLineError(`${word}: requires an argument`);
      given.push({ name, argument, written: `${word} ${argument}` });
    } else throw new CommandLineError(`${word}: invalid option`);
  }
  return given;
}

/** What `--help` lists. */
export const OPTION_NAMES: readonly OptionName[] = [...WITH_ARGUMENT, ...WITHOUT_ARGUMENT].sort();

function isOneOf<T extends string>(names: readonly T[], name: string): name is T {
  return (names as readonly string[]).includes(name);
}
