/** Single faults: the structures on a request's way through the tables, and the ways to bend one of them. */
import { HIGH, NOWHERE } from './fuzz-memory.js';
import { GUEST_OFFSET, type World } from './world.js';

export type Kind = 'root' | 'context' | 'directory' | 'pasid' | 'second' | 'first';

/** A structure that a request's translation reads. */
export interface Structure {
  readonly kind: Kind;
  readonly address: bigint;
  readonly quads: number;
}

const ADDRESS = 0xf_ffff_ffff_f000n;
const ALL_ONES = (1n << 64n) - 1n;
const FRAME = ~0xfffn & ALL_ONES;

/** The structures on the way of a request, as the tables stand; it ends where nothing answers. */
export function pathOf(world: World, rid: number, pasid: number, page: bigint): Structure[] {
  const path: Structure[] = [];
  const visit = (kind: Kind, address: bigint, quads: number): bigint[] | undefined => {
    const found = Array.from({ length: quads }, (_, i) => world.memory.quad(address + BigInt(i * 8)));
    if (found.some(each => each === undefined)) return undefined;
    path.push({ kind, address, quads });
    return found as bigint[];
  };
  const walk = (
    kind: 'first' | 'second',
    root: bigint,
    levels: number,
    input: bigint,
    nest: (guest: bigint) => bigint,
  ) => {
    let table = root;
    for (let level = levels; level > 0; level--) {
      const at = nest(table + ((input >> BigInt(3 + 9 * level)) & 511n) * 8n);
      const entry = visit(kind, at, 1)?.[0];
      if (entry === undefined || entry === 0n) return undefined;
      table = entry & ADDRESS;
      const low = (1n << BigInt(3 + 9 * level)) - 1n;
      if (level === 1 || (level <= 3 && (entry & 0x80n) !== 0n)) return (table & ~low) | (input & low);
    }
    return undefined;
  };
  const asIs = (guest: bigint): bigint => guest;

  const bus = BigInt(rid >>> 8) * 16n;
  if (world.mode === 'legacy') {
    const root = visit('root', world.root + bus, 1);
    if (root === undefined) return path;
    const context = visit('context', (root[0]! & FRAME) + BigInt(rid & 0xff) * 16n, 2);
    if (context !== undefined) walk('second', context[0]! & FRAME, Number(context[1]! & 7n) + 2, page, asIs);
    return path;
  }
  const root = visit('root', world.root + bus + BigInt((rid >>> 7) & 1) * 8n, 1);
  if (root === undefined) return path;
  const context = visit('context', (root[0]! & FRAME) + BigInt(rid & 0x7f) * 32n, 4);
  if (context === undefined) return path;
  const used = BigInt(pasid === -1 ? Number(context[1]! & 0xf_ffffn) : pasid);
  const directory = visit('directory', (context[0]! & FRAME) + (used >> 6n) * 8n, 1);
  if (directory === undefined) return path;
  const entry = visit('pasid', (directory[0]! & FRAME) + (used & 63n) * 64n, 8);
  if (entry === undefined) return path;
  const type = (entry[0]! >> 6n) & 7n;
  const second = (guest: bigint): bigint =>
    walk('second', entry[0]! & FRAME, Number((entry[0]! >> 2n) & 7n) + 2, guest, asIs) ?? ALL_ONES;
  if (type === 2n) second(page);
  if (type !== 1n && type !== 3n) return path;
  const output = walk(
    'first',
    entry[2]! & FRAME,
    Number((entry[2]! >> 2n) & 1n) + 4,
    page,
    type === 3n ? second : asIs,
  );
  if (type === 3n && output !== undefined) second(output);
  return path;
}

/** The ways to bend a structure, by its kind. */
type Damage =
  | ('absent' | 'reserved' | 'nowhere' | 'beyond' | 'far' | 'fpd' | 'type' | 'flip' | 'ones')
  | ('permission' | 'fresh' | 'large' | 'interrupts' | 'rom' | 'unsnooped');
const ANY: readonly Damage[] = ['absent', 'reserved', 'nowhere', 'beyond', 'flip', 'ones'];
const PAGING: readonly Damage[] = [
  'permission',
  'permission',
  'fresh',
  'large',
  'interrupts',
  'rom',
  'rom',
  'far',
  'far',
];
const DAMAGES: Readonly<Record<Kind, readonly Damage[]>> = {
  root: ANY,
  context: [...ANY, 'fpd', 'fpd', 'type', 'type'],
  directory: [...ANY, 'fpd', 'fpd'],
  pasid: [...ANY, 'fpd', 'fpd', 'type', 'type', 'permission', 'unsnooped', 'rom', 'far'],
  second: [...ANY, ...PAGING, 'permission', 'permission', 'permission'],
  first: [...ANY, ...PAGING],
};

