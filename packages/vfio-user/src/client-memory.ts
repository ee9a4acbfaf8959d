/** A client's memory, for a server that reaches it by messages: what a client answers to each of them. */
import { Errno } from '@remora/core';
import { viewOf } from '@remora/uapi';
import { encodeError, encodeReply, type Message } from './message.js';
import { DmaAccess, VfioUserCommand } from './protocol.js';

export class ClientRam {
  readonly base: number;
  readonly bytes: Uint8Array;

  /** `bytes` are what is at address `base` on. */
  constructor(base: number, bytes: Uint8Array) {
    this.base = base;
    this.bytes = bytes;
  }

  /** Carries out a DMA_READ or DMA_WRITE. Returns the reply: ENODEV if there is no such memory, as QEMU has it. */
  answer(message: Message): Uint8Array {
    const { command, payload } = message;
    if (payload.length < DmaAccess.size) return encodeError(message, Errno.EINVAL);
    const view = viewOf(payload);
    const at = DmaAccess.fields.address.number(view) - this.base;
    const count = DmaAccess.fields.count.number(view);
    if (at < 0 || at + count > this.bytes.length) return encodeError(message, Errno.ENODEV);
    const access = payload.subarray(0, DmaAccess.size);
    if (command === VfioUserCommand.DMA_WRITE) {
      this.bytes.set(payload.subarray(DmaAccess.size, DmaAccess.size + count), at);
      return encodeReply(message, access);
    }
    return encodeReply(message, new Uint8Array(Buffer.concat([access, this.bytes.subarray(at, at + count)])));
  }
}
