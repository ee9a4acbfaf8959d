/** A client of a session in the same process: what it writes arrives at once, and so does what it is told. */
import { Duplex } from 'node:stream';
import { serveQmp } from './serve.js';
import type { QmpOptions, QmpSession } from './session.js';
import type { QmpTarget } from './target.js';

export interface Message {
  readonly QMP?: { readonly version: object; readonly capabilities: readonly string[] };
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly event?: string;
  readonly data?: unknown;
  readonly timestamp?: { readonly seconds: number; readonly microseconds: number };
  readonly id?: unknown;
}

/** The server's end. While `stuck`, nothing of what is written to it goes anywhere. */
class Wire extends Duplex {
  received = '';
  #stuck: (() => void) | undefined;
  #holding = false;

  hold(): void {
    this.#holding = true;
  }

  release(): void {
    this.#holding = false;
    const go = this.#stuck;
    this.#stuck = undefined;
    go?.();
  }

  override _read(): void {}

  override _write(chunk: Buffer, _: string, done: () => void): void {
    const take = (): void => {
      this.received += chunk.toString('latin1');
      done();
    };
    if (this.#holding) this.#stuck = take;
    else take();
  }
}

export class TestClient {
  readonly wire = new Wire({ writableHighWaterMark: 4096 });
  readonly session: QmpSession;

  constructor(target: QmpTarget, options: QmpOptions = {}) {
    this.session = serveQmp(this.wire, target, { now: () => 1_700_000_000_123_456, ...options });
  }

  /** A client that has negotiated. */
  static async ready(target: QmpTarget, options: QmpOptions = {}): Promise<TestClient> {
    const client = new TestClient(target, options);
    await client.tell('{"execute": "qmp_capabilities"}');
    client.take();
    return client;
  }

  /** Sends `text` as it is. */
  async tell(text: string | Uint8Array): Promise<void> {
    this.wire.push(typeof text === 'string' ? Buffer.from(text) : text);
    await settled();
  }

  /** What has arrived since the last time. */
  take(): Message[] {
    const { received } = this.wire;
    this.wire.received = '';
    return received
      .split('\r\n')
      .filter(line => line !== '')
      .map(line => JSON.parse(line) as Message);
  }

  /** Sends `text` and returns what came of it. */
  async ask(text: string | Uint8Array): Promise<Message[]> {
    await this.tell(text);
    return this.take();
  }

  /** The reply to one command. @throws Error if it is an error. */
  async run(command: string, args?: object): Promise<unknown> {
    const [message, ...more] = (await this.ask(JSON.stringify({ execute: command, arguments: args }))).filter(
      each => each.event === undefined,
    );
    if (message?.error !== undefined) throw new Error(`${message.error.class}: ${message.error.desc}`);
    if (message === undefined || more.length > 0) throw new Error(`${more.length} replies too many or none`);
    return message.return;
  }

  /** The error of one command. */
  async fail(command: string, args?: object): Promise<string> {
    const [message] = await this.ask(JSON.stringify({ execute: command, arguments: args }));
    return message?.error === undefined ? 'no error' : `${message.error.class}: ${message.error.desc}`;
  }
}

export function settled(): Promise<void> {
  return new Promise(resolve => setImmediate(() => setImmediate(resolve)));
}
