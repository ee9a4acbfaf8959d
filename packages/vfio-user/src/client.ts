/**
 * A client of a vfio-user server, for tests and measurements of served devices: each command as a method, and `send` for messages that
 * no proper client would send.
 */
import { createConnection } from 'node:net';
import type { Duplex } from 'node:stream';
import { VfioIrqInfo, VfioIrqSet, VfioIrqSetFlag, VfioRegionInfo, viewOf } from '@remora/uapi';
import { DescriptorSocket } from './descriptors/descriptor-socket.js';
import { encodeCommand, type Message } from './message.js';
import {
  DeviceInfo,
  DmaAccess,
  DmaMap,
  DmaMapFlag,
  DmaUnmap,
  HeaderFlag,
  HeaderType,
  RegionAccess,
  Version,
  VfioUserCommand,
  WriteMulti,
  WriteMultiOne,
} from './protocol.js';
import { MessageSplitter } from './splitter.js';

/** A reply; `error` is a Linux error number, 0 without HeaderFlag.ERROR. */
export interface ClientReply {
  readonly error: number;
  readonly payload: Uint8Array;
}

/** What a server wrote to the client's memory: an interrupt. */
export interface ClientWrite {
  readonly address: bigint;
  readonly data: Uint8Array;
}

/** A command was answered with an error. */
export class RemoteError extends Error {
  override readonly name = 'RemoteError';
  /** Linux error number. */
  readonly errno: number;

  constructor(command: number, errno: number) {
    super(`command ${command} failed with errno ${errno}`);
    this.errno = errno;
  }
}

export { ClientRam } from './client-memory.js';

export interface DmaWindow {
  readonly address: bigint | number;
  readonly size: bigint | number;
  readonly offset?: bigint | number;
  readonly flags?: number;
  /** Of the file that it is in. */
  readonly fd?: number;
}

export class VfioUserClient implements Disposable {
  readonly stream: Duplex;
  /** What the server wrote by DMA_WRITE, oldest first. */
  readonly writes: ClientWrite[] = [];
  /** What is sent when the server asks for a transfer, and waits for the answer; ClientRam has the right ones. */
  memory: ((message: Message) => Uint8Array | undefined) | undefined;
  /** Resolves when the server has closed the connection. */
  readonly closed: Promise<void>;
  readonly #splitter = new MessageSplitter();
  readonly #waiting = new Map<number, (reply: ClientReply | undefined) => void>();
  readonly #watchers = new Set<() => void>();
  #nextId = 1;
  #over = false;

