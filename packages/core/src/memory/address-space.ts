import { FlatView, changesOf, flatten } from './flat-view.js';
import type { Section } from './flat-view.js';
import { Access, MemTx, TxAttrs } from './memtx.js';
import type { MemoryPort } from './port.js';
import { PAGE_BYTES } from './ram.js';
import type { Ram } from './ram.js';
import type { Region } from './region.js';
import { formatTree } from '../region-tree.js';
import { forgetViewer } from './topology.js';
import type { Viewer } from './topology.js';
import { Translation } from './translation.js';

const TWO_32 = 0x1_0000_0000;
/** Frames that are numbered by integers of 32 bits. */
const FRAME_LIMIT = 2 ** 31;

/** Accesses without an initiator: the machine's own. */
const NO_ATTRS = new TxAttrs();

/** How many IOMMUs may stand one behind another, or be asked while another one translates. */
const MAX_TRANSLATIONS = 16;
const translations = Array.from({ length: MAX_TRANSLATIONS }, () => new Translation());
let translating = 0;

/** Follows what an address space shows. Calls for removed sections come before those for added ones. QEMU: MemoryListener. */
export interface MemoryListener {
  /** A section appears: once for each that is there when the listener is registered, then as the map changes. */
  regionAdd(section: Section): void;
  /** A section vanishes: as the map changes, and once for each that is left when the listener is unregistered. */
  regionRemove(section: Section): void;
  /** The changes up to here belong together. */
  commit?(): void;
  /** Negated errno of what it could not follow, 0 if there is nothing like that. */
  readonly failure?: number;
  /** Tries again what it could not follow. */
  retry?(): void;
}

/**
 * What a bus master sees: a region tree, flattened for fast look-up, and kept up to date as the tree changes.
 *
 * Accesses of any length and alignment, at any of the 2^64 addresses, end in a MemTx. A transfer that spans several sections is
 * carried out in ascending order and stops at the first piece that fails: what was transferred before stays. There is no
 * wrap-around at 2^64. QEMU: AddressSpace.
 */
export class AddressSpace implements MemoryPort, Disposable {
  readonly name: string;
  readonly root: Region;
  readonly #listeners: MemoryListener[] = [];
  readonly #viewer: Viewer = { rebuild: () => this.#rebuild(), publish: () => this.#publish() };
  #view: FlatView;
  /** The map that listeners know. */
  #published: FlatView;
  /** The section of the last access: most accesses hit it again. */
  #last = 0;
  /** The RAM section of the last load or store, in frames: the first, how many, and what added to a frame's number gives that in `#ram`. */
  #ram: Ram | undefined;
  #ramFirst = 0;
  #ramFrames = 0;
  #ramDelta = 0;
  #ramWritable = false;

