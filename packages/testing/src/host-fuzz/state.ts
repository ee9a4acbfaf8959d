/** What a fuzzed process has: descriptors, ids and memory, so that most of what it asks for makes sense. */
import type { Random } from '@remora/bits';
import type { HostSyscalls, MappedMemory } from '@remora/host';

/** A process on some host. What the optional members make is used where they are. */
export interface FuzzProcess extends HostSyscalls, Disposable {
  memfd?(length: number): number;
  /** Gives an open file to another process, as over a socket: its descriptor there. */
  send?(fd: number, to: FuzzProcess): number;
}

export type FdKind =
  | 'iommufd'
  | 'container'
  | 'typed'
  | 'group'
  | 'joined'
  | 'device'
  | 'cdev'
  | 'bound'
  | 'fault'
  | 'events'
  | 'memfd'
  | 'eventfd';
export type IdKind =
  'ioas' | 'hwpt' | 'dirty' | 'parent' | 'nested' | 'device' | 'fault' | 'viommu' | 'vdevice' | 'veventq' | 'hwqueue';

/** Opened by themselves, through groups, or both, which mostly keeps either from getting far. */
export type FuzzMode = 'cdevs' | 'groups' | 'both';

/** An open /dev/iommu and what was made on it. */
export interface FuzzIommufd {
  readonly fd: number;
  readonly ids: Map<number, IdKind>;
  /** Which address space a page table, or a vIOMMU, shows. */
  readonly shows: Map<number, number>;
  /** What was mapped: of which address space, and where. */
  readonly maps: { readonly ioas: number; readonly iova: bigint; readonly length: bigint }[];
}

/** What a descriptor was before something succeeded: bound, set to a container, of some type. */
const BEFORE: Readonly<Partial<Record<FdKind, FdKind>>> = { bound: 'cdev', joined: 'group', typed: 'container' };
const PAGE = 0x1000;
const MEMORY_PAGES = 16;
export const U64_MAX = 2n ** 64n - 1n;
const IOVAS = [0n, U64_MAX, U64_MAX - 0xfffn, 0xfee0_0000n, 2n ** 48n, 2n ** 48n - 0x1000n, 0x123n, 2n ** 57n] as const;
const LENGTHS = [0n, U64_MAX, 1n, 0x1001n, 2n ** 48n, 2n ** 63n] as const;
const ADDRESSES = [0n, 0x1000n, U64_MAX, U64_MAX - 0xfffn, 0x7fff_ffff_f000n] as const;

export class FuzzState {
  readonly random: Random;
  readonly process: FuzzProcess;
  readonly fds = new Map<number, FdKind>();
  readonly iommufds = new Map<number, FuzzIommufd>();
  /** Memory that is there, MEMORY_PAGES pages each. */
  readonly memory: MappedMemory[] = [];
  /** Another process, to which descriptors go now and then. */
  peer: FuzzState | undefined;
  /** IOVAs in containers. */
  readonly mapped: { readonly iova: bigint; readonly length: bigint }[] = [];
  readonly names: readonly string[];
  /** How devices are had in this round. */
  readonly mode: FuzzMode;
  /** The call that is being put together is about something that there is not. */
  lacking = false;

  constructor(random: Random, process: FuzzProcess, names: readonly string[], mode: FuzzMode) {
    this.mode = mode;
    this.random = random;
    this.process = process;
    this.names = names;
    for (let block = 0; block < 2; block++) {
      const memory = process.mmap(MEMORY_PAGES * PAGE);
      if (typeof memory !== 'number') this.memory.push(memory);
    }
  }

  /** Whether something happens that does in `percent` of all cases. */
  chance(percent: number): boolean {
    return this.random.below(1000) < percent * 10;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.random.below(items.length)]!;
  }

  /** A descriptor of this kind, now and then another, or none; undefined if there is none of the kind. */
  fd(kind: FdKind): number | undefined {
    if (this.chance(1)) return this.random.below(40) - 2;
    const strange = this.chance(4);
    const fits = (each: FdKind): boolean =>
      each === kind || (kind === 'device' && each === 'bound') || (strange && BEFORE[each] === (BEFORE[kind] ?? kind));
    const of = [...this.fds].filter(([, each]) => fits(each));
    return of.length === 0 ? undefined : this.pick(of)[0];
  }

  iommufd(): FuzzIommufd | undefined {
    return this.iommufds.size === 0 ? undefined : this.pick([...this.iommufds.values()]);
  }

  /** An id of one of these kinds, now and then another, or nobody's; `lacking` says that there was none. */
  id(of: FuzzIommufd, ...kinds: IdKind[]): number {
    const ids = [...of.ids];
    const known = ids.filter(([, kind]) => kinds.includes(kind));
    if (known.length === 0) this.lacking = true;
    else if (!this.chance(3)) return this.pick(known)[0];
    return ids.length > 0 && this.chance(50) ? this.pick(ids)[0] : this.random.below(90);
  }

  /** A value that is fine, or one of few that are not. */
  mostly<T>(fine: T, strange: readonly T[], percent = 3): T {
    return this.chance(percent) ? this.pick(strange) : fine;
  }

  iova(): bigint {
    return this.mostly(BigInt(16 + this.random.below(256)) * 0x1000n, IOVAS);
  }

  length(): bigint {
    return this.mostly(BigInt(1 + this.random.below(4)) * 0x1000n, LENGTHS);
  }

  address(): bigint {
    if (this.memory.length === 0) return 0n;
    const { address } = this.pick(this.memory);
    return this.mostly(BigInt(address + this.random.below(MEMORY_PAGES - 4) * PAGE), ADDRESSES);
  }

  /** The address of memory that holds `bytes`; now and then one where nothing is. */
  pointer(bytes: Uint8Array): bigint {
    if (this.memory.length === 0) return 0n;
    const { address, ram } = this.pick(this.memory);
    const offset = this.random.below(MEMORY_PAGES - 2) * PAGE;
    ram.write(0, offset, bytes);
    return this.mostly(BigInt(address + offset), ADDRESSES);
  }

  word(): number {
    return this.pick([
      0,
      1,
      2,
      3,
      7,
      0x10,
      0x1000,
      0x8000_0000,
      0xffff_ffff,
      this.random.next(),
      this.random.below(64),
    ]);
  }
}
