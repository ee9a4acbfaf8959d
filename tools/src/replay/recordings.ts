import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The folder of the recordings that this package ships: beside `src` in the repository and beside `dist` when installed. */
const FOLDER = fileURLToPath(new URL('../../recordings/', import.meta.url));

/** Paths of the recordings of guests (Linux, QEMU's own tests) on QEMU's unit, in order of their names. */
export function guestRecordings(): string[] {
  return recordingsIn(FOLDER);
}

/** Paths of the recordings of random programs on QEMU's unit, in order of their names. */
export function randomRecordings(): string[] {
  return recordingsIn(`${FOLDER}fuzz/`);
}

/** Paths of the recordings that remora live made, of Linux on this project's unit, in order of their names. */
export function liveRecordings(): string[] {
  return recordingsIn(`${FOLDER}live/`);
}

/** Paths of all recordings that this package ships. */
export function shippedRecordings(): string[] {
  return [...guestRecordings(), ...randomRecordings(), ...liveRecordings()];
}

function recordingsIn(folder: string): string[] {
  return readdirSync(folder)
    .filter(name => name.endsWith('.trace.gz'))
    .sort()
    .map(name => `${folder}${name}`);
}
