import type { RecordType } from '@remora/bits';
import {
  ContextEntry,
  DeviceTlbDescriptor,
  PasidDeviceTlbDescriptor,
  PasidDirectoryEntry,
  PasidEntry,
  Pgtt,
  RootEntry,
  ScalableContextEntry,
  ScalableRootEntry,
  WaitDescriptor,
} from '../spec/index.js';
import type { Behaviour } from './behaviour.js';
import type { Capabilities } from './capabilities.js';

/** A record's reserved bits, and the fields that this unit reserves because it lacks a capability. */
function reservedMask(type: RecordType, fields: readonly string[]): Int32Array {
  const mask = Int32Array.from(type.reserved);
  for (const name of fields) {
    const { msb, lsb } = type.fields[name]!.spec;
    for (let bit = lsb; bit <= msb; bit++) mask[bit >>> 5]! |= 1 << (bit & 31);
  }
  return mask;
}

/** Reserves the bits of the quadword at word `word` from the host address width up. */
function reserveAboveWidth(mask: Int32Array, word: number, width: number): Int32Array {
  mask[word + 1]! |= width >= 64 ? 0 : -1 << (width - 32);
  return mask;
}

/** Whether any bit of `mask` is set in the record at `words[at ..]`. */
export function violates(mask: Int32Array, words: Int32Array, at: number): boolean {
  for (let word = 0; word < mask.length; word++) if ((mask[word]! & words[at + word]!) !== 0) return true;
  return false;
}

/** Reserved bits of every structure, as the unit's capabilities have it (VT-d 9). */
export class ReservedMasks {
  readonly root: Int32Array;
  /** What is checked for requests of the lower and of the upper half. Each covers all four words. */
  readonly scalableRoot: readonly [Int32Array, Int32Array];
  readonly context: Int32Array;
  /** Of a pass-through entry, whose second-stage pointer may be ignored. */
  readonly contextPassThrough: Int32Array;
  readonly scalableContext: Int32Array;
  readonly pasidDirectory: Int32Array;
  /** By PGTT; index 0 for reserved types. */
  readonly pasid: readonly Int32Array[];
  readonly wait: Int32Array;
  readonly deviceTlb: Int32Array;
  readonly pasidDeviceTlb: Int32Array;

  constructor(caps: Capabilities, behaviour: Behaviour) {
    const { contextFieldsAlways } = behaviour;
    const absent = (fields: Record<string, boolean>): string[] => Object.keys(fields).filter(name => !fields[name]);
    const { haw } = caps;
    this.root = reserveAboveWidth(reservedMask(RootEntry, []), 0, haw);
    const scalableRoot = reservedMask(ScalableRootEntry, []);
    const lower = Int32Array.of(scalableRoot[0]!, scalableRoot[1]!, 0, 0);
    const upper = Int32Array.of(0, 0, scalableRoot[2]!, scalableRoot[3]!);
    reserveAboveWidth(lower, 0, haw);
    reserveAboveWidth(upper, 2, haw);
    const both = lower.map((word, index) => word | upper[index]!);
    this.scalableRoot = behaviour.rootHalvesCheckedTogether ? [both, both] : [lower, upper];
    this.context = reserveAboveWidth(reservedMask(ContextEntry, []), 0, haw);
    this.contextPassThrough = behaviour.passThroughPointerChecked ? this.context : reservedMask(ContextEntry, []);
    const scalableContext = reservedMask(
      ScalableContextEntry,
      absent({
        dte: caps.deviceTlb || contextFieldsAlways,
        paside: caps.pasids || contextFieldsAlways,
        pre: caps.pageRequests || contextFieldsAlways,
        ridPasid: caps.ridPasid || contextFieldsAlways,
        ridPriv: caps.ridPriv || contextFieldsAlways,
      }),
    );
    this.scalableContext = reserveAboveWidth(scalableContext, 0, haw);
    this.pasidDirectory = reserveAboveWidth(reservedMask(PasidDirectoryEntry, []), 0, haw);
    this.pasid = [0, 1, 2, 3, 4, 5, 6, 7].map(pgtt => pasidMask(caps, pgtt));
    this.wait = reservedMask(WaitDescriptor, absent({ pd: caps.pageRequestDrain }));
    const throttle = { pfsidLow: caps.invalidationThrottle, pfsidHigh: caps.invalidationThrottle };
    this.deviceTlb = reservedMask(DeviceTlbDescriptor, absent(throttle));
    this.pasidDeviceTlb = reservedMask(PasidDeviceTlbDescriptor, absent(throttle));
  }
}

/** Reserved bits of a PASID entry (VT-d 9.6): what a translation type does not use is ignored where the capability exists. */
function pasidMask(caps: Capabilities, pgtt: number): Int32Array {
  const { memoryTypes, secondStage, firstStage } = caps;
  const present: Record<string, boolean> = {
    aw: secondStage,
    ssptptr: secondStage,
    ssade: secondStage && caps.secondStageAccessedDirty,
    pwsnp: caps.pageWalkSnoop,
    pgsnp: caps.snoopControl,
    cd: memoryTypes,
    emte: memoryTypes,
    pat: memoryTypes,
    emt: false,
    pwt: false,
    pcd: false,
    sre: caps.supervisorRequests,
    ere: false,
    fspm: firstStage,
    wpe: firstStage,
    eafe: firstStage && caps.extendedAccessed,
    fsptptr: firstStage,
  };
  const mask = reservedMask(
    PasidEntry,
    Object.keys(present).filter(name => !present[name]),
  );
  const usesSecond = pgtt === Pgtt.SECOND_STAGE || pgtt === Pgtt.NESTED;
  const usesFirst = pgtt === Pgtt.FIRST_STAGE || pgtt === Pgtt.NESTED;
  if (usesSecond) reserveAboveWidth(mask, PasidEntry.fields.ssptptr.word, caps.haw);
  if (usesFirst) reserveAboveWidth(mask, PasidEntry.fields.fsptptr.word, caps.haw);
  return mask;
}
