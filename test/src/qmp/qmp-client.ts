/** A QMP client over any stream: one command after the other, events on the side. */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Readable, Writable } from 'node:stream';

export interface QmpMessage {
  readonly QMP?: { readonly version: unknown; readonly capabilities: readonly string[] };
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly event?: string;
  readonly data?: unknown;
}

export class QmpClient {
  readonly events: QmpMessage[] = [];
  /** What the server said first. */
  greeting: QmpMessage | undefined;
  readonly #output: Writable;
  readonly #waiting: ((message: QmpMessage | undefined) => void)[] = [];
  readonly #messages: QmpMessage[] = [];
  #rest = '';
  #ended = false;

  constructor(input: Readable, output: Writable) {
    this.#output = output;
    input.setEncoding('utf8');
    input.on('data', (text: string) => this.#arrived(text));
    input.on('close', () => this.#end());
    input.on('error', () => this.#end());
    output.on('error', () => this.#end());
  }

  /** Connects to a UNIX socket and reads the greeting. */
  static async connect(path: string): Promise<QmpClient> {
    const socket = connect(path);
    const client = new QmpClient(socket, socket);
    client.greeting = await client.next();
    return client;
  }

  get ended(): boolean {
    return this.#ended;
  }

  send(text: string): void {
    this.#output.write(text);
  }

  /** Leaves, without a word. */
  vanish(): void {
    this.#output.destroy();
  }

  /** The next message that is no event; undefined if the server has left. */
  next(): Promise<QmpMessage | undefined> {
    const message = this.#messages.shift();
    if (message !== undefined || this.#ended) return Promise.resolve(message);
    return new Promise(resolve => this.#waiting.push(resolve));
  }

  /** What the server says to one command. */
  async ask(execute: string, args?: object): Promise<QmpMessage> {
    this.send(`${JSON.stringify({ execute, arguments: args })}\n`);
    const message = await this.next();
    if (message === undefined) throw new Error(`the server left during ${execute}`);
    return message;
  }

  /** The reply to one command. @throws Error if it is an error. */
  async run(execute: string, args?: object): Promise<unknown> {
    const message = await this.ask(execute, args);
    if (message.error !== undefined) throw new Error(`${execute}: ${message.error.class}: ${message.error.desc}`);
    return message.return;
  }

  /** What `info ...` prints. */
  async info(what: string): Promise<string> {
    return (await this.run('human-monitor-command', { 'command-line': `info ${what}` })) as string;
  }

  /** Ends once the server has closed the connection. */
  async closed(): Promise<void> {
    if (!this.#ended) await once(this.#output, 'close');
  }

  #arrived(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) {
      const message = JSON.parse(line) as QmpMessage;
      if (message.event !== undefined) this.events.push(message);
      else this.#hand(message);
    }
  }

  #hand(message: QmpMessage): void {
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#messages.push(message);
    else waiting(message);
  }

  #end(): void {
    this.#ended = true;
    for (const waiting of this.#waiting.splice(0)) waiting(undefined);
  }
}

/** Every object below `path`, by path: its type. As qom-list tells it. */
export async function allObjects(client: QmpClient, path = '/'): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const properties = (await client.run('qom-list', { path })) as { name: string; type: string }[];
  for (const { name, type } of properties) {
    const child = /^child<(.*)>$/.exec(type)?.[1];
    if (child === undefined) continue;
    const at = path === '/' ? `/${name}` : `${path}/${name}`;
    found.set(at, child);
    for (const [below, kind] of await allObjects(client, at)) found.set(below, kind);
  }
  return found;
}

export interface QtreeObject {
  readonly what: 'bus' | 'dev';
  /** A bus's name, or the id of a device. */
  readonly name: string;
  readonly type: string;
}

/** The buses and devices that `info qtree` shows, in its order. */
export function qtreeObjects(text: string): QtreeObject[] {
  const lines = text.split('\r\n');
  return lines.flatMap((line, index): QtreeObject[] => {
    const [, bus] = /^ *bus: (.*)$/.exec(line) ?? [];
    if (bus !== undefined) return [{ what: 'bus', name: bus, type: lines[index + 1]!.replace(/^ *type /, '') }];
    const [, type, id] = /^ *dev: (.*), id "(.*)"$/.exec(line) ?? [];
    return type === undefined ? [] : [{ what: 'dev', name: id!, type }];
  });
}
