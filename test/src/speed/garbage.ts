/** What an operation leaves on the heap. */
import type { ExecutionContext } from 'ava';

const CHUNK = 20_000;
const CHUNKS = 15;

/** Bytes that one call of `operation` leaves on the heap: the median over chunks, since a collection may fall into any of them. */
export function bytesEach(operation: (index: number) => void): number {
  for (let i = 0; i < 3 * CHUNK; i++) operation(i);
  const grown = new Float64Array(CHUNKS);
  for (let chunk = 0; chunk < CHUNKS; chunk++) {
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < CHUNK; i++) operation(i);
    grown[chunk] = (process.memoryUsage().heapUsed - before) / CHUNK;
  }
  return grown.sort()[CHUNKS >> 1]!;
}

/**
 * `operation` leaves nothing. The smallest object takes 16 bytes; the measurement itself leaves a few hundred. Code that is not optimised
 * yet boxes numbers, and when the optimising compiler's thread gets its turn is a question of load: so what is not clean is measured again,
 * while garbage that is real never goes away.
 */
export function isClean(t: ExecutionContext, operation: (index: number) => void): void {
  let bytes = bytesEach(operation);
  for (let again = 0; again < 20 && bytes >= 1; again++) bytes = bytesEach(operation);
  t.true(bytes < 1, `${bytes} bytes for each`);
}
