/** Faults of a host's unit as the guest reads them, and those that it does not read. */
import test from 'ava';
import { Access, NO_PASID } from '@remora/core';
import { Fault, Fsts, GlobalCommand, PasidEntry, Pgtt, Reg, ScalableContextEntry } from '../../spec/index.js';
import { DID, RID } from '../bench.test.helper.js';
import { type Hosted, hosted, PASID } from './hosted-bench.test.helper.js';

/** Reasons that the guest reads as they are: its own paging entries, and what they allow. */
const AS_THEY_ARE = [0x70, 0x71, 0x72, 0x73, 0x80, 0x81, 0x82, 0x85, 0x86, 0x87, 0x90, 0x91, 0x5c, 0x5d];
/** Where the host's second stage refused the guest's tables, the guest had no memory for them. */
const ACCESS_ERRORS = { 0x74: 0x70, 0x75: 0x73, 0x76: 0x70, 0x77: 0x91 };
/** Nothing was bound in the host's tables. */
const UNBOUND = [0x41, 0x45, 0x46, 0x51, 0x59];

function record({ bench }: Hosted, index = 0): bigint[] {
  const base = bench.unit.capabilities.faultRecordBase + 16 * index;
  return [bench.read64(base), bench.read64(base + 8)];
}

function reasonOf(at: Hosted): number {
  return Number((record(at)[1]! >> 32n) & 0xffn);
}

test('a fault is the guest’s own, bit by bit; an event tells it', t => {
  const at = hosted();
  const { bench, host } = at;
  bench.write32(Reg.FEADDR, 0xfee0_2000);
  bench.write32(Reg.FEDATA, 0x42);
  bench.write32(Reg.FECTL, 0);
  host.fault(Fault.SFS_2, { hi: 1, lo: 0x7123 });
  t.deepEqual(record(at), [0x1_0000_7000n, 0x8000_0571_8000_0113n]);
  t.is(bench.read32(Reg.FSTS), Fsts.PPF);
  t.deepEqual(bench.messages, [{ address: 0xfee0_2000, data: 0x42 }]);
  t.like(at.logged('host-fault-report')[0], { context: 'host', requesterId: RID, reason: 0x71, told: 0x71 });
});

test('type, PASID and attributes: reads, atomics, executes, translation requests, none', t => {
  const second = (values: object): bigint => {
    const at = hosted();
    at.host.fault(Fault.SFS_2, values);
    return (record(at)[1]! >> 1n) << 1n;
  };
  const base = 0x8000_0071_0000_0112n;
  t.is(second({ access: Access.READ }), base | (1n << 62n) | (5n << 40n) | (1n << 31n));
  t.is(second({ access: Access.READ_WRITE }), base | (1n << 62n) | (5n << 40n) | (1n << 31n) | (1n << 28n));
  t.is(
    second({ access: Access.READ | Access.EXECUTE | Access.PRIVILEGED }),
    base | (1n << 62n) | (5n << 40n) | (7n << 29n),
  );
  t.is(second({ access: Access.READ, addressType: 1 }), base | (1n << 62n) | (1n << 60n) | (5n << 40n) | (1n << 31n));
  t.is(second({ pasid: NO_PASID, access: Access.WRITE }), base);
});

test('every reason: told as it is, in the guest’s terms, or kept; all are in the ledger', t => {
  for (let reason = 0; reason < 0x100; reason++) {
    const at = hosted();
    at.host.fault(reason);
    const mapped = ACCESS_ERRORS[reason as keyof typeof ACCESS_ERRORS] ?? 0;
    const expected = AS_THEY_ARE.includes(reason) ? reason : UNBOUND.includes(reason) ? Fault.SPT_2 : mapped;
    t.is(reasonOf(at), expected, `reason 0x${reason.toString(16)}`);
    t.deepEqual(
      at.logged('host-fault-report').map(event => [event['reason'], event['told']]),
      [[reason, expected]],
    );
    t.is(at.warnings.length, expected === 0 ? 1 : 0);
    t.is(at.bench.read32(Reg.FSTS), expected === 0 ? 0 : Fsts.PPF);
  }
});

test('a host of another format: nothing of what it says is VT-d’s', t => {
  const at = hosted();
  at.host.stage1Format = 2;
  at.host.fault(Fault.SFS_2);
  t.is(reasonOf(at), 0);
  t.like(at.logged('host-fault-report')[0], { told: 0 });
});

