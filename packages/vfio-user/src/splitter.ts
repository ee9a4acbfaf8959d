/** Cuts a stream of bytes into messages, however the bytes arrive. Takes memory for what came, never for what a header announces. */
import { Errno } from '@remora/core';
import { viewOf } from '@remora/uapi';
import { Message } from './message.js';
import { Header, MAX_DATA_XFER_SIZE, RegionAccess } from './protocol.js';

/** The largest message that makes sense: a region write of all that may be transferred at once. */
export const MAX_MESSAGE_BYTES = Header.size + RegionAccess.size + MAX_DATA_XFER_SIZE;

/** The peer broke the protocol in a way after which nothing that follows can be understood. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
  /** Linux error number. */
  readonly errno: number;
  /** The message to answer. */
  readonly to: Pick<Message, 'id' | 'command'>;

  constructor(problem: string, errno: number, to: Pick<Message, 'id' | 'command'>) {
    super(problem);
    this.errno = errno;
    this.to = to;
  }
}

export class MessageSplitter {
  readonly #limit: number;
  readonly #chunks: Uint8Array[] = [];
  #length = 0;
  #position = 0;

  /** `limit`: the largest message that is taken, in bytes. */
  constructor(limit: number = MAX_MESSAGE_BYTES) {
    this.#limit = limit;
  }

  /** Bytes of messages that were not taken yet. */
  get length(): number {
    return this.#length;
  }

  /** Where the message after the last one that was taken begins, in bytes from the beginning of the stream. */
  get position(): number {
    return this.#position;
  }

  /** `chunk` came. It must not change any more. */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#chunks.push(plain(chunk));
    this.#length += chunk.length;
  }

  /** The next message; undefined until it is complete. @throws ProtocolError if its size is none that a message can have. */
  next(): Message | undefined {
    if (this.#length < Header.size) return undefined;
    const header = viewOf(this.#first(Header.size));
    const size = Header.fields.size.get(header);
    if (size < Header.size || size > this.#limit) {
      const message = { id: Header.fields.id.get(header), command: Header.fields.command.get(header) };
      const problem = `a message of ${size} bytes: expected ${Header.size} to ${this.#limit}`;
      throw new ProtocolError(problem, size < Header.size ? Errno.EINVAL : Errno.E2BIG, message);
    }
    if (this.#length < size) return undefined;
    const first = this.#first(size);
    const bytes = first.subarray(0, size);
    if (first.length === size) this.#chunks.shift();
    else this.#chunks[0] = first.subarray(size);
    this.#length -= size;
    this.#position += size;
    return new Message(bytes);
  }

  /** The first chunk, with at least `bytes` bytes. */
  #first(bytes: number): Uint8Array {
    if (this.#chunks[0]!.length < bytes)
      this.#chunks.splice(0, this.#chunks.length, plain(Buffer.concat(this.#chunks)));
    return this.#chunks[0]!;
  }
}

/** The same bytes, not as a Buffer, whose `slice` copies nothing. */
function plain({ buffer, byteOffset, length }: Uint8Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, length);
}
