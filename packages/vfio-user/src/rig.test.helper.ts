/** A device behind a server behind a socket, with a file for a guest's memory: what the tests of this room stand on. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { Ledger, MemTx, type MmioOps, Ram, Region, VirtualClock } from '@remora/core';
import { Command, Config, PciFunction } from '@remora/pci';
import { VfioPciRegion } from '@remora/uapi';
import { ServedBoard } from './board.js';
import { RemoteError, VfioUserClient } from './client.js';
import type { Descriptors } from './descriptors/index.js';
import { DeviceServer } from './device-server.js';
import { GuestMemory, type GuestMemoryOptions } from './guest-memory.js';
import { routeInterrupts } from './interrupts.js';
import { listen } from './listen.js';
import { servedFunction } from './served-function.js';

export const FILE_BYTES = 0x4_0000;
export const VENDOR = 0x1af4;
export const BUFFER = 0x800;
export const BUFFER_BYTES = 0x800;
/** Registers of the device in the tests. */
export const Reg = { ID: 0, ADDRESS: 8, LENGTH: 0x10, DOORBELL: 0x14, RESULT: 0x18, FAIL: 0x1c } as const;
/** ASSERT and RELEASE: the interrupt pin. */
export const Doorbell = { FROM_MEMORY: 1, TO_MEMORY: 2, INTERRUPT: 3, ASSERT: 4, RELEASE: 5 } as const;
export const ID = 0xfeed_0001;

/** Copies between a buffer in its BAR and memory, and raises interrupts, when told; its other registers keep what they are given. */
export class Copier {
  readonly fn: PciFunction;
  readonly #regs = new Uint32Array(BUFFER / 4);
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  resets = 0;

  constructor(
    options: { readonly msi?: number; readonly msix?: number; readonly pin?: number; readonly pcie?: boolean } = {},
  ) {
    const { msi = 4, msix, pin = 0, pcie = false } = options;
    this.fn = new PciFunction('copier', {
      ...{ vendor: VENDOR, device: 0x10, classCode: 0xff0000 },
      ...{ interruptPin: pin, pcie },
    });
    this.fn.addCapability(0x09, Uint8Array.of(4, 0));
    if (msix !== undefined) this.fn.enableMsix(msix, 4);
    if (msi > 0) this.fn.enableMsi(msi);
    this.fn.addBar(0, Region.mmio('copier.registers', 0x1000, this.#ops), { type: 'mem64' });
    this.fn.onReset(() => {
      this.resets++;
      this.#regs.fill(0);
      this.#buffer.fill(0);
    });
  }

  readonly #ops: MmioOps = {
    valid: { min: 4, max: 8 },
    impl: { min: 4, max: 4 },
    read: offset => {
      if (offset === Reg.FAIL) throw new Error('the device is broken');
      if (offset === Reg.ID) return ID;
      return offset < BUFFER ? this.#regs[offset / 4]! : this.#word(offset);
    },
    write: (offset, value) => {
      if (offset >= BUFFER) new DataView(this.#buffer.buffer).setUint32(offset - BUFFER, value, true);
      else this.#regs[offset / 4] = value;
      if (offset === Reg.DOORBELL) this.#regs[Reg.RESULT / 4] = this.#run(value);
    },
  };

  #word(offset: number): number {
    return new DataView(this.#buffer.buffer).getUint32(offset - BUFFER, true);
  }

  #run(doorbell: number): number {
    const lo = this.#regs[Reg.ADDRESS / 4]!;
    const hi = this.#regs[Reg.ADDRESS / 4 + 1]!;
    const part = this.#buffer.subarray(0, this.#regs[Reg.LENGTH / 4]);
    switch (doorbell & 0xff) {
      case Doorbell.FROM_MEMORY:
        return this.fn.dma.read(hi, lo, part);
      case Doorbell.TO_MEMORY:
        return this.fn.dma.write(hi, lo, part);
      case Doorbell.INTERRUPT:
        this.fn.msi(doorbell >>> 8);
        return MemTx.OK;
      case Doorbell.ASSERT:
      case Doorbell.RELEASE:
        this.fn.intx.set((doorbell & 0xff) === Doorbell.ASSERT);
        return MemTx.OK;
      default:
        return 0xff;
    }
  }

  reset(phase: string): void {
    if (phase === 'hold') this.fn.reset();
  }
}

export interface RigOptions {
  readonly device?: Copier;
  /** What the file has. */
  readonly before?: Uint8Array | undefined;
  /** Clients pass descriptors. */
  readonly descriptors?: Descriptors;
  readonly messages?: NonNullable<GuestMemoryOptions['messages']>;
}

/** Everything from a client's socket to the file, with a Copier in between. */
export class Rig implements AsyncDisposable {
  readonly device: Copier;
  readonly board: ServedBoard;
  readonly memory: GuestMemory;
  readonly server: DeviceServer;
  /** What the person who serves the device was told. */
  readonly reports: string[] = [];
  readonly folder = mkdtempSync(join(tmpdir(), 'remora-vfio-user-'));
  readonly file = join(this.folder, 'ram');
  readonly socket = join(this.folder, 'socket');
  readonly #open: Disposable[] = [];
  /** Clients pass descriptors. */
  readonly #descriptors: Descriptors | undefined;

