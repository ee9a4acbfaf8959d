/** One client over a stream: messages out of bytes, the version first, replies in the order of commands, and no more than it reads. */
import type { Duplex } from 'node:stream';
import { Errno } from '@remora/core';
import { viewOf } from '@remora/uapi';
import { VfioPciIrq } from '@remora/uapi';
import { type Agreed, negotiate } from './capabilities.js';
import { EventLines } from './descriptors/event-lines.js';
import { MAX_MSG_FDS } from './descriptors/libc.js';
import { type DescriptorStream, NOTHING_PASSED, type Passed, passesDescriptors } from './descriptors/passed.js';
import { type ChannelOwner, type DmaChannel, UNANSWERED_ID } from './dma-channel.js';
import type { ClientMemory } from './guest-memory.js';
import { canInterpose } from './interposed.js';
import { encodeCommand, encodeError, encodeReply, type Message } from './message.js';
import { piece } from './piece.js';
import { DmaAccess, HeaderFlag, HeaderType, VfioUserCommand } from './protocol.js';
import type { ServedDevice } from './served-device.js';
import { type Answer, Session } from './session.js';
import { MessageSplitter, ProtocolError } from './splitter.js';

/** A client that takes nothing of what it is sent is given up when this much waits, in bytes. */
const MAX_WAITING = 16 * 2 ** 20;

export interface ConnectionOptions {
  readonly device: ServedDevice;
  /** What this client has mapped; the connection disposes of it when it ends. */
  readonly memory: ClientMemory;
  /** Memory is reached by messages to this client. */
  readonly channel?: DmaChannel | undefined;
  /** Takes what the person who serves the device should know: one line. */
  readonly report: (text: string) => void;
  /** Called before and after each command: real time passes for the device in between. */
  readonly before?: (() => void) | undefined;
  readonly after?: (() => void) | undefined;
  /** Called once, when the client is gone. */
  readonly ended: () => void;
}

export class Connection implements Disposable {
  readonly #stream: Duplex;
  readonly #options: ConnectionOptions;
  readonly #channel: DmaChannel | undefined;
  readonly #splitter: MessageSplitter;
  /** The stream, if it brings descriptors. */
  readonly #passing: DescriptorStream | undefined;
  readonly #lines: EventLines | undefined;
  #agreed: Agreed | undefined;
  #session: Session | undefined;
  #nextId = 0;
  /** The client does not read: nothing more is executed until it does. */
  #blocked = false;
  /** Messages are being carried out, further out. */
  #working = false;
  /** No further message is taken. */
  #over = false;
  #ended = false;

