/** Numbers as the protocol writes them: C's notation, up to 64 bits, carried as (hi, lo). */

/** A mistake in a command: the message of its FAIL. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}

const NUMBER = /^([+-]?)(?:0x([0-9a-f]+)|(0[0-7]*)|([1-9][0-9]*))$/i;
/** Longer ones are not even looked at. */
const MAX_DIGITS = 64;
const SHOWN = 40;

/** Reads `text` into `out[0]` (low) and `out[1]` (high). A minus wraps around, as C's strtoull has it. @throws CommandError */
export function parseWords(text: string, out: Int32Array): void {
  const [, sign, hex, octal, decimal] = (text.length <= MAX_DIGITS ? NUMBER.exec(text) : undefined) ?? [];
  if (hex !== undefined) {
    const digits = hex.replace(/^0+/, '');
    if (digits.length > 16) throw new CommandError(`${quoted(text)} does not fit in 64 bits`);
    out[0] = parseInt(digits.slice(-8) || '0', 16);
    out[1] = parseInt(digits.slice(0, -8) || '0', 16);
  } else if (octal !== undefined || decimal !== undefined) {
    const value = BigInt(octal === undefined ? decimal! : `0o${octal}`);
    if (value >> 64n !== 0n) throw new CommandError(`${quoted(text)} does not fit in 64 bits`);
    out[0] = Number(value & 0xffff_ffffn);
    out[1] = Number(value >> 32n);
  } else throw new CommandError(`${quoted(text)} is not a number`);
  if (sign === '-') {
    out[0] = -out[0]!;
    out[1] = out[0] === 0 ? -out[1]! : ~out[1]!;
  }
}

/** A number that JavaScript holds exactly, 0 .. `max`. @throws CommandError */
export function parseNumber(text: string, max: number): number {
  const words = new Int32Array(2);
  parseWords(text, words);
  const value = (words[1]! >>> 0) * 2 ** 32 + (words[0]! >>> 0);
  if (value > max) throw new CommandError(`${quoted(text)} is more than ${max}`);
  return value;
}

/** `text` as it may stand in a reply: one short line. */
export function quoted(text: string): string {
  const short = text.length > SHOWN ? `${text.slice(0, SHOWN)}...` : text;
  return `'${short.replace(/[^\x20-\x7e]/g, '?')}'`;
}

/** `0x` and 16 digits. */
export function hex64(hi: number, lo: number): string {
  return `0x${digits8(hi)}${digits8(lo)}`;
}

function digits8(word: number): string {
  return (word >>> 0).toString(16).padStart(8, '0');
}
