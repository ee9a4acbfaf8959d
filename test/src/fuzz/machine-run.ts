/**
 * The unit in a machine: tables in guest RAM, and a dma-engine and an iommu-testdev behind the vIOMMU. Before each DMA all caches are
 * emptied, so that the oracle knows what must come of it: which bytes move, which accessed bits appear, which fault is recorded; and
 * nothing else changes.
 */
import { VTD_BASE } from '@hw/intel-iommu';
import { GuestEngine, type EngineResult } from '@remora/machines';
import type { Machine } from '@remora/machine';
import type { Configuration } from './configurations.js';
import type { Coverage } from './coverage.js';
import { damage, pathOf } from './damage.js';
import { ExpectedMemory, MachineMemory } from './machine-memory.js';
import type { Step } from './machine-program.js';
import { factsOf, type Facts } from './naive/facts.js';
import { isSuppressed, recordOf } from './naive/faults.js';
import { inInterruptRange } from './naive/paging.js';
import { NaiveUnit, type Request } from './naive/translate.js';
import { Disagreement } from './rig.js';
import { PAGES, PASIDS, World } from './world.js';

export const ENGINE = { bdf: '00:05.0', rid: 0x28 } as const;
export const TESTDEV = { bdf: '00:04.0', rid: 0x20 } as const;
const ENGINE_BAR = 0xe000_0000;
const TESTDEV_BAR = 0xe010_0000;
/** What iommu-testdev writes. */
const TESTDEV_PATTERN = 0x1234_5678;
const READ = 1;
const WRITE = 2;
const TE = 0x8000_0000;
const SRTP = 0x4000_0000;
const [CAP, ECAP, GCMD, GSTS, RTADDR, FSTS, FRCD] = [0x08, 0x10, 0x18, 0x1c, 0x20, 0x34, 0x220];
const END = 1n << 64n;

/** What must come of one transfer. */
interface Prediction {
  readonly memory: ExpectedMemory;
  readonly moved: number;
  /** The request that was refused, its reason, and whether FPD keeps it out of the records. */
  readonly fault: { readonly request: Request; readonly reason: number; readonly suppressed: boolean } | undefined;
}

export class MachineRun {
  readonly #memory: MachineMemory;
  readonly #engine: GuestEngine;
  readonly #facts: Facts;
  readonly #world: World;
  readonly #coverage: Coverage;
  readonly #rtaddr: bigint;

