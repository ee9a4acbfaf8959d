/** A guest in memory and a unit that is recorded, beside each other: what remora live has, without a QEMU. */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { ExecutionContext } from 'ava';
import { type UnitFactory, vtdConfig, type VtdConfig, type VtdEnvironment, VtdUnit } from '@hw/intel-iommu';
import {
  FrameAllocator,
  legacyContext,
  MemoryMappedRegisters,
  PageTable,
  VtdDriver,
  type VtdDriverOptions,
} from '@hw/intel-iommu/driver';
import { Granularity } from '@hw/intel-iommu/spec';
import { hiOf, loOf, type Wide } from '@remora/bits';
import { Access, AddressSpace, NO_PASID, Ram, Region, Translation } from '@remora/core';
import { RemappedInterrupt } from '@remora/iommu';
import { RecordingFile, UnitRecorder } from '@remora/tools/live';

const RAM_BYTES = 64 * 2 ** 20;
const TABLES = 0x100;
const TABLES_END = 0x2000;
export const REGISTERS = 0xfed9_0000;
/** Device 00:03.0. */
export const DEVICE = 0x18;

const DOMAIN = 5;
const { READ, WRITE, READ_WRITE } = Access;
/** Where the units' own messages go. */
export const MESSAGE = { hi: 0, lo: 0xfee0_1000 | 0, data: 0x4041 };

export const ordinary: UnitFactory = (...parameters) => new VtdUnit(...parameters);

export interface RecordedGuestOptions {
  readonly unit?: Partial<VtdConfig>;
  readonly driver?: VtdDriverOptions;
  readonly environment?: Partial<VtdEnvironment>;
  readonly makeUnit?: UnitFactory;
  /** Hosts lend the functions below. */
  readonly lent?: boolean;
  /** The name of the file; default: a gzipped one. */
  readonly name?: string;
}

export class RecordedGuest {
  readonly path: string;
  readonly memory: AddressSpace;
  readonly pages: FrameAllocator;
  readonly unit: VtdUnit;
  readonly registers: MemoryMappedRegisters;
  readonly recorder: UnitRecorder;
  readonly #root: Region;
  readonly #file: RecordingFile;
  readonly #driver: VtdDriverOptions | undefined;
  readonly #out = new Translation();
  readonly #interrupt = new RemappedInterrupt();

  /** The recording's folder vanishes with the test. */
  static async start(t: ExecutionContext, options: RecordedGuestOptions = {}): Promise<RecordedGuest> {
    const folder = await mkdtemp(join(tmpdir(), 'remora-recorder-'));
    t.teardown(() => rm(folder, { recursive: true }));
    return new RecordedGuest(join(folder, options.name ?? 'guest.trace.gz'), options);
  }

  private constructor(
    path: string,
    { unit = {}, driver, environment, lent = false, makeUnit = ordinary }: RecordedGuestOptions,
  ) {
    const root = Region.container('system', 2 ** 40);
    this.path = path;
    this.#root = root;
    this.memory = new AddressSpace('system', root);
    root.add(0, Region.ram('ram', Ram.allocate(RAM_BYTES)));
    this.pages = new FrameAllocator(this.memory, TABLES, TABLES_END - TABLES);
    this.#driver = driver;
    this.#file = new RecordingFile(path);
    this.recorder = new UnitRecorder({
      write: line => this.#file.write(line),
      version: '1.0',
      command: 'a test',
      lent,
    });
    this.unit = this.recorder.units(makeUnit)(vtdConfig(unit), {
      name: 'vtd',
      memory: this.memory,
      sendMsi: () => undefined,
      ...environment,
    });
    root.add(REGISTERS, Region.mmio('vtd', 0x1000, this.unit.mmio));
    this.registers = new MemoryMappedRegisters(this.memory, REGISTERS);
    this.unit.reset();
  }

  /** A page of zeros. */
  addMemory(base: number): void {
    this.#root.add(base, Region.ram('more', Ram.allocate(0x1000)));
  }

  /** Reads the capabilities. */
  drive(): VtdDriver {
    return new VtdDriver(this.registers, this.memory, this.pages, this.#driver);
  }

  table(stage: 'first' | 'second', presetAccessed = true): PageTable {
    return new PageTable(this.memory, this.pages, { stage, levels: 4, presetAccessed });
  }

  /** A device's request. Returns where it went, or the fault's reason. */
  request(address: Wide, access: number = Access.READ, pasid = NO_PASID): bigint | number {
    const out = this.#out;
    const fault = this.unit.translate(DEVICE, pasid, hiOf(address), loOf(address), access, out);
    if (fault !== 0) return fault;
    const mask = (1n << BigInt(out.shift)) - 1n;
    return (((BigInt(out.hi >>> 0) << 32n) | BigInt(out.lo >>> 0)) & ~mask) | (BigInt(address) & mask);
  }

  /** A device's interrupt. Returns the message's data, or minus the fault's reason. */
  interrupt(address: number, data: number, report = true): number {
    const reason = this.unit.remapInterrupt(DEVICE, 0, address | 0, data, this.#interrupt, report);
    return reason === 0 ? this.#interrupt.data : -reason;
  }

  /** Ends the recording. Returns its lines. */
  finish(): string[] {
    this.recorder.end();
    this.#file.finish();
    return recordedLines(this.path);
  }
}

export function recordedLines(path: string): string[] {
  const bytes = readFileSync(path);
  return (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('latin1').trimEnd().split('\n');
}

/** Maps, unmaps, faults, resets: what a driver of legacy mode does. */
export async function legacyGuest(t: ExecutionContext, options: RecordedGuestOptions = {}): Promise<RecordedGuest> {
  const guest = await RecordedGuest.start(t, options);
  t.is(guest.request(0x1_2345), 0x1_2345n);
  for (let boot = 0; boot < 2; boot++) {
    const driver = guest.drive();
    const table = guest.table('second');
    driver.start(MESSAGE, () => driver.attach(DEVICE, legacyContext(table, DOMAIN)));
    table.map(0x40000, 0x3100, 8, READ_WRITE);
    table.map(0x41000, 0x3200, 1, READ);
    for (const page of [0, 3, 7, 3]) guest.request(0x4000_0010 + page * 0x1000, WRITE);
    guest.request(0x4000_0010, 0);
    guest.request(0x4100_0ff8, WRITE);
    driver.handleFaults();
    table.unmap(0x40000, 8);
    guest.request(0x4000_0010, WRITE);
    driver.iotlbInvalidate(Granularity.PAGE, DOMAIN, { hi: 0, lo: 0x4000_0000, addressMask: 3 });
    guest.request(0x4000_0010, WRITE);
    driver.handleFaults();
    // The same tables say something else now.
    table.map(0x40000, 0x3300, 8, READ_WRITE);
    guest.request(0x4000_0010, WRITE);
    driver.stop();
    guest.unit.reset();
  }
  return guest;
}
