/**
 * Page walks as vtd.md 3.7 to 3.9, 4.5 and 4.6 tell them, in BigInt and without a thought for speed. Written from the reference,
 * not from the model; no declared layouts. What may be cached is the caller's matter: a walk is told of it and tells what it met.
 */
import type { Overlay } from './overlay.js';
import type { Tag } from './shadow.js';
import { Walking, type Known } from './walking.js';

/** What a request may do with a page. */
export interface Rights {
  /** Requests in user mode may use it at all. */
  readonly user: boolean;
  readonly read: boolean;
  readonly write: boolean;
  /** Privileged requests may write. */
  readonly privilegedWrite: boolean;
  readonly execute: boolean;
}

export interface Page {
  /** Output address of the page. */
  readonly base: bigint;
  readonly shift: number;
  readonly rights: Rights;
}

/** A page, or a fault reason. */
export type Walked = Page | number;

export const READ = 1;
export const WRITE = 2;
export const EXECUTE = 4;
export const PRIVILEGED = 8;

const ADDRESS = 0xf_ffff_ffff_f000n;
export const INTERRUPT_BASE = 0xfee0_0000n;

export function inInterruptRange(address: bigint): boolean {
  return address >> 20n === INTERRUPT_BASE >> 20n;
}

/** Whether a page of `1 << shift` bytes overlaps the interrupt range. */
export function overlapsInterrupts(base: bigint, shift: number): boolean {
  return base <= INTERRUPT_BASE + 0xf_ffffn && base + (1n << BigInt(shift)) > INTERRUPT_BASE;
}

function entryAddress(table: bigint, level: number, address: bigint): bigint {
  return table + ((address >> BigInt(3 + 9 * level)) & 511n) * 8n;
}

function lowBits(shift: number): bigint {
  return (1n << BigInt(shift)) - 1n;
}

/** How a second stage treats accessed and dirty bits. */
export type AccessedDirty = 'ignored' | 'unsnooped' | 'kept';

export interface SecondStage {
  readonly tag: Tag;
  readonly root: bigint;
  readonly levels: number;
  readonly accessedDirty: AccessedDirty;
  /** Which fault reasons it reports. */
  readonly reasons: 'legacy' | 'scalable';
}

const LEGACY_REASONS = { width: 4, root: 3, entry: 7, reserved: 0xc, range: 0xe, read: 6, write: 5 };
const SCALABLE_REASONS = { width: 0x84, root: 0x7b, entry: 0x78, reserved: 0x7a, range: 0x87, read: 0x86, write: 0x85 };

/** Where a walk begins: at the root, or as a cached entry says. */
type Start = Pick<Known, 'level' | 'table' | 'rights'>;

/** Every place where a walk may start, each once; the root comes last. */
function startsOf(walking: Walking, tag: Tag, levels: number, address: bigint, root: Start): Start[] {
  const found: Start[] = [];
  for (const each of walking.known(tag, levels, address)) {
    const { level, table, rights } = each;
    const isNew = !found.some(other => other.level === level && other.table === table && other.rights === rights);
    if (isNew) found.push(each);
  }
  return [...found, root];
}

/** What comes of a walk from one place. */
interface Way {
  readonly walked: Walked;
  readonly fork: Overlay;
  readonly met: readonly Known[];
}

function sameWalked(a: Walked, b: Walked): boolean {
  if (typeof a === 'number' || typeof b === 'number') return a === b;
  const names = ['user', 'read', 'write', 'privilegedWrite', 'execute'] as const;
  return a.base === b.base && a.shift === b.shift && names.every(name => a.rights[name] === b.rights[name]);
}

function sameWrites(a: ReadonlyMap<bigint, bigint>, b: ReadonlyMap<bigint, bigint>): boolean {
  if (a.size !== b.size) return false;
  for (const [address, value] of a) if (b.get(address) !== value) return false;
  return true;
}

/** vtd.md 4.5, from each place where the walk may start. `last`: the result is where the request goes. */
export function walkSecond(
  walking: Walking,
  memory: Overlay,
  stage: SecondStage,
  address: bigint,
  access: number,
  last: boolean,
): Walked {
  const { facts } = walking;
  const width = Math.min(facts.mgaw, 12 + 9 * stage.levels);
  if (address >> BigInt(width) !== 0n) return reasonsOf(stage).width;
  const root: Start = { level: stage.levels + 1, table: stage.root, rights: 3 };
  const ways: Way[] = [];
  for (const start of startsOf(walking, stage.tag, stage.levels, address, root)) {
    const fork = memory.fork();
    const alone = new Walking(facts, walking.shadow, walking.choices);
    const walked = secondFrom(alone, fork, stage, address, access, last, start);
    // What any of those that end alike has met may be cached. The last one, which starts at the root, comes last also if it is like another.
    const alike = ways.findIndex(each => sameWalked(each.walked, walked) && sameWrites(each.fork.writes, fork.writes));
    const [other] = alike < 0 ? [] : ways.splice(alike, 1);
    ways.push({ walked, fork, met: other === undefined ? alone.met : [...other.met, ...alone.met] });
  }
  const { walked, fork, met } = walking.choices.pick(ways);
  memory.adopt(fork);
  walking.met.push(...met);
  return walked;
}

