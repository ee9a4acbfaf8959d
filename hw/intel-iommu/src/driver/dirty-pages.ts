/** Which pages of a second stage were written: D bits of its leaves (vtd.md 3.7, 3.9). */
import type { MemoryPort } from '@remora/core';
import { Ss } from '../spec/index.js';
import type { PageTable } from './page-table.js';
import { StructureMemory } from './structure-memory.js';

/** Pages that a leaf, or an entry that is not there, at `level` covers. */
function span(level: number): number {
  return 2 ** (9 * (level - 1));
}

/**
 * Reports runs of pages whose leaf has D, ascending, and with `clear` clears it. Of a large leaf all pages in the range are reported. Returns
 * whether any bit was cleared: then the unit has to forget what it cached of them, or it does not note the next write.
 */
export function readDirtyPages(
  memory: MemoryPort,
  table: PageTable,
  iovaFrame: number,
  pages: number,
  clear: boolean,
  report: ((iovaFrame: number, pages: number) => void) | undefined,
): boolean {
  const structures = new StructureMemory(memory);
  const word = new Int32Array(1);
  const end = iovaFrame + pages;
  let cleared = false;
  for (let at = iovaFrame; at < end;) {
    const walk = table.walk(at);
    const step = walk.steps.at(-1)!;
    const size = span(step.level);
    const next = Math.min(end, (Math.floor(at / size) + 1) * size);
    if (walk.frame >= 0 && (step.lo & Ss.D) !== 0) {
      report?.(at, next - at);
      if (clear) {
        word[0] = step.lo & ~Ss.D;
        structures.store(step.table, step.index * 2, word, 0, 1);
        cleared = true;
      }
    }
    at = next;
  }
  return cleared;
}
