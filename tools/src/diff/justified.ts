/**
 * Differences that are as they should be. The complete list, reviewed: what is not here is a fault of one side. An entry that nothing
 * hits is reported, since it hides what comes later.
 */
import { Reg } from '@hw/intel-iommu/spec';
import { REGISTERS } from './layout.js';
import type { Line } from './program.js';

export interface Justified {
  readonly id: string;
  readonly section: string;
  readonly reason: string;
  /** Whether this is about that line, and all that differs in its replies. */
  readonly agree: (line: Line, ours: string, theirs: string) => boolean;
}

const CAP_TOP_BYTE = 'OK 0x'.length + (Reg.CAP + 7) * 2;
const ESRTPS = 0x80;

export const JUSTIFIED: readonly Justified[] = [
  {
    id: 'cap-esrtps',
    section: 'VT-d 11.4.2, CAP.ESRTPS',
    reason:
      'the profile follows QEMU 10.2, which reports that setting the root table pointer flushes the caches; QEMU 10.0 flushes too, but does not report it',
    agree: ({ text }, ours, theirs) => {
      const at = text === `read 0x${REGISTERS.toString(16)} 0x10` ? CAP_TOP_BYTE : undefined;
      if (text === `readq 0x${(REGISTERS + Reg.CAP).toString(16)}`) return same(ours, theirs, 'OK 0x'.length);
      if (text === `readl 0x${(REGISTERS + Reg.CAP + 4).toString(16)}`)
        return same(ours, theirs, 'OK 0x00000000'.length);
      return at !== undefined && same(ours, theirs, at);
    },
  },
];

/** The replies are the same but for ESRTPS in the byte whose two digits are `at` this place. */
function same(ours: string, theirs: string, at: number): boolean {
  const byte = (parseInt(theirs.slice(at, at + 2), 16) | ESRTPS).toString(16).padStart(2, '0');
  return ours === theirs.slice(0, at) + byte + theirs.slice(at + 2);
}

/** The entry that explains a difference. */
export function justification(line: Line, ours: string, theirs: string): Justified | undefined {
  return JUSTIFIED.find(each => each.agree(line, ours, theirs));
}
