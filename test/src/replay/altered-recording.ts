import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { ExecutionContext } from 'ava';
import { shippedRecordings } from '@remora/tools';

/** The lines of a shipped recording, without their line ends. */
export async function linesOf(name: string): Promise<string[]> {
  const file = shippedRecordings().find(each => basename(each) === `${name}.trace.gz`);
  if (file === undefined) throw new Error(`no recording ${name} is shipped`);
  return gunzipSync(await readFile(file))
    .toString('latin1')
    .trimEnd()
    .split('\n');
}

/** Writes a file that vanishes with the test. Returns its path. */
export async function temporaryFile(t: ExecutionContext, name: string, contents: string | Uint8Array): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'remora-replay-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const file = join(folder, name);
  await writeFile(file, contents);
  return file;
}

/** A recording as a plain file. */
export function textFile(t: ExecutionContext, lines: readonly string[]): Promise<string> {
  return temporaryFile(t, 'altered.trace', `${lines.join('\n')}\n`);
}
