/** Tables that translate, as programs write them first; and what can be wrong with one of their entries. */
import type { Random } from '@remora/bits';
import {
  ContextEntry,
  FirstStageEntry,
  INTERRUPT_RANGE_BASE,
  PasidDirectoryEntry,
  PasidEntry,
  Pgtt,
  RootEntry,
  ScalableContextEntry,
  ScalableRootEntry,
  SecondStageEntry,
  TranslationType,
} from '@hw/intel-iommu/spec';
import type { DiffConfig } from './configs.js';
import {
  CONTEXTS,
  type DeviceName,
  DOMAIN,
  OTHER_DIRECTORIES,
  OTHER_DOMAIN,
  OTHER_PASID_TABLES,
  PAGING,
  PASID_DIRECTORY,
  PASID_TABLE,
  requesterOf,
  ROOT,
  TARGET,
  TARGET_PAGES,
} from './layout.js';
import type { Operation } from './program.js';

export type Entry = Extract<Operation, { kind: 'memory' }>;
export type Mode = DiffConfig['mode'];

/** The entries of a program, from the root down. */
export interface Tables {
  readonly mode: Mode;
  /** Translation is passed by, whichever tables say so. */
  readonly pass: boolean;
  readonly domains: ReadonlyMap<DeviceName, number>;
  /** Root, context, and PASID entries. */
  readonly above: readonly Entry[];
  /** Paging entries that point to further tables. */
  readonly inner: readonly Entry[];
  /** Those of small pages first, then the large one. */
  readonly leaves: readonly Entry[];
}

const PAGE = 0x1000;
const LEVELS = 4;
const SHORT_LEVELS = 3;
/** As index of its leaf in the last table. */
export const FIRST_LEAF = 0x1f0;
export const LARGE_LEAF = 2;
export const LARGE_PAGE = 0x20_0000;
/** Where there is no memory. */
const NOWHERE = 0x7000_0000;
const LOW_BITS = 0xfff;
/** The word of a PASID entry that points to first-stage tables. */
const FIRST_STAGE_POINTER = 4;

export function tables(config: DiffConfig, devices: readonly DeviceName[], random: Random): Tables {
  const mode = modeOf(config, random);
  const levels = random.below(3) === 0 && mode !== 'first' ? SHORT_LEVELS : LEVELS;
  const pass = mode === 'pass' || (mode === 'legacy' && random.below(config.mode === 'pass' ? 1 : 12) === 0);
  const domains = new Map(
    devices.map(name => [name, name === 'edu' || random.below(2) === 0 ? DOMAIN : OTHER_DOMAIN] as const),
  );
  const facts = {
    // It limits first-stage addresses, too, and any is allowed there.
    aw: mode === 'first' && random.below(6) === 0 ? random.below(levels) : levels - 2,
    fpd: random.below(8) === 0 ? 1 : 0,
    root: PAGING / PAGE + (LEVELS - levels),
    pass,
  };
  const above = mode === 'legacy' ? legacy(domains, facts) : scalable(mode, domains, facts);
  return { mode, pass, domains, above, ...paging(mode, levels, random) };
}

/** The unit's own mode mostly; a unit that offers scalable mode has legacy mode, and pass-through, too. */
function modeOf(config: DiffConfig, random: Random): Mode {
  if (config.mode === 'legacy') return 'legacy';
  const choice = random.below(20);
  if (config.mode === 'pass') return choice < 4 ? 'legacy' : 'pass';
  return choice < 4 ? 'legacy' : choice < 6 ? 'pass' : config.mode;
}

function entry(at: number, words: Iterable<number>): Entry {
  return { kind: 'memory', at, words: Array.from(words, word => word >>> 0) };
}

interface Facts {
  readonly aw: number;
  readonly fpd: number;
  /** Frame of the first paging table. */
  readonly root: number;
  readonly pass: boolean;
}

function legacy(domains: ReadonlyMap<DeviceName, number>, { aw, fpd, root, pass }: Facts): Entry[] {
  const tt = pass ? TranslationType.PASS_THROUGH : TranslationType.UNTRANSLATED;
  const contexts = [...domains].map(([name, did]) =>
    entry(CONTEXTS + requesterOf(name) * 16, ContextEntry.encode({ p: 1, fpd, tt, ssptptr: root, aw, did })),
  );
  return [entry(ROOT, RootEntry.encode({ p: 1, ctp: CONTEXTS / PAGE })), ...contexts];
}

