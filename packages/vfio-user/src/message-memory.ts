/**
 * A guest's memory by messages: each transfer of a device is a DMA_READ or DMA_WRITE that a client answers, and the device waits for that.
 *
 * A client whose processor waits for an answer of ours answers nothing itself (QEMU holds its big lock). So whatever waits for an answer,
 * at any device of the guest, comes first: it is answered in between if that touches no device in the middle of something; else the transfer is
 * refused, as the bus refuses what nobody answers.
 */
import { type MemTx as MemTxType, MemTx } from '@remora/core';
import type { Duplex } from 'node:stream';
import { DmaChannel } from './dma-channel.js';

/** A look finds nothing, mostly after a nap of a millisecond: this is a minute or more. */
const LOOKS = 60_000;
/** Looks without a nap, and with a short one: an answer mostly takes 30 to 100 us. */
const BRISK = 8;
const SHORT = 400;
const SHORT_MS = 0.05;
const LONG_MS = 1;

/** Bytes of one transfer's message. QEMU 11.1 agrees on more, but of a reply that no socket takes at once the end is never sent. */
const MOST = 0x1_0000;

const HOW = 'QEMU with memory-backend-file, share=on and --memory FILE, or with --fds, has none of this';

export class MessageMemory {
  readonly #looks: number;
  readonly #report: (text: string) => void;
  readonly #channels = new Set<DmaChannel>();
  readonly #told = new Set<string>();
  readonly #cell = new Int32Array(new SharedArrayBuffer(4));
  /** Requests that are being carried out and have a sender who waits, innermost last. */
  readonly #answering: DmaChannel[] = [];
  /** Whose answer was the last one that helped. */
  #last: DmaChannel | undefined;

  /** `looks`: after so many without the whole answer a client is given up. */
  constructor(report: (text: string) => void, looks: number = LOOKS) {
    this.#report = report;
    this.#looks = looks;
  }

  /** How the client at the other end of `stream` is reached; undefined if nobody can wait there, as it is no socket of Node's. */
  channel(stream: Duplex, name: string): DmaChannel | undefined {
    // Node gives no other way to read a socket without going back to its event loop.
    const fd = (stream as { _handle?: { fd?: unknown } | null })._handle?.fd;
    if (typeof fd !== 'number' || fd < 0) return undefined;
    const channel: DmaChannel = new DmaChannel(stream, fd, name, {
      transfer: (address, bytes, write) => this.#transfer(channel, address, bytes, write),
      during: (answered, work) => this.#during(channel, answered, work),
      ended: () => void this.#channels.delete(channel),
    });
    this.#channels.add(channel);
    return channel;
  }

  #during<T>(channel: DmaChannel, answered: boolean, work: () => T): T {
    const before = channel.executing;
    channel.executing = true;
    if (answered) this.#answering.push(channel);
    try {
      return work();
    } finally {
      if (answered) this.#answering.pop();
      channel.executing = before;
    }
  }

  /** Who asks is the client of the device that is at work, if that is known: it has the right to master the bus. */
  #transfer(found: DmaChannel, address: number, bytes: Uint8Array, write: boolean): MemTxType {
    const channels = [...this.#channels].filter(each => each === found || each.covers(address, bytes.length, write));
    const rank = (each: DmaChannel): number => (each.executing ? 2 : 0) + (each === this.#last ? 1 : 0);
    channels.sort((a, b) => rank(b) - rank(a));
    for (const channel of channels) {
      const result = this.#through(channel, address, bytes, write);
      if (result !== MemTx.DECODE_ERROR) return result;
    }
    return MemTx.DECODE_ERROR;
  }

  /** DECODE_ERROR: the client refuses it; another one of the same guest may not. */
  #through(channel: DmaChannel, address: number, bytes: Uint8Array, write: boolean): MemTxType {
    const most = Math.min(channel.takes, MOST);
    if (most === 0) return MemTx.DECODE_ERROR;
    for (let done = 0; done < bytes.length; done += most) {
      const part = bytes.subarray(done, done + most);
      const result = this.#exchange(channel, address + done, part, write);
      if (result !== MemTx.OK) return result;
    }
    this.#last = channel;
    return MemTx.OK;
  }

  #exchange(channel: DmaChannel, address: number, part: Uint8Array, write: boolean): MemTxType {
    const waits = this.#answering.at(-1);
    if (waits !== undefined) return this.#refuse(waits, 'during a request that is waited for');
    try {
      for (const each of this.#channels) each.sort();
      const asks = this.#answerOthers();
      if (asks !== undefined) return this.#refuse(asks, 'as a request that is waited for came meanwhile');
      if (!channel.clear) return this.#refuse(channel, 'as its client does not take what it was sent');
      channel.ask(address, part, write);
      return this.#wait(channel);
    } finally {
      for (const each of this.#channels) each.settle();
    }
  }

  #wait(channel: DmaChannel): MemTxType {
    for (let look = 0; look < this.#looks; look++) {
      let moved = false;
      for (const each of this.#channels) moved = each.look() || moved;
      if (channel.over) return MemTx.ERROR;
      const result = channel.answer();
      if (result !== undefined) return result;
      const asks = this.#answerOthers();
      if (asks !== undefined) {
        channel.abandon();
        return this.#refuse(asks, 'as a request that is waited for came meanwhile');
      }
      if (!moved && look >= BRISK) Atomics.wait(this.#cell, 0, 0, look < SHORT ? SHORT_MS : LONG_MS);
    }
    channel.giveUp('it does not answer a transfer of the device');
    return MemTx.ERROR;
  }

  /** Answers those who wait. Returns the first whose request cannot be carried out now. */
  #answerOthers(): DmaChannel | undefined {
    for (const each of this.#channels) if (!each.answerOthers()) return each;
    return undefined;
  }

  #refuse({ name }: DmaChannel, when: string): MemTxType {
    const text = `${name}: DMA by message is refused ${when}: ${HOW}`;
    if (!this.#told.has(name)) this.#report(text);
    this.#told.add(name);
    return MemTx.ERROR;
  }
}
