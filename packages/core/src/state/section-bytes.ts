/**
 * Sections as bytes, little-endian: the same tree gives the same bytes. A section is its version (u16) and the number of its fields
 * (u32), then each field: its name, a tag and the value.
 */
import { emptySection, type StateSection, type StateValue } from './section.js';
import { StateError } from './state-error.js';

const Tag = { FALSE: 0, TRUE: 1, NUMBER: 2, TEXT: 3, BYTES: 4, WORDS: 5, SECTION: 6, LIST: 7 } as const;
/** Sections in sections. */
const MAX_DEPTH = 32;

export function sectionBytes(section: StateSection): Uint8Array {
  const out = new Output();
  putSection(out, section);
  return out.taken();
}

/** The tree in `bytes`, all of them. @throws StateError at `path` if that is not what they are. */
export function sectionFrom(bytes: Uint8Array, path: string): StateSection {
  const input = new Input(bytes, path);
  const section = takeSection(input, 0);
  if (!input.atEnd) throw input.broken();
  return section;
}

class Output {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  u8(value: number): void {
    const at = this.#grow(1);
    this.#view.setUint8(at, value);
  }

  u16(value: number): void {
    const at = this.#grow(2);
    this.#view.setUint16(at, value, true);
  }

  u32(value: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, true);
  }

  f64(value: number): void {
    const at = this.#grow(8);
    this.#view.setFloat64(at, value, true);
  }

  /** Their number comes first. */
  run(bytes: Uint8Array): void {
    this.u32(bytes.length);
    const at = this.#grow(bytes.length);
    this.#bytes.set(bytes, at);
  }

  taken(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  /** Where the next `bytes` bytes go. The view may be another one afterwards. */
  #grow(bytes: number): number {
    const at = this.#length;
    this.#length += bytes;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }
}

class Input {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #path: string;
  #at = 0;

  constructor(bytes: Uint8Array, path: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#path = path;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  u8(): number {
    return this.#view.getUint8(this.#next(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#next(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#next(4), true);
  }

  f64(): number {
    return this.#view.getFloat64(this.#next(8), true);
  }

  run(): Uint8Array {
    const length = this.u32();
    const at = this.#next(length);
    return this.#bytes.subarray(at, at + length);
  }

  broken(): StateError {
    return new StateError(this.#path, `the state is damaged at byte ${this.#at} of ${this.#bytes.length}`);
  }

  #next(bytes: number): number {
    const at = this.#at;
    if (at + bytes > this.#bytes.length) throw this.broken();
    this.#at += bytes;
    return at;
  }
}

function putSection(out: Output, section: StateSection): void {
  out.u16(section.version);
  out.u32(section.fields.size);
  for (const [name, value] of section.fields) {
    out.run(new TextEncoder().encode(name));
    putValue(out, value);
  }
}

function putValue(out: Output, value: StateValue): void {
  if (typeof value === 'boolean') {
    out.u8(value ? Tag.TRUE : Tag.FALSE);
  } else if (typeof value === 'number') {
    out.u8(Tag.NUMBER);
    out.f64(value);
  } else if (typeof value === 'string') {
    out.u8(Tag.TEXT);
    out.run(new TextEncoder().encode(value));
  } else if (value instanceof Uint8Array) {
    out.u8(Tag.BYTES);
    out.run(value);
  } else if (value instanceof Int32Array) {
    out.u8(Tag.WORDS);
    const bytes = new DataView(new ArrayBuffer(value.length * 4));
    value.forEach((word, index) => bytes.setInt32(4 * index, word, true));
    out.run(new Uint8Array(bytes.buffer));
  } else if ('version' in value) {
    out.u8(Tag.SECTION);
    putSection(out, value);
  } else {
    out.u8(Tag.LIST);
    out.u32(value.length);
    for (const each of value) putSection(out, each);
  }
}

function takeSection(input: Input, depth: number): StateSection {
  if (depth > MAX_DEPTH) throw input.broken();
  const section = emptySection(input.u16());
  // The number is only believed as far as there are bytes.
  for (let left = input.u32(); left > 0; left--) {
    const name = takeText(input);
    if (section.fields.has(name)) throw input.broken();
    section.fields.set(name, takeValue(input, depth));
  }
  return section;
}

function takeValue(input: Input, depth: number): StateValue {
  switch (input.u8()) {
    case Tag.FALSE:
      return false;
    case Tag.TRUE:
      return true;
    case Tag.NUMBER:
      return input.f64();
    case Tag.TEXT:
      return takeText(input);
    case Tag.BYTES:
      return input.run().slice();
    case Tag.WORDS:
      return takeWords(input);
    case Tag.SECTION:
      return takeSection(input, depth + 1);
    case Tag.LIST: {
      const list: StateSection[] = [];
      for (let left = input.u32(); left > 0; left--) list.push(takeSection(input, depth + 1));
      return list;
    }
    default:
      throw input.broken();
  }
}

function takeText(input: Input): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(input.run());
  } catch (cause) {
    if (cause instanceof StateError) throw cause;
    throw input.broken();
  }
}

function takeWords(input: Input): Int32Array {
  const bytes = input.run();
  if (bytes.length % 4 !== 0) throw input.broken();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Int32Array.from({ length: bytes.length / 4 }, (_, index) => view.getInt32(4 * index, true));
}
