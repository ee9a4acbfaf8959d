/**
 * Differences that are as they should be. The complete list, reviewed: what is not here is a fault of one side. An entry that nothing
 * hits fails a full run, since it hides what comes later.
 */
import { Reg } from '@hw/intel-iommu/spec';
import { REGISTERS } from './layout.js';
import type { Line } from './program.js';

export interface Justified {
  readonly id: string;
  /** Of the specification. */
  readonly section: string;
  readonly reason: string;
  /** Only these series of QEMU (`10.0`) differ. Default: all. */
  readonly series?: readonly string[];
  /** Whether this is about that line, and all that differs in its replies. */
  readonly agree: (line: Line, ours: string, theirs: string) => boolean;
}

/** Longer lists are excuses. */
export const MOST_JUSTIFIED = 25;
/** Of the operations of a run. */
export const MOST_JUSTIFIED_SHARE = 0.02;

const ESRTPS = 0x80;

export const JUSTIFIED: readonly Justified[] = [
  {
    id: 'cap-esrtps',
    section: 'VT-d 11.4.2, CAP.ESRTPS',
    reason:
      'the profile follows QEMU 10.2, which reports that setting the root table pointer flushes the caches; QEMU 10.0 flushes too, but does not report it',
    series: ['10.0'],
    agree: ({ text }, ours, theirs) => {
      if (text === `readq 0x${(REGISTERS + Reg.CAP).toString(16)}`) return same(ours, theirs, 'OK 0x'.length);
      return text === `readl 0x${(REGISTERS + Reg.CAP + 4).toString(16)}` && same(ours, theirs, 'OK 0x00000000'.length);
    },
  },
];

/** The replies are the same but for ESRTPS in the byte whose two digits are `at` this place. */
function same(ours: string, theirs: string, at: number): boolean {
  const byte = (parseInt(theirs.slice(at, at + 2), 16) | ESRTPS).toString(16).padStart(2, '0');
  return ours === theirs.slice(0, at) + byte + theirs.slice(at + 2);
}

/** The entry of `list` that explains a difference. */
export function justification(
  list: readonly Justified[],
  line: Line,
  ours: string,
  theirs: string,
): Justified | undefined {
  return list.find(each => each.agree(line, ours, theirs));
}

/** Those that a QEMU of that series can hit. */
export function justifiedFor(series: string, list: readonly Justified[] = JUSTIFIED): readonly Justified[] {
  return list.filter(each => each.series?.includes(series) ?? true);
}
