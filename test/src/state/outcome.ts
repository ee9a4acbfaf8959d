/** All that can be seen of a machine and its host at the end, as text to compare: not its saved state, which may lack something. */
import { createHash } from 'node:crypto';
import { frameHi, frameLo } from '@remora/bits';
import { PAGE_BYTES } from '@remora/core';
import { SimulatedHost } from '@remora/host-sim';
import type { Machine } from '@remora/machine';

export interface Outcome {
  readonly clock: number;
  readonly nextTimer: number | null;
  /** SHA-256 of each page that is not all zeroes, by frame. */
  readonly ram: Readonly<Record<string, string>>;
  /** Configuration space of every function, hexadecimal. */
  readonly config: Readonly<Record<string, string>>;
  readonly messages: unknown;
  /** What inspection tells; what caches hold is sorted. */
  readonly inspected: unknown;
  /** What is mapped and bound at the host, PASIDs, devices and faults. */
  readonly host: unknown;
}

export function outcomeOf(machine: Machine): Outcome {
  const functions = [...machine.board.rootBus.walk()];
  return {
    clock: machine.clock.now,
    nextTimer: machine.clock.next() ?? null,
    ram: pagesOf(machine),
    config: Object.fromEntries(functions.map(fn => [fn.bdf, Buffer.from(fn.config.bytes).toString('hex')])),
    messages: machine.messages.messages,
    inspected: canonical(machine.inspect().toJSON()),
    host: hostOf(machine),
  };
}

function pagesOf({ board }: Machine): Record<string, string> {
  const pages: Record<string, string> = {};
  const bytes = new Uint8Array(PAGE_BYTES);
  for (let frame = 0; frame < board.ram.frames; frame++) {
    if (board.ram.isZero(frame)) continue;
    board.ram.read(frameHi(frame), frameLo(frame), bytes);
    pages[frame.toString(16)] = createHash('sha256').update(bytes).digest('hex').slice(0, 16);
  }
  return pages;
}

/** Host frames and descriptors are the host's own choice; everything else must be as it was. */
function hostOf(machine: Machine): unknown {
  const host = machine.host?.platform;
  if (!(host instanceof SimulatedHost)) return null;
  const { groups, pasids, devices, interrupts } = host.dump();
  return {
    groups: canonical(byPage(groups)),
    pasids,
    devices,
    interrupts,
    bound: boundPasids(host),
    faults: host.faults,
  };
}

/** What containers map, page by page: how it is cut into ranges does not matter, nor where the process has its memory. */
function byPage(value: unknown): unknown {
  if (Array.isArray(value)) return value.flatMap(each => (isMapping(each) ? pagesIn(each) : [byPage(each)]));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, byPage(inner)]));
}

interface Mapping {
  readonly iovaFrame: number;
  readonly pages: number;
  readonly access: number;
}

function isMapping(value: unknown): value is Mapping {
  return typeof value === 'object' && value !== null && 'iovaFrame' in value;
}

function pagesIn({ iovaFrame, pages, access }: Mapping): string[] {
  return Array.from({ length: pages }, (_, index) => `${iovaFrame + index}:${access}`);
}

/** PASIDs in the physical unit's tables, by function: what its walker finds. */
function boundPasids(host: SimulatedHost): unknown {
  const { iommu } = host.dump() as { iommu: { functions: { requesterId: number; pasids: { pasid: number }[] }[] } };
  return iommu.functions.map(({ requesterId, pasids }) => [requesterId, pasids.map(({ pasid }) => pasid).sort()]);
}

/** Lists of what caches hold in one order; `without` leaves fields out. */
function canonical(value: unknown, without: readonly string[] = ['ranges']): unknown {
  if (Array.isArray(value)) {
    const all = value.map(each => canonical(each, without));
    return all.every(each => typeof each === 'object')
      ? all.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
      : all;
  }
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([name]) => !without.includes(name));
  return Object.fromEntries(kept.map(([name, inner]) => [name, canonical(inner, without)]));
}
