/** Paging entries, and what a translation answers. */
import { Access, AddressSpace, MemTx, Ram, Region, TxAttrs } from '@remora/core';
import { Pgtt } from '../../spec/index.js';
import {
  legacyBench,
  NOWHERE,
  RID,
  scalableBench,
  type ScalableTables,
  type Tables,
  type Values,
} from '../bench.test.helper.js';
import { VtdAddressSpaces } from '../pci-adapter.js';
import type { Departures, Profile } from './departure.test.helper.js';

const { READ, WRITE, EXECUTE, READ_WRITE } = Access;
const ALL = READ_WRITE | EXECUTE;
const RW = 3n;
const PAGE = 0x5000n;
/** P, R/W and U/S; A; D. */
const PTE = 7n;
const A = 0x20n;
const D = 0x40n;

/** A page of legacy mode whose leaf is `leaf` below entries with the bits `link`. */
function legacyPage(profile: Profile, leaf: bigint, link = RW, options: object = {}, level = 1): Tables {
  const tables = legacyBench({ ...profile, ...options });
  tables.bench.mapAt(tables.second, 4, PAGE, leaf, link, level);
  return tables;
}

function secondStage(profile: Profile, entry: Values = {}): ScalableTables {
  return scalableBench({ ...profile, 'x-scalable-mode': 'on' }, { fsptptr: 0, ...entry });
}

/** A first-stage page whose entries have the bits `bits`; the guest says that walks are to be snooped, or not. */
function firstStage(profile: Profile, bits: bigint, snooped: boolean): ScalableTables & { readonly leaf: number } {
  const options = {
    ...profile,
    'x-scalable-mode': 'on',
    'x-flts': true,
    'x-smpwcs': profile.compat === 'spec',
  } as const;
  const entry = { pgtt: Pgtt.FIRST_STAGE, aw: 0, ssptptr: 0, pwsnp: Number(snooped) };
  const tables = scalableBench(options, entry);
  return { ...tables, leaf: tables.bench.mapAt(tables.first, 4, PAGE, 0x9000n | bits, bits) };
}

