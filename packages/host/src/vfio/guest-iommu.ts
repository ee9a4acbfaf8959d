/** What a vIOMMU translates, mapped for DMA: a container's shadow of the guest's tables. QEMU: VFIOGuestIOMMU. */
import { type Hva, hva } from '@remora/bits';
import { Access, type IommuMapEvent, IommuNotify, type IommuNotifier, PAGE_BYTES, type Section } from '@remora/core';
import type { DmaTarget } from '../dma-target.js';
import { firstByte, lastByte } from './trace-events.js';

/** What the client of a guest IOMMU brings along. */
export interface GuestIommuServices {
  /** Where the host process has the first byte of a section's region; undefined if it has not got that region. */
  addressOf(section: Section): Hva | undefined;
  /** The host refused something: page frames of IOVA, and its negated errno. */
  failed(operation: 'MAP_DMA' | 'UNMAP_DMA', iovaFrame: number, pages: number, result: number): void;
  /** These IOVAs are mapped by the guest to what is no memory: no DMA of a host's device gets there. */
  skipped(iovaFrame: number, pages: number): void;
}

/** One mapping of the host. */
interface Piece {
  readonly iovaFrame: number;
  readonly pages: number;
  /** It belongs to a range that was refused, and could not be taken back. */
  readonly unwanted?: true;
}

/** A piece that is to be mapped. */
interface Planned extends Piece {
  readonly address: Hva;
  readonly access: number;
}

/**
 * Follows an IOMMU section: each range that the vIOMMU tells becomes one MAP_DMA for each block of process memory that it leads to, and goes by
 * one UNMAP_DMA. type1v2 cuts no mapping in two, and never has to: the vIOMMU takes back ranges as it told them.
 */
export class VfioGuestIommu implements IommuNotifier {
  readonly wants = IommuNotify.MAP | IommuNotify.UNMAP;
  readonly startFrame: number;
  readonly endFrame: number;
  readonly #target: DmaTarget;
  readonly #section: Section;
  readonly #services: GuestIommuServices;
  /** Added to a frame of the region, gives the frame of IOVA. */
  readonly #delta: number;
  /** What the host has, ascending. */
  readonly #pieces: Piece[] = [];
  #hasUnwanted = false;
  #registration: Disposable | undefined;

  /** Registers with the section's IOMMU region, which must have notifiers. Nothing is mapped before `replay`. */
  constructor(target: DmaTarget, section: Section, services: GuestIommuServices) {
    this.#target = target;
    this.#section = section;
    this.#services = services;
    this.startFrame = Math.ceil(section.offset / PAGE_BYTES);
    this.endFrame = Math.floor((section.offset + section.size) / PAGE_BYTES);
    this.#delta = Math.floor((section.start - section.offset) / PAGE_BYTES);
    this.#registration = section.region.translator!.notifiers!.add(this);
  }

  /** How many mappings of the host there are, for inspection. */
  get mappings(): number {
    return this.#pieces.length;
  }

  /** Maps all that the vIOMMU translates now. 0 or a negated errno. */
  replay(): number {
    return this.#section.region.translator!.notifiers!.replay(this);
  }

