import test from 'ava';
import { piece } from './piece.js';

test('pieces are zero, as long as asked for, and share nothing, whatever was written to those before', t => {
  const lengths = [0, 1, 7, 8, 36, 511, 512, 513, 100_000];
  const given = Array.from({ length: 900 }, (_, i) => {
    const bytes = piece(lengths[i % lengths.length]!);
    t.true(
      bytes.every(byte => byte === 0),
      String(i),
    );
    return bytes.fill(1 + (i % 255));
  });
  for (const [i, bytes] of given.entries()) {
    t.is(bytes.length, lengths[i % lengths.length]!);
    t.is(bytes.byteOffset % 8, 0);
    t.true(
      bytes.every(byte => byte === 1 + (i % 255)),
      String(i),
    );
  }
});