export const WALKS: Departures = {
  allOnesUnreadable: {
    what: 'an entry of all ones counts as one that cannot be read',
    program: profile => legacyPage(profile, 0xffff_ffff_ffff_ffffn).bench.fault(PAGE),
    spec: 0x0c,
    qemu: 0x07,
  },
  lenientLeaves: {
    what: 'leaves may have SNP where scalable mode is offered, and bit 62 where device TLBs are',
    program: profile => [
      legacyPage(profile, 0x9803n, RW, { 'x-scalable-mode': 'on' }).bench.fault(PAGE),
      legacyPage(profile, 0x4000_0000_0000_9003n, RW, { 'device-iotlb': true }).bench.fault(PAGE),
      legacyPage(profile, 0x9803n).bench.fault(PAGE),
    ],
    spec: [0x0c, 0x0c, 0x0c],
    qemu: [0, 0, 0x0c],
  },
  earlyPermission: {
    what: 'a missing permission is found before reserved bits below it',
    program: profile => legacyPage(profile, 0x9803n, 1n).bench.fault(PAGE, WRITE),
    spec: 0x0c,
    qemu: 0x05,
  },
  answersSpanInterrupts: {
    what: 'the answer to a request without PASID may be a page around the interrupt range',
    program: profile => {
      const { bench, second } = legacyBench(profile);
      bench.mapAt(second, 4, 0xc000_0000n, 0x83n, RW, 3);
      return bench.request(0xfedf_f000, WRITE);
    },
    spec: { to: 0x3edf_f000, shift: 12, access: ALL },
    qemu: { to: 0, shift: 30, access: ALL },
  },
  interruptRangeByPage: {
    what: 'a page whose output merely overlaps the interrupt range is refused as a whole',
    program: profile => {
      const { bench, second } = legacyBench(profile);
      bench.mapAt(second, 4, 0x4000_0000n, 0xc000_0083n, RW, 3);
      return [bench.fault(0x4000_0000), bench.fault(0x4000_0000 + 0x3ee0_0000)];
    },
    spec: [0, 0x0e],
    qemu: [0x0e, 0x0e],
  },
  interruptReasonByCapability: {
    what: "where scalable mode is offered, legacy mode reports an output in the interrupt range with scalable mode's reason",
    program: profile =>
      (['off', 'on'] as const).map(mode =>
        legacyPage(profile, 0xfee0_0003n, RW, { 'x-scalable-mode': mode }).bench.fault(PAGE),
      ),
    spec: [0x0e, 0x0e],
    qemu: [0x0e, 0x87],
  },
  interruptRangeReadsZero: {
    what: 'a read in the interrupt range finds zeros, and no fault',
    program: profile => {
      const { bench } = legacyBench(profile);
      const memory = new AddressSpace('memory', Region.ram('ram', Ram.allocate(0x1000)));
      const spaces = new VtdAddressSpaces(bench.unit, memory, { name: 'vtd' });
      const attrs = new TxAttrs();
      attrs.requesterId = RID;
      const bytes = Uint8Array.of(1, 2, 3, 4);
      const result = spaces.addressSpaceFor().readAs(0, 0xfee0_1000, bytes, attrs);
      return { result, bytes: result === MemTx.OK ? [...bytes] : undefined, recorded: bench.offered };
    },
    spec: { result: MemTx.ACCESS_ERROR, bytes: undefined, recorded: [0x0e] },
    qemu: { result: MemTx.OK, bytes: [0, 0, 0, 0], recorded: [] },
  },
  readHidesWrite: {
    what: 'the answer to a read does not grant writing',
    program: profile => legacyPage(profile, 0x9003n).bench.request(PAGE),
    spec: { to: 0x9000, shift: 12, access: ALL },
    qemu: { to: 0x9000, shift: 12, access: READ | EXECUTE },
  },
  firstStageWidthLimited: {
    what: 'the second-stage width of a PASID entry limits the addresses that the first stage takes',
    program: profile => {
      const { bench } = firstStage(profile, PTE, true);
      return [PAGE, 1n << 29n, -1n << 29n].map(iova => bench.fault(BigInt.asUintN(64, iova)));
    },
    spec: [0, 0x71, 0x71],
    qemu: [0, 0x80, 0x71],
  },
  dirtyAfterAccessed: {
    what: 'a write does not set D where A is set',
    program: profile => {
      const { bench, leaf } = firstStage(profile, PTE | A, true);
      return { reason: bench.fault(PAGE, WRITE), leaf: bench.get64(leaf) };
    },
    spec: { reason: 0, leaf: 0x9000n | PTE | A | D },
    qemu: { reason: 0, leaf: 0x9000n | PTE | A },
  },
  updateUnsnooped: {
    what: 'A is set although the walk is not snooped',
    program: profile => {
      const { bench, leaf } = firstStage(profile, PTE, false);
      return { reason: bench.fault(PAGE), leaf: bench.get64(leaf) };
    },
    spec: { reason: 0x90, leaf: 0x9000n | PTE },
    qemu: { reason: 0, leaf: 0x9000n | PTE | A },
  },
  scalableSecondStage: {
    what: "the second stage has legacy mode's reasons in scalable mode, but for the interrupt range",
    program: profile => {
      const page = (leaf: bigint, access: number, link = RW): number => {
        const { bench, second } = secondStage(profile);
        bench.mapAt(second, 4, PAGE, leaf, link);
        return bench.fault(PAGE, access);
      };
      const { bench } = secondStage(profile);
      const lower = secondStage(profile);
      lower.bench.put64(lower.second * 4096, BigInt(NOWHERE * 4096) | 3n);
      return {
        width: bench.fault(1n << 48n),
        notPresent: [bench.fault(PAGE, READ), bench.fault(PAGE, WRITE)],
        denied: [page(0x9002n, READ), page(0x9001n, WRITE)],
        reserved: page(0x4000_0000_0000_9003n, READ),
        unreadable: [secondStage(profile, { ssptptr: NOWHERE }).bench.fault(PAGE), lower.bench.fault(PAGE)],
        interruptRange: page(0xfee0_0003n, READ),
      };
    },
    spec: {
      width: 0x84,
      notPresent: [0x79, 0x79],
      denied: [0x86, 0x85],
      reserved: 0x7a,
      unreadable: [0x7b, 0x78],
      interruptRange: 0x87,
    },
    qemu: {
      width: 0x04,
      notPresent: [0x06, 0x05],
      denied: [0x06, 0x05],
      reserved: 0x0c,
      unreadable: [0x03, 0x07],
      interruptRange: 0x87,
    },
  },
};