function reasonsOf(stage: SecondStage): typeof LEGACY_REASONS {
  return stage.reasons === 'legacy' ? LEGACY_REASONS : SCALABLE_REASONS;
}

function secondFrom(
  walking: Walking,
  memory: Overlay,
  stage: SecondStage,
  address: bigint,
  access: number,
  last: boolean,
  start: Start,
): Walked {
  const { facts } = walking;
  const legacy = stage.reasons === 'legacy';
  const reasons = reasonsOf(stage);
  const writes = (access & WRITE) !== 0;
  const permits = (granted: number): boolean =>
    (access & 3) === 0
      ? facts.zeroLengthRead
        ? granted !== 0
        : (granted & READ) !== 0
      : (access & 3 & ~granted) === 0;
  const absent = legacy ? (writes ? reasons.write : reasons.read) : 0x79;
  if (typeof start.table === 'string') return start.table === 'absent' ? absent : reasons.reserved;
  let { table, rights: granted } = start;
  for (let level = start.level - 1; ; level--) {
    const at = entryAddress(table, level, address);
    const entry = memory.quad(at);
    if (entry === undefined) return level === stage.levels ? reasons.root : reasons.entry;
    granted &= Number(entry & 3n);
    if (granted === 0 || (entry & 3n) === 0n) {
      walking.meet(stage.tag, level, address, 'absent', 0);
      return absent;
    }
    const large = (entry & 0x80n) !== 0n;
    const leaf = level === 1 || (large && level <= 3);
    let reserved = (ADDRESS & ~lowBits(facts.haw)) | (1n << 62n);
    if (!leaf || !facts.snoopControl) reserved |= 0x800n;
    if (level >= 4) reserved |= 0x80n;
    if (leaf) reserved |= ADDRESS & lowBits(3 + 9 * level);
    if ((entry & reserved) !== 0n) {
      walking.meet(stage.tag, level, address, 'reserved', 0);
      return reasons.reserved;
    }
    if (!leaf) {
      const failure = setSecondBits(memory, stage, at, entry, 0x100n);
      if (failure !== 0) return failure;
      table = entry & ADDRESS;
      walking.meet(stage.tag, level, address, table, granted);
      continue;
    }
    if (!permits(granted)) return writes && (granted & WRITE) === 0 ? reasons.write : reasons.read;
    const shift = 3 + 9 * level;
    const base = entry & ADDRESS & ~lowBits(shift);
    if (last && inInterruptRange(base | (address & lowBits(shift)))) return reasons.range;
    const failure = setSecondBits(memory, stage, at, entry, writes ? 0x300n : 0x100n);
    if (failure !== 0) return failure;
    // A page that is not dirty yet is not writable from the IOTLB: the first write must come by.
    const dirty = stage.accessedDirty === 'ignored' || (memory.quad(at)! & 0x200n) !== 0n;
    const write = (granted & WRITE) !== 0 && dirty;
    const read = (granted & READ) !== 0;
    return { base, shift, rights: { user: true, read, write, privilegedWrite: write, execute: read } };
  }
}

/** vtd.md 3.9. Returns 0 or a fault reason. */
function setSecondBits(memory: Overlay, stage: SecondStage, at: bigint, entry: bigint, bits: bigint): number {
  if (stage.accessedDirty === 'ignored' || (entry & bits) === bits) return 0;
  if (stage.accessedDirty === 'unsnooped') return 0x7c;
  return memory.put(at, entry | bits) ? 0 : 0x7d;
}

export interface FirstStage {
  readonly tag: Tag;
  readonly root: bigint;
  readonly levels: number;
  readonly writeProtect: boolean;
  readonly extendedAccessed: boolean;
  readonly snooped: boolean;
  /** Nested: what its addresses go through. */
  readonly second: SecondStage | undefined;
}

/** What the entries of a first-stage walk leave of the rights. */
const USER = 4;
const WRITABLE = 2;
const EXECUTABLE = 1;

