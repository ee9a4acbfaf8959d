/** Runs both sides by turns and takes the median of the ratios. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compilePeer } from './compile.js';
import { ratioRow, timesNote } from './times.js';
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
  const notes: string[] = [];
  const take = (against: Against, { ours, theirs }: Times): void => {
    rows.push(ratioRow(work.title, against.name, against.target, ours, theirs));
    if (work.times === true) notes.push(timesNote(work.title, 'ns', ['Remora', against.name], [ours, theirs]));
  };
  try {
    const args = [WORKER, work.kernel, String(work.entries), folder];
    // Our side first: it leaves the tables that the peers read.
    using ours = await Peer.start(work.title, process.execPath, args);
    for (const against of work.against) {
      if (against.limit !== undefined) {
        take(against, await times(ours, undefined, against, rounds));
        continue;
      }
      const program = compilePeer(against.program!, folder);
      if ('missing' in program) {
        skipped.push(`${work.title}: ${program.missing}`);
        continue;
      }
      const peerArgs = [folder, String(work.entries), against.mode ?? ''];
      using theirs = await Peer.start(against.name, program.path, peerArgs);
      take(against, await times(ours, theirs, against, rounds));
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return { rows, skipped, notes };
}

/** Nanoseconds of an operation, by rounds. */
interface Times {
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
}

async function times(ours: Peer, theirs: Peer | undefined, against: Against, rounds: number): Promise<Times> {
  const found: { ours: number[]; theirs: number[] } = { ours: [], theirs: [] };
  const warmUp = Math.ceil(rounds / 3);
  for (let round = -warmUp; round < rounds; round++) {
    const our = await ours.run();
    const their: Run = (await theirs?.run()) ?? { nanoseconds: against.limit!, checksum: our.checksum };
    if (our.checksum !== their.checksum) {
      throw new DifferentResults(`against ${against.name}: checksums ${our.checksum} and ${their.checksum}`);
    }
    if (round < 0) continue;
    found.ours.push(our.nanoseconds);
    found.theirs.push(their.nanoseconds);
  }
  return found;
}