  constructor(stream: Duplex) {
    this.stream = stream;
    stream.on('data', (chunk: Uint8Array) => this.#received(chunk));
    stream.on('error', () => undefined);
    this.closed = new Promise(resolve => {
      stream.once('close', () => {
        this.#over = true;
        for (const settle of this.#waiting.values()) settle(undefined);
        this.#waiting.clear();
        resolve();
      });
    });
  }

  /** Connects to a server, and agrees on a version. @throws Error if nobody listens there. */
  static async connect(path: string, capabilities?: object): Promise<VfioUserClient> {
    const socket = createConnection(path);
    await new Promise<void>((resolve, reject) => void socket.once('connect', resolve).once('error', reject));
    return VfioUserClient.over(socket, capabilities);
  }

  /** Agrees on a version with the server at the other end of `stream`. */
  static async over(stream: Duplex, capabilities?: object): Promise<VfioUserClient> {
    const client = new VfioUserClient(stream);
    await client.version(capabilities);
    return client;
  }

  /** Raw bytes. @throws TypeError for descriptors that the stream cannot pass. */
  send(bytes: Uint8Array, descriptors: readonly number[] = []): void {
    if (descriptors.length === 0) this.stream.write(bytes);
    else if (this.stream instanceof DescriptorSocket) this.stream.writeWith(bytes, descriptors);
    else throw new TypeError('this stream passes no descriptors');
  }

  /** One command; resolves to its reply, or to undefined if the connection ends first. `descriptors` stay open here. */
  request(
    command: number,
    payload: Uint8Array = new Uint8Array(0),
    flags = 0,
    descriptors: readonly number[] = [],
  ): Promise<ClientReply | undefined> {
    if (this.#over) return Promise.resolve(undefined);
    const id = this.#nextId;
    this.#nextId = (id % 0xffff) + 1;
    return new Promise(resolve => {
      this.#waiting.set(id, resolve);
      this.send(encodeCommand(id, command, flags, payload), descriptors);
    });
  }

  /** A command that is not to be answered. */
  post(command: number, payload: Uint8Array): void {
    this.send(encodeCommand(0, command, HeaderFlag.NO_REPLY, payload));
  }

  /** The payload of the reply. @throws RemoteError for an error; Error if the connection ended. */
  async ask(command: number, payload?: Uint8Array, descriptors?: readonly number[]): Promise<Uint8Array> {
    const reply = await this.request(command, payload, 0, descriptors);
    if (reply === undefined) throw new Error(`the connection ended at command ${command}`);
    if (reply.error !== 0) throw new RemoteError(command, reply.error);
    return reply.payload;
  }

  /** Proposes version 0.0. Returns the agreed capabilities. */
  async version(capabilities: object = { write_multiple: true }): Promise<Record<string, unknown>> {
    const text = new TextEncoder().encode(`${JSON.stringify({ capabilities })}\0`);
    const payload = await this.ask(VfioUserCommand.VERSION, concat(Version.encode({}), text));
    const json = new TextDecoder().decode(payload.subarray(Version.size, -1));
    return (JSON.parse(json) as { capabilities: Record<string, unknown> }).capabilities;
  }

  async dmaMap({ address, size, offset = address, flags, fd }: DmaWindow): Promise<void> {
    const both = DmaMapFlag.READABLE | DmaMapFlag.WRITEABLE;
    const map = DmaMap.encode({ argsz: DmaMap.size, flags: flags ?? both, offset, address, size });
    await this.ask(VfioUserCommand.DMA_MAP, map, fd === undefined ? [] : [fd]);
  }

  async dmaUnmap(address: bigint | number, size: bigint | number, flags = 0): Promise<void> {
    await this.ask(VfioUserCommand.DMA_UNMAP, DmaUnmap.encode({ argsz: DmaUnmap.size, flags, address, size }));
  }

  async deviceInfo(): Promise<{ flags: number; num_regions: number; num_irqs: number }> {
    const request = DeviceInfo.encode({ argsz: DeviceInfo.size });
    return DeviceInfo.decode(viewOf(await this.ask(VfioUserCommand.DEVICE_GET_INFO, request)));
  }

  async regionInfo(index: number): Promise<{ flags: number; size: number }> {
    const request = VfioRegionInfo.encode({ argsz: VfioRegionInfo.size, index });
    const { flags, size } = VfioRegionInfo.decode(
      viewOf(await this.ask(VfioUserCommand.DEVICE_GET_REGION_INFO, request)),
    );
    return { flags, size: Number(size) };
  }

  async irqInfo(index: number): Promise<{ flags: number; count: number }> {
    const request = VfioIrqInfo.encode({ argsz: VfioIrqInfo.size, index });
    const { flags, count } = VfioIrqInfo.decode(viewOf(await this.ask(VfioUserCommand.DEVICE_GET_IRQ_INFO, request)));
    return { flags, count };
  }

  async setIrqs(flags: number, index: number, start: number, count: number, data = new Uint8Array(0)): Promise<void> {
    const argsz = VfioIrqSet.size + data.length;
    const request = concat(VfioIrqSet.encode({ argsz, flags, index, start, count }), data);
    await this.ask(VfioUserCommand.DEVICE_SET_IRQS, request);
  }

  /** Event descriptors for vectors from `start` on; with none of them, `count` vectors lose theirs. */
  async setEvents(
    action: number,
    index: number,
    start: number,
    events: readonly number[],
    count: number = events.length,
  ): Promise<void> {
    const flags = VfioIrqSetFlag.DATA_EVENTFD | action;
    const request = VfioIrqSet.encode({ argsz: VfioIrqSet.size, flags, index, start, count });
    await this.ask(VfioUserCommand.DEVICE_SET_IRQS, request, events);
  }

  async read(region: number, offset: number, count: number): Promise<Uint8Array> {
    const reply = await this.ask(VfioUserCommand.REGION_READ, RegionAccess.encode({ offset, region, count }));
    return reply.subarray(RegionAccess.size);
  }

  /** Little-endian, of 1, 2 or 4 bytes. */
  async readNumber(region: number, offset: number, size: 1 | 2 | 4): Promise<number> {
    const bytes = await this.read(region, offset, size);
    return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
  }

  async write(region: number, offset: number, data: Uint8Array): Promise<void> {
    await this.ask(VfioUserCommand.REGION_WRITE, regionWrite(region, offset, data));
  }

  /** As QEMU writes a BAR: not answered. */
  postWrite(region: number, offset: number, data: Uint8Array): void {
    this.post(VfioUserCommand.REGION_WRITE, regionWrite(region, offset, data));
  }

  /** Several writes of up to 8 bytes in one message. Returns how many were carried out. */
  async writeMulti(writes: readonly { region: number; offset: number; data: Uint8Array }[]): Promise<number> {
    const records = writes.map(({ region, offset, data }) => {
      const record = WriteMultiOne.encode({ offset, region, count: data.length });
      record.set(data, WriteMultiOne.fields.data.offset);
      return record;
    });
    const reply = await this.ask(
      VfioUserCommand.REGION_WRITE_MULTI,
      concat(WriteMulti.encode({ wr_cnt: writes.length }), ...records),
    );
    return WriteMulti.fields.wr_cnt.number(viewOf(reply));
  }

  async reset(): Promise<void> {
    await this.ask(VfioUserCommand.DEVICE_RESET);
  }

  /** Resolves when the server has written `count` times in all. */
  async written(count: number): Promise<void> {
    while (this.writes.length < count) {
      if (this.#over) throw new Error(`the connection ended after ${this.writes.length} writes`);
      await new Promise<void>(resolve => {
        this.#watchers.add(resolve);
        void this.closed.then(resolve);
      });
    }
  }

  [Symbol.dispose](): void {
    this.stream.destroy();
  }

  #received(chunk: Uint8Array): void {
    this.#splitter.push(chunk);
    for (let message = this.#splitter.next(); message !== undefined; message = this.#splitter.next()) {
      if (message.type === HeaderType.REPLY) this.#settle(message);
      else if (message.wantsReply && this.memory !== undefined) this.#answer(this.memory, message);
      else if (message.command === VfioUserCommand.DMA_WRITE) this.#write(message);
    }
  }

  #answer(memory: NonNullable<VfioUserClient['memory']>, message: Message): void {
    const reply = memory(message);
    if (reply !== undefined) this.send(reply);
  }

  #settle({ id, flags, error, payload }: Message): void {
    this.#waiting.get(id)?.({ error: (flags & HeaderFlag.ERROR) === 0 ? 0 : error, payload });
    this.#waiting.delete(id);
  }

  #write({ payload }: Message): void {
    const address = DmaAccess.fields.address.big(viewOf(payload));
    this.writes.push({ address, data: payload.slice(DmaAccess.size) });
    for (const wake of this.#watchers) wake();
    this.#watchers.clear();
  }
}

function regionWrite(region: number, offset: number, data: Uint8Array): Uint8Array {
  return concat(RegionAccess.encode({ offset, region, count: data.length }), data);
}

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
