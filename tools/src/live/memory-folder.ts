/** Where a live guest's memory is: in a file system in memory, if that has room. Who is killed leaves his there, and the next one clears up. */
import { existsSync, readdirSync, rmSync, statfsSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { folderWithUs } from '../leftovers/index.js';
import { LiveError } from './peers/live-error.js';

const PLACES = ['/dev/shm', tmpdir()];
/** With the number of the process. */
const NAME = /^remora-memory-(\d+)-/;
/** A process of another container may not be seen from here, but no run takes so long. */
const STALE_MS = 3_600_000;
const MIB = 2 ** 20;

/** A folder of our own with room for `bytes`, and some more: who runs out of it is killed. @throws LiveError */
export function memoryFolder(bytes: number, places: readonly string[] = PLACES): ReturnType<typeof folderWithUs> {
  const room = bytes + 24 * MIB;
  for (const place of places) clearUp(place);
  const place = places.find(each => roomIn(each) >= room);
  if (place !== undefined) return folderWithUs(`remora-memory-${process.pid}-`, place);
  throw new LiveError(`a guest needs ${room / MIB} MiB of room in ${places.join(' or ')}`);
}

/** In bytes; 0 of what is not there. */
function roomIn(folder: string): number {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  } catch {
    return 0;
  }
}

/** Removes what processes have left that are no more. What cannot be removed, as it is another user's, stays. */
function clearUp(place: string): void {
  for (const name of existsSync(place) ? readdirSync(place) : []) {
    const pid = NAME.exec(name)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    const path = join(place, name);
    try {
      if (Date.now() - statSync(path).mtimeMs > STALE_MS) rmSync(path, { recursive: true, force: true });
    } catch {
      // Somebody else was faster, or it is not ours.
    }
  }
}
