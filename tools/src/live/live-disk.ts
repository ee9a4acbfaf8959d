/** The disk of a live machine as the host knows it; tools/live/init.sh has the same parts. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const MIB = 2 ** 20;
const KIB = 2 ** 10;

/** Bytes of the disk. */
export const DISK_BYTES = 40 * MIB;

/** From the first byte of a part to the one after its last. */
type Part = readonly [start: number, end: number];

/** What the host gives; the first of it is read at once, the others in small pieces, both at the same time. */
const GIVEN: Part = [0, 16 * MIB];
const PIECES: readonly Part[] = [
  [0, 2000 * KIB],
  [4000 * KIB, 6000 * KIB],
];
/** What the guest writes: at once, and in small pieces. */
const WRITTEN: Part = [16 * MIB, 20 * MIB];
const WRITTEN_PIECES: Part = [32 * MIB, 32 * MIB + 1000 * KIB];

/** Small pieces that the guest transfers: each is mapped and unmapped. */
export const SMALL_TRANSFERS = 500 + 500 + 250 + 250;

/** MD5 sums of parts. */
export interface DiskReport {
  readonly given: string;
  readonly written: string;
  /** The two that are read, and the one that is written and read again, in small pieces. */
  readonly pieces: readonly string[];
  /** Everything that the guest has no business to write. */
  readonly rest: string;
}

export function diskReport(file: string): DiskReport {
  const bytes = readFileSync(file);
  const sum = (...parts: readonly Part[]): string => {
    const hash = createHash('md5');
    for (const [start, end] of parts) hash.update(bytes.subarray(start, end));
    return hash.digest('hex');
  };
  return {
    given: sum(GIVEN),
    written: sum(WRITTEN),
    pieces: [...PIECES, WRITTEN_PIECES].map(each => sum(each)),
    rest: sum(GIVEN, [WRITTEN[1], WRITTEN_PIECES[0]], [WRITTEN_PIECES[1], DISK_BYTES]),
  };
}
