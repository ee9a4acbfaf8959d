// Tables, queue and status words above 4 GiB: the high dword of every address counts.
import { Access, MemTx } from '@remora/core';
import test from 'ava';
import {
  ContextEntry,
  GlobalCommand,
  PasidDirectoryEntry,
  PasidEntry,
  Pgtt,
  Reg,
  RootEntry,
  ScalableContextEntry,
  ScalableRootEntry,
  Ttm,
  WaitDescriptor,
} from '../spec/index.js';
import { Bench, DID, FULL, RID } from './bench.test.helper.js';

/** The first frame above 4 GiB, where this bench's memory is; below it nothing answers. */
const HIGH = 0x10_0000;
const IOVA = 0x12_3456_7000n;

function highBench(): Bench {
  const bench = new Bench(FULL);
  const { ram } = bench.memory;
  bench.memory.load = (hi, lo, out, at, count) => (hi === 1 ? ram.load(0, lo, out, at, count) : MemTx.DECODE_ERROR);
  bench.memory.store = (hi, lo, from, at, count) => (hi === 1 ? ram.store(0, lo, from, at, count) : MemTx.DECODE_ERROR);
  return bench;
}

/** Four tables of either stage; returns the frame of the first, as entries name it. */
function tables(bench: Bench, link: bigint, leaf: bigint): number {
  const root = bench.page();
  let table = root;
  for (let level = 4; level >= 1; level--) {
    const next = level === 1 ? 0 : bench.page();
    const index = Number((IOVA >> BigInt(3 + 9 * level)) & 511n);
    bench.put64(table * 4096 + index * 8, level === 1 ? leaf : (BigInt(next + HIGH) << 12n) | link);
    table = next;
  }
  return root + HIGH;
}

const LEAF = (0x23_4567n << 12n) | 3n;
const MAPPED = 0x2_3456_7000;

test('legacy mode: root, context and second-stage tables', t => {
  const bench = highBench();
  const [root, contexts] = [bench.page(), bench.page()];
  const second = tables(bench, 3n, LEAF);
  bench.put(root * 4096 + (RID >>> 8) * 16, RootEntry.encode({ p: 1, ctp: contexts + HIGH }));
  bench.put(contexts * 4096 + (RID & 0xff) * 16, ContextEntry.encode({ p: 1, ssptptr: second, aw: 2, did: DID }));
  bench.setRoot(root + HIGH);
  bench.command(GlobalCommand.TE);
  t.like(bench.request(IOVA, Access.WRITE), { to: MAPPED, shift: 12 });
});

test('scalable mode: PASID directory, PASID table and first-stage tables, whose accessed bits are set there', t => {
  const bench = highBench();
  const [root, contexts, directory, entries] = [bench.page(), bench.page(), bench.page(), bench.page()];
  const first = tables(bench, 7n, LEAF | 4n);
  bench.put(root * 4096 + (RID >>> 8) * 16, ScalableRootEntry.encode({ lp: 1, lctp: contexts + HIGH }));
  const context = ScalableContextEntry.encode({ p: 1, pasiddirptr: directory + HIGH });
  bench.put(contexts * 4096 + (RID & 0x7f) * 32, context);
  bench.put(directory * 4096, PasidDirectoryEntry.encode({ p: 1, smptblptr: entries + HIGH }));
  bench.put(entries * 4096, PasidEntry.encode({ p: 1, pgtt: Pgtt.FIRST_STAGE, fsptptr: first, did: DID, pwsnp: 1 }));
  bench.setRoot(root + HIGH, Ttm.SCALABLE);
  bench.command(GlobalCommand.TE);
  t.like(bench.request(IOVA, Access.READ), { to: MAPPED, shift: 12 });
  const top = (first - HIGH) * 4096 + Number((IOVA >> 39n) & 511n) * 8;
  t.is(bench.get64(top) & 0x20n, 0x20n);
});

test('the invalidation queue, and a status word', t => {
  const bench = highBench();
  const [queue, status] = [bench.page(), bench.page()];
  const wait = WaitDescriptor.encode({
    type: 5,
    sw: 1,
    statusData: 0xabcd,
    statusAddressLow: (status * 4096) / 4,
    statusAddressHigh: 1,
  });
  bench.put(queue * 4096, wait.slice(0, 4));
  bench.write64(Reg.IQA, (queue + HIGH) * 4096);
  bench.command(GlobalCommand.QIE);
  bench.write32(Reg.IQT, 0x10);
  t.is(bench.read32(Reg.FSTS), 0);
  t.is(bench.get64(status * 4096), 0xabcdn);
});
