/** Runs both sides by turns and takes the median of the ratios. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compilePeer } from './compile.js';
import { Peer, type Run } from './peer.js';
import type { Against, Work } from './works.js';

const WORKER = fileURLToPath(new URL('worker.js', import.meta.url));

/** One line of the result. */
export interface Row {
  readonly work: string;
  readonly peer: string;
  /** Our time by the peer's: the median. */
  readonly ratio: number;
  /** At most. */
  readonly target: number;
  readonly met: boolean;
}

/** The two sides did not compute the same. */
export class DifferentResults extends Error {
  override readonly name = 'DifferentResults';
}

export interface Comparison {
  readonly rows: readonly Row[];
  /** Peers that could not be had, and why. */
  readonly skipped: readonly string[];
  /** What people want to know besides ratios. */
  readonly notes?: readonly string[];
}

/** @throws DifferentResults */
export async function compare(work: Work, rounds = work.rounds): Promise<Comparison> {
  const folder = mkdtempSync(join(tmpdir(), 'remora-bench-'));
  const rows: Row[] = [];
  const skipped: string[] = [];
  try {
    const args = [WORKER, work.kernel, String(work.entries), folder];
    // Our side first: it leaves the tables that the peers read.
    using ours = await Peer.start(work.title, process.execPath, args);
    for (const against of work.against) {
      if (against.limit !== undefined) {
        rows.push(row(work, against, await ratios(ours, undefined, against, rounds)));
        continue;
      }
      const program = compilePeer(against.program!, folder);
      if ('missing' in program) {
        skipped.push(`${work.title}: ${program.missing}`);
        continue;
      }
      const peerArgs = [folder, String(work.entries), against.mode ?? ''];
      using theirs = await Peer.start(against.name, program.path, peerArgs);
      rows.push(row(work, against, await ratios(ours, theirs, against, rounds)));
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return { rows, skipped };
}

async function ratios(ours: Peer, theirs: Peer | undefined, against: Against, rounds: number): Promise<number[]> {
  const found: number[] = [];
  const warmUp = Math.ceil(rounds / 3);
  for (let round = -warmUp; round < rounds; round++) {
    const our = await ours.run();
    const their: Run = (await theirs?.run()) ?? { nanoseconds: against.limit!, checksum: our.checksum };
    if (our.checksum !== their.checksum) {
      throw new DifferentResults(`against ${against.name}: checksums ${our.checksum} and ${their.checksum}`);
    }
    if (round >= 0) found.push(our.nanoseconds / their.nanoseconds);
  }
  return found;
}

function row(work: Work, against: Against, found: readonly number[]): Row {
  const ratio = [...found].sort((a, b) => a - b)[found.length >> 1]!;
  return { work: work.title, peer: against.name, ratio, target: against.target, met: ratio <= against.target };
}
