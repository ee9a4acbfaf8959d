// The recordings of guests explain themselves: a walker that knows nothing but VT-d's tables reproduces every translation from what the parser
// and the replay memory make of a recording. Random programs leave entries stale and tables damaged, which it knows nothing of.
import { basename } from 'node:path';
import test from 'ava';
import { Access } from '@remora/core';
import { guestRecordings, readTrace, ReplayMemory, type TraceOperation, type TranslationLine } from '@remora/tools';
import { NaiveWalker } from './naive-walker.js';

const GCMD = 0x18;
const RTADDR = 0x20;
const SRTP = 1 << 30;

interface Counts {
  translated: number;
  refused: number;
}

async function walkAll(file: string): Promise<Counts & { wrong: string[] }> {
  const memory = new ReplayMemory(() => undefined);
  const walker = new NaiveWalker(memory);
  const result = { translated: 0, refused: 0, wrong: [] as string[] };
  let root = 0n;
  for await (const item of readTrace(file)) {
    if ('cap' in item) continue;
    remember(memory, item);
    const { line } = item;
    if (line.kind === 'W' && line.offset === RTADDR) root = (BigInt(line.value.hi) << 32n) | BigInt(line.value.lo);
    if (line.kind === 'W' && line.offset === GCMD && (line.value.lo & SRTP) !== 0) walker.root = root;
    if (line.kind !== 'T' && line.kind !== 'TF') continue;
    result[line.kind === 'T' ? 'translated' : 'refused']++;
    const got = answer(walker, line);
    if (got !== line.text) result.wrong.push(`line ${line.number}: ${line.text}, walked ${got}`);
  }
  return result;
}

function remember(memory: ReplayMemory, { nested }: TraceOperation): void {
  for (const line of nested) {
    if ((line.kind === 'MR' || line.kind === 'MW') && line.bytes !== undefined) {
      memory.put(line.address.hi, line.address.lo, line.bytes);
    }
  }
}

/** The line as the walker would have written it; a refusal with the recorded reason, which it does not know. */
function answer(walker: NaiveWalker, line: TranslationLine): string {
  const walk = walker.translate(line.requesterId, (BigInt(line.address.hi) << 32n) | BigInt(line.address.lo));
  const wantsWrite = (line.access & Access.WRITE) !== 0;
  const allowed = walk !== undefined && (wantsWrite ? walk.write : walk.read);
  if (!allowed) return line.kind === 'TF' ? line.text : 'refused';
  const rights = `${walk.read ? 'r' : ''}${walk.write && wantsWrite ? 'w' : ''}`;
  return `${line.text.split(' -> ')[0]} -> ${walk.page.toString(16)} ${walk.mask.toString(16)} ${rights}`;
}

const EXPECTED: Readonly<Record<string, Counts>> = {
  A61: { translated: 3712, refused: 0 },
  B72: { translated: 3945, refused: 0 },
  C61: { translated: 3037, refused: 0 },
  D61: { translated: 3718, refused: 0 },
  E61leg: { translated: 202, refused: 38 },
  E72flt: { translated: 202, refused: 38 },
  F72ats: { translated: 3763, refused: 0 },
  P72pt: { translated: 0, refused: 0 },
  'Q-intel-iommu-test': { translated: 0, refused: 0 },
  'Q-iommu-intel-test-legacy-trans': { translated: 1, refused: 0 },
  'Q-iommu-intel-test-scalable-flt': { translated: 1, refused: 0 },
  V61leg: { translated: 324, refused: 52 },
  V72flt: { translated: 323, refused: 52 },
};

test('the recordings of guests are the ones listed here', t => {
  t.deepEqual(guestRecordings().map(nameOf).sort(), Object.keys(EXPECTED).sort());
});

for (const file of guestRecordings()) {
  test(`${nameOf(file)}: a naive walk over the rebuilt memory finds every translation`, async t => {
    t.deepEqual(await walkAll(file), { ...EXPECTED[nameOf(file)]!, wrong: [] });
  });
}

function nameOf(file: string): string {
  return basename(file, '.trace.gz');
}