  notify(event: IommuMapEvent): number {
    const start = Math.max(event.frame, this.startFrame);
    const end = Math.min(event.frame + event.pages, this.endFrame);
    if (start >= end) return 0;
    const iovaFrame = start + this.#delta;
    const { vfio_iommu_map_notify: notified } = this.#target.trace;
    if (notified.on) {
      const op = event.access === 0 ? 'UNMAP' : 'MAP';
      notified.emit(op, firstByte(iovaFrame), lastByte(end + this.#delta));
    }
    // What an earlier refusal left behind goes first: nothing is mapped twice.
    const unmapped = this.#unmap(iovaFrame, end - start);
    if (unmapped < 0 || event.access === 0) return unmapped;
    return this.#map(iovaFrame, this.#plan(iovaFrame, end - start, event.outFrame + start - event.frame, event.access));
  }

  /** Follows no more; what is mapped goes. 0 or a negated errno; then what is left goes by `finish`. */
  leave(): number {
    this.#registration?.[Symbol.dispose]();
    this.#registration = undefined;
    return this.#unmap(this.startFrame + this.#delta, this.endFrame - this.startFrame);
  }

  /** Takes back what could not be taken back when a range was refused. */
  retry(): void {
    if (!this.#hasUnwanted) return;
    const unwanted = this.#pieces.filter(piece => piece.unwanted === true);
    for (const { iovaFrame, pages } of unwanted) this.#unmap(iovaFrame, pages);
    this.#hasUnwanted = this.#pieces.some(piece => piece.unwanted === true);
  }

  /** Unmaps what `leave` could not: one by one, since others may have mapped something between. */
  finish(): number {
    for (const { iovaFrame, pages } of [...this.#pieces]) {
      const result = this.#unmap(iovaFrame, pages);
      if (result < 0) return result;
    }
    return 0;
  }

  /** The memory behind `pages` pages of the target from `outFrame`, in blocks; what is no memory of the process is left out. */
  #plan(iovaFrame: number, pages: number, outFrame: number, access: number): Planned[] {
    const planned: Planned[] = [];
    const delta = iovaFrame - outFrame;
    const end = outFrame + pages;
    let at = outFrame;
    for (const section of this.#section.region.translator!.target.sections()) {
      const from = Math.max(at, Math.ceil(section.start / PAGE_BYTES));
      const to = Math.min(end, Math.floor((section.start + section.size) / PAGE_BYTES));
      if (from >= to) continue;
      const base = section.region.ram === undefined ? undefined : this.#services.addressOf(section);
      const offset = section.offset + from * PAGE_BYTES - section.start;
      const granted = section.readonly ? access & Access.READ : access;
      if (base === undefined || granted === 0 || offset % PAGE_BYTES !== 0) continue;
      if (at < from) this.#services.skipped(at + delta, from - at);
      planned.push({ iovaFrame: from + delta, pages: to - from, address: hva(base + offset), access: granted });
      at = to;
    }
    if (at < end) this.#services.skipped(at + delta, end - at);
    return planned;
  }

  /** All of them, or none. */
  #map(iovaFrame: number, planned: readonly Planned[]): number {
    for (const [index, piece] of planned.entries()) {
      const result = this.#target.mapDma(piece.iovaFrame, piece.pages, piece.address, piece.access);
      if (result === 0) {
        this.#pieces.splice(this.#firstEndingAfter(piece.iovaFrame), 0, piece);
        continue;
      }
      this.#services.failed('MAP_DMA', piece.iovaFrame, piece.pages, result);
      if (index > 0) this.#undo(iovaFrame, piece.iovaFrame - iovaFrame);
      return result;
    }
    return 0;
  }

  #undo(iovaFrame: number, pages: number): void {
    if (this.#unmap(iovaFrame, pages) >= 0) return;
    this.#hasUnwanted = true;
    for (const [index, piece] of this.#pieces.entries()) {
      const inside = piece.iovaFrame >= iovaFrame && piece.iovaFrame < iovaFrame + pages;
      if (inside) this.#pieces[index] = { ...piece, unwanted: true };
    }
  }

  /** Unmaps the pieces in a range, by one call. */
  #unmap(iovaFrame: number, pages: number): number {
    const first = this.#firstEndingAfter(iovaFrame);
    let past = first;
    while (past < this.#pieces.length && this.#pieces[past]!.iovaFrame < iovaFrame + pages) past++;
    if (first === past) return 0;
    const start = this.#pieces[first]!.iovaFrame;
    const last = this.#pieces[past - 1]!;
    const size = last.iovaFrame + last.pages - start;
    const result = this.#target.unmapDma(start, size, past - first);
    if (result < 0) {
      this.#services.failed('UNMAP_DMA', start, size, result);
      return result;
    }
    this.#pieces.splice(first, past - first);
    return 0;
  }

  #firstEndingAfter(iovaFrame: number): number {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { iovaFrame: start, pages } = this.#pieces[middle]!;
      if (start + pages > iovaFrame) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
