/**
 * The register window as words with masks: what software may write, what it clears by writing 1, what reads as 0. Effects are
 * not here; see registers.ts.
 */
export class RegisterFile {
  /** Raw contents; write-only fields included. */
  readonly words: Int32Array;
  readonly bytes: number;
  readonly #writable: Int32Array;
  readonly #clearable: Int32Array;
  readonly #hidden: Int32Array;
  readonly #initial: Int32Array;

  constructor(bytes: number) {
    this.bytes = bytes;
    const count = bytes / 4;
    this.words = new Int32Array(count);
    this.#writable = new Int32Array(count);
    this.#clearable = new Int32Array(count);
    this.#hidden = new Int32Array(count);
    this.#initial = new Int32Array(count);
  }

  /** Declares a 32-bit register: its value at reset, writable bits, bits cleared by writing 1, bits that read as 0. */
  define32(offset: number, initial: number, writable = 0, clearable = 0, hidden = 0): void {
    const at = offset >>> 2;
    this.#initial[at] = initial;
    this.#writable[at] = writable;
    this.#clearable[at] = clearable;
    this.#hidden[at] = hidden;
  }

  /** Declares a 64-bit register, read-only unless `writable` masks are given. */
  define64(offset: number, initialHi: number, initialLo: number, writableHi = 0, writableLo = 0): void {
    this.define32(offset, initialLo, writableLo);
    this.define32(offset + 4, initialHi, writableHi);
  }

  /** Declares a 64-bit register that software may write in full. */
  defineOpen64(offset: number): void {
    this.define64(offset, 0, 0, -1, -1);
  }

  /** Every register as after reset. */
  reset(): void {
    this.words.set(this.#initial);
  }

  /** What software reads. */
  read(offset: number): number {
    const at = offset >>> 2;
    return (this.words[at]! & ~this.#hidden[at]!) >>> 0;
  }

  /** What a write by software does to the contents. */
  write(offset: number, value: number): void {
    const at = offset >>> 2;
    const writable = this.#writable[at]!;
    const kept = (this.words[at]! & ~writable) | (value & writable);
    this.words[at] = kept & ~(value & this.#clearable[at]!);
  }

  /** Raw contents, signed. */
  get(offset: number): number {
    return this.words[offset >>> 2]!;
  }

  set(offset: number, value: number): void {
    this.words[offset >>> 2] = value;
  }

  /** Sets and clears bits of a register, whatever software may write. */
  update(offset: number, clear: number, set: number): void {
    const at = offset >>> 2;
    this.words[at] = (this.words[at]! & ~clear) | set;
  }
}