function scalable(mode: Mode, domains: ReadonlyMap<DeviceName, number>, { aw, fpd, root }: Facts): Entry[] {
  const pgtt = { first: Pgtt.FIRST_STAGE, second: Pgtt.SECOND_STAGE, pass: Pgtt.PASS_THROUGH, legacy: 0 }[mode];
  const own = [...domains].flatMap(([name, did], index) => {
    const directory = index === 0 ? PASID_DIRECTORY : OTHER_DIRECTORIES + (index - 1) * PAGE;
    const table = index === 0 ? PASID_TABLE : OTHER_PASID_TABLES + (index - 1) * PAGE;
    const pointer = mode === 'first' ? { fsptptr: root } : { ssptptr: root };
    return [
      entry(CONTEXTS + requesterOf(name) * 32, ScalableContextEntry.encode({ p: 1, pasiddirptr: directory / PAGE })),
      entry(directory, PasidDirectoryEntry.encode({ p: 1, smptblptr: table / PAGE })),
      entry(table, PasidEntry.encode({ p: 1, fpd, pgtt, did, aw, ...pointer })),
    ];
  });
  return [entry(ROOT, ScalableRootEntry.encode({ lp: 1, lctp: CONTEXTS / PAGE })), ...own];
}

function paging(mode: Mode, levels: number, random: Random): Pick<Tables, 'inner' | 'leaves'> {
  const first = mode === 'first';
  const leaf = (addr: number, ps: number): Int32Array => {
    const writable = random.below(8) === 0 ? 0 : 1;
    return first
      ? FirstStageEntry.encode({ p: 1, rw: writable, us: 1, ps, addr })
      : SecondStageEntry.encode({ r: random.below(12) === 0 ? 0 : 1, w: writable, ps, addr });
  };
  const next = (addr: number): Int32Array =>
    first ? FirstStageEntry.encode({ p: 1, rw: 1, us: 1, addr }) : SecondStageEntry.encode({ r: 1, w: 1, addr });
  const inner: Entry[] = [];
  for (let table = LEVELS - levels; table < LEVELS - 1; table++)
    inner.push(entry(PAGING + table * PAGE, next(PAGING / PAGE + table + 1)));
  const small = Array.from({ length: TARGET_PAGES }, (_, page) =>
    entry(PAGING + (LEVELS - 1) * PAGE + (FIRST_LEAF + page) * 8, leaf(TARGET / PAGE + page, 0)),
  );
  const large = entry(PAGING + (LEVELS - 2) * PAGE + LARGE_LEAF * 8, leaf(TARGET / PAGE, 1));
  return { inner, leaves: [...small, large] };
}

/** The same place, with something wrong. */
export function damaged(tables: Tables, original: Entry, random: Random): Entry {
  const choice = random.below(10);
  if (choice < 2) return changed(original, 0, word => word & ~(tables.leaves.includes(original) ? 3 : 1));
  if (choice < 4) {
    const pasid = original.at >= PASID_TABLE && original.words.length > 8;
    const pointer = pasid && tables.mode === 'first' ? FIRST_STAGE_POINTER : 0;
    return changed(original, pointer, word => NOWHERE | (word & LOW_BITS));
  }
  if (choice < 6 && tables.leaves.includes(original)) return redirected(original, random);
  let turned = original;
  for (let bits = 1 + random.below(2); bits > 0; bits--) {
    const word = random.below(original.words.length);
    // The lowest bits have more meaning than the others.
    const bit = random.below(2) === 0 ? random.below(12) : random.below(32);
    turned = changed(turned, word, before => before ^ (1 << bit));
  }
  return turned;
}

/** A leaf that leads to another page of the target, or to the interrupt range. */
export function redirected(leaf: Entry, random: Random): Entry {
  const to = random.below(4) === 0 ? INTERRUPT_RANGE_BASE : TARGET + random.below(TARGET_PAGES) * PAGE;
  return changed(leaf, 0, word => to | (word & LOW_BITS));
}

function changed(original: Entry, at: number, change: (word: number) => number): Entry {
  return { ...original, words: original.words.map((word, i) => (i === at ? change(word) >>> 0 : word)) };
}
