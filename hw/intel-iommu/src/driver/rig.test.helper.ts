/** A bare machine for the driver's tests: memory, one VT-d unit at its usual place, and what a device's request comes to. */
import { hiOf, loOf, type Wide } from '@remora/bits';
import { Access, AddressSpace, type MemoryPort, type MemTx, NO_PASID, Ram, Region, Translation } from '@remora/core';
import { type VtdConfig, vtdConfig } from '../config/index.js';
import type { VtdEnvironment, VtdPropagation } from '../device/environment.js';
import { VtdUnit } from '../device/unit.js';
import { FaultRecord } from '../spec/index.js';
import { LoggedRegisters } from './operation-log.test.helper.js';
import { FrameAllocator } from './page-allocator.js';
import { MemoryMappedRegisters } from './registers.js';

const BASE = 0xfed9_0000;
const RAM_BYTES = 64 * 2 ** 20;
/** Tables from 1 MiB on; frames above TABLES_END are free for tests: to map to, or for guests. */
const TABLES = 0x100;
const TABLES_END = 0x2000;

/** What became of a request: where it went, or why it was refused. */
export type Outcome = { readonly to: bigint; readonly access: number } | { readonly fault: number };

/** Memory that notes what was stored where, in order, while it has a log. */
export class LoggedMemory implements MemoryPort {
  log: { readonly address: number; readonly words: readonly number[] }[] | undefined;
  readonly #below: MemoryPort;

  constructor(below: MemoryPort) {
    this.#below = below;
  }

  load(hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx {
    return this.#below.load(hi, lo, out, at, count);
  }

  store(hi: number, lo: number, from: Int32Array, at: number, count: number): MemTx {
    this.log?.push({ address: (hi >>> 0) * 2 ** 32 + (lo >>> 0), words: [...from.subarray(at, at + count)] });
    return this.#below.store(hi, lo, from, at, count);
  }

  read(hi: number, lo: number, out: Uint8Array): MemTx {
    return this.#below.read(hi, lo, out);
  }

  write(hi: number, lo: number, from: Uint8Array): MemTx {
    return this.#below.write(hi, lo, from);
  }
}

export class Rig {
  readonly memory: LoggedMemory;
  readonly pages: FrameAllocator;
  readonly unit: VtdUnit;
  readonly registers: LoggedRegisters;
  /** Messages of the unit: low address word and data. */
  readonly messages: (readonly [lo: number, data: number])[] = [];
  /** Reasons of all faults that the unit met, recorded or not. */
  readonly faults: number[] = [];
  readonly #out = new Translation();

  constructor(
    options: Partial<VtdConfig> = {},
    propagation: VtdPropagation = {},
    environment: Pick<VtdEnvironment, 'endpoint' | 'clock'> = {},
  ) {
    const root = Region.container('system', 2 ** 40);
    const space = new AddressSpace('system', root);
    root.add(0, Region.ram('ram', Ram.allocate(RAM_BYTES)));
    this.memory = new LoggedMemory(space);
    this.pages = new FrameAllocator(space, TABLES, TABLES_END - TABLES);
    this.unit = new VtdUnit(vtdConfig(options), {
      name: 'vtd',
      memory: space,
      sendMsi: (_hi, lo, data) => this.messages.push([lo >>> 0, data]),
      faultOffered: record => this.faults.push(FaultRecord.fields.fr.get(record, 0)),
      propagation,
      ...environment,
    });
    root.add(BASE, Region.mmio('vtd', 0x1000, this.unit.mmio));
    this.registers = new LoggedRegisters(new MemoryMappedRegisters(space, BASE), space);
  }

  /** A device's request. */
  request(requesterId: number, address: Wide, access: number = Access.READ, pasid = NO_PASID): Outcome {
    const hi = hiOf(address);
    const lo = loOf(address);
    const fault = this.unit.translate(requesterId, pasid, hi, lo, access, this.#out);
    if (fault !== 0) return { fault };
    const mask = (1n << BigInt(this.#out.shift)) - 1n;
    const base = (BigInt(this.#out.hi >>> 0) << 32n) | BigInt(this.#out.lo >>> 0);
    return { to: (base & ~mask) | (BigInt(address) & mask), access: this.#out.access };
  }

  /** The operations since the last call. */
  takeOperations(): string[] {
    return this.registers.log.operations.splice(0);
  }
}
