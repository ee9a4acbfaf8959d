/** What is compared with what, and the targets. */
import type { PeerProgram } from './compile.js';

export interface Against {
  /** For the table. */
  readonly name: string;
  /** The other side: a program, or a time in nanoseconds that an operation may take. */
  readonly program?: PeerProgram;
  readonly mode?: string;
  readonly limit?: number;
  /** At most this ratio of times, ours by the other side's. */
  readonly target: number;
}

export interface Work {
  readonly title: string;
  readonly kernel: string;
  readonly entries: number;
  /** Runs whose ratios are taken, after a third as many that warm up. */
  readonly rounds: number;
  readonly against: readonly Against[];
  /** The times themselves are of interest, too. */
  readonly times?: boolean;
}

const K = 1024;
const SIZES = [
  [K, '1 K'],
  [64 * K, '64 K'],
  [K * K, '1 M'],
] as const;
const LARGE = SIZES.slice(1);
const SAME = 'C';
const GLIB = 'GLib table';

function walks(title: string, kernel: string, target: number): Work[] {
  return SIZES.map(([entries, name]) => ({
    title: `${title}, ${name} pages`,
    kernel,
    entries,
    rounds: 15,
    against: [{ name: SAME, program: 'translate', target }],
  }));
}

function hits(): Work[] {
  return SIZES.map(([entries, name]) => ({
    title: `IOTLB hit, ${name} entries`,
    kernel: 'hit',
    entries,
    rounds: 15,
    against: [
      { name: SAME, program: 'iotlb', target: 2 },
      { name: GLIB, program: 'glib', mode: 'hit', target: entries === K ? 1.5 : 1 },
    ],
  }));
}

/** Address masks are log2 of pages. */
function invalidations(mask: number, [entries, name]: (typeof SIZES)[number], against: readonly Against[]): Work {
  return {
    title: `invalidate ${mask === 0 ? 'a page' : `2^${mask} pages`}, ${name} entries of 3 sizes`,
    kernel: `invalidate-2^${mask}`,
    entries,
    rounds: 9,
    against,
  };
}

function scanned(target: number): Against {
  return { name: GLIB, program: 'glib', mode: 'pages', target };
}

/** More is removed than was asked for, so that no other side computes the same: the time itself has a bound. */
const BOUNDED: Against = { name: '50 us', limit: 50e3, target: 1 };

function flushes(kernel: string, title: string, target: number): Work[] {
  return ['domain', 'pasid', 'global'].map(scope => ({
    title: `${scope === 'pasid' ? 'PASID' : scope} flush${title}, 1 M entries`,
    kernel: `${kernel}-${scope}`,
    entries: K * K,
    rounds: 7,
    against: [{ name: GLIB, program: 'glib', mode: kernel, target }],
  }));
}

/** A served device's DMA ends in a system call, QEMU's own in memory. Neither side in C translates. */
function served(way: string, title: string, once: string, target: number): Work {
  return {
    title: `live: DMA of 4 KiB, ${title}`,
    kernel: `served-dma-${way}`,
    entries: 2 * K,
    rounds: 15,
    times: true,
    against: [
      { name: 'C, pwrite', program: 'dma', mode: `file${once}`, target },
      { name: 'C, memcpy', program: 'dma', mode: `mapped${once}`, target: 20 },
    ],
  };
}

export const WORKS: readonly Work[] = [
  ...walks('4-level walk', 'walk', 2.5),
  ...walks('nested walk', 'nested-walk', 3),
  ...walks('walk with cached structures', 'cached-walk', 2.5),
  ...walks('nested walk with cached structures', 'cached-nested-walk', 3),
  ...hits(),
  ...SIZES.map((size, index) => invalidations(0, size, [scanned([1 / 50, 1 / 1000, 1 / 1000][index]!)])),
  ...LARGE.map(size => invalidations(9, size, [scanned(1 / 10), BOUNDED])),
  ...[10, 18].flatMap(mask => LARGE.map(size => invalidations(mask, size, [BOUNDED]))),
  ...flushes('flush', ', once', 1 / 1000),
  ...flushes('refill', ' and refill', 1 / 5),
  {
    title: 'descriptor to the physical unit and back, of 64',
    kernel: 'descriptors',
    entries: 0,
    rounds: 31,
    against: [{ name: '1 us', limit: 1e3, target: 1 }],
  },
  {
    title: 'assemble host and VM, bind once',
    kernel: 'assemble',
    entries: 0,
    rounds: 61,
    against: [{ name: '10 ms', limit: 10e6, target: 1 }],
  },
  served('untranslated', 'untranslated', '', 2),
  served('held', 'translated', '', 3),
  served('walked', 'translated, never seen before', '-once', 4),
];
