/** Ready-made values of PASID and context entries. Frames are of the tables' roots. */
import type { RecordType, RecordValues } from '@remora/bits';
import type { ContextEntry, PasidEntry, ScalableContextEntry } from '../spec/index.js';
import { Pgtt, TranslationType } from '../spec/index.js';
import type { PageTable } from './page-table.js';

type ValuesOf<R> = R extends RecordType<infer F> ? RecordValues<F> : never;

export type ContextValues = ValuesOf<typeof ContextEntry>;
export type ScalableContextValues = ValuesOf<typeof ScalableContextEntry>;
export type PasidValues = ValuesOf<typeof PasidEntry>;

/** Where a page table is: itself, or its root and its number of levels. */
export type TableRoot = Pick<PageTable, 'rootFrame' | 'levels'>;

/** The AW field for a second-stage table. */
export function widthCode(levels: 3 | 4 | 5): number {
  return levels - 2;
}

/** Legacy: requests without PASID go through a second-stage table. */
export function legacyContext(table: TableRoot, domain: number, more: ContextValues = {}): ContextValues {
  return {
    tt: TranslationType.UNTRANSLATED,
    ssptptr: table.rootFrame,
    aw: widthCode(table.levels),
    did: domain,
    ...more,
  };
}

/** Legacy: requests pass through. `levels`: the widest second stage of the unit. */
export function legacyPassThrough(levels: 3 | 4 | 5, domain: number): ContextValues {
  return { tt: TranslationType.PASS_THROUGH, aw: widthCode(levels), did: domain };
}

export function firstStagePasid(table: TableRoot, domain: number, more: PasidValues = {}): PasidValues {
  return { pgtt: Pgtt.FIRST_STAGE, fsptptr: table.rootFrame, fspm: Number(table.levels === 5), did: domain, ...more };
}

export function secondStagePasid(table: TableRoot, domain: number, more: PasidValues = {}): PasidValues {
  return { pgtt: Pgtt.SECOND_STAGE, ssptptr: table.rootFrame, aw: widthCode(table.levels), did: domain, ...more };
}

/** A first stage whose addresses are translated by a second. */
export function nestedPasid(first: TableRoot, second: TableRoot, domain: number, more: PasidValues = {}): PasidValues {
  return { ...secondStagePasid(second, domain), ...firstStagePasid(first, domain), pgtt: Pgtt.NESTED, ...more };
}

export function passThroughPasid(domain: number, more: PasidValues = {}): PasidValues {
  return { pgtt: Pgtt.PASS_THROUGH, did: domain, ...more };
}
