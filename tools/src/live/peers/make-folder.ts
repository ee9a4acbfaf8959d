import { mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { LiveError } from './live-error.js';

/** Makes a folder and those that it is in. `what` is for the message. @throws LiveError */
export function makeFolder(path: string, what: string): void {
  try {
    makeWithParents(resolve(path));
  } catch (failure) {
    throw new LiveError(`${what}: ${path} cannot be used as a folder: ${(failure as Error).message}`, {
      cause: failure,
    });
  }
}

/** mkdir's own `recursive` never comes back from a file system that makes no folders, as /proc. */
function makeWithParents(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return;
  const parent = dirname(path);
  if (parent !== path) makeWithParents(parent);
  mkdirSync(path);
}
