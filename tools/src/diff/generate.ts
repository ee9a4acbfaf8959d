/** Random programs that mean something: tables that translate, then transfers, damage, invalidations and register writes. */
import { Random } from '@remora/bits';
import {
  ContextCacheDescriptor,
  ContextEntry,
  DescriptorType,
  FirstStageEntry,
  GlobalCommand,
  Granularity,
  INTERRUPT_RANGE_BASE,
  INTERRUPT_RANGE_BYTES,
  IotlbDescriptor,
  PasidDirectoryEntry,
  PasidEntry,
  Pgtt,
  QueueAddress,
  Reg,
  RootEntry,
  RootTableAddress,
  ScalableContextEntry,
  ScalableRootEntry,
  SecondStageEntry,
  TranslationType,
  Ttm,
} from '@hw/intel-iommu/spec';
import { type DiffConfig, scalable } from './configs.js';
import { descriptor } from './descriptors.js';
import {
  CONTEXTS,
  DOMAIN,
  PAGING,
  PASID_DIRECTORY,
  PASID_TABLE,
  QUEUE,
  REQUESTER,
  ROOT,
  TARGET,
  TARGET_PAGES,
} from './layout.js';
import type { Operation, Program } from './program.js';

const PAGE = 0x1000;
const LEVELS = 4;
const SHORT_LEVELS = 3;
/** As index of its leaf in the last table. */
const FIRST_LEAF = 0x1f0;
const LARGE_LEAF = 2;
const LARGE_PAGE = 0x20_0000;
const { QIE, TE, SRTP } = GlobalCommand;
const STEPS = 12;
const NARROW_WORDS = 4;
const WIDE_WORDS = 8;

/** Writable registers that programs scribble on. What moves tables away, or the fault event to memory, is not among them. */
const SCRIBBLED = [
  ...[Reg.FEDATA, Reg.FEUADDR, Reg.IEDATA, Reg.IEUADDR, Reg.ICS, Reg.PMEN, Reg.FSTS, Reg.GSTS],
  ...[Reg.IRTA, Reg.CAP, Reg.VER, Reg.FECTL, Reg.IECTL],
] as const;
/** Those of them that may be written as a whole: QEMU aborts at 8 bytes for a register of 4. */
const QUADS: readonly number[] = [Reg.IRTA, Reg.CAP];

export function generate(config: DiffConfig, seed: number): Program {
  const random = new Random(seed);
  const operations = [...tables(config, random), ...enabling(config)];
  const entries = operations.filter(operation => operation.kind === 'memory');
  const steps = STEPS + random.below(STEPS);
  for (let step = 0; step < steps; step++) operations.push(...oneStep(config, random, entries));
  return { config: config.name, seed, operations };
}

function oneStep(config: DiffConfig, random: Random, entries: readonly Operation[]): Operation[] {
  const choice = random.below(100);
  if (choice < 55) {
    const iova = address(config, random);
    // A write there is an interrupt, and of the wrong kind would start the halted processor.
    const write =
      random.below(2) === 0 &&
      Math.floor(iova / INTERRUPT_RANGE_BYTES) !== INTERRUPT_RANGE_BASE / INTERRUPT_RANGE_BYTES;
    const dma: Operation = { kind: 'dma', write, iova };
    return [dma, { kind: 'faults', clear: random.below(8) !== 0 }];
  }
  if (choice < 65) return flushed(config, damaged(random, entries));
  if (choice < 72) return flushed(config, entries[random.below(entries.length)]!);
  if (choice < 92) return [{ kind: 'descriptor', words: descriptor(config, random) }];
  if (choice < 97) {
    const words = [random.next(), ...(random.below(2) === 0 ? [] : [random.next()])];
    const offset = SCRIBBLED[random.below(SCRIBBLED.length)]!;
    // For the same reason events are plain vectors.
    if (offset === Reg.FEDATA || offset === Reg.IEDATA) words[0]! &= 0xff;
    return [{ kind: 'register', offset, words: QUADS.includes(offset) ? words : words.slice(0, 1) }];
  }
  const command = [QIE, QIE | TE, QIE | TE | SRTP][random.below(3)]!;
  return [command, QIE | TE].map(word => ({ kind: 'register', offset: Reg.GCMD, words: [word >>> 0] }));
}

/** Mostly where something is mapped. */
function address(config: DiffConfig, random: Random): number {
  const inPage = random.below((PAGE - 8) / 4) * 4;
  if (config.mode === 'pass' && random.below(4) !== 0) return TARGET + random.below(TARGET_PAGES) * PAGE + inPage;
  const choice = random.below(20);
  if (choice < 12) return (FIRST_LEAF + random.below(TARGET_PAGES)) * PAGE + inPage;
  if (choice < 16) return LARGE_LEAF * LARGE_PAGE + random.below(TARGET_PAGES) * PAGE + inPage;
  if (choice < 17) return TARGET + random.below(TARGET_PAGES) * PAGE + inPage;
  if (choice < 18) return INTERRUPT_RANGE_BASE + inPage;
  return random.below(0x8000) * 2 ** 33 + random.below(0x400) * PAGE + inPage;
}

