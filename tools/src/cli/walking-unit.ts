/** A second VT-d unit on the tables of a machine's own: it has no caches filled, and whatever it reads is noted. */
import { hex } from '@remora/bits';
import type { MemoryPort, MemTx, Translation } from '@remora/core';
import { MemTx as Result } from '@remora/core';
import {
  ContextEntry,
  GlobalCommand,
  IntelIommu,
  PasidEntry,
  Reg,
  RootEntry,
  ScalableContextEntry,
  VtdUnit,
} from '@hw/intel-iommu';
import type { Machine } from '@remora/machine';
import { UsageError } from './usage-error.js';

/** One read of memory by the unit. */
export interface TableRead {
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
    this.#unit = new VtdUnit(unit.config, { name: title, memory: this.#memory, sendMsi: () => undefined });
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
    return [new WalkingUnit(`${iommu.name}, for ${bdf}`, iommu.unit, machine.memory)];
  }

  get reads(): readonly TableRead[] {
    return this.#memory.reads;
  }

  translate(requesterId: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    return this.#unit.translate(requesterId, pasid, hi, lo, access, out);
  }
}

/** A read as one line: its address, and what it is by its size. */
export function formatRead({ hi, lo, words }: TableRead): string {
  const address = hex(hi, lo).padEnd(14);
  switch (words.length) {
    case 16:
      return `${address} PASID entry      ${PasidEntry.format(words)}`;
    case 8:
      return `${address} context entry    ${ScalableContextEntry.format(words)}`;
    case 4:
      return `${address} root or context  ${formatFour(words)}`;
    default:
      return `${address} ${hex(words[1]!, words[0]!).padStart(18)}`;
  }
}

/** Root and legacy context entries have the same size. */
function formatFour(words: Int32Array): string {
  return words[2] === 0 && words[3] === 0 ? RootEntry.format(words) : ContextEntry.format(words);
}

