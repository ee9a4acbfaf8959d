/**
 * Changes to the region tree, collected and then shown to the address spaces at once. QEMU: memory_region_transaction_begin and
 * _commit.
 */

/** Something that shows a region tree and must follow its changes: an address space. */
export interface Viewer {
  /** Computes the new map. No listener is called before every viewer has its new map. */
  rebuild(): void;
  /** Tells the listeners what changed. */
  publish(): void;
}

const pending = new Set<Viewer>();
let depth = 0;

/**
 * Runs several changes to region trees as one: maps are recomputed, and listeners called, once at the end of the outermost batch.
 * They are also if `change` throws, since what it did up to then stays done.
 */
export function memoryBatch(change: () => void): void {
  depth++;
  try {
    change();
  } finally {
    depth--;
    if (depth === 0) commit();
  }
}

/** Notes that what `viewers` show has changed; outside a batch, shows it right away. */
export function regionChanged(viewers: Iterable<Viewer>): void {
  for (const viewer of viewers) pending.add(viewer);
  if (depth === 0) commit();
}

/** A viewer that is gone follows no change any more. */
export function forgetViewer(viewer: Viewer): void {
  pending.delete(viewer);
}

/** Listeners may change regions in turn: those changes form the next round. What listeners throw is thrown at the end. */
function commit(): void {
  const failures: unknown[] = [];
  depth++;
  try {
    while (pending.size > 0) {
      const viewers = [...pending];
      pending.clear();
      for (const viewer of viewers) viewer.rebuild();
      for (const viewer of viewers) {
        try {
          viewer.publish();
        } catch (failure) {
          failures.push(failure);
        }
      }
    }
  } finally {
    depth--;
  }
  if (failures.length === 1) throw failures[0];
  if (failures.length > 1) throw new AggregateError(failures, 'memory listeners failed');
}
