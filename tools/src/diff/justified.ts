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

/** What programs do not do, so that nothing is known of it. */
export interface LeftOut {
  readonly what: string;
  readonly section: string;
  readonly reason: string;
}

export const LEFT_OUT: readonly LeftOut[] = [
  {
    what: 'Requests with a PASID, requests of device TLBs, page requests',
    section: 'VT-d 3.9, 4, 7.4',
    reason: 'edu and iommu-testdev make none; recordings and guest programs cover them',
  },
  {
    what: 'Interrupt remapping, and interrupts of devices',
    section: 'VT-d 5',
    reason: 'qtest sees no message that reaches the halted processor; recordings cover it',
  },
  {
    what: 'Writes of devices to the interrupt range',
    section: 'VT-d 3.15',
    reason: 'they are interrupts, and of the wrong kind would start the halted processor',
  },
  {
    what: 'Register-based invalidation, and moving the queue, the root table or the fault event while they are used',
    section: 'VT-d 6.5.1, 11.4',
    reason: 'a program that loses its tables tells nothing more',
  },
  {
    what: 'Writes of 8 bytes to registers of 4',
    section: 'VT-d 11.2',
    reason: 'QEMU 10.0 aborts',
  },
  {
    what: 'A wait descriptor with both a status write and an interrupt',
    section: 'VT-d 6.5.2.8',
    reason: 'QEMU 10.0 aborts',
  },
  {
    what: 'A wait descriptor with a fence alone',
    section: 'VT-d 6.5.2.8',
    reason: 'QEMU 10.0 stops the queue, QEMU 10.2, which the profile follows, does not',
  },
  {
    what: 'Reserved bits of PASID-cache descriptors, and address masks of PASID-IOTLB ones that are too large',
    section: 'VT-d 6.5.2',
    reason: 'QEMU 10.0 does not look at them, QEMU 10.2 does',
  },
];
