/**
 * Short pieces of memory, cut off a long one. A typed array of a few bytes lies among the engine's objects; it gets memory of its own when
 * it is viewed or sent, and that takes longer than all else that is done to a short reply.
 */

const LONG = 0x1_0000;
/** What is longer gets memory of its own: it is rare, and would waste the end of a long piece. */
const SHORT = 512;

let long = new Uint8Array(LONG);
let used = 0;

/** `length` bytes that are zero and nobody else's. */
export function piece(length: number): Uint8Array {
  if (length > SHORT) return new Uint8Array(length);
  if (used + length > LONG) {
    long = new Uint8Array(LONG);
    used = 0;
  }
  const start = used;
  // A multiple of 8: fields lie as they would alone.
  used += (length + 7) & ~7;
  return long.subarray(start, start + length);
}
