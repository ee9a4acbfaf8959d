/** Root, context and PASID entries. */
import { Access } from '@remora/core';
import {
  ContextCacheDescriptor,
  Granularity,
  PasidCacheDescriptor,
  PasidCacheGranularity,
  PasidEntry,
  Pgtt,
  TranslationType,
  type ScalableContextEntry,
} from '../../spec/index.js';
import {
  DID,
  legacyBench,
  NOWHERE,
  RID,
  scalableBench,
  type ScalableTables,
  type Values,
} from '../bench.test.helper.js';
import type { Departures, Profile } from './departure.test.helper.js';

const { READ, PRIVILEGED } = Access;
const PAGE = 0x5000n;
const RW = 3n;
const PASS_THROUGH = { pgtt: Pgtt.PASS_THROUGH, aw: 0, ssptptr: 0 } as const;

/** A unit with second-stage tables in scalable mode, which QEMU has too. */
function scalable(profile: Profile, entry: Values = {}, context: Values = {}): ScalableTables {
  const options = { ...profile, 'x-scalable-mode': 'on', 'x-pasid-mode': true } as const;
  return scalableBench(options, { fsptptr: 0, ...entry }, context);
}

/** The reason after one bit of a structure was inverted. */
function flipped(profile: Profile, structure: (tables: ScalableTables) => number, bit: number): number {
  const tables = scalable(profile);
  tables.bench.flip(structure(tables), bit);
  return tables.bench.fault(PAGE);
}

/** The reason after a structure's pointer was made to lead out of memory. */
function unreadable(profile: Profile, structure: (tables: ScalableTables) => number): number {
  const tables = scalable(profile);
  tables.bench.put64(structure(tables), BigInt(NOWHERE * 4096) | 1n);
  return tables.bench.fault(PAGE);
}

