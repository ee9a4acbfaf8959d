// Programs bred from the random recordings: operations left out, repeated, moved, and taken from other recordings. Nobody recorded what
// comes of them; whatever it is, the model survives it, and it is the same each time.
import { basename } from 'node:path';
import { randomRecordings, replayFile } from '@remora/tools';
import test from 'ava';
import { linesOf, textFile } from './altered-recording.js';

const OPERATIONS = 3000;

/** Integers below a bound, the same each time. */
function randomIntegers(seed: number): (bound: number) => number {
  let state = seed;
  return bound => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return Math.floor(((state >>> 8) / 2 ** 24) * bound);
  };
}

/** Operations with what happened during them. */
function operationsOf(lines: readonly string[]): string[][] {
  const operations: string[][] = [];
  for (const line of lines) {
    if (line.startsWith('#')) continue;
    if (line.startsWith(' ')) operations.at(-1)!.push(line);
    else operations.push([line]);
  }
  return operations;
}

const names = randomRecordings().map(file => basename(file, '.trace.gz'));

for (const [seed, name] of names.entries()) {
  test(`${name}, crossbred`, async t => {
    const random = randomIntegers(seed + 1);
    const lines = await linesOf(name);
    const header = lines.filter(line => line.startsWith('# ') && line !== '# end');
    const own = operationsOf(lines);
    const other = operationsOf(await linesOf(names[(seed + 1) % names.length]!));
    const reset = own.findIndex(([line]) => line!.startsWith('RESET'));
    const bred = own.slice(0, reset + 1);
    // Programs set tables up before they use them, so that long runs stay together.
    while (bred.length < OPERATIONS) {
      const from = random(4) === 0 ? other : own;
      const start = random(from.length);
      for (const operation of from.slice(start, start + 40 + random(200))) {
        if (operation[0]!.startsWith('RESET')) continue;
        const choice = random(40);
        if (choice === 0) continue;
        bred.push(operation);
        if (choice === 1) bred.push(bred[random(bred.length)]!);
      }
    }
    const file = await textFile(t, [...header, ...bred.flat(), '# end']);
    const result = await replayFile(file);
    t.is(result.operations, bred.length);
    t.true(result.compared > OPERATIONS / 3);
    t.true(result.mismatches > 0, 'it is another program');
    t.deepEqual(await replayFile(file), result);
  });
}
