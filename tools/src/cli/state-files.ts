/** State files on disk, and what this Remora has to make machines of them. */
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import type { Plugin } from '@remora/core';
import { checkMagic, openState, type RestoreParts, type StateFile } from '@remora/machine';
import { PHYSICAL_VTD, physicalVtd, plugins } from '@remora/machines';
import { fileProblem } from './file-problem.js';
import { UsageError } from './usage-error.js';

const MAGIC_BYTES = 8;

/** Plug-ins and IOMMUs of the ready-made machines, and `more`. */
export function partsWith(more: readonly Plugin[] = []): RestoreParts {
  return { plugins: [...plugins, ...more], iommus: { [PHYSICAL_VTD]: physicalVtd } };
}

/** @throws UsageError if it cannot be read, StateError if it is no state file, or damaged. */
export function readStateFile(name: string): StateFile {
  return openState(
    told(name, () => {
      // What is something else altogether need not be read to its end.
      const fd = openSync(name, 'r');
      try {
        const start = new Uint8Array(MAGIC_BYTES);
        const count = readSync(fd, start);
        checkMagic(start.subarray(0, count), name);
      } finally {
        closeSync(fd);
      }
      return readFileSync(name);
    }),
    name,
  );
}

/** @throws UsageError if it cannot be written. */
export function writeStateFile(name: string, bytes: Uint8Array): void {
  told(name, () => writeFileSync(name, bytes));
}

function told<T>(name: string, act: () => T): T {
  try {
    return act();
  } catch (cause) {
    const problem = fileProblem(cause);
    if (problem === undefined) throw cause;
    throw new UsageError(`${name}: ${problem}`, { cause });
  }
}
