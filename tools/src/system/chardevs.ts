/** Where a character device leads: `-chardev socket,path=...`, and the short notation of -qtest and -qmp. */
import type { Address } from '@remora/qtest';
import { checkNames, flagOf, parseKeyValues, textOf, type Values } from './key-values.js';
import { CommandLineError } from './mistake.js';

/** Undefined leads nowhere: `null`. */
export type Chardev = Address | undefined;

/** Options of a server that is there for libvirt and people, and needs nothing here. */
const SERVER = ['server', 'wait', 'nodelay', 'reconnect', 'reconnect-ms'];

/** `-chardev backend,id=...`. Returns the id, and where it leads. */
export function parseChardev(argument: string): readonly [id: string, Chardev] {
  const option = `-chardev ${argument}`;
  const values = parseKeyValues(option, argument, 'backend');
  const id = textOf(option, values, 'id');
  if (id === undefined || id === '') throw new CommandLineError(`${option}: Parameter 'id' is missing`);
  return [id, backend(option, values)];
}

function backend(option: string, values: Values): Chardev {
  const kind = textOf(option, values, 'backend');
  if (kind === 'null') return undefined;
  if (kind === 'stdio') {
    checkNames(option, values, ['backend', 'id', 'signal', 'mux']);
    return { kind: 'stdio' };
  }
  if (kind !== 'socket') throw new CommandLineError(`${option}: '${kind}' is not a valid char driver name`);
  checkNames(option, values, ['backend', 'id', 'path', 'host', 'port', ...SERVER]);
  const server = flagOf(option, values, 'server', false);
  const path = textOf(option, values, 'path');
  if (path !== undefined) return { kind: 'unix', path, server };
  const port = textOf(option, values, 'port');
  if (port === undefined) throw new CommandLineError(`${option}: it needs path, or host and port`);
  return { kind: 'tcp', host: textOf(option, values, 'host') ?? '', port: portOf(option, port), server };
}

/** `unix:PATH[,server=on]`, `tcp:HOST:PORT[,...]`, `stdio`, `null` or `none`; or `chardev:ID`. */
export function parseShortChardev(option: string, argument: string, known: ReadonlyMap<string, Chardev>): Chardev {
  if (argument === 'stdio') return { kind: 'stdio' };
  if (argument === 'null' || argument === 'none') return undefined;
  const { at, ...values } = parseKeyValues(option, argument, 'at');
  const [scheme, first = '', port = ''] = String(at).split(':');
  if (scheme === 'chardev') return findChardev(option, first, known);
  checkNames(option, values, SERVER);
  const server = flagOf(option, values, 'server', false);
  if (scheme === 'unix' && first !== '') return { kind: 'unix', path: String(at).slice('unix:'.length), server };
  if (scheme === 'tcp' && port !== '') return { kind: 'tcp', host: first, port: portOf(option, port), server };
  throw new CommandLineError(`${option}: '${argument}' is not a character device that is known here`);
}

/** The chardev called `id`. @throws CommandLineError if there is none. */
export function findChardev(option: string, id: string, known: ReadonlyMap<string, Chardev>): Chardev {
  if (!known.has(id)) throw new CommandLineError(`${option}: chardev "${id}" not found`);
  return known.get(id);
}

function portOf(option: string, text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 0xffff) throw new CommandLineError(`${option}: "${text}" is not a port`);
  return port;
}
