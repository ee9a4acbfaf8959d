/** A second VT-d unit on the tables of a machine's own: it has no caches filled, and whatever it reads is noted. */
import { hex, type RecordType } from '@remora/bits';
import type { Device, MemoryPort, MemTx, Translation } from '@remora/core';
import { MemTx as Result } from '@remora/core';
import {
  ContextEntry,
  GlobalCommand,
  IntelIommu,
  PasidDirectoryEntry,
  PasidEntry,
  Reg,
  RootEntry,
  ScalableContextEntry,
  ScalableRootEntry,
  VtdUnit,
} from '@hw/intel-iommu';
import { type Machine, simulatedHostOf } from '@remora/machine';
import type { PhysicalVtd } from '@remora/machines';
import { VfioPci } from '@hw/vfio-pci';
import { UsageError } from './usage-error.js';

/** One read of memory by the unit. */
interface TableRead {
  readonly hi: number;
  readonly lo: number;
  readonly words: Int32Array;
}

class NotingMemory implements MemoryPort {
  readonly reads: TableRead[] = [];
  readonly #memory: MemoryPort;

  constructor(memory: MemoryPort) {
    this.#memory = memory;
  }

  load(hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx {
    const result = this.#memory.load(hi, lo, out, at, count);
    this.reads.push({ hi, lo, words: out.slice(at, at + count) });
    return result;
  }

  read(hi: number, lo: number, out: Uint8Array): MemTx {
    return this.#memory.read(hi, lo, out);
  }

  /** Looking must not change what it looks at: accessed and dirty bits stay as they are. */
  store(): MemTx {
    return Result.OK;
  }

  write(): MemTx {
    return Result.OK;
  }
}

export class WalkingUnit {
  readonly title: string;
  /** The id under which the function is known to this unit; undefined: the one in the guest. */
  readonly requesterId: number | undefined;
  readonly #memory: NotingMemory;
  readonly #unit: VtdUnit;

  constructor(title: string, unit: VtdUnit, memory: MemoryPort, requesterId?: number) {
    this.title = title;
    this.requesterId = requesterId;
    this.#memory = new NotingMemory(memory);
    const environment = { name: title, memory: this.#memory, sendMsi: () => undefined };
    // One translation reads the same tables more than once where stages are nested: each time is shown.
    this.#unit = new VtdUnit(unit.config, environment, { ...unit.behaviour, pagingStructuresCached: false });
    const attrs = { requesterId: 0, pasid: -1, flags: 0 };
    const write = this.#unit.mmio;
    for (const offset of [Reg.RTADDR, Reg.RTADDR + 4]) write.write(offset, unit.registers.read(offset), 4, attrs);
    write.write(Reg.GCMD, GlobalCommand.SRTP, 4, attrs);
    if (unit.translationEnabled) write.write(Reg.GCMD, GlobalCommand.TE, 4, attrs);
  }

  /** The units on the way of a function at `bdf`. @throws UsageError if the machine has no VT-d unit. */
  static of(machine: Machine, bdf: string): WalkingUnit[] {
    const iommu = machine.ids.map(id => machine.device(id)).find(device => device instanceof IntelIommu);
    if (iommu === undefined) throw new UsageError(`${machine.name} has no intel-iommu`);
    const units = [new WalkingUnit(`${iommu.name}, for ${bdf}`, iommu.unit, machine.memory)];
    const assigned = machine.ids.map(id => machine.device(id)).find(device => isAssigned(machine, bdf, device));
    const physical = assigned instanceof VfioPci ? hostUnit(machine, assigned) : undefined;
    return physical === undefined ? units : [...units, physical];
  }

  /** What was read, a line each. */
  get lines(): readonly string[] {
    return this.#memory.reads.map((read, index) => formatRead(read, index, this.#unit.scalable));
  }

  translate(requesterId: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    return this.#unit.translate(requesterId, pasid, hi, lo, access, out);
  }
}

function isAssigned(machine: Machine, bdf: string, device: Device): boolean {
  return device instanceof VfioPci && machine.config.functionAt(bdf) === device.fn;
}

/** The physical unit in front of the function that a vfio-pci device stands for. */
function hostUnit(machine: Machine, assigned: VfioPci): WalkingUnit | undefined {
  const host = simulatedHostOf(machine);
  const { unit } = (host.iommu ?? {}) as Partial<PhysicalVtd>;
  const bdf = assigned.connection?.device.bdf;
  if (unit === undefined || bdf === undefined) return undefined;
  const requesterId = host.function(bdf).requesterId;
  return new WalkingUnit(`host/vtd, for ${bdf}`, unit, host.addressSpace, requesterId);
}

/** What is read for one translation, in order, before any page table. */
const LEGACY: readonly TableKind[] = [
  { name: 'root entry', type: RootEntry },
  { name: 'context entry', type: ContextEntry },
];
const SCALABLE: readonly TableKind[] = [
  { name: 'root entry', type: ScalableRootEntry },
  { name: 'context entry', type: ScalableContextEntry },
  { name: 'PASID directory', type: PasidDirectoryEntry },
  { name: 'PASID entry', type: PasidEntry },
];

interface TableKind {
  readonly name: string;
  readonly type: RecordType;
}

/** The read with this index as one line: where, what, and what it says. */
function formatRead({ hi, lo, words }: TableRead, index: number, scalable: boolean): string {
  const kind = (scalable ? SCALABLE : LEGACY)[index];
  const text = kind === undefined ? hex(words[1]!, words[0]!) : kind.type.format(words);
  return `${hex(hi, lo).padEnd(14)} ${(kind?.name ?? 'paging entry').padEnd(16)} ${text || 'not present'}`;
}