/** The same place with one or two bits turned over. */
function damaged(random: Random, entries: readonly Operation[]): Operation {
  const entry = entries[random.below(entries.length)]!;
  if (entry.kind !== 'memory') return entry;
  const words = [...entry.words];
  for (let bits = 1 + random.below(2); bits > 0; bits--) {
    // QEMU 10.0 checks both halves of a scalable-mode root entry, the unused one too.
    const word = random.below(entry.at === ROOT ? words.length / 2 : words.length);
    // The lowest bits have more meaning than the others.
    const bit = random.below(2) === 0 ? random.below(12) : random.below(32);
    words[word] = (words[word]! ^ (1 << bit)) >>> 0;
  }
  return { ...entry, words };
}

/**
 * What stands above the paging tables is made known to the unit. QEMU takes a device that passes through out of translation when the
 * tables first say so, and looks at them again only at a context invalidation: both that and a new look are allowed (VT-d 6.2.2).
 */
function flushed(config: DiffConfig, change: Operation): Operation[] {
  if (change.kind === 'memory' && change.at >= PAGING) return [change];
  const g = Granularity.GLOBAL;
  const both = [
    ContextCacheDescriptor.encode({ type: DescriptorType.CONTEXT_CACHE, g }),
    IotlbDescriptor.encode({ type: DescriptorType.IOTLB, g }),
  ];
  const count = scalable(config) ? WIDE_WORDS : NARROW_WORDS;
  return [change, ...both.map((words): Operation => ({ kind: 'descriptor', words: [...words].slice(0, count) }))];
}

function entry(at: number, words: Iterable<number>): Operation {
  return { kind: 'memory', at, words: Array.from(words, word => word >>> 0) };
}

function tables(config: DiffConfig, random: Random): Operation[] {
  const levels = random.below(3) === 0 && config.mode !== 'first' ? SHORT_LEVELS : LEVELS;
  const aw = levels - 2;
  const fpd = random.below(8) === 0 ? 1 : 0;
  const root = PAGING / PAGE + (LEVELS - levels);
  const paging = pagingTables(config, levels, random);
  if (!scalable(config)) {
    const tt = random.below(6) === 0 ? TranslationType.PASS_THROUGH : TranslationType.UNTRANSLATED;
    const context = ContextEntry.encode({ p: 1, fpd, tt, ssptptr: root, aw, did: DOMAIN });
    return [
      ...paging,
      entry(CONTEXTS + REQUESTER * 16, context),
      entry(ROOT, RootEntry.encode({ p: 1, ctp: CONTEXTS / PAGE })),
    ];
  }
  const pgtt = { first: Pgtt.FIRST_STAGE, second: Pgtt.SECOND_STAGE, pass: Pgtt.PASS_THROUGH, legacy: 0 }[config.mode];
  const pasid = PasidEntry.encode({
    p: 1,
    fpd,
    pgtt,
    did: DOMAIN,
    // QEMU 10.0 limits first-stage addresses by the width as well.
    aw,
    ...(config.mode === 'first' ? { fsptptr: root } : { ssptptr: root }),
  });
  return [
    ...paging,
    entry(PASID_TABLE, pasid),
    entry(PASID_DIRECTORY, PasidDirectoryEntry.encode({ p: 1, smptblptr: PASID_TABLE / PAGE })),
    entry(CONTEXTS + REQUESTER * 32, ScalableContextEntry.encode({ p: 1, pasiddirptr: PASID_DIRECTORY / PAGE })),
    entry(ROOT, ScalableRootEntry.encode({ lp: 1, lctp: CONTEXTS / PAGE })),
  ];
}

function pagingTables(config: DiffConfig, levels: number, random: Random): Operation[] {
  const first = config.mode === 'first';
  const leaf = (addr: number, ps: number): Int32Array => {
    const writable = random.below(5) === 0 ? 0 : 1;
    return first
      ? FirstStageEntry.encode({ p: 1, rw: writable, us: 1, ps, addr })
      : SecondStageEntry.encode({ r: random.below(8) === 0 ? 0 : 1, w: writable, ps, addr });
  };
  const next = (addr: number): Int32Array =>
    first ? FirstStageEntry.encode({ p: 1, rw: 1, us: 1, addr }) : SecondStageEntry.encode({ r: 1, w: 1, addr });
  const made: Operation[] = [];
  for (let table = LEVELS - levels; table < LEVELS - 1; table++)
    made.push(entry(PAGING + table * PAGE, next(PAGING / PAGE + table + 1)));
  made.push(entry(PAGING + (LEVELS - 2) * PAGE + LARGE_LEAF * 8, leaf(TARGET / PAGE, 1)));
  for (let page = 0; page < TARGET_PAGES; page++)
    made.push(entry(PAGING + (LEVELS - 1) * PAGE + (FIRST_LEAF + page) * 8, leaf(TARGET / PAGE + page, 0)));
  return made;
}

/** The queue, the root table, translation. */
function enabling(config: DiffConfig): Operation[] {
  const wide = scalable(config);
  const register = (offset: number, words: Iterable<number>): Operation => ({
    kind: 'register',
    offset,
    words: Array.from(words, word => word >>> 0),
  });
  return [
    register(Reg.IQA, QueueAddress.encode({ dw: wide ? 1 : 0, iqa: QUEUE / PAGE })),
    register(Reg.GCMD, [QIE]),
    register(Reg.RTADDR, RootTableAddress.encode({ ttm: wide ? Ttm.SCALABLE : Ttm.LEGACY, rta: ROOT / PAGE })),
    register(Reg.GCMD, [QIE | SRTP]),
    register(Reg.GCMD, [QIE | TE]),
  ];
}