/** vtd.md 4.6. First-stage entries that are not present or faulty are never cached: no driver tells of them (11.5). */
export function walkFirst(
  walking: Walking,
  memory: Overlay,
  stage: FirstStage,
  address: bigint,
  access: number,
): Walked {
  const { facts } = walking;
  const { second } = stage;
  const sign = BigInt(stage.levels === 5 ? 56 : 47);
  const upper = address >> sign;
  if (upper !== 0n && upper !== lowBits(64) >> sign) return 0x80;
  const asUser = (access & PRIVILEGED) === 0;
  const root: Start = { level: stage.levels + 1, table: stage.root, rights: USER | WRITABLE | EXECUTABLE };
  const start = walking.choices.pick(startsOf(walking, stage.tag, stage.levels, address, root));
  let table = start.table as bigint;
  let user = (start.rights & USER) !== 0;
  let writable = (start.rights & WRITABLE) !== 0;
  let executeDisabled = (start.rights & EXECUTABLE) === 0;

  const denied = (): number => {
    if (asUser && !user) return 0x81;
    if ((access & WRITE) !== 0 && !writable && (asUser || stage.writeProtect)) return 0x85;
    return (access & EXECUTE) !== 0 && executeDisabled ? 0x82 : 0;
  };
  const setBits = (at: bigint, guest: bigint, entry: bigint, bits: bigint): number => {
    const wanted = stage.extendedAccessed ? bits | 0x400n : bits;
    if ((entry & wanted) === wanted) return 0;
    if (!stage.snooped) return 0x90;
    if (second !== undefined) {
      const walked = walkSecond(walking, memory, second, guest, WRITE, false);
      if (typeof walked === 'number') return walked === 0x85 ? 0x77 : walked;
    }
    return memory.put(at, entry | wanted) ? 0 : 0x91;
  };

  for (let level = start.level - 1; ; level--) {
    const guest = entryAddress(table, level, address);
    let at = guest;
    if (second !== undefined) {
      const walked = walkSecond(walking, memory, second, guest, READ, false);
      if (walked === 0x84) return 0x74;
      if (walked === 0x86) return level === stage.levels ? 0x75 : 0x76;
      if (typeof walked === 'number') return walked;
      at = walked.base | (guest & lowBits(walked.shift));
    }
    const entry = memory.quad(at);
    if (entry === undefined) return level === stage.levels ? 0x73 : 0x70;
    if ((entry & 1n) === 0n) return 0x71;
    writable &&= (entry & 2n) !== 0n;
    user &&= (entry & 4n) !== 0n;
    executeDisabled ||= entry >> 63n !== 0n;
    const large = (entry & 0x80n) !== 0n;
    const leaf = level === 1 || (large && level <= 3);
    let reserved = ADDRESS & ~lowBits(facts.haw);
    if (level >= 4) reserved |= 0x80n;
    if (level === 3 && !facts.firstStage1GiB) reserved |= 0x80n;
    // Bit 12 of a large leaf is PAT.
    if (leaf && level > 1) reserved |= ADDRESS & lowBits(3 + 9 * level) & ~0x1000n;
    if ((entry & reserved) !== 0n) return 0x72;
    if (!leaf) {
      const failure = setBits(at, guest, entry, 0x20n);
      if (failure !== 0) return failure;
      table = entry & ADDRESS;
      const rights = (user ? USER : 0) | (writable ? WRITABLE : 0) | (executeDisabled ? 0 : EXECUTABLE);
      walking.meet(stage.tag, level, address, table, rights);
      continue;
    }
    if (denied() !== 0) return denied();
    return finishFirst(walking, memory, stage, address, access, { at, guest, entry, level }, setBits, {
      user,
      writable,
      executeDisabled,
    });
  }
}

/**
 * The leaf: where it leads, and its accessed and dirty bits. The reference leaves open whether these are set before or after the
 * result has gone through the second stage; after, here.
 */
function finishFirst(
  walking: Walking,
  memory: Overlay,
  stage: FirstStage,
  address: bigint,
  access: number,
  leaf: { readonly at: bigint; readonly guest: bigint; readonly entry: bigint; readonly level: number },
  setBits: (at: bigint, guest: bigint, entry: bigint, bits: bigint) => number,
  path: { readonly user: boolean; readonly writable: boolean; readonly executeDisabled: boolean },
): Walked {
  let shift = 3 + 9 * leaf.level;
  let base = leaf.entry & ADDRESS & ~lowBits(shift);
  let read = true;
  let write = true;
  if (stage.second !== undefined) {
    const guest = base | (address & lowBits(shift));
    const walked = walkSecond(walking, memory, stage.second, guest, access & 3, true);
    if (typeof walked === 'number') return walked;
    shift = Math.min(shift, walked.shift);
    base = (walked.base | (guest & lowBits(walked.shift))) & ~lowBits(shift);
    ({ read, write } = walked.rights);
  } else if (inInterruptRange(base | (address & lowBits(shift)))) {
    return 0x87;
  }
  const failure = setBits(leaf.at, leaf.guest, leaf.entry, (access & WRITE) !== 0 ? 0x60n : 0x20n);
  if (failure !== 0) return failure;
  const dirty = (memory.quad(leaf.at)! & 0x40n) !== 0n;
  write &&= dirty;
  const rights: Rights = {
    user: path.user,
    read,
    write: write && path.writable,
    privilegedWrite: write && (path.writable || !stage.writeProtect),
    execute: !path.executeDisabled,
  };
  return { base, shift, rights };
}
