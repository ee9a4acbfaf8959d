/** Root, context and PASID entries as vtd.md 3.1 to 3.6, 4.3 and 4.4 tell them: the oracle's second opinion on TableReader. */
import type { Facts } from './facts.js';
import type { Overlay } from './overlay.js';

/** A lookup that failed: its reason, and whether an FPD bit was met on the way. */
export interface Refusal {
  readonly reason: number;
  readonly fpd: boolean;
  /** Nothing could be read: such a refusal is never cached. */
  readonly unreadable?: boolean;
  /** The domain that a present legacy context entry names. */
  readonly domain?: number;
}

export interface LegacyContext {
  readonly fpd: boolean;
  /** Requests of device TLBs are allowed. */
  readonly deviceTlb: boolean;
  readonly passThrough: boolean;
  readonly domain: number;
  readonly levels: number;
  readonly root: bigint;
}

export interface ScalableContext {
  readonly fpd: boolean;
  readonly deviceTlb: boolean;
  readonly pageRequests: boolean;
  readonly paside: boolean;
  /** How many PASIDs the directory covers. */
  readonly limit: number;
  readonly directory: bigint;
  readonly ridPasid: number;
}

export type Pgtt = 'first' | 'second' | 'nested' | 'pass-through';

export interface PasidContext {
  readonly fpd: boolean;
  readonly domain: number;
  readonly pgtt: Pgtt;
  readonly secondLevels: number;
  readonly secondRoot: bigint;
  readonly secondAccessedDirty: boolean;
  readonly firstLevels: number;
  readonly firstRoot: bigint;
  readonly snooped: boolean;
  readonly supervisor: boolean;
  readonly writeProtect: boolean;
  readonly extendedAccessed: boolean;
}

const PAGE = ~0xfffn;

export function isRefusal(found: object): found is Refusal {
  return 'reason' in found;
}

function mask(msb: number, lsb: number): bigint {
  return ((1n << BigInt(msb - lsb + 1)) - 1n) << BigInt(lsb);
}

/** Address bits at and above the host address width. */
function aboveWidth(facts: Facts): bigint {
  return facts.haw >= 64 ? 0n : mask(63, facts.haw);
}

const UNREADABLE = [0x08, 0x09, 0x38, 0x40, 0x50, 0x58];

function refusal(reason: number, fpd = false): Refusal {
  return { reason, fpd, unreadable: UNREADABLE.includes(reason) };
}

/** vtd.md 4.3, steps 1 to 7. */
export function legacyContext(facts: Facts, memory: Overlay, table: bigint, rid: number): LegacyContext | Refusal {
  const root = memory.quads(table + BigInt(rid >>> 8) * 16n, 2);
  if (root === undefined) return refusal(0x08);
  if ((root[0]! & 1n) === 0n) return refusal(0x01);
  if ((root[0]! & (mask(11, 1) | aboveWidth(facts))) !== 0n || root[1] !== 0n) return refusal(0x0a);
  const entry = memory.quads((root[0]! & PAGE) + BigInt(rid & 0xff) * 16n, 2);
  if (entry === undefined) return refusal(0x09);
  const [low, high] = entry as [bigint, bigint];
  const fpd = (low & 2n) !== 0n;
  if ((low & 1n) === 0n) return refusal(0x02, fpd);
  const domain = Number((high >> 8n) & 0xffffn);
  const type = Number((low >> 2n) & 3n);
  const reservedLow = mask(11, 4) | (type === 2 ? 0n : aboveWidth(facts));
  if ((low & reservedLow) !== 0n || (high & (mask(63, 24) | (1n << 7n))) !== 0n)
    return { ...refusal(0x0b, fpd), domain };
  const aw = Number(high & 7n);
  const valid =
    type !== 3 &&
    facts.widths.includes(aw) &&
    (type !== 1 || facts.deviceTlb) &&
    (type !== 2 || (facts.passThrough && aw === Math.max(...facts.widths)));
  if (!valid) return { ...refusal(0x03, fpd), domain };
  return { fpd, deviceTlb: type === 1, passThrough: type === 2, domain, levels: aw + 2, root: low & PAGE };
}