/** What the guest’s tables say where the host has nothing bound. */
const TABLES: Record<
  string,
  { readonly change: (at: Hosted) => void; readonly pasid?: number; readonly reason: number }
> = {
  'entry not present': { change: ({ bench, entryOf }) => bench.put64(entryOf(PASID), 0n), reason: Fault.SPT_2 },
  'entry present, not invalidated since': { change: () => undefined, reason: Fault.SPT_2 },
  'entry of a reserved type': { change: ({ bench, entryOf }) => bench.put64(entryOf(PASID), 1n), reason: Fault.SPT_4 },
  'directory entry not present': {
    change: ({ bench, directory }) => bench.put64(directory * 4096, 0n),
    reason: Fault.SPD_2,
  },
  'PASID beyond the directory': { change: () => undefined, pasid: 0x4_0000, reason: Fault.SCT_7 },
  'no PASIDs': {
    change: ({ bench, context, directory }) =>
      bench.put(context, ScalableContextEntry.encode({ p: 1, pasiddirptr: directory })),
    reason: Fault.SCT_6,
  },
  'context not present': { change: ({ bench, context }) => bench.put64(context, 0n), reason: Fault.SCT_2 },
  'root not present': { change: ({ bench, rootEntry }) => bench.put64(rootEntry, 0n), reason: Fault.SRT_2 },
};
for (const [name, { change, pasid = PASID, reason }] of Object.entries(TABLES)) {
  test(`nothing is bound, and the guest’s own tables say why: ${name}`, t => {
    const at = hosted();
    change(at);
    at.host.fault(Fault.SPT_2, { pasid });
    t.is(reasonOf(at), reason);
  });
}

for (const [name, suppress] of Object.entries({
  'of the context entry': ({ bench, context }: Hosted) => bench.flip(context, 1),
  'of the directory entry': ({ bench, directory }: Hosted) => bench.flip(directory * 4096, 1),
  'of the PASID entry': ({ bench, entryOf }: Hosted) => bench.flip(entryOf(PASID), 1),
})) {
  test(`FPD ${name} suppresses a fault`, t => {
    const at = hosted();
    suppress(at);
    at.host.fault(Fault.SFS_2);
    t.deepEqual([record(at), at.bench.read32(Reg.FSTS)], [[0n, 0n], 0]);
    t.deepEqual(at.bench.suppressed, [Fault.SFS_2]);
    t.like(at.logged('host-fault-report')[0], { reason: Fault.SFS_2 });
  });
}

test('FPD of RID_PASID’s entry counts for requests without PASID', t => {
  const at = hosted();
  at.bench.put(at.entry, PasidEntry.encode({ p: 1, fpd: 1, pgtt: Pgtt.FIRST_STAGE, did: DID, fsptptr: at.first }));
  at.host.fault(Fault.SFS_2, { pasid: NO_PASID });
  t.is(reasonOf(at), 0);
  at.host.fault(Fault.SFS_2);
  t.is(reasonOf(at), Fault.SFS_2);
});

test('overflow: a full ring loses faults, and says so, until software has cleared it', t => {
  const at = hosted({ 'fault-records': 2 });
  const { bench, host } = at;
  for (const page of [1, 2, 3]) host.fault(Fault.SFS_2, { lo: page * 4096 });
  t.is(bench.read32(Reg.FSTS), Fsts.PPF | Fsts.PFO);
  t.deepEqual([record(at, 0)[0], record(at, 1)[0]], [0x1000n, 0x2000n]);
  t.is(at.logged('host-fault-report').length, 3, 'the ledger has them all');
  const base = bench.unit.capabilities.faultRecordBase;
  for (const index of [0, 1]) bench.write32(base + 16 * index + 12, 0x8000_0000);
  bench.write32(Reg.FSTS, Fsts.PFO);
  host.fault(Fault.SFS_2, { lo: 0x4000 });
  t.is(record(at, 0)[0], 0x4000n);
});

test('a guest that does not translate is told nothing', t => {
  const at = hosted();
  at.bench.write32(Reg.GCMD, at.bench.read32(Reg.GSTS) & 0x96ff_ffff & ~GlobalCommand.TE);
  at.host.fault(Fault.SFS_2);
  t.is(reasonOf(at), 0);
  t.is(at.logged('host-fault-report').length, 1);
});