export const LOOKUP: Departures = {
  contextReservedQualified: {
    what: 'FPD does not suppress the fault of reserved bits in a context entry',
    program: profile => {
      const { bench, context } = legacyBench(profile, { fpd: 1 });
      bench.flip(context, 4);
      return { reason: bench.fault(PAGE), recorded: bench.offered };
    },
    spec: { reason: 0x0b, recorded: [] },
    qemu: { reason: 0x0b, recorded: [0x0b] },
  },
  passThroughWidthExact: {
    what: 'a pass-through entry may name any supported width',
    program: profile =>
      [1, 2].map(aw => legacyBench(profile, { tt: TranslationType.PASS_THROUGH, aw }).bench.fault(PAGE)),
    spec: [0x03, 0],
    qemu: [0, 0],
  },
  passThroughLatched: {
    what: 'what passes through does so, whatever the tables say and however wide addresses are, until a context invalidation',
    program: profile => {
      const { bench, entry } = scalable(profile, PASS_THROUGH);
      bench.enableQueue(true);
      const found = [bench.fault(PAGE), bench.fault(1n << 52n)];
      bench.flip(entry, 0);
      bench.submit(PasidCacheDescriptor, { type: 7, g: PasidCacheGranularity.GLOBAL });
      found.push(bench.fault(PAGE));
      bench.submit(ContextCacheDescriptor, { type: 1, g: Granularity.DEVICE, sid: RID });
      return [...found, bench.fault(PAGE)];
    },
    spec: [0, 0x83, 0x59, 0x59],
    qemu: [0, 0, 0, 0x59],
  },
  passThroughPointerChecked: {
    what: 'a pointer of a pass-through entry that does not fit the host address width is reserved bits',
    program: profile => {
      const { bench, context } = legacyBench(profile, { tt: TranslationType.PASS_THROUGH });
      bench.flip(context, 52);
      return bench.fault(PAGE);
    },
    spec: 0,
    qemu: 0x0b,
  },
  rootHalvesCheckedTogether: {
    what: 'a reserved bit of the upper half of a root entry refuses functions of the lower half',
    program: profile => flipped(profile, ({ rootEntry }) => rootEntry, 64 + 4),
    spec: 0x79,
    qemu: 0x0a,
  },
  lookupFpd: {
    what: 'FPD of the PASID directory does not count for faults of the PASID lookup',
    program: profile => {
      const { bench, directory, entry } = scalable(profile);
      bench.flip(directory * 4096, 1);
      bench.flip(entry, 0);
      return { reason: bench.fault(PAGE), recorded: bench.offered };
    },
    spec: { reason: 0x59, recorded: [] },
    qemu: { reason: 0x59, recorded: [0x59] },
  },
  pasidEntriesTrusted: {
    what: 'once the context entry is known, P of the PASID entry does not count, and with FPD of the directory nothing of it',
    program: profile => {
      const { bench, directory, entry, second } = scalable(profile);
      const known = PAGE + 0x1000n;
      bench.mapAt(second, 4, known, 0x9003n, RW);
      bench.enableQueue(true);
      const looked = (): number[] => {
        bench.submit(PasidCacheDescriptor, { type: 7, g: PasidCacheGranularity.GLOBAL });
        return [bench.fault(known), bench.fault(PAGE)];
      };
      const before = looked();
      bench.flip(entry, 0);
      const absent = looked();
      bench.put64(directory * 4096, BigInt(NOWHERE * 4096) | 3n);
      bench.offered.length = 0;
      return { before, absent, unreadable: looked(), recorded: bench.offered };
    },
    spec: { before: [0, 0x79], absent: [0x59, 0x59], unreadable: [0x58, 0x58], recorded: [0x58, 0x58] },
    qemu: { before: [0, 0x06], absent: [0, 0x06], unreadable: [0, 0x59], recorded: [] },
  },
  contextFieldsAlways: {
    what: 'RID_PASID is honoured without ECAP.RPS',
    program: profile => {
      const { bench, entryOf } = scalable(profile, {}, { ridPasid: 9 } satisfies Partial<Fields>);
      bench.put(entryOf(9), PasidEntry.encode({ p: 1, did: DID, ...PASS_THROUGH }));
      return bench.request(0x1000);
    },
    spec: { fault: 0x42 },
    qemu: { to: 0x1000, shift: 12, access: Access.READ_WRITE | Access.EXECUTE },
  },
  pasidLimits: {
    what: 'PASIDE of the context entry and the size of the directory do not limit PASIDs',
    program: profile => {
      const closed = scalable(profile, PASS_THROUGH, { paside: 0 }).bench;
      const open = scalable(profile, PASS_THROUGH, { paside: 1 }).bench;
      // Its entry would be well behind the directory and the tables, in empty memory.
      return [closed.fault(PAGE, READ, 0), open.fault(PAGE, READ, 0), open.fault(PAGE, READ, 0x28000)];
    },
    spec: [0x45, 0, 0x46],
    qemu: [0, 0, 0x51],
  },
  pasidReservedChecked: {
    what: 'reserved bits of PASID directory and entry pass; an absent entry with a wrong type is of a wrong type',
    program: profile => [
      flipped(profile, ({ directory }) => directory * 4096, 2),
      flipped(profile, ({ entry }) => entry, 10),
      scalable(profile, { p: 0, pgtt: 0 }).bench.fault(PAGE),
    ],
    spec: [0x52, 0x5a, 0x59],
    qemu: [0x06, 0x06, 0x5b],
  },
  everyRequestIsUser: {
    what: 'a privileged request needs no SRE',
    program: profile => {
      const { bench, second } = scalable(profile, {}, { paside: 1 });
      bench.mapAt(second, 4, PAGE, 0x9003n, RW);
      return bench.fault(PAGE, READ | PRIVILEGED, 0);
    },
    spec: 0x5d,
    qemu: 0,
  },
  scalableLookup: {
    what: "scalable-mode root and context entries have legacy mode's reasons",
    program: profile => {
      const lookups = [
        flipped(profile, ({ rootEntry }) => rootEntry, 0),
        flipped(profile, ({ rootEntry }) => rootEntry, 4),
        flipped(profile, ({ context }) => context, 0),
        flipped(profile, ({ context }) => context, 5),
        unreadable(profile, ({ rootEntry }) => rootEntry),
      ];
      const { bench } = scalable(profile);
      bench.setRoot(NOWHERE, 1);
      return [...lookups, bench.fault(PAGE)];
    },
    spec: [0x39, 0x3a, 0x41, 0x42, 0x40, 0x38],
    qemu: [0x01, 0x0a, 0x02, 0x0b, 0x09, 0x08],
  },
};

type Fields = Record<keyof typeof ScalableContextEntry.fields, number>;
