/**
 * Interrupt remapping as vtd.md 8 tells it, with bit positions written down a second time: every outcome that a request may have by the
 * table as it stands and by what the unit may still have cached of it.
 */
import type { TableMemory } from '../table-memory.js';

export interface InterruptRequest {
  readonly rid: number;
  readonly address: bigint;
  readonly data: number;
}

export type InterruptOutcome =
  | { readonly reason: number; readonly fpd: boolean }
  | { readonly address: bigint; readonly data: number }
  /** Posted; nobody is notified. */
  | 'silent';

export interface InterruptPossibility {
  readonly outcome: InterruptOutcome;
  /** The posted descriptor that the unit stores, whole. */
  readonly store?: { readonly address: bigint; readonly quads: readonly bigint[] };
  readonly by: string;
}

type Entry = readonly [low: bigint, high: bigint];

const IRE = 0x0200_0000;
const CFI = 0x0080_0000;
const SOURCE_BITS_IGNORED = [0, 4, 6, 7];

function field(value: bigint, msb: number, lsb: number): number {
  return Number(BigInt.asUintN(msb - lsb + 1, value >> BigInt(lsb)));
}

export class NaiveInterrupts {
  enabled = false;
  /** GSTS.CFIS. */
  compatible = false;
  readonly #memory: TableMemory;
  /** ECAP.EIM, CAP.PI, CAP.CM. */
  readonly #extendedOffered: boolean;
  readonly #posting: boolean;
  readonly #cachingMode: boolean;
  readonly #cached = new Map<number, Map<string, Entry>>();
  #table = 0n;
  #entries = 0;
  #extended = false;

  constructor(cap: bigint, ecap: bigint, memory: TableMemory) {
    this.#memory = memory;
    this.#extendedOffered = field(ecap, 4, 4) === 1;
    this.#posting = field(cap, 59, 59) === 1;
    this.#cachingMode = field(cap, 7, 7) === 1;
  }

  /** GSTS bits that follow GCMD. */
  get status(): number {
    return (this.enabled ? IRE : 0) + (this.compatible ? CFI : 0);
  }

  /** SIRTP with this IRTA. CAP.ESIRTPS is 0: what is cached stays. */
  latch(irta: bigint): void {
    this.#table = irta & ~0xfffn;
    this.#entries = 2 ** (field(irta, 3, 0) + 1);
    this.#extended = this.#extendedOffered && field(irta, 11, 11) === 1;
  }

