/**
 * One JSON text to a value, as QMP reads it: strings may stand in single quotes, a member may not be given twice, and integers beyond
 * 2^53 keep all their digits (as BigInt). Objects have no prototype, so that no name in them is special.
 */

/** What is wrong with a JSON text; the message is what follows `JSON parse error, `. */
export class JsonError extends Error {
  override readonly name = 'JsonError';
}

export type JsonObject = { readonly [name: string]: unknown };

/** Whether `value` is what a JSON object becomes. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const WORD = /[A-Za-z_][A-Za-z0-9_]*/y;
const SPACE = /[ \t\r\n]*/y;

const PLAIN = { '"': /[^"\\\u0000-\u001f]*/y, "'": /[^'\\\u0000-\u001f]*/y };
const HEX4 = /[0-9a-fA-F]{4}/y;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  "'": "'",
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};
const KEYWORDS = new Map<string, unknown>([
  ['true', true],
  ['false', false],
  ['null', null],
]);

/** The value of `text`, which is nested `maxDepth` deep at most. @throws JsonError if it is no JSON. */
export function parseJson(text: string, maxDepth: number): unknown {
  return new Parser(text, maxDepth).whole();
}

class Parser {
  readonly #text: string;
  #left: number;
  #at = 0;

  constructor(text: string, maxDepth: number) {
    this.#text = text;
    this.#left = maxDepth;
  }

  whole(): unknown {
    const value = this.#value();
    this.#take(SPACE);
    if (this.#at < this.#text.length) throw new JsonError('there is something after the value');
    return value;
  }

  #value(): unknown {
    this.#take(SPACE);
    const first = this.#text[this.#at];
    if (first === '{') return this.#nested(() => this.#object());
    if (first === '[') return this.#nested(() => this.#array());
    if (first === '"' || first === "'") return this.#string(first);
    const number = this.#take(NUMBER);
    if (number !== undefined) return numberOf(number);
    const word = this.#take(WORD);
    if (word === undefined) throw new JsonError('expecting value');
    if (!KEYWORDS.has(word)) throw new JsonError(`invalid keyword '${word.slice(0, 40)}'`);
    return KEYWORDS.get(word);
  }

  #nested<T>(read: () => T): T {
    if (this.#left-- === 0) throw new JsonError('the value is nested too deeply');
    this.#at++;
    const value = read();
    this.#left++;
    return value;
  }

  #object(): JsonObject {
    const object = Object.create(null) as Record<string, unknown>;
    if (this.#skip('}')) return object;
    do {
      this.#take(SPACE);
      const quote = this.#text[this.#at];
      if (quote !== '"' && quote !== "'") throw new JsonError('expecting the name of a member');
      const name = this.#string(quote);
      if (!this.#skip(':')) throw new JsonError("missing ':' after the name of a member");
      if (name in object) throw new JsonError(`member '${name.slice(0, 40)}' is given twice`);
      object[name] = this.#value();
    } while (this.#skip(','));
    if (!this.#skip('}')) throw new JsonError("expecting ',' or '}'");
    return object;
  }

  #array(): unknown[] {
    const array: unknown[] = [];
    if (this.#skip(']')) return array;
    do array.push(this.#value());
    while (this.#skip(','));
    if (!this.#skip(']')) throw new JsonError("expecting ',' or ']'");
    return array;
  }

  #string(quote: '"' | "'"): string {
    let value = '';
    this.#at++;
    for (;;) {
      value += this.#take(PLAIN[quote]) ?? '';
      const end = this.#text[this.#at++];
      if (end === quote) return value;
      if (end !== '\\') throw new JsonError(end === undefined ? 'a string has no end' : 'control character in string');
      value += this.#escape();
    }
  }

  #escape(): string {
    const letter = this.#text[this.#at++] ?? '';
    if (letter !== 'u') {
      const known = ESCAPES[letter];
      if (known === undefined) throw new JsonError(`invalid escape sequence '\\${letter}'`);
      return known;
    }
    const digits = this.#take(HEX4);
    if (digits === undefined) throw new JsonError('\\u is not followed by four hexadecimal digits');
    return String.fromCharCode(parseInt(digits, 16));
  }

  /** What `pattern` finds here, if it is not empty. */
  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found === undefined || found === '') return undefined;
    this.#at += found.length;
    return found;
  }

  #skip(expected: string): boolean {
    this.#take(SPACE);
    if (this.#text[this.#at] !== expected) return false;
    this.#at++;
    return true;
  }
}

function numberOf(text: string): number | bigint {
  const number = Number(text);
  if (Number.isSafeInteger(number) || /[.eE]/.test(text)) return Object.is(number, -0) ? 0 : number;
  return BigInt(text);
}