  constructor(name: string, root: Region) {
    this.name = name;
    this.root = root;
    this.#view = flatten(root, undefined);
    this.#published = this.#view;
    root.attach(this.#viewer);
  }

  load(hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx {
    // Nearly all loads are entries of tables in one block of RAM. On integers, a nested walk took 560 ns, not 690.
    const frame = (hi << 20) | (lo >>> 12);
    const byte = lo & 0xfff;
    const inRam = hi >>> 11 === 0 && (frame - this.#ramFirst) >>> 0 < this.#ramFrames;
    if (inRam && (byte & 3) === 0 && byte + count * 4 <= PAGE_BYTES) {
      return this.#ram!.loadInFrame(frame + this.#ramDelta, byte >>> 2, out, at, count);
    }
    return this.#loadAnywhere(hi, lo, out, at, count);
  }

  store(hi: number, lo: number, from: Int32Array, at: number, count: number): MemTx {
    const frame = (hi << 20) | (lo >>> 12);
    const byte = lo & 0xfff;
    const inRam = hi >>> 11 === 0 && (frame - this.#ramFirst) >>> 0 < this.#ramFrames && this.#ramWritable;
    if (inRam && (byte & 3) === 0 && byte + count * 4 <= PAGE_BYTES) {
      return this.#ram!.storeInFrame(frame + this.#ramDelta, byte >>> 2, from, at, count);
    }
    return this.#storeAnywhere(hi, lo, from, at, count);
  }

  read(hi: number, lo: number, out: Uint8Array): MemTx {
    return this.#transfer(hi, lo, out, false, NO_ATTRS);
  }

  write(hi: number, lo: number, from: Uint8Array): MemTx {
    return this.#transfer(hi, lo, from, true, NO_ATTRS);
  }

  /** Like `read`, on behalf of the bus master that `attrs` describes. If it fails, `out` is filled up to where it failed. */
  readAs(hi: number, lo: number, out: Uint8Array, attrs: TxAttrs): MemTx {
    return this.#transfer(hi, lo, out, false, attrs);
  }

  /** Like `write`, on behalf of the bus master that `attrs` describes. If it fails, what came before is written. */
  writeAs(hi: number, lo: number, from: Uint8Array, attrs: TxAttrs): MemTx {
    return this.#transfer(hi, lo, from, true, attrs);
  }

  /**
   * Calls `regionAdd` for every section there is, and follows all later changes until the result is disposed of; then
   * `regionRemove` is called for every section that is left.
   */
  listen(listener: MemoryListener): Disposable {
    this.#listeners.push(listener);
    for (const section of this.#published.sections) listener.regionAdd(section);
    listener.commit?.();
    return {
      [Symbol.dispose]: () => {
        const index = this.#listeners.indexOf(listener);
        if (index < 0) return;
        this.#listeners.splice(index, 1);
        for (const section of this.#published.sections) listener.regionRemove(section);
        listener.commit?.();
      },
    };
  }

  /** Negated errno of what a listener could not follow; 0 if all of them follow. */
  get failure(): number {
    for (const { failure = 0 } of this.#listeners) if (failure !== 0) return failure;
    return 0;
  }

  /** Lets listeners try again what they could not follow. */
  retry(): void {
    for (const listener of this.#listeners) listener.retry?.();
  }

  /** The map, ascending. */
  sections(): readonly Section[] {
    return this.#view.sections;
  }

  /** The region tree as text. QEMU: `info mtree`. */
  tree(): string {
    return formatTree(this.name, this.root);
  }

  /** Stops following the region tree; the listeners see all sections vanish. */
  [Symbol.dispose](): void {
    this.root.detach(this.#viewer);
    forgetViewer(this.#viewer);
    this.#view = new FlatView([]);
    this.#last = 0;
    this.#forgetRam();
    this.#publish();
  }

  #rebuild(): void {
    this.#view = flatten(this.root, this.#view);
    // An index past the end of the new arrays would miss as well, but make every later look-up slower.
    this.#last = 0;
    this.#forgetRam();
  }

  #publish(): void {
    const { removed, added } = changesOf(this.#published, this.#view);
    this.#published = this.#view;
    if (removed.length === 0 && added.length === 0) return;
    for (const listener of [...this.#listeners]) {
      for (const section of removed) listener.regionRemove(section);
      for (const section of added) listener.regionAdd(section);
      listener.commit?.();
    }
  }

  #loadAnywhere(hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx {
    const address = (hi >>> 0) * TWO_32 + (lo >>> 0);
    const index = this.#find(address);
    if (index >= 0) {
      const view = this.#view;
      const ram = view.readable[index];
      const offset = address + view.deltas[index]!;
      if (ram !== undefined && (offset & 3) === 0 && address + count * 4 <= view.ends[index]!) {
        this.#rememberRam(index, ram);
        return ram.load(Math.floor(offset / TWO_32), offset >>> 0, out, at, count);
      }
    }
    return this.#transfer(hi, lo, bytesOf(out, at, count), false, NO_ATTRS);
  }

  #storeAnywhere(hi: number, lo: number, from: Int32Array, at: number, count: number): MemTx {
    const address = (hi >>> 0) * TWO_32 + (lo >>> 0);
    const index = this.#find(address);
    if (index >= 0) {
      const view = this.#view;
      const ram = view.writable[index];
      const offset = address + view.deltas[index]!;
      if (ram !== undefined && (offset & 3) === 0 && address + count * 4 <= view.ends[index]!) {
        this.#rememberRam(index, ram);
        return ram.store(Math.floor(offset / TWO_32), offset >>> 0, from, at, count);
      }
    }
    return this.#transfer(hi, lo, bytesOf(from, at, count), true, NO_ATTRS);
  }

  /** Makes section `index` the one that `load` and `store` look at first: its whole frames below 8 TiB. */
  #rememberRam(index: number, ram: Ram): void {
    const { starts, ends, deltas } = this.#view;
    const delta = deltas[index]! / PAGE_BYTES;
    const first = Math.ceil(starts[index]! / PAGE_BYTES);
    const end = Math.min(Math.floor(ends[index]! / PAGE_BYTES), FRAME_LIMIT);
    if (!Number.isInteger(delta) || first >= end) return;
    this.#ram = ram;
    this.#ramFirst = first;
    this.#ramFrames = end - first;
    this.#ramDelta = delta;
    this.#ramWritable = this.#view.writable[index] !== undefined;
  }

  /** The map has changed. */
  #forgetRam(): void {
    this.#ram = undefined;
    this.#ramFrames = 0;
  }

  #find(address: number): number {
    const view = this.#view;
    const last = this.#last;
    if (address >= view.starts[last]! && address < view.ends[last]!) return last;
    const index = view.find(address);
    if (index >= 0) this.#last = index;
    return index;
  }

  #transfer(hi: number, lo: number, bytes: Uint8Array, write: boolean, attrs: TxAttrs): MemTx {
    let high = hi >>> 0;
    let low = lo >>> 0;
    for (let done = 0; done < bytes.length;) {
      if (high >= TWO_32) return MemTx.DECODE_ERROR;
      const address = high * TWO_32 + low;
      const index = this.#find(address);
      if (index < 0) return MemTx.DECODE_ERROR;
      const end = this.#view.ends[index]!;
      const room = end === Infinity ? (TWO_32 - 1 - high) * TWO_32 + (TWO_32 - low) : end - address;
      const run = Math.min(bytes.length - done, room);
      const chunk = run === bytes.length ? bytes : bytes.subarray(done, done + run);
      const result = this.#transferIn(index, high, low, chunk, write, attrs);
      if (result !== MemTx.OK) return result;
      done += run;
      low += run;
      if (low >= TWO_32) {
        high += Math.floor(low / TWO_32);
        low %= TWO_32;
      }
    }
    return MemTx.OK;
  }

  /** A transfer that lies in section `index`. */
  #transferIn(index: number, hi: number, lo: number, bytes: Uint8Array, write: boolean, attrs: TxAttrs): MemTx {
    const view = this.#view;
    const region = view.sections[index]!.region;
    const delta = view.deltas[index]!;
    if (region.translator !== undefined) return translate(region, delta, hi, lo, bytes, write, attrs);
    const offset = hi * TWO_32 + lo + delta;
    if (region.mmio !== undefined) return region.mmio.transfer(offset, bytes, write, attrs);
    const ram = write ? view.writable[index] : view.readable[index];
    const memory = ram ?? region.port;
    if (memory === undefined) return MemTx.DECODE_ERROR;
    const high = Math.floor(offset / TWO_32);
    return write ? memory.write(high, offset >>> 0, bytes) : memory.read(high, offset >>> 0, bytes);
  }
}

/** A transfer through an IOMMU: each page that it touches is translated, and continues in the target address space. */
function translate(
  region: Region,
  delta: number,
  hi: number,
  lo: number,
  bytes: Uint8Array,
  write: boolean,
  attrs: TxAttrs,
): MemTx {
  if (translating >= MAX_TRANSLATIONS) return MemTx.ACCESS_ERROR;
  const translator = region.translator!;
  const need = write ? Access.WRITE : Access.READ;
  const out = translations[translating]!;
  // The offset in the region, as words: regions that span the whole space have offsets that no number holds.
  const sum = lo + (delta - Math.floor(delta / TWO_32) * TWO_32);
  let low = sum >>> 0;
  let high = (hi + Math.floor(delta / TWO_32) + (sum >= TWO_32 ? 1 : 0)) >>> 0;
  translating++;
  try {
    for (let done = 0; done < bytes.length;) {
      if (translator.translate(high, low, need | attrs.flags, attrs, out) !== 0) return MemTx.ACCESS_ERROR;
      if ((out.access & need) === 0) return MemTx.ACCESS_ERROR;
      const run = Math.min(bytes.length - done, roomInPage(high, low, out.shift));
      const chunk = run === bytes.length ? bytes : bytes.subarray(done, done + run);
      const lowMask = out.shift >= 32 ? -1 : 2 ** out.shift - 1;
      const highMask = out.shift <= 32 ? 0 : 2 ** (out.shift - 32) - 1;
      const outHi = (out.hi & ~highMask) | (high & highMask);
      const outLo = (out.lo & ~lowMask) | (low & lowMask);
      const result = write
        ? translator.target.writeAs(outHi, outLo, chunk, attrs)
        : translator.target.readAs(outHi, outLo, chunk, attrs);
      if (result !== MemTx.OK) return result;
      done += run;
      low += run;
      if (low >= TWO_32) {
        high = (high + Math.floor(low / TWO_32)) >>> 0;
        low %= TWO_32;
      }
    }
    return MemTx.OK;
  } finally {
    translating--;
  }
}

/** How many bytes from `(hi, lo)` on lie in the same page of `1 << shift` bytes; rounded if there are more than 2^53. */
function roomInPage(hi: number, lo: number, shift: number): number {
  if (shift <= 32) return 2 ** shift - (lo % 2 ** shift);
  const highMask = 2 ** (shift - 32) - 1;
  return ((highMask - (hi & highMask)) >>> 0) * TWO_32 + (TWO_32 - lo);
}

function bytesOf(words: Int32Array, at: number, count: number): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset + at * 4, count * 4);
}
