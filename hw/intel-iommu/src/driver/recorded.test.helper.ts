/** The operations of a recorded driver, in the same words as those of ours. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { hiOf, loOf } from '@remora/bits';
import { Ram } from '@remora/core';
import { OperationLog } from './operation-log.test.helper.js';

const RECORDINGS = new URL('../../../../tools/recordings/', import.meta.url);

export function recordedText(name: string): string {
  return gunzipSync(readFileSync(new URL(`${name}.trace.gz`, RECORDINGS))).toString();
}

/**
 * Every register write of a recording up to the one that enables translation. A line `W offset size value` is a write; the lines indented
 * below it are what the unit read of memory meanwhile, the descriptors among them.
 */
export function recordedOperations(name: string): string[] {
  const ram = Ram.allocate(2 ** 30);
  const log = new OperationLog(ram);
  let write: readonly string[] | undefined;
  const flush = (): void => {
    if (write === undefined) return;
    const value = BigInt(`0x${write[3]!}`);
    log.note(parseInt(write[1]!, 16), hiOf(value) | 0, loOf(value) | 0);
    write = undefined;
  };
  for (const line of gunzipSync(readFileSync(new URL(`${name}.trace.gz`, RECORDINGS)))
    .toString()
    .split('\n')) {
    const words = line.trim().split(' ');
    if (!line.startsWith(' ')) {
      flush();
      if (log.operations.at(-1)?.startsWith('GCMD TE') === true) return log.operations;
      if (words[0] === 'W') write = words;
    } else if (words[0] === 'MR') {
      ram.write(0, parseInt(words[1]!, 16), Buffer.from(words[3]!, 'hex'));
    }
  }
  throw new Error(`${name}: translation is never enabled`);
}