/** vtd.md 4.4, steps 1 to 7. */
export function scalableContext(facts: Facts, memory: Overlay, table: bigint, rid: number): ScalableContext | Refusal {
  const root = memory.quads(table + BigInt(rid >>> 8) * 16n, 2);
  if (root === undefined) return refusal(0x38);
  const half = root[(rid >>> 7) & 1]!;
  if ((half & 1n) === 0n) return refusal(0x39);
  if ((half & (mask(11, 1) | aboveWidth(facts))) !== 0n) return refusal(0x3a);
  const entry = memory.quads((half & PAGE) + BigInt(rid & 0x7f) * 32n, 4);
  if (entry === undefined) return refusal(0x40);
  const [low, high, third, fourth] = entry as [bigint, bigint, bigint, bigint];
  const fpd = (low & 2n) !== 0n;
  if ((low & 1n) === 0n) return refusal(0x41, fpd);
  let reservedLow = mask(8, 5) | aboveWidth(facts);
  if (!facts.deviceTlb) reservedLow |= 1n << 2n;
  if (!facts.pasids) reservedLow |= 1n << 3n;
  if (!facts.pageRequests) reservedLow |= 1n << 4n;
  // No configuration offers RID_PRIV.
  let reservedHigh = mask(63, 20);
  if (!facts.ridPasid) reservedHigh |= mask(19, 0);
  if ((low & reservedLow) !== 0n || (high & reservedHigh) !== 0n || third !== 0n || fourth !== 0n) {
    return refusal(0x42, fpd);
  }
  const limit = 2 ** (Number((low >> 9n) & 7n) + 13);
  const ridPasid = Number(high & 0xf_ffffn);
  if (ridPasid >= limit) return refusal(0x43, fpd);
  const enabled = { deviceTlb: (low & 4n) !== 0n, paside: (low & 8n) !== 0n, pageRequests: (low & 16n) !== 0n };
  return { fpd, ...enabled, limit, directory: low & PAGE, ridPasid };
}

/** vtd.md 4.4, steps 13 to 16. */
export function pasidContext(
  facts: Facts,
  memory: Overlay,
  context: ScalableContext,
  pasid: number,
): PasidContext | Refusal {
  let { fpd } = context;
  const refuse = (reason: number): Refusal => refusal(reason, fpd);
  const directory = memory.quad(context.directory + BigInt(pasid >>> 6) * 8n);
  if (directory === undefined) return refuse(0x50);
  fpd ||= (directory & 2n) !== 0n;
  if ((directory & 1n) === 0n) return refuse(0x51);
  if ((directory & (mask(11, 2) | aboveWidth(facts))) !== 0n) return refuse(0x52);
  const q = memory.quads((directory & PAGE) + BigInt(pasid & 63) * 64n, 8);
  if (q === undefined) return refuse(0x58);
  fpd ||= (q[0]! & 2n) !== 0n;
  if ((q[0]! & 1n) === 0n) return refuse(0x59);
  const type = Number((q[0]! >> 6n) & 7n);
  if (hasReserved(facts, q, type)) return refuse(0x5a);
  const aw = Number((q[0]! >> 2n) & 7n);
  const mode = Number((q[2]! >> 2n) & 3n);
  const widthValid = facts.widths.includes(aw);
  const modeValid = mode === 0 || (mode === 1 && facts.firstStage5Level);
  const valid =
    (type === 1 && facts.firstStage && modeValid) ||
    (type === 2 && facts.secondStage && widthValid) ||
    (type === 3 && facts.nesting && modeValid && widthValid) ||
    (type === 4 && facts.passThrough);
  if (!valid) return refuse(0x5b);
  return {
    fpd,
    domain: Number(q[1]! & 0xffffn),
    pgtt: (['first', 'second', 'nested', 'pass-through'] as const)[type - 1]!,
    secondLevels: aw + 2,
    secondRoot: q[0]! & PAGE,
    secondAccessedDirty: facts.secondStageAccessedDirty && (q[0]! & 0x200n) !== 0n,
    firstLevels: mode + 4,
    firstRoot: q[2]! & PAGE,
    snooped: facts.pageWalkSnoop && (q[1]! & (1n << 23n)) !== 0n,
    supervisor: facts.supervisorRequests && (q[2]! & 1n) !== 0n,
    writeProtect: (q[2]! & 0x10n) !== 0n,
    extendedAccessed: facts.extendedAccessed && (q[2]! & 0x80n) !== 0n,
  };
}

/** vtd.md 3.6. */
function hasReserved(facts: Facts, q: readonly bigint[], type: number): boolean {
  let first = mask(11, 10) | (1n << 5n);
  if (!facts.secondStage) first |= mask(63, 12) | mask(4, 2) | (1n << 9n);
  if (!facts.secondStageAccessedDirty) first |= 1n << 9n;
  if (type === 2 || type === 3) first |= aboveWidth(facts);
  // Memory types (CD, EMTE, PAT) are never offered.
  let second = mask(22, 16) | mask(63, 25);
  if (!facts.pageWalkSnoop) second |= 1n << 23n;
  if (!facts.snoopControl) second |= 1n << 24n;
  let third = mask(11, 8) | 2n;
  if (!facts.supervisorRequests) third |= 1n;
  if (!facts.firstStage) third |= mask(63, 12) | mask(4, 2);
  if (!facts.firstStage || !facts.extendedAccessed) third |= 1n << 7n;
  if (type === 1 || type === 3) third |= aboveWidth(facts);
  const rest = q.slice(3).some(each => each !== 0n);
  return (q[0]! & first) !== 0n || (q[1]! & second) !== 0n || (q[2]! & third) !== 0n || rest;
}
