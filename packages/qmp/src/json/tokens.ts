/** Where a JSON token ends, byte by byte: what is seen at once as no JSON is not waited for. */

/** Between tokens, or in which one. Letters of a number's name tell what came last. */
export const Token = {
  NONE: 0,
  STRING: 1,
  WORD: 2,
  MINUS: 3,
  ZERO: 4,
  DIGITS: 5,
  POINT: 6,
  FRACTION: 7,
  EXPONENT: 8,
  EXPONENT_SIGN: 9,
  EXPONENT_DIGITS: 10,
  /** No token can go on so. */
  WRONG: 11,
} as const;

export type Token = (typeof Token)[keyof typeof Token];

const [DIGIT, POINT, EXPONENT, SIGN, OTHER] = [0, 1, 2, 3, 4];
const { NONE, WRONG } = Token;

/** By state: after a digit, a point, an `e`, a sign, anything else. NONE: the number has ended before that byte. */
const NUMBERS: Readonly<Partial<Record<Token, readonly Token[]>>> = {
  [Token.MINUS]: [Token.DIGITS, WRONG, WRONG, WRONG, WRONG],
  [Token.ZERO]: [WRONG, Token.POINT, Token.EXPONENT, NONE, NONE],
  [Token.DIGITS]: [Token.DIGITS, Token.POINT, Token.EXPONENT, NONE, NONE],
  [Token.POINT]: [Token.FRACTION, WRONG, WRONG, WRONG, WRONG],
  [Token.FRACTION]: [Token.FRACTION, NONE, Token.EXPONENT, NONE, NONE],
  [Token.EXPONENT]: [Token.EXPONENT_DIGITS, WRONG, WRONG, Token.EXPONENT_SIGN, WRONG],
  [Token.EXPONENT_SIGN]: [Token.EXPONENT_DIGITS, WRONG, WRONG, WRONG, WRONG],
  [Token.EXPONENT_DIGITS]: [Token.EXPONENT_DIGITS, NONE, NONE, NONE, NONE],
};

/** What begins with `byte`, which is neither space nor structure. */
export function beginToken(byte: number): Token {
  if (byte === 0x22 || byte === 0x27) return Token.STRING;
  if (isLetter(byte)) return Token.WORD;
  if (byte === 0x2d) return Token.MINUS;
  if (byte === 0x30) return Token.ZERO;
  return isDigit(byte) ? Token.DIGITS : WRONG;
}

/** Where a number or a word stands after `byte`; NONE if it has ended before that. */
export function goOn(token: Token, byte: number): Token {
  if (token === Token.WORD) return isLetter(byte) ? token : NONE;
  if (token === Token.MINUS && byte === 0x30) return Token.ZERO;
  return NUMBERS[token]![classOf(byte)]!;
}

function classOf(byte: number): number {
  if (isDigit(byte)) return DIGIT!;
  if (byte === 0x2e) return POINT!;
  if (byte === 0x45 || byte === 0x65) return EXPONENT!;
  return byte === 0x2b || byte === 0x2d ? SIGN! : OTHER!;
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

/** Keywords are of small letters; `True` is none. */
function isLetter(byte: number): boolean {
  return byte >= 0x61 && byte <= 0x7a;
}
