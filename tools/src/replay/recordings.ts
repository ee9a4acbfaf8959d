import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The folder of the recordings that this package ships: beside `src` in the repository and beside `dist` when installed. */
const FOLDER = fileURLToPath(new URL('../../recordings/', import.meta.url));

/** Paths of the shipped recordings, in order of their names. */
export function shippedRecordings(): string[] {
  return readdirSync(FOLDER)
    .filter(name => name.endsWith('.trace.gz'))
    .sort()
    .map(name => `${FOLDER}${name}`);
}
