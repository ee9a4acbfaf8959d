/** Who finds out about a mutant: a shipped recording that is replayed on it, or unit tests that are run on it, in a process of its own. */
import { execFile } from 'node:child_process';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { shippedRecordings } from '@remora/tools';
import { MORTAL } from '../rig/processes.js';
import type { Workshop } from './workshop.js';

export type Judge =
  | { readonly recording: string }
  /** A compiled test file, and which of its tests (a pattern for AVA's --match). */
  | { readonly tests: string; readonly match: string };

/** What a judge says: how many things it found right, and the first it found wrong. */
export interface Judgement {
  readonly right: number;
  readonly wrong: number;
  readonly first: string;
}

const PARALLEL = 2;

export function nameOf(judge: Judge): string {
  return 'recording' in judge ? `recording ${judge.recording}` : `${basename(judge.tests)} "${judge.match}"`;
}

/** Whether a judge needs more than the model's own packages: in machines every package must be the workshop's. */
export function needsMachines(judge: Judge): boolean {
  return 'tests' in judge && !/^(hw\/intel-iommu|packages\/iommu)\//.test(judge.tests);
}

/** @throws Error if the judge cannot judge: the model does not load, nothing matches, time is up. */
export function judge(workshop: Workshop, by: Judge): Promise<Judgement> {
  return 'recording' in by ? replay(workshop, by.recording) : runTests(workshop, [by.tests], [by.match]);
}

/** All of them at once, to see that they find nothing wrong where nothing is. Recordings and tests are judged separately. */
export function judgeTogether(workshop: Workshop, judges: readonly Judge[]): Promise<Judgement[]> {
  const recordings = new Set(judges.flatMap(each => ('recording' in each ? [each.recording] : [])));
  const tests = judges.filter(each => 'tests' in each);
  const files = [...new Set(tests.map(each => each.tests))];
  return Promise.all([
    runTests(workshop, files, [...new Set(tests.map(each => each.match))]),
    ...[...recordings].map(each => replay(workshop, each)),
  ]);
}

async function replay(workshop: Workshop, recording: string): Promise<Judgement> {
  const file = shippedRecordings().find(each => basename(each) === `${recording}.trace.gz`);
  if (file === undefined) throw new Error(`no recording ${recording} is shipped`);
  return replayOn(workshop, file);
}

/** Replays the recording `file`. @throws Error if the workshop's model does not load. */
export async function replayOn(workshop: Workshop, file: string): Promise<Judgement> {
  const replayer = pathToFileURL(join(workshop.folder, 'tools/dist/replay/replay-file.js')).href;
  const script = `
    const { replayFile } = await import(${JSON.stringify(replayer)});
    const { compared, mismatches, differences } = await replayFile(${JSON.stringify(file)});
    console.log(JSON.stringify({ compared, mismatches, first: differences[0] }));`;
  const { stdout, stderr } = await child(workshop, ['--input-type=module', '--eval', script]);
  if (stdout === '') throw new Error(`the replay of ${basename(file)} ended early: ${stderr}`);
  const { compared, mismatches, first } = JSON.parse(stdout) as {
    compared: number;
    mismatches: number;
    first?: { line: number; expected: string; got: string };
  };
  const text = first === undefined ? '' : `line ${first.line}: "${first.got}", not "${first.expected}"`;
  return { right: compared - mismatches, wrong: mismatches, first: text };
}

/** Runs the tests that match any of the patterns, in all of the files. */
async function runTests(workshop: Workshop, files: readonly string[], matches: readonly string[]): Promise<Judgement> {
  const ava = join(workshop.folder, 'node_modules/ava/entrypoints/cli.mjs');
  const patterns = matches.flatMap(each => ['--match', each]);
  const { stdout, stderr } = await child(workshop, [ava, '--tap', '--concurrency', '1', ...patterns, ...files]);
  const lines = stdout.split('\n');
  const failed = lines.filter(line => line.startsWith('not ok'));
  const passed = lines.filter(line => line.startsWith('ok') && !line.includes('# SKIP'));
  // A file that does not load is one failed "test" without a number of planned ones.
  const broken = failed.some(line => /exited|No tests|uncaught/i.test(line));
  if (broken || failed.length + passed.length === 0)
    throw new Error(`${files.join()} ${matches.join()}: ${stdout}${stderr}`);
  return { right: passed.length, wrong: failed.length, first: failed[0]?.replace(/^not ok \d+ - /, '') ?? '' };
}

let running = 0;
const waiting: (() => void)[] = [];

/** Runs node in the workshop; not more than PARALLEL at once, in all tests of this process. Its exit code does not matter. */
async function child(workshop: Workshop, args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  if (running === PARALLEL) await new Promise<void>(resolve => waiting.push(resolve));
  else running++;
  try {
    return await new Promise((resolve, reject) => {
      const options = { ...MORTAL, cwd: workshop.folder, maxBuffer: 2 ** 26, env: environment() };
      execFile(process.execPath, args, options, (error, stdout, stderr) => {
        if (error?.killed === true) reject(new Error(`no judgement within ${MORTAL.timeout} ms`));
        else resolve({ stdout, stderr });
      });
    });
  } finally {
    const next = waiting.shift();
    if (next === undefined) running--;
    else next();
  }
}

/** Without what the AVA around us tells its workers. */
function environment(): NodeJS.ProcessEnv {
  const { PATH, HOME, TMPDIR } = process.env;
  return { PATH, HOME, ...(TMPDIR === undefined ? {} : { TMPDIR }), NODE_ENV: 'test' };
}
