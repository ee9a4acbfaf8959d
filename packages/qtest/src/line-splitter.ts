/** Cuts a stream of bytes into lines, holding no more than a bounded part of one. */

const NEWLINE = 0x0a;

export class LineSplitter {
  readonly #max: number;
  readonly #parts: Buffer[] = [];
  #held = 0;
  #overlong = false;

  /** `max` is the longest line in bytes. */
  constructor(max: number) {
    this.#max = max;
  }

  /** Bytes of a line whose end has not come yet. */
  get held(): number {
    return this.#held;
  }

  /** The lines that `chunk` ends, without their ends; undefined for one that was too long. */
  *push(chunk: Uint8Array): Generator<string | undefined, void> {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      this.#hold(chunk.subarray(start, end));
      start = end + 1;
      const line = this.#overlong ? undefined : Buffer.concat(this.#parts).toString('latin1');
      this.#forget();
      this.#overlong = false;
      yield line;
    }
    this.#hold(chunk.subarray(start));
  }

  #hold(part: Uint8Array): void {
    if (this.#overlong || part.length === 0) return;
    if (this.#held + part.length > this.#max) {
      this.#forget();
      this.#overlong = true;
      return;
    }
    // Copied: the stream may use its buffer again.
    this.#parts.push(Buffer.from(part));
    this.#held += part.length;
  }

  #forget(): void {
    this.#parts.length = 0;
    this.#held = 0;
  }
}