/** Reserved bits of each kind that are reserved in every configuration; positions within the whole structure. */
const RESERVED: Readonly<Record<Kind, readonly number[]>> = {
  root: [1, 11],
  context: [7, 63 + 61],
  directory: [2, 11],
  pasid: [5, 10, 64 + 16, 64 + 95 - 64, 128 + 8, 256],
  second: [62, 11],
  first: [51, 50],
};
/** Fields that choose among types, widths and modes: bits that a `type` changes. */
const TYPES: Readonly<Record<Kind, readonly number[]>> = {
  root: [10],
  context: [2, 3, 64, 65, 66, 9, 65 + 19],
  directory: [12],
  pasid: [2, 3, 4, 6, 7, 8, 130, 131, 128, 132],
  second: [7, 11, 2],
  first: [7, 63, 10],
};

/** Bends the structure; `how` and `gene` choose in what way. Returns what restores it. */
export function damage(world: World, { kind, address, quads }: Structure, how: number, gene: number): () => void {
  const { memory } = world;
  const before = Array.from({ length: quads }, (_, i) => memory.quad(address + BigInt(i * 8))!);
  const change = (bit: number, to: (quad: bigint, mask: bigint) => bigint): void => {
    const at = address + BigInt((bit >>> 6) % quads) * 8n;
    memory.putQuad(at, to(memory.quad(at)!, 1n << BigInt(bit & 63)));
  };
  const set = (bit: number): void => change(bit, (quad, mask) => quad | mask);
  const clear = (bit: number): void => change(bit, (quad, mask) => quad & ~mask);
  const toggle = (bit: number): void => change(bit, (quad, mask) => quad ^ mask);
  const isPaging = kind === 'first' || kind === 'second';
  /** A PASID entry has its first-stage pointer in its third quadword; either may be meant. */
  const pointer = kind === 'pasid' && gene % 2 === 1 ? 2 : 0;
  const point = (to: bigint): void => {
    const at = address + BigInt(pointer * 8);
    const mask = isPaging ? ADDRESS : FRAME;
    memory.putQuad(at, (memory.quad(at)! & ~mask) | (to & mask));
  };
  switch (DAMAGES[kind][how % DAMAGES[kind].length]!) {
    case 'absent':
      clear(0);
      if (kind === 'second') clear(1);
      break;
    case 'reserved':
      set(RESERVED[kind][gene % RESERVED[kind].length]!);
      break;
    case 'nowhere':
      // As a guest address it is one that the second stage does not know, or knows as nowhere.
      point((BigInt(NOWHERE) << 12n) + (kind === 'first' && gene % 4 === 0 ? GUEST_OFFSET : 0n));
      break;
    case 'beyond':
      set(pointer * 64 + world.facts.haw - 1 + (gene % 3));
      break;
    case 'far':
      // Perhaps beyond what a second stage translates.
      set(pointer * 64 + (gene % 4 < 2 ? world.facts.haw - 1 : 36 + (gene % (world.facts.haw - 36))));
      break;
    case 'fpd':
      set(1);
      break;
    case 'type':
      toggle(TYPES[kind][gene % TYPES[kind].length]!);
      break;
    case 'flip':
      toggle(gene % (quads * 64));
      break;
    case 'ones':
      memory.putQuad(address, ALL_ONES);
      break;
    case 'permission':
      if (kind === 'second') clear(gene % 2);
      else if (kind === 'first') [() => clear(1), () => clear(2), () => set(63)][gene % 3]!();
      else clear(128);
      break;
    case 'fresh':
      // Accessed and dirty bits of either stage.
      for (const bit of kind === 'first' ? [5, 6, 10] : [8, 9]) clear(bit);
      break;
    case 'large':
      set(7);
      break;
    case 'interrupts':
      point(0xfee0_5000n);
      break;
    case 'rom':
      inRom(world, address, kind, pointer);
      break;
    case 'unsnooped':
      clear(64 + 23);
      break;
  }
  return () => before.forEach((quad, i) => memory.putQuad(address + BigInt(i * 8), quad));
}

/** Moves the table below an entry to ROM, with no accessed or dirty bit set: they cannot be set there. */
function inRom(world: World, address: bigint, kind: Kind, pointer: number): void {
  const { memory } = world;
  const at = address + BigInt(pointer * 8);
  const entry = memory.quad(at)!;
  const guest = entry & ADDRESS;
  const nested = world.mode === 'nested' && (kind === 'first' || pointer === 2) && guest >= GUEST_OFFSET;
  const table = nested ? guest - GUEST_OFFSET : guest;
  if (memory.quad(table) === undefined || table >= BigInt(HIGH.first + HIGH.frames) << 12n) return;
  const copy = world.toRom(table, kind === 'first' || pointer === 2 ? 0x60n : 0x300n);
  if (copy !== undefined) memory.putQuad(at, (entry & ~ADDRESS) | (nested ? copy + GUEST_OFFSET : copy));
}
