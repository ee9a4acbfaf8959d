/**
 * Bytes of a connection to JSON values, several in a packet or one over many. Whatever is no JSON is reported once, as soon as it is seen,
 * and reading goes on with what can be the next value: the next structural character or line, or (where a new value begins before the
 * old one has ended) that new value.
 */
import { JsonError, parseJson } from './parse.js';
import { beginToken, goOn, Token } from './tokens.js';

export interface JsonLimits {
  /** Bytes of one value. */
  readonly bytes: number;
  /** Objects and arrays within each other. */
  readonly depth: number;
}

/** As QEMU's. */
export const JSON_LIMITS: JsonLimits = { bytes: 64 * 2 ** 20, depth: 1024 };

const [TAB, LF, CR, SPACE] = [0x09, 0x0a, 0x0d, 0x20];
const BACKSLASH = 0x5c;
const [COMMA, COLON] = [0x2c, 0x3a];
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];
const STRUCTURE = [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT, COMMA, COLON];
const NOTHING: Buffer = Buffer.alloc(0);
/** No byte of UTF-8: clients send it to be sure that what follows is read afresh. */
const RESYNC = 0xff;
/** What is passed over after an error, and until when: nothing, a token, or a line. */
const [PASS_NOTHING, PASS_TOKEN, PASS_LINE] = [0, 1, 2];

export class JsonStream {
  readonly #limits: JsonLimits;
  readonly #utf8 = new TextDecoder('utf-8', { fatal: true });
  /** The first `#heldBytes` bytes: of the value that has begun, what came before `#chunk`. */
  #held = NOTHING;
  #heldBytes = 0;
  readonly #waiting: Buffer[] = [];
  #chunk = NOTHING;
  #at = 0;
  /** Where in `#chunk` the value that has begun starts; -1 if none has. */
  #start = -1;
  /** Closing brackets that are awaited, the innermost last. */
  readonly #closers: number[] = [];
  #token: Token = Token.NONE;
  /** The quote that ends the string. */
  #quote = 0;
  #escaped = false;
  /** The last byte that was not space, outside of strings. */
  #last = 0;
  /** What still belongs to what was reported. */
  #passing = PASS_NOTHING;

  constructor(limits: JsonLimits = JSON_LIMITS) {
    this.#limits = limits;
  }

