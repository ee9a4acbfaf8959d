import type { Ram } from './ram.js';
import { ADDRESS_LIMIT, WHOLE_SPACE } from './region.js';
import type { Region } from './region.js';

/** A run of addresses that one leaf region answers. QEMU: MemoryRegionSection. */
export interface Section {
  /** First address, in bytes. */
  readonly start: number;
  /** In bytes. A section that reaches to the end of the 64-bit space has `start + size === 2 ** 64`. */
  readonly size: number;
  /** A ram, rom, mmio, port or iommu region. */
  readonly region: Region;
  /** Where in `region` the section starts. */
  readonly offset: number;
  /** Writes are refused: ROM. */
  readonly readonly: boolean;
}

/** Which sections a new map no longer has, and which it has in addition. */
export interface SectionChanges {
  readonly removed: readonly Section[];
  readonly added: readonly Section[];
}

/** A region tree, flattened: ascending sections that do not overlap, in arrays for the search. QEMU: FlatView. */
export class FlatView {
  readonly sections: readonly Section[];
  readonly starts: Float64Array;
  /** Exclusive. Infinity for a section that reaches to 2^64: addresses up there round to 2^64 itself. */
  readonly ends: Float64Array;
  /** Added to an address, gives the offset in the section's region. */
  readonly deltas: Float64Array;
  /** The block behind sections that can be read directly; undefined for MMIO, port and IOMMU sections. */
  readonly readable: readonly (Ram | undefined)[];
  /** The same for writing: undefined for ROM, too. */
  readonly writable: readonly (Ram | undefined)[];

  constructor(sections: readonly Section[]) {
    this.sections = sections;
    this.starts = Float64Array.from(sections, section => section.start);
    this.ends = Float64Array.from(sections, ({ start, size }) =>
      start + size === WHOLE_SPACE ? Infinity : start + size,
    );
    this.deltas = Float64Array.from(sections, section => section.offset - section.start);
    this.readable = sections.map(section => section.region.ram);
    this.writable = sections.map(section => (section.readonly ? undefined : section.region.ram));
  }

  /** Index of the section that covers `address`, or -1. */
  find(address: number): number {
    let low = 0;
    let high = this.starts.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      if (address < this.starts[middle]!) high = middle - 1;
      else if (address >= this.ends[middle]!) low = middle + 1;
      else return middle;
    }
    return -1;
  }
}

/** The sections that `root` shows. Those that `previous` has too are the same objects. */
export function flatten(root: Region, previous: FlatView | undefined): FlatView {
  const sections: Section[] = [];
  render(root, 0, 0, root.size, sections);
  return new FlatView(reuse(merge(sections), previous));
}

/** What changed from `before` to `after`: a section that differs in any property is removed and added. */
export function changesOf(before: FlatView, after: FlatView): SectionChanges {
  const old = new Set(before.sections);
  const now = new Set(after.sections);
  return {
    removed: before.sections.filter(section => !now.has(section)),
    added: after.sections.filter(section => !old.has(section)),
  };
}

/** Shows `region`, placed at `base`, as far as [`start`, `end`) of the address space is visible through its containers. */
function render(region: Region, base: number, start: number, end: number, sections: Section[]): void {
  if (!region.enabled) return;
  const from = Math.max(start, base);
  let to = region.size === WHOLE_SPACE ? end : Math.min(end, base + region.size);
  if (to > ADDRESS_LIMIT && to !== WHOLE_SPACE) to = ADDRESS_LIMIT;
  if (from >= to) return;
  if (region.target !== undefined) {
    render(region.target, base - region.targetOffset, from, to, sections);
  } else if (region.kind === 'container') {
    for (const child of region.children) render(child.region, base + child.offset, from, to, sections);
  } else {
    fillGaps(region, base, from, to, sections);
  }
}

/** Gives to `region` what no region before it has taken of [`from`, `to`). */
function fillGaps(region: Region, base: number, from: number, to: number, sections: Section[]): void {
  const readonly = region.kind === 'rom';
  let start = from;
  let index = sections.findIndex(section => section.start + section.size > from);
  if (index < 0) index = sections.length;
  while (start < to) {
    const next = sections[index];
    const end = next === undefined ? to : Math.min(to, next.start);
    if (start < end) {
      sections.splice(index, 0, { start, size: end - start, region, offset: start - base, readonly });
      index++;
    }
    if (next === undefined) break;
    start = Math.max(start, next.start + next.size);
    index++;
  }
}

/** Joins neighbours that continue each other, as two aliases side by side do. */
function merge(sections: readonly Section[]): Section[] {
  const merged: Section[] = [];
  for (const section of sections) {
    const last = merged.at(-1);
    if (
      last !== undefined &&
      last.region === section.region &&
      last.start + last.size === section.start &&
      last.offset + last.size === section.offset
    ) {
      merged[merged.length - 1] = { ...last, size: section.start + section.size - last.start };
    } else {
      merged.push(section);
    }
  }
  return merged;
}

function reuse(sections: readonly Section[], previous: FlatView | undefined): Section[] {
  const known = new Map(previous?.sections.map(section => [section.start, section]));
  return sections.map(section => {
    const old = known.get(section.start);
    const same =
      old !== undefined && old.size === section.size && old.region === section.region && old.offset === section.offset;
    return same ? old : section;
  });
}
