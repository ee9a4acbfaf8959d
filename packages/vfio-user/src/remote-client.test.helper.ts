/**
 * A client in a thread of its own: a server that waits for an answer to a transfer goes back to nobody's event loop. Its memory is shared
 * with the test, and it may be told to misbehave.
 */
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { VfioUserClient } from './client.js';
import { ClientRam } from './client-memory.js';
import { Header } from './protocol.js';

const ROLE = 'remora-vfio-user-remote-client';

/** What the client does with each transfer that it is asked for. */
export interface Behaviour {
  /** Raw bytes that go out before the first reply. */
  readonly before?: Uint8Array;
  /** The reply, but for the id, which is the right one unless `foreign`. */
  readonly reply?: Uint8Array;
  readonly foreign?: boolean;
  /** So many bytes of the reply are sent. */
  readonly cut?: number;
  /** In pieces of so many bytes, each a moment after the other. */
  readonly pieces?: number;
  /** The client leaves afterwards. */
  readonly leave?: boolean;
  /** The first transfer waits until REGION_READ of this has been answered, as QEMU's do. */
  readonly reads?: readonly [region: number, offset: number, count: number];
  /** The client answers only so many transfers; default: all. */
  readonly answers?: number;
}

type Call = { readonly id: number; readonly method: string; readonly args: readonly unknown[] };
type Result = { readonly id: number; readonly value?: unknown; readonly failure?: string };

export class RemoteClient implements AsyncDisposable {
  readonly memory: Uint8Array;
  readonly #worker: Worker;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (failure: Error) => void }>();
  #nextId = 0;

  /** Memory of `bytes` bytes at `base`, all zero. */
  constructor(base: number, bytes: number) {
    const shared = new SharedArrayBuffer(bytes);
    this.memory = new Uint8Array(shared);
    this.#worker = new Worker(new URL(import.meta.url), { workerData: { role: ROLE, base, shared } });
    this.#worker.on('message', ({ id, value, failure }: Result) => {
      const { resolve, reject } = this.#waiting.get(id)!;
      this.#waiting.delete(id);
      if (failure === undefined) resolve(value);
      else reject(new Error(failure));
    });
  }

  /** Connects and agrees on a version; the client before is left. */
  connect(path: string, capabilities: object = { write_multiple: true }): Promise<void> {
    return this.#call('connect', path, capabilities) as Promise<void>;
  }

  /** The client of a second device of the same guest, which `reads` are of from then on. */
  connectSecond(path: string): Promise<void> {
    return this.#call('connectSecond', path) as Promise<void>;
  }

  behave(behaviour: Behaviour): Promise<void> {
    return this.#call('behave', behaviour) as Promise<void>;
  }

  /** Commands of the last transfers, with their bytes. */
  asked(): Promise<{ command: number; count: number }[]> {
    return this.#call('asked') as Promise<{ command: number; count: number }[]>;
  }

  /** What `reads` found. */
  found(): Promise<Uint8Array> {
    return this.#call('found') as Promise<Uint8Array>;
  }

  /** Resolves when the server has closed the connection. */
  closed(): Promise<void> {
    return this.#call('closed') as Promise<void>;
  }

  /** Leaves. */
  leave(): Promise<void> {
    return this.#call('leave') as Promise<void>;
  }

  /** Addresses that the server wrote to without asking for an answer. */
  interrupts(): Promise<bigint[]> {
    return this.#call('interrupts') as Promise<bigint[]>;
  }

  /** A method of VfioUserClient, over there. */
  do<K extends 'read' | 'readNumber' | 'write' | 'postWrite' | 'dmaMap' | 'dmaUnmap' | 'reset' | 'send'>(
    method: K,
    ...args: Parameters<VfioUserClient[K]>
  ): Promise<Awaited<ReturnType<VfioUserClient[K]>>> {
    return this.#call(method, ...args) as Promise<Awaited<ReturnType<VfioUserClient[K]>>>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }

  #call(method: string, ...args: unknown[]): Promise<unknown> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, method, args } satisfies Call);
    });
  }
}

const data = workerData as { role?: string; base: number; shared: SharedArrayBuffer } | null;
if (!isMainThread && data?.role === ROLE) runClient(new ClientRam(data.base, new Uint8Array(data.shared)));

function runClient(ram: ClientRam): void {
  let client: VfioUserClient | undefined;
  let second: VfioUserClient | undefined;
  let behaviour: Behaviour = {};
  let asked: { command: number; count: number }[] = [];
  let found = new Uint8Array(0);
  let answered: Promise<void> | undefined;
  const own: Record<string, (...args: never[]) => unknown> = {
    async connect(path: string, capabilities: object) {
      client?.[Symbol.dispose]();
      client = await VfioUserClient.connect(path, capabilities);
      const current = client;
      current.memory = message => {
        asked.push({ command: message.command, count: message.payload.length });
        // A connection that ends in the middle of it is what the test is about.
        answered = misbehave(current, ram.answer(message), message.id).catch(() => undefined);
        return undefined;
      };
    },
    async connectSecond(path: string) {
      second = await VfioUserClient.connect(path);
    },
    behave(next: Behaviour) {
      behaviour = next;
      asked = [];
    },
    asked: () => asked,
    found: () => found,
    closed: () => client!.closed,
    leave() {
      client!.stream.destroy();
    },
    interrupts: () => client!.writes.map(({ address }) => address),
  };
  async function misbehave(to: VfioUserClient, right: Uint8Array, id: number): Promise<void> {
    const { before, foreign = false, reads, leave = false, pieces, answers = Infinity } = behaviour;
    if (before !== undefined && asked.length === 1) to.send(before);
    if (reads !== undefined && asked.length === 1) found = new Uint8Array(await (second ?? to).read(...reads));
    if (asked.length > answers) return;
    const reply = Uint8Array.from(behaviour.reply ?? right);
    if (!foreign && reply.length >= Header.size) new DataView(reply.buffer).setUint16(0, id, true);
    const bytes = reply.subarray(0, behaviour.cut ?? reply.length);
    for (let at = 0; at < bytes.length; at += pieces ?? bytes.length) {
      to.send(bytes.subarray(at, at + (pieces ?? bytes.length)));
      if (pieces !== undefined) await new Promise(resolve => setImmediate(resolve));
    }
    if (leave) to.stream.end();
  }
  parentPort!.on('message', ({ id, method, args }: Call) => {
    void (async () => {
      try {
        await answered;
        const call = own[method] ?? (client as unknown as Record<string, (...args: never[]) => unknown>)[method]!;
        const value = await call.apply(client, args as never[]);
        parentPort!.postMessage({ id, value } satisfies Result);
      } catch (failure) {
        parentPort!.postMessage({ id, failure: String(failure) } satisfies Result);
      }
    })();
  });
}