  constructor(stream: Duplex, options: ConnectionOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#channel = options.channel;
    this.#splitter = options.channel?.splitter ?? new MessageSplitter();
    if (options.channel !== undefined) options.channel.owner = this.#ownerOf(options);
    if (passesDescriptors(stream)) {
      this.#passing = stream;
      this.#lines = new EventLines(options.device, stream.system);
    }
    stream.on('data', (chunk: Uint8Array) => this.#received(chunk));
    stream.on('drain', () => this.#unblocked());
    stream.on('error', failure => this.#lost(failure.message));
    stream.on('end', () => this.#end());
    stream.on('close', () => this.#end());
  }

  /** Whether the client has agreed on a version. */
  get agreed(): boolean {
    return this.#agreed !== undefined;
  }

  /**
   * An interrupt message of the device: its vector's event descriptor is signalled, or else the DWORD `data` is written at `(hi, lo)` of the
   * client's bus. False if there is no client that takes it.
   */
  message(hi: number, lo: number, data: number): boolean {
    const own = this.#lines && this.#options.device.vectorOf?.(hi, lo, data);
    if (own !== undefined && this.#lines!.signal(own.index, own.vector)) return true;
    // An MSI-X message goes to an address that only this server knows.
    if (own?.index === VfioPciIrq.MSIX) return false;
    if (this.#over || this.#agreed === undefined || this.#agreed.clientTakes < 4) return false;
    const access = piece(DmaAccess.size + 4);
    const view = viewOf(access);
    DmaAccess.fields.address.set(view, hi, lo);
    DmaAccess.fields.count.set(view, 0, 4);
    view.setUint32(DmaAccess.size, data, true);
    const id = this.#nextId;
    this.#nextId = (id + 1) & (UNANSWERED_ID - 1);
    this.#send(encodeCommand(UNANSWERED_ID | id, VfioUserCommand.DMA_WRITE, HeaderFlag.NO_REPLY, access));
    return true;
  }

  /** The device has asserted its interrupt pin, or let go of it. */
  pinChanged(): void {
    this.#lines?.pinChanged();
  }

  /** Ends the connection. */
  [Symbol.dispose](): void {
    this.#end();
  }

  #received(chunk: Uint8Array): void {
    if (this.#over) return;
    this.#splitter.push(chunk);
    this.#work();
  }

  #unblocked(): void {
    if (this.#over || !this.#blocked) return;
    this.#blocked = false;
    this.#stream.resume();
    this.#work();
  }

  #work(): void {
    if (this.#working) return;
    this.#working = true;
    try {
      while (!this.#blocked && !this.#over) {
        const message = (this.#channel ?? this.#splitter).next();
        if (message === undefined || this.#over) return;
        this.#handle(message);
        // The client has its answer: what is due now may do DMA, which cannot be while it waits.
        if (this.#channel !== undefined && message.wantsReply) this.#timePasses();
      }
    } catch (failure) {
      if (!(failure instanceof ProtocolError)) throw failure;
      this.#refuse(failure);
    } finally {
      this.#working = false;
    }
  }

  /** What a channel has to know. */
  #ownerOf({ device, memory, report }: ConnectionOptions): ChannelOwner {
    const takes = (): number => (this.#over ? 0 : (this.#agreed?.clientTakes ?? 0));
    return {
      get takes() {
        return takes();
      },
      covers: (address, length, write) => memory.covers(address, length, write),
      interposes: (message, executing) => this.#session === undefined || canInterpose(device, message, executing),
      execute: message => {
        try {
          this.#handle(message);
        } catch (failure) {
          if (!(failure instanceof ProtocolError)) throw failure;
          this.#refuse(failure);
        }
      },
      work: () => this.#work(),
      giveUp: why => {
        if (typeof why !== 'string') return this.#refuse(why);
        report(`${device.name}: the client is given up: ${why}`);
        this.#end();
      },
    };
  }

  #timePasses(): void {
    const { before, after, device, report } = this.#options;
    try {
      before?.();
    } catch (failure) {
      report(`${device.name}: a timer failed: ${(failure as Error).stack ?? String(failure)}`);
    } finally {
      after?.();
    }
  }

  #handle(message: Message): void {
    const passed = this.#passing?.takePassed(this.#splitter.position) ?? NOTHING_PASSED;
    try {
      this.#execute(message, passed);
    } finally {
      for (const each of passed.descriptors) each[Symbol.dispose]();
    }
  }

  #execute(message: Message, passed: Passed): void {
    // A server that asks for no replies has nothing to do with one.
    if (message.type === HeaderType.REPLY) return;
    const answer = message.type === HeaderType.COMMAND ? this.#answer(message, passed) : Errno.EINVAL;
    if (this.#over || !message.wantsReply) return;
    this.#send(typeof answer === 'number' ? encodeError(message, answer) : encodeReply(message, answer));
  }

  #answer(message: Message, passed: Passed): Answer {
    const { command, payload } = message;
    if (this.#session === undefined) return this.#negotiate(message, passed);
    const { before, after, device, report } = this.#options;
    const channel = this.#channel;
    const session = this.#session;
    const timed = channel === undefined || !message.wantsReply;
    try {
      if (timed) before?.();
      if (channel === undefined) return session.execute(command, payload, passed);
      return channel.during(message.wantsReply, () => session.execute(command, payload, passed));
    } catch (failure) {
      report(`${device.name}: command ${command} failed: ${(failure as Error).stack ?? String(failure)}`);
      return Errno.EIO;
    } finally {
      if (timed) after?.();
    }
  }

  /** @throws ProtocolError for whatever is no proposal that can be answered: the connection is then over. */
  #negotiate(message: Message, passed: Passed): Uint8Array {
    if (message.command !== VfioUserCommand.VERSION)
      throw new ProtocolError(`command ${message.command} before the version was agreed`, Errno.EINVAL, message);
    const unasked = passed.descriptors.length > 0 || passed.truncated;
    const fds = this.#passing === undefined ? 0 : MAX_MSG_FDS;
    const negotiated = unasked ? Errno.EINVAL : negotiate(message.payload, fds);
    if (typeof negotiated === 'number')
      throw new ProtocolError('a version that this server does not speak', negotiated, message);
    this.#agreed = negotiated.agreed;
    const { device, memory } = this.#options;
    this.#session = new Session({ device, memory, lines: this.#lines, agreed: negotiated.agreed });
    return negotiated.reply;
  }

  #send(bytes: Uint8Array): void {
    if (this.#channel === undefined ? this.#stream.write(bytes) : this.#channel.send(bytes)) return;
    this.#blocked = true;
    this.#stream.pause();
    if (this.#stream.writableLength > MAX_WAITING) this.#lost('it reads nothing');
  }

  /** The client is told, as far as that is possible, and left: what it mapped is gone at once. */
  #refuse(failure: ProtocolError): void {
    const { device, memory, report } = this.#options;
    report(`${device.name}: the client is refused: ${failure.message}`);
    this.#over = true;
    memory.unmapAll();
    this.#lines?.[Symbol.dispose]();
    if (this.#blocked) this.#end();
    else this.#stream.end(encodeError(failure.to, failure.errno), () => this.#end());
  }

  #lost(why: string): void {
    if (!this.#ended) this.#options.report(`${this.#options.device.name}: the client is lost: ${why}`);
    this.#end();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#over = true;
    this.#stream.destroy();
    this.#lines?.[Symbol.dispose]();
    this.#channel?.[Symbol.dispose]();
    this.#options.memory[Symbol.dispose]();
    this.#options.ended();
  }
}