  /** `machine` is reset, and its RAM as far as programs use it is cleared. */
  constructor(machine: Machine, { modes }: Configuration, genes: readonly number[], coverage: Coverage) {
    machine.reset();
    this.#coverage = coverage;
    this.#memory = new MachineMemory(machine.memory);
    this.#engine = new GuestEngine(machine, ENGINE.bdf, ENGINE_BAR);
    machine.config.write(TESTDEV.bdf, 0x10, TESTDEV_BAR, 4);
    machine.config.write(TESTDEV.bdf, 0x04, 6, 2);
    this.#facts = factsOf(this.#register64(CAP), this.#register64(ECAP));
    this.#world = new World(this.#memory, this.#facts, modes[genes[0]! % modes.length]!, genes);
    this.#rtaddr = this.#world.root | (this.#world.mode === 'legacy' ? 0n : 1n << 10n);
    for (const [i, { rid }] of [ENGINE, TESTDEV].entries()) this.#world.putContext(rid, genes.slice(i));
    if (this.#world.mode === 'legacy') return;
    for (const directory of [0, 1]) {
      for (const [i, pasid] of PASIDS.entries()) this.#world.putPasid(directory, pasid, genes.slice(i + directory));
    }
  }

  run(steps: readonly Step[]): void {
    for (const step of steps) this.#step(step);
    for (const { first, bytes } of this.#world.used) this.#memory.putBytes(first, new Uint8Array(bytes));
  }

  #step({ device, pasid, page, source, offset, length, depth, gene, bend }: Step): void {
    const { rid } = device === 'engine' ? ENGINE : TESTDEV;
    const chosen = device === 'engine' && this.#facts.pasids ? (PASIDS[pasid] ?? -1) : -1;
    const target = BigInt.asUintN(64, PAGES[page]! + BigInt(offset));
    const from =
      source === undefined || device !== 'engine'
        ? undefined
        : BigInt.asUintN(64, PAGES[source]! + BigInt(offset >>> 3));
    let restore = (): void => {};
    if (bend) {
      const path = pathOf(this.#world, rid, chosen, target);
      if (path.length > 0) restore = damage(this.#world, path[depth % path.length]!, depth >>> 6, gene);
    }
    const pattern = device === 'engine' ? gene : TESTDEV_PATTERN;
    const predicted = this.#predict(rid, chosen, target, from, length, pattern);
    if (predicted !== undefined) {
      this.#flush();
      const before = this.#world.used.map(({ first, bytes }) => this.#memory.bytes(first, bytes));
      if (device === 'engine') this.#withEngine(chosen, target, from, length, gene, predicted);
      else this.#withTestdev(target, length, predicted);
      this.#checkMemory(before, predicted.memory);
      this.#checkFault(predicted);
    }
    restore();
  }

  /**
   * Goes through a transfer page by page. Undefined if it would end in registers or among interrupts, which is no matter of memory, or
   * in the tables themselves: then what is cached meanwhile decides how it goes on.
   */
  #predict(
    rid: number,
    pasid: number,
    target: bigint,
    from: bigint | undefined,
    length: number,
    pattern: number,
  ): Prediction | undefined {
    const memory = new ExpectedMemory(this.#memory);
    const naive = new NaiveUnit(this.#facts, memory);
    naive.enabled = true;
    let moved = 0;
    while (moved < length) {
      const to = target + BigInt(moved);
      const source = from === undefined ? undefined : from + BigInt(moved);
      if (to + BigInt(length) > END || (source !== undefined && source + BigInt(length) > END)) return undefined;
      const left = [
        4096n - (to & 0xfffn),
        source === undefined ? 4096n : 4096n - (source & 0xfffn),
        BigInt(length - moved),
      ];
      const count = Number(left.reduce((least, each) => (each < least ? each : least)));
      const bytes = new Uint8Array(count);
      const ways: [bigint, number][] =
        source === undefined
          ? [[to, WRITE]]
          : [
              [source, READ],
              [to, WRITE],
            ];
      for (const [address, access] of ways) {
        const request = { rid, pasid, address, access };
        if (pasid === -1 && inInterruptRange(address)) return undefined;
        naive.setRoot(this.#rtaddr);
        const possible = naive.possibilities(request);
        const { outcome, writes } = possible.at(-1)!;
        for (const [at, value] of writes) memory.putQuad(at, value);
        if ('reason' in outcome) {
          return { memory, moved, fault: { request, reason: outcome.reason, suppressed: isSuppressed(outcome) } };
        }
        const real = outcome.base | (address & ((1n << BigInt(outcome.shift)) - 1n));
        const section = this.#memory.section(real);
        if (section === undefined) return { memory, moved, fault: undefined };
        if (section.region.kind !== 'ram' || section.readonly) return undefined;
        if (access === WRITE && this.#isTable(real, count)) return undefined;
        for (let i = 0; i < count; i++) {
          if (access === READ) bytes[i] = memory.byte(real + BigInt(i));
          else
            memory.putByte(
              real + BigInt(i),
              source === undefined ? (pattern >>> (8 * ((moved + i) & 3))) & 0xff : bytes[i]!,
            );
        }
      }
      moved += count;
    }
    return { memory, moved, fault: undefined };
  }

  #isTable(address: bigint, length: number): boolean {
    return this.#world.used.some(
      ({ first, bytes }) => address + BigInt(length) > first && address < first + BigInt(bytes),
    );
  }

  #withEngine(
    pasid: number,
    to: bigint,
    from: bigint | undefined,
    length: number,
    gene: number,
    predicted: Prediction,
  ): void {
    const command = { to, length, ...(pasid === -1 ? {} : { pasid }) };
    const result: EngineResult =
      from === undefined ? this.#engine.fill({ ...command, pattern: gene }) : this.#engine.copy({ ...command, from });
    const ok = predicted.moved === length;
    if (result.ok !== ok || result.moved !== predicted.moved) {
      throw new Disagreement(`the engine has moved ${result.moved} of ${length} bytes, not ${predicted.moved}`);
    }
    this.#coverage.hit(ok ? `moved ${this.#world.mode}` : predicted.fault === undefined ? 'no memory' : 'fault');
  }

  /** It writes its pattern and reads it back from where it ought to be: only memory and records are of interest. */
  #withTestdev(target: bigint, length: number, { moved }: Prediction): void {
    const registers: [number, number][] = [
      [0x04, Number(target & 0xffff_ffffn)],
      [0x08, Number(target >> 32n)],
      [0x0c, length],
      [0x14, 1],
    ];
    for (const [offset, value] of registers) this.#write(TESTDEV_BAR + offset, 4, BigInt(value));
    this.#memory.bytes(BigInt(TESTDEV_BAR), 4);
    if (moved === length) this.#coverage.hit('moved by iommu-testdev');
  }

  #checkMemory(before: readonly Uint8Array[], expected: ExpectedMemory): void {
    for (const [address, value] of expected.changes) {
      const got = this.#memory.quad(address);
      if (got !== value)
        throw new Disagreement(
          `memory at 0x${address.toString(16)} is ${got?.toString(16)}, not ${value.toString(16)}`,
        );
    }
    for (const [i, { first, bytes }] of this.#world.used.entries()) {
      const now = this.#memory.bytes(first, bytes);
      if (Buffer.compare(now, before[i]!) === 0) continue;
      for (let at = 0; at < bytes; at += 8) {
        const address = first + BigInt(at);
        const same = now.subarray(at, at + 8).every((byte, j) => byte === before[i]![at + j]);
        if (!same && !expected.changes.has(address))
          throw new Disagreement(`memory at 0x${address.toString(16)} has changed`);
      }
    }
    if (expected.changes.size > 0) this.#coverage.hit('memory changed');
  }

  #checkFault({ fault }: Prediction): void {
    const pending = (this.#register64(FSTS) & 2n) !== 0n;
    if (pending !== (fault !== undefined && !fault.suppressed)) throw new Disagreement(`fault pending: ${pending}`);
    if (fault === undefined) return;
    this.#coverage.hit(`reason 0x${fault.reason.toString(16).padStart(2, '0')}`);
    if (!pending) return;
    const [low, high] = recordOf(fault.request, fault.reason);
    const record = [this.#register64(FRCD), this.#register64(FRCD + 8)];
    if (record[0] !== low || record[1] !== (high | (1n << 63n))) {
      throw new Disagreement(
        `fault record ${record.map(each => each!.toString(16)).join()}, not ${low.toString(16)},${high.toString(16)}`,
      );
    }
    this.#write(VTD_BASE + FRCD + 12, 4, 0x8000_0000n);
  }

  /** A new root table, which is the old one: CAP.ESRTPS empties all caches. */
  #flush(): void {
    this.#write(VTD_BASE + RTADDR, 8, this.#rtaddr);
    this.#write(VTD_BASE + GCMD, 4, BigInt(SRTP + TE));
    if ((this.#register64(GSTS) & BigInt(TE)) !== 0n) this.#coverage.hit('TE');
  }

  #register64(offset: number): bigint {
    return this.#memory.quad(BigInt(VTD_BASE + offset - (offset % 8))) !== undefined
      ? new DataView(this.#memory.bytes(BigInt(VTD_BASE + offset), 8).buffer).getBigUint64(0, true)
      : 0n;
  }

  #write(address: number, size: 4 | 8, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.#memory.putBytes(BigInt(address), bytes.subarray(0, size));
  }
}
