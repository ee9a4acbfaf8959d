/** One client: its greeting, the commands that it sends one after the other, and the events that it gets in between. */
import type { Duplex } from 'node:stream';
import { ConfigError, logger, trackDisposable, untrackDisposable } from '@remora/core';
import { runCommand } from './commands/index.js';
import { QmpError } from './errors.js';
import { formatJson } from './json/format.js';
import { JsonError, isObject, type JsonObject } from './json/parse.js';
import { JSON_LIMITS, JsonStream, type JsonLimits } from './json/stream.js';
import { readRequest, type Request } from './request.js';
import { checkArguments } from './schema/check.js';
import { findCommand, type CommandName } from './schema/commands.js';
import type { QmpEvent, QmpTarget } from './target.js';

export interface QmpOptions {
  readonly limits?: JsonLimits;
  /** A client that leaves more bytes than this unread loses its connection; events would fill memory otherwise. */
  readonly unread?: number;
  /** Microseconds since 1970, for the time stamps of events. */
  readonly now?: () => number;
}

const UNREAD = 64 * 2 ** 20;
/** Answered before what they set off is told, as QEMU does. */
const REPLY_FIRST: ReadonlySet<CommandName> = new Set(['device_del']);
const log = logger('remora:qmp:session');

export class QmpSession implements Disposable {
  readonly #stream: Duplex;
  readonly #target: QmpTarget;
  readonly #json: JsonStream;
  readonly #unread: number;
  readonly #now: () => number;
  readonly #unsubscribe: () => void;
  /** The capabilities that were agreed on; undefined before that. */
  #enabled: ReadonlySet<string> | undefined;
  /** Its replies are not read at the moment: commands wait. */
  #blocked = false;
  #ended = false;
  #closed = false;
  /** Events that wait for a reply. */
  #held: QmpEvent[] | undefined;

  constructor(stream: Duplex, target: QmpTarget, options: QmpOptions = {}) {
    this.#stream = stream;
    this.#target = target;
    this.#json = new JsonStream(options.limits ?? JSON_LIMITS);
    this.#unread = options.unread ?? UNREAD;
    this.#now = options.now ?? (() => (performance.timeOrigin + performance.now()) * 1000);
    this.#unsubscribe = target.subscribe(event => this.#event(event));
    trackDisposable(this, 'QMP session');
    stream.on('data', this.#onData);
    stream.on('drain', this.#onDrain);
    stream.on('end', this.#onEnd);
    stream.on('close', this.#onClose);
    stream.on('error', this.#onClose);
    const { package: name, ...qemu } = target.version;
    this.#send({ QMP: { version: { qemu, package: name }, capabilities: ['oob'] } });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Ends the connection once what was sent is written. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#leave();
    this.#stream.end(() => this.#stream.destroy());
  }

  readonly #onData = (bytes: Uint8Array): void => {
    this.#json.push(bytes);
    this.#run();
  };

  readonly #onDrain = (): void => {
    this.#blocked = false;
    this.#stream.resume();
    this.#run();
  };

  /** The client has said all it will say; it may still read. */
  readonly #onEnd = (): void => {
    this.#ended = true;
    this.#run();
  };

  readonly #onClose = (): void => {
    if (!this.#closed) this.#leave();
  };

  #leave(): void {
    this.#closed = true;
    this.#unsubscribe();
    untrackDisposable(this);
    const stream = this.#stream;
    stream.off('data', this.#onData);
    stream.off('drain', this.#onDrain);
    stream.off('end', this.#onEnd);
    stream.off('close', this.#onClose);
    // An error may still come for what is under way; nobody has to know.
  }

  /** Does what the client asked for, as long as it takes the replies. */
  #run(): void {
    while (!this.#closed && !this.#blocked) {
      const next = this.#json.next();
      if (next === undefined) {
        if (this.#ended) this[Symbol.dispose]();
        return;
      }
      if (next instanceof JsonError) this.#refuse(undefined, new QmpError(`JSON parse error, ${next.message}`));
      else this.#answer(next.value);
    }
  }

  #answer(value: unknown): void {
    const id = isObject(value) ? value['id'] : undefined;
    try {
      const request = readRequest(value, this.#enabled?.has('oob') === true);
      const result = this.#execute(request);
      this.#send({ return: result ?? {}, id });
    } catch (failure) {
      this.#refuse(id, failure);
    } finally {
      const held = this.#held ?? [];
      this.#held = undefined;
      for (const event of held) this.#event(event);
    }
  }

  #refuse(id: unknown, failure: unknown): void {
    const known = failure instanceof QmpError || failure instanceof ConfigError;
    if (!known) log.warn('%o', failure);
    const desc = failure instanceof Error ? failure.message : String(failure);
    const errorClass = failure instanceof QmpError ? failure.errorClass : 'GenericError';
    this.#send({ error: { class: errorClass, desc }, id });
  }

  #execute({ command, args, oob }: Request): unknown {
    const [name, type] = findCommand(command) ?? [];
    if (this.#enabled === undefined && name !== 'qmp_capabilities')
      throw new QmpError("Expecting capabilities negotiation with 'qmp_capabilities'", 'CommandNotFound');
    if (this.#enabled !== undefined && name === 'qmp_capabilities')
      throw new QmpError('Capabilities negotiation is already complete, command ignored', 'CommandNotFound');
    if (name === undefined || type === undefined)
      throw new QmpError(`The command ${command} has not been found`, 'CommandNotFound');
    if (oob && type.oob !== true) throw new QmpError(`The command ${command} does not support OOB`);
    checkArguments(type, args);
    if (name === 'qmp_capabilities') return this.#negotiate(args);
    if (REPLY_FIRST.has(name)) this.#held = [];
    return runCommand(name, this.#target, args);
  }

  #negotiate({ enable = [] }: JsonObject): void {
    this.#enabled = new Set(enable as string[]);
  }

  #event(event: QmpEvent): void {
    if (this.#enabled === undefined || this.#closed) return;
    if (this.#held !== undefined) {
      this.#held.push(event);
      return;
    }
    const now = this.#now();
    const timestamp = { seconds: Math.floor(now / 1_000_000), microseconds: Math.floor(now % 1_000_000) };
    this.#send({ timestamp, ...event });
  }

  #send(message: JsonObject): void {
    if (this.#closed) return;
    const room = this.#stream.write(`${formatJson(message)}\r\n`);
    if (room) return;
    if (this.#stream.writableLength > this.#unread) {
      log.warn('a client leaves %d bytes unread: its connection is closed', this.#stream.writableLength);
      this.#leave();
      this.#stream.destroy();
      return;
    }
    this.#blocked = true;
    this.#stream.pause();
  }
}
