/**
 * One client's socket, for somebody who must not go back to Node's event loop: the descriptor itself is read and written. Between two
 * such spells the stream reads; what it has not handed out yet comes first.
 */
import { readSync, writeSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { type MemTx as MemTxType, MemTx } from '@remora/core';
import { viewOf } from '@remora/uapi';
import { encodeCommand, type Message } from './message.js';
import { piece } from './piece.js';
import { DmaAccess, HeaderFlag, HeaderType, VfioUserCommand } from './protocol.js';
import type { GuestFile } from './shared-file.js';
import { MessageSplitter, ProtocolError } from './splitter.js';

const CHUNK_BYTES = 0x1_0000;
/** A client that sends more than this while the device waits for its answer is given up, in bytes. */
const MAX_QUEUED = 16 * 2 ** 20;
/** So many transfers may have been given up without an answer. */
const MAX_ABANDONED = 1024;
/** Ids of messages that nobody answers; others are those of transfers. */
export const UNANSWERED_ID = 0x8000;

const NOTHING = new Uint8Array(0);
const chunk = new Uint8Array(CHUNK_BYTES);

/** The connection, which knows what requests mean. */
export interface ChannelOwner {
  /** Bytes of data that the client takes in one message; 0 before the version is agreed. */
  readonly takes: number;
  /** Whether the request can be carried out while a transfer of a device waits. `executing`: this device is at work on a register access. */
  interposes(message: Message, executing: boolean): boolean;
  /** Carries it out. */
  execute(message: Message): void;
  /** Whether all of these bytes are mapped for that. */
  covers(address: number, length: number, write: boolean): boolean;
  /** There are messages to carry out, later. */
  work(): void;
  /** The connection is over. */
  giveUp(why: string | ProtocolError): void;
}

/** Who orders transfers of all the clients of a guest. */
export interface ChannelMemory {
  transfer(address: number, bytes: Uint8Array, write: boolean): MemTxType;
  /** Runs a request of the client's; `answered`: it waits for that, so there is no DMA. */
  during<T>(answered: boolean, work: () => T): T;
  ended(): void;
}

interface Asked {
  readonly id: number;
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly write: boolean;
}

/** Positions are guest physical addresses; it is closed with its connection. */
export class DmaChannel implements GuestFile {
  readonly name: string;
  readonly splitter = new MessageSplitter();
  /** A request of this client is being carried out. */
  executing = false;
  /** There is nobody at the other end any more. */
  over = false;
  readonly #stream: Duplex;
  readonly #fd: number;
  readonly #memory: ChannelMemory;
  /** What came and is no reply. */
  readonly #queue: Message[] = [];
  /** What goes out before anything else. */
  readonly #out: Uint8Array[] = [];
  readonly #abandoned = new Set<number>();
  #queued = 0;
  #nextId = 0;
  #asked: Asked | undefined;
  #reply: Message | undefined;
  #owner!: ChannelOwner;

  /** `memory` is told when nobody uses the channel any more. */
  constructor(stream: Duplex, fd: number, name: string, memory: ChannelMemory) {
    this.#stream = stream;
    this.#fd = fd;
    this.name = name;
    this.#memory = memory;
  }

  /** Once, before anything else. */
  set owner(owner: ChannelOwner) {
    this.#owner = owner;
  }

  get takes(): number {
    return this.over ? 0 : this.#owner.takes;
  }

  /** The kernel has taken all that was sent. */
  get clear(): boolean {
    return this.#stream.writableLength === 0;
  }

  covers(address: number, length: number, write: boolean): boolean {
    return !this.over && this.#owner.covers(address, length, write);
  }

  read(position: number, out: Uint8Array): MemTxType {
    return this.#memory.transfer(position, out, false);
  }

  write(position: number, from: Uint8Array): MemTxType {
    return this.#memory.transfer(position, from, true);
  }

  /** Runs a request of the client's; `answered`: it waits for that, so there is no DMA. */
  during<T>(answered: boolean, work: () => T): T {
    return this.#memory.during(answered, work);
  }

  /** The next message that is no reply to a transfer. @throws ProtocolError for what cannot be understood. */
  next(): Message | undefined {
    const queued = this.#queue.shift();
    if (queued !== undefined) {
      this.#queued -= queued.payload.length;
      return queued;
    }
    for (;;) {
      const message = this.splitter.next();
      if (message?.type !== HeaderType.REPLY) return message;
      this.#replied(message);
    }
  }

  /** Sends a whole message, after what is under way. True if the stream takes more. */
  send(bytes: Uint8Array): boolean {
    if (this.#out.length === 0) return this.#stream.write(bytes);
    this.#out.push(bytes);
    return true;
  }

  /** Sends a transfer's message; answer() has the result. */
  ask(address: number, bytes: Uint8Array, write: boolean): void {
    do this.#nextId = (this.#nextId + 1) & (UNANSWERED_ID - 1);
    while (this.#abandoned.has(this.#nextId));
    this.#asked = { id: this.#nextId, address, bytes, write };
    const access = piece(DmaAccess.size);
    DmaAccess.fields.address.set(viewOf(access), Math.floor(address / 2 ** 32), address >>> 0);
    DmaAccess.fields.count.set(viewOf(access), 0, bytes.length);
    this.#out.push(encodeCommand(this.#nextId, commandOf(write), 0, access, write ? bytes : NOTHING));
  }

  /** Moves what can be moved, without waiting. Returns whether something came. */
  look(): boolean {
    if (this.over) return false;
    this.#drain();
    this.#flush();
    const came = this.#receive();
    if (came) this.sort();
    return came;
  }

  /** Cuts what came into messages. */
  sort(): void {
    if (this.over) return;
    this.#drain();
    try {
      for (let message = this.splitter.next(); message !== undefined; message = this.splitter.next()) {
        if (message.type === HeaderType.REPLY) this.#replied(message);
        else {
          this.#queue.push(message);
          this.#queued += message.payload.length;
        }
        if (this.#queued > MAX_QUEUED) this.giveUp('it sends on and on and does not answer a transfer of the device');
      }
    } catch (failure) {
      if (!(failure instanceof ProtocolError)) throw failure;
      this.giveUp(failure);
    }
  }

  /** The result of what was asked; undefined until it is there. DECODE_ERROR: the client refused it. */
  answer(): MemTxType | undefined {
    const reply = this.#reply;
    const asked = this.#asked;
    if (reply === undefined || asked === undefined) return undefined;
    this.#reply = this.#asked = undefined;
    const { address, bytes, write } = asked;
    const { payload } = reply;
    const failed = (reply.flags & HeaderFlag.ERROR) !== 0;
    if (failed && payload.length === 0 && reply.command === commandOf(write)) return MemTx.DECODE_ERROR;
    const size = DmaAccess.size + (write ? 0 : bytes.length);
    const right =
      !failed &&
      reply.command === commandOf(write) &&
      payload.length === size &&
      DmaAccess.fields.address.number(viewOf(payload)) === address &&
      DmaAccess.fields.count.number(viewOf(payload)) === bytes.length;
    if (!right) {
      this.giveUp('it answers a transfer of the device with what is no answer to it');
      return MemTx.ERROR;
    }
    if (!write) bytes.set(payload.subarray(DmaAccess.size));
    return MemTx.OK;
  }

  /** Nobody waits for the answer any more, which will come. */
  abandon(): void {
    this.#abandoned.add(this.#asked!.id);
    this.#asked = undefined;
    if (this.#abandoned.size > MAX_ABANDONED) this.giveUp('it does not answer the transfers of the device');
  }

  /** Answers requests whose sender waits. False: the first of them cannot be carried out now, or writes are before it. */
  answerOthers(): boolean {
    for (;;) {
      const index = this.#queue.findIndex(each => each.wantsReply);
      if (index < 0 || this.over) return true;
      const message = this.#queue[index]!;
      if (index > 0 || !this.#owner.interposes(message, this.executing)) return false;
      this.#queue.shift();
      this.#queued -= message.payload.length;
      this.#owner.execute(message);
    }
  }

  /** The stream takes over again. */
  settle(): void {
    this.#asked = this.#reply = undefined;
    for (const bytes of this.#out.splice(0)) this.#stream.write(bytes);
    if (this.#queue.length > 0) process.nextTick(() => this.#owner.work());
  }

  giveUp(why: string | ProtocolError): void {
    if (this.over) return;
    this.over = true;
    this.#owner.giveUp(why);
  }

  [Symbol.dispose](): void {
    this.over = true;
    this.#out.length = 0;
    this.#queue.length = 0;
    this.#memory.ended();
  }

  #replied(reply: Message): void {
    if (reply.id === this.#asked?.id && this.#reply === undefined) this.#reply = reply;
    else if (this.#abandoned.delete(reply.id)) return;
    // Whoever refuses an interrupt may say so, though nobody asked.
    else if (reply.id < UNANSWERED_ID) this.giveUp('it answers what it was not asked');
  }

  /** What the stream has read and keeps: it comes to the splitter by the stream's own event. */
  #drain(): void {
    while (this.#stream.readableLength > 0 && this.#stream.read() !== null);
  }

  #flush(): void {
    while (this.#out.length > 0) {
      const bytes = this.#out[0]!;
      const sent = this.#moved(() => writeSync(this.#fd, bytes, 0, bytes.length));
      if (sent === undefined) return;
      if (sent === bytes.length) this.#out.shift();
      else this.#out[0] = bytes.subarray(sent);
    }
  }

  #receive(): boolean {
    const got = this.over ? undefined : this.#moved(() => readSync(this.#fd, chunk, 0, CHUNK_BYTES, null));
    if (got === undefined) return false;
    if (got === 0) this.#gone();
    this.splitter.push(chunk.slice(0, got));
    return got > 0;
  }

  /** What the system call moved; undefined: nothing now, or never again. */
  #moved(call: () => number): number | undefined {
    try {
      return call();
    } catch (failure) {
      const { code } = failure as NodeJS.ErrnoException;
      if (code !== 'EAGAIN' && code !== 'EINTR') this.#gone();
      return undefined;
    }
  }

  /** The stream will find out for itself, after what came before. */
  #gone(): void {
    this.over = true;
    this.#out.length = 0;
  }
}

function commandOf(write: boolean): number {
  return write ? VfioUserCommand.DMA_WRITE : VfioUserCommand.DMA_READ;
}
