import type { QmpTarget } from '../target.js';

/** `info mtree`: the regions of each address space. */
export function formatMtree({ addressSpaces }: QmpTarget): string {
  return addressSpaces.map(space => space.tree()).join('\n\n');
}
