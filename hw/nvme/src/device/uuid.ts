/** Names that stay the same from run to run: a UUID made from text (RFC 9562, version 8: the digits are the maker's own). */

const UUID_BYTES = 16;
const FNV_OFFSET = 0x811c_9dc5;
const FNV_PRIME = 0x0100_0193;

/** 16 bytes in the order in which they are written. */
export function uuidOf(text: string): Uint8Array {
  const bytes = new Uint8Array(UUID_BYTES);
  for (let word = 0; word < UUID_BYTES / 4; word++) {
    let hash = FNV_OFFSET ^ word;
    for (const letter of `${word}:${text}`) hash = Math.imul(hash ^ letter.charCodeAt(0), FNV_PRIME);
    new DataView(bytes.buffer).setUint32(4 * word, hash >>> 0);
  }
  bytes[6] = (bytes[6]! & 0x0f) | 0x80;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return bytes;
}

/** `01234567-89ab-8def-8123-456789abcdef`. */
export function uuidText(bytes: Uint8Array): string {
  const digits = [...bytes].map(byte => byte.toString(16).padStart(2, '0')).join('');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
