/** One message on the wire: made, and taken apart. */
import { viewOf } from '@remora/uapi';
import { piece } from './piece.js';
import { Header, HEADER_TYPE_MASK, HeaderFlag, HeaderType } from './protocol.js';

const { fields } = Header;
const NOTHING = new Uint8Array(0);

/** A whole message, as it came. */
export class Message {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  /** Linux error number; of replies only. */
  readonly error: number;
  /** What follows the header: a part of what was received, not a copy. */
  readonly payload: Uint8Array;

  /** `bytes` are as many as the header says. */
  constructor(bytes: Uint8Array) {
    const view = viewOf(bytes);
    this.id = fields.id.get(view);
    this.command = fields.command.get(view);
    this.flags = fields.flags.get(view);
    this.error = fields.error.get(view);
    this.payload = bytes.subarray(Header.size);
  }

  /** One of HeaderType, or a number that the protocol reserves. */
  get type(): number {
    return this.flags & HEADER_TYPE_MASK;
  }

  get wantsReply(): boolean {
    return (this.flags & HeaderFlag.NO_REPLY) === 0;
  }
}

/** A command with the payload that `parts` make up, one after the other. */
export function encodeCommand(id: number, command: number, flags: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const size = parts.reduce((sum, part) => sum + part.length, Header.size);
  const bytes = piece(size);
  writeHeader(bytes, id, command, HeaderType.COMMAND | flags);
  let at: number = Header.size;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** The reply to `to`. */
export function encodeReply(to: Pick<Message, 'id' | 'command'>, payload: Uint8Array = NOTHING): Uint8Array {
  const bytes = piece(Header.size + payload.length);
  writeHeader(bytes, to.id, to.command, HeaderType.REPLY);
  bytes.set(payload, Header.size);
  return bytes;
}

/** The reply that `to` failed with this Linux error number: a header and nothing else. */
export function encodeError(to: Pick<Message, 'id' | 'command'>, error: number): Uint8Array {
  const { id, command } = to;
  const flags = HeaderType.REPLY | HeaderFlag.ERROR;
  return Header.encode({ id, command, size: Header.size, flags, error });
}

/** Fills in the header of the message that `bytes` are. */
function writeHeader(bytes: Uint8Array, id: number, command: number, flags: number): void {
  const view = viewOf(bytes);
  fields.id.set(view, id);
  fields.command.set(view, command);
  fields.size.set(view, bytes.length);
  fields.flags.set(view, flags);
}
