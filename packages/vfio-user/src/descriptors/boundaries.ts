/** Where messages begin in a stream. Who reads no further than `wanted` never reads the bytes of two messages at once. */
import { viewOf } from '@remora/uapi';
import { Header } from '../protocol.js';

const { size } = Header.fields;

export class Boundaries {
  readonly #header = new Uint8Array(Header.size);
  /** Bytes of #header. */
  #have = 0;
  /** Bytes of the message that follow. */
  #left = 0;

  /** Bytes of the header or of the rest that did not come yet; Infinity after a header that no message can have. */
  get wanted(): number {
    return this.#left > 0 ? this.#left : Header.size - this.#have;
  }

  /** `bytes` came, no more than were wanted. */
  took(bytes: Uint8Array): void {
    if (this.#left > 0) {
      this.#left -= bytes.length;
      return;
    }
    this.#header.set(bytes, this.#have);
    this.#have += bytes.length;
    if (this.#have < Header.size) return;
    this.#have = 0;
    const announced = size.get(viewOf(this.#header));
    this.#left = announced < Header.size ? Infinity : announced - Header.size;
  }
}