  push(bytes: Uint8Array): void {
    this.#waiting.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  }

  /** The next value, or what was found instead of one; undefined until more bytes come. */
  next(): { readonly value: unknown } | JsonError | undefined {
    for (;;) {
      while (this.#at < this.#chunk.length) {
        const byte = this.#chunk[this.#at]!;
        const found = this.#step(byte);
        if (found !== undefined) return found;
      }
      this.#hold();
      const next = this.#waiting.shift();
      if (next === undefined) return undefined;
      this.#chunk = next;
      this.#at = 0;
      if (this.#heldBytes > 0) this.#start = 0;
    }
  }

  /** Takes `byte`, which is at `#at`, or ends a value before it. */
  #step(byte: number): { readonly value: unknown } | JsonError | undefined {
    if (this.#passing !== PASS_NOTHING) {
      if (!this.#resumes(byte)) {
        this.#at++;
        return undefined;
      }
      this.#passing = PASS_NOTHING;
    }
    if (this.#token === Token.STRING) return this.#inString(byte);
    if (this.#token !== Token.NONE) {
      const next = goOn(this.#token, byte);
      if (next === Token.WRONG) return this.#stray(byte);
      this.#token = next;
      if (next === Token.NONE) return this.#closers.length === 0 ? this.#end() : undefined;
    }
    const space = byte === SPACE || byte === TAB || byte === LF || byte === CR;
    if (!space && this.#start < 0) this.#start = this.#at;
    if (this.#start >= 0 && this.#heldBytes + this.#at - this.#start >= this.#limits.bytes) return this.#tooLarge();
    if (space || this.#token !== Token.NONE) this.#at++;
    else return this.#significant(byte);
    return undefined;
  }

  /** Whether `byte` ends what is passed over, and is read itself. */
  #resumes(byte: number): boolean {
    if (byte === LF || byte === RESYNC) return true;
    return (
      this.#passing === PASS_TOKEN && ((byte < SPACE && byte !== TAB) || byte === 0xfe || STRUCTURE.includes(byte))
    );
  }

  #inString(byte: number): { readonly value: unknown } | JsonError | undefined {
    if (this.#heldBytes + this.#at - this.#start >= this.#limits.bytes) return this.#tooLarge();
    if (byte < SPACE || byte >= 0xfe) return this.#stray(byte);
    this.#at++;
    if (this.#escaped) this.#escaped = false;
    else if (byte === BACKSLASH) this.#escaped = true;
    else if (byte === this.#quote) {
      this.#token = Token.NONE;
      this.#last = byte;
      if (this.#closers.length === 0) return this.#end();
    }
    return undefined;
  }

  #significant(byte: number): { readonly value: unknown } | JsonError | undefined {
    const inside = this.#closers.length > 0;
    switch (byte) {
      case OPEN_OBJECT:
      case OPEN_ARRAY: {
        const { depth } = this.#limits;
        const allowed = !inside || this.#last === COMMA || this.#last === COLON || this.#last === OPEN_ARRAY;
        if (!allowed) return this.#reject('expecting the end of the value before');
        if (this.#closers.length === depth) return this.#reject('the value is nested too deeply', PASS_LINE);
        this.#closers.push(byte === OPEN_OBJECT ? CLOSE_OBJECT : CLOSE_ARRAY);
        break;
      }
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        this.#at++;
        if (this.#closers.pop() !== byte) return this.#reject('expecting value');
        this.#last = byte;
        return this.#closers.length === 0 ? this.#end() : undefined;
      case COMMA:
      case COLON:
        if (!inside) {
          this.#at++;
          return this.#reject('expecting value');
        }
        break;
      default:
        this.#token = beginToken(byte);
        if (this.#token === Token.WRONG) return this.#stray(byte);
        this.#quote = byte;
    }
    this.#last = byte;
    this.#at++;
    return undefined;
  }

  /** The value that has begun ends before `#at`. */
  #end(): { readonly value: unknown } | JsonError {
    const bytes = this.#taken();
    this.#forget();
    try {
      return { value: parseJson(this.#utf8.decode(bytes), this.#limits.depth) };
    } catch (failure) {
      if (failure instanceof JsonError) return failure;
      return new JsonError('invalid UTF-8 sequence in string');
    }
  }

  #taken(): Buffer {
    const last = this.#chunk.subarray(this.#start, this.#at);
    return this.#heldBytes === 0 ? last : Buffer.concat([this.#held.subarray(0, this.#heldBytes), last]);
  }

  #tooLarge(): JsonError {
    return this.#reject(`the value is larger than ${this.#limits.bytes} bytes`, PASS_LINE);
  }

  /** No token can have `byte` there. */
  #stray(byte: number): JsonError {
    const inString = this.#token === Token.STRING;
    this.#at++;
    const name =
      byte > SPACE && byte < 0x7f ? `'${String.fromCharCode(byte)}'` : `0x${byte.toString(16).padStart(2, '0')}`;
    return this.#reject(`stray ${name}${inString ? ' in string' : ''}`, PASS_TOKEN);
  }

  /** What has begun is no value; reading goes on at `#at`, or after what is to be passed over. */
  #reject(problem: string, passing = PASS_NOTHING): JsonError {
    this.#forget();
    this.#passing = passing;
    return new JsonError(problem);
  }

  #forget(): void {
    this.#held = NOTHING;
    this.#heldBytes = 0;
    this.#start = -1;
    this.#closers.length = 0;
    this.#token = Token.NONE;
    this.#escaped = false;
    this.#last = 0;
  }

  /** Copies, into room that doubles: a client may send one byte at a time. */
  #hold(): void {
    if (this.#start >= 0 && this.#start < this.#chunk.length) {
      const part = this.#chunk.subarray(this.#start);
      const bytes = this.#heldBytes + part.length;
      if (bytes > this.#held.length) {
        const roomier = Buffer.allocUnsafe(bytes * 2);
        this.#held.copy(roomier, 0, 0, this.#heldBytes);
        this.#held = roomier;
      }
      part.copy(this.#held, this.#heldBytes);
      this.#heldBytes = bytes;
    }
    this.#chunk = NOTHING;
    this.#at = 0;
  }
}