  constructor({ device = new Copier(), before = pattern(), descriptors, messages = false }: RigOptions = {}) {
    this.device = device;
    this.#descriptors = descriptors;
    writeFileSync(this.file, before);
    const report = (text: string): unknown => this.reports.push(text);
    const file = descriptors === undefined && messages === false ? this.file : undefined;
    this.memory = new GuestMemory({ file, report, messages });
    const services = { name: 'vm', ram: Ram.allocate(4096), clock: new VirtualClock(), ledger: new Ledger() };
    this.board = new ServedBoard(services, this.memory, () => this.server.pinChanged());
    const served = servedFunction('copier', device.fn, device, { descriptors: descriptors !== undefined });
    this.server = new DeviceServer(served, { memory: this.memory, report });
    this.board.rootBus.plug(device.fn, 0x18);
    this.#open.push(routeInterrupts(this.board.messages, [{ from: device.fn, to: this.server }]), this.server);
  }

  static async start(options?: RigOptions): Promise<Rig> {
    const rig = new Rig(options);
    const take = (stream: Duplex): void => rig.server.accept(stream);
    rig.#open.push(await (options?.descriptors?.listen(rig.socket, take) ?? listen(rig.socket, take)));
    return rig;
  }

  /** A client that has agreed on the version; the one before must be gone. */
  async connect(): Promise<VfioUserClient> {
    while (this.server.busy) await new Promise(resolve => setImmediate(resolve));
    if (this.#descriptors === undefined) return VfioUserClient.connect(this.socket);
    return VfioUserClient.over(this.#descriptors.connect(this.socket), { max_msg_fds: 16, write_multiple: true });
  }

  /** What the file has at `offset`. */
  bytes(offset: number, length: number): Uint8Array {
    return new Uint8Array(readFileSync(this.file).subarray(offset, offset + length));
  }

  [Symbol.asyncDispose](): Promise<void> {
    for (const each of this.#open.reverse()) each[Symbol.dispose]();
    this.memory[Symbol.dispose]();
    this.board[Symbol.dispose]();
    rmSync(this.folder, { recursive: true });
    return Promise.resolve();
  }
}

/** No two words of it are equal. */
export function pattern(): Uint8Array {
  return new Uint8Array(Uint32Array.from({ length: FILE_BYTES / 4 }, (_, index) => index * 0x9e37_79b1).buffer);
}

export function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/** Lets the device decode its BARs and master the bus. */
export async function enable(client: VfioUserClient): Promise<void> {
  const bytes = new Uint8Array(Uint16Array.of(Command.MEMORY | Command.MASTER).buffer);
  await client.write(VfioPciRegion.CONFIG, Config.COMMAND, bytes);
}

/** Has the device transfer; resolves to the MemTx that it got. */
export async function transfer(
  client: VfioUserClient,
  doorbell: number,
  address: number,
  length: number,
): Promise<number> {
  const address64 = new Uint8Array(BigUint64Array.of(BigInt(address)).buffer);
  await client.write(0, Reg.ADDRESS, address64);
  await client.write(0, Reg.LENGTH, word(length));
  await client.write(0, Reg.DOORBELL, word(doorbell));
  return client.readNumber(0, Reg.RESULT, 4);
}

/** As deepEqual, which takes seconds for as many bytes. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** The Linux error number that `asked` ends with; 0 if it ends well. */
export async function errno(asked: Promise<unknown>): Promise<number> {
  try {
    await asked;
    return 0;
  } catch (failure) {
    if (failure instanceof RemoteError) return failure.errno;
    throw failure;
  }
}