  /** A descriptor of type 4. */
  invalidate(descriptor: bigint): void {
    const mask = field(descriptor, 31, 27);
    const index = field(descriptor, 47, 32);
    if (field(descriptor, 4, 4) === 0) this.#cached.clear();
    else for (const each of [...this.#cached.keys()]) if (each >> mask === index >> mask) this.#cached.delete(each);
  }

  /** The interrupt index that a fault record shows; 0 as long as there is none. */
  indexOf({ address, data }: InterruptRequest): number {
    if (address >> 20n !== 0xfeen || field(address, 4, 4) === 0) return 0;
    const handle = field(address, 19, 5) + field(address, 2, 2) * 0x8000;
    return field(address, 3, 3) === 1 ? handle + (data & 0xffff) : handle;
  }

  possibilities(request: InterruptRequest): InterruptPossibility[] {
    const { address, data } = request;
    if (!this.enabled) return [{ outcome: { address, data }, by: 'off' }];
    const refuse = (reason: number): InterruptPossibility[] => [{ outcome: { reason, fpd: false }, by: 'request' }];
    if (address >> 20n !== 0xfeen) return refuse(0x20);
    if (field(address, 4, 4) === 0) {
      const passes = this.compatible && !this.#extended;
      return passes ? [{ outcome: { address, data }, by: 'compatibility' }] : refuse(0x25);
    }
    if (field(address, 3, 3) === 1 && data >>> 16 !== 0) return refuse(0x20);
    const index = this.indexOf(request);
    if (index >= this.#entries) return refuse(0x21);
    return this.#byIndex(index, request.rid);
  }

  #byIndex(index: number, rid: number): InterruptPossibility[] {
    const at = this.#table + BigInt(index) * 16n;
    const [low, high] = [this.#memory.quad(at), this.#memory.quad(at + 8n)];
    const known = this.#cached.get(index) ?? new Map<string, Entry>();
    const found = [...known.values()].map(entry => this.#byEntry(entry, rid, 'cached'));
    if (low === undefined || high === undefined) {
      found.push({ outcome: { reason: 0x23, fpd: false }, by: 'table' });
      return found;
    }
    const entry = [low, high] as const;
    found.push(this.#byEntry(entry, rid, 'table'));
    if (this.#problem(entry) === 0 || this.#cachingMode) this.#cached.set(index, known.set(`${low} ${high}`, entry));
    return found;
  }

  /** vtd.md 8.3, steps 5 and 6. */
  #problem([low, high]: Entry): number {
    if (field(low, 0, 0) === 0) return 0x22;
    const svt = field(high, 19, 18);
    if (svt === 3) return 0x24;
    if (field(low, 15, 15) === 1) {
      const reserved = field(low, 7, 2) | field(low, 13, 12) | field(low, 37, 24) | field(high, 31, 20);
      return this.#posting && reserved === 0 ? 0 : 0x24;
    }
    const destination = this.#extended ? 0 : field(low, 39, 32) | field(low, 63, 48);
    const mode = field(low, 7, 5);
    const reserved = field(low, 14, 12) | field(low, 31, 24) | destination | field(high, 63, 32) | field(high, 31, 20);
    return reserved !== 0 || mode === 3 || mode === 6 ? 0x24 : 0;
  }

  #byEntry(entry: Entry, rid: number, by: string): InterruptPossibility {
    const [low, high] = entry;
    const fpd = field(low, 1, 1) === 1;
    const problem = this.#problem(entry);
    if (problem !== 0) return { outcome: { reason: problem, fpd }, by };
    if (!isVerified(high, rid)) return { outcome: { reason: 0x26, fpd }, by };
    if (field(low, 15, 15) === 1) return this.#post(entry, fpd, by);
    const destination = this.#extended ? field(low, 63, 32) : field(low, 47, 40);
    const level = field(low, 4, 4);
    const message = {
      address: messageAddress(destination, field(low, 3, 3), field(low, 2, 2)),
      data: field(low, 23, 16) + field(low, 7, 5) * 0x100 + level * 0xc000,
    };
    return { outcome: message, by: `${by} remapped` };
  }

  /** vtd.md 8.2: the descriptor as memory has it now; the cache keeps only where it is. */
  #post([low, high]: Entry, fpd: boolean, by: string): InterruptPossibility {
    const address = (BigInt(field(high, 63, 32)) << 32n) | (BigInt(field(low, 63, 38)) << 6n);
    const quads = [0n, 8n, 16n, 24n, 32n, 40n, 48n, 56n].map(offset => this.#memory.quad(address + offset));
    const refuse = (reason: number): InterruptPossibility => ({ outcome: { reason, fpd }, by });
    if (quads.some(each => each === undefined)) return refuse(0x27);
    const after = quads as bigint[];
    const control = after[4]!;
    const narrow = this.#extended ? 0 : field(control, 39, 32) | field(control, 63, 48);
    const reserved = field(control, 15, 2) | field(control, 31, 24) | narrow;
    if (reserved !== 0 || after.slice(5).some(each => each !== 0n)) return refuse(0x28);
    if (!this.#memory.isWritable(address)) return refuse(0x27);
    const vector = field(low, 23, 16);
    const [outstanding, suppressed] = [field(control, 0, 0) === 1, field(control, 1, 1) === 1];
    const notifies = !outstanding && (!suppressed || field(low, 14, 14) === 1);
    after[vector >>> 6]! |= 1n << BigInt(vector & 63);
    if (notifies) after[4] = control | 1n;
    const destination = this.#extended ? field(control, 63, 32) : field(control, 47, 40);
    const notification = { address: messageAddress(destination, 0, 0), data: field(control, 23, 16) };
    return {
      outcome: notifies ? notification : 'silent',
      store: { address, quads: after },
      by: `${by} posted${notifies ? '' : ' silently'}`,
    };
  }
}

/** vtd.md 8.3, step 7. */
function isVerified(high: bigint, rid: number): boolean {
  const source = field(high, 15, 0);
  switch (field(high, 19, 18)) {
    case 0:
      return true;
    case 1:
      return ((source ^ rid) & ~SOURCE_BITS_IGNORED[field(high, 17, 16)]!) === 0;
    default:
      return rid >>> 8 >= source >>> 8 && rid >>> 8 <= (source & 0xff);
  }
}

function messageAddress(destination: number, hint: number, mode: number): bigint {
  const low = 0xfee0_0000 + (destination & 0xff) * 0x1000 + hint * 8 + mode * 4;
  return (BigInt((destination & ~0xff) >>> 0) << 32n) | BigInt(low);
}

/** The record of a blocked request (vtd.md 1.14, 8.3): a write, with the index in bits 63:48 of the address. */
export function interruptRecord(rid: number, index: number, reason: number): readonly [bigint, bigint] {
  return [BigInt(index & 0xffff) << 48n, BigInt(rid) | (BigInt(reason) << 32n)];
}
