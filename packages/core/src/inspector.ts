import type { RecordType } from '@remora/bits';

/** State for people and tools: named values, decoded records and children, in the order in which they are given. */
export class Inspector {
  readonly #entries = new Map<string, unknown>();

  /** A value: anything that JSON holds, a BigInt or an array of bytes. Given twice, the last one counts. */
  value(name: string, value: unknown): this {
    this.#entries.set(name, value);
    return this;
  }

  /** The fields of the record at `words[at ..]`. */
  record(name: string, type: RecordType, words: Int32Array, at = 0): this {
    this.#entries.set(name, new RecordText(type.format(words, at), type.decode(words, at)));
    return this;
  }

  /** The part of the state that is called `name`: the same object each time. */
  child(name: string): Inspector {
    const known = this.#entries.get(name);
    if (known instanceof Inspector) return known;
    const child = new Inspector();
    this.#entries.set(name, child);
    return child;
  }

  /** Plain objects; BigInts and bytes as hexadecimal text. */
  toJSON(): Record<string, unknown> {
    return Object.fromEntries([...this.#entries].map(([name, value]) => [name, plain(value)]));
  }

  /** One line a value, children indented. */
  toString(): string {
    return this.#lines('').join('\n');
  }

  #lines(indent: string): string[] {
    return [...this.#entries].flatMap(([name, value]) => {
      if (value instanceof Inspector) return [`${indent}${name}:`, ...value.#lines(`${indent}  `)];
      return [`${indent}${name}: ${value instanceof RecordText ? value.text : text(plain(value))}`];
    });
  }
}

/** A record, decoded when it was inspected: the state may change afterwards. */
class RecordText {
  readonly text: string;
  readonly values: Readonly<Record<string, number | bigint>>;

  constructor(shown: string, values: Readonly<Record<string, number | bigint>>) {
    this.text = shown === '' ? '(all zero)' : shown;
    this.values = values;
  }
}

function plain(value: unknown): unknown {
  if (value instanceof Inspector) return value.toJSON();
  if (value instanceof RecordText) return plain(value.values);
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  if (value instanceof Uint8Array) return Array.from(value, byte => byte.toString(16).padStart(2, '0')).join(' ');
  if (ArrayBuffer.isView(value)) return Array.from(value as Int32Array, plain);
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, inner]) => [String(key), plain(inner)]));
  if (value instanceof Set) return [...value].map(plain);
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
  }
  return value;
}

function text(value: unknown): string {
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
