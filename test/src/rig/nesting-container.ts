/** A container of the simulated host, driven by raw system calls, and the DMA of the engine in it. */
import assert from 'node:assert/strict';
import { frameHi, frameLo, hiOf, loOf } from '@remora/bits';
import { MemTx } from '@remora/core';
import type { HostProcess, SimulatedHost } from '@remora/host-sim';

const SET_CONTAINER = 0x3b68;
const SET_IOMMU = 0x3b66;
const GET_DEVICE_FD = 0x3b6a;
const MAP_DMA = 0x3b71;
const UNMAP_DMA = 0x3b72;
const GET_VMID = 0x3b7a;
const SET_VMID = 0x3b7b;
const READ_WRITE = 3;
const PAGE = 4096;
const COMMAND = 4;
const MEMORY_AND_MASTER = 6;

export const NESTING = 6;

export class NestingContainer {
  readonly fd: number;
  readonly #host: SimulatedHost;
  readonly #process: HostProcess;
  readonly #bdf: string;
  readonly #group: number;
  #device = -1;

  /** A container of `process` with the group of the engine at `bdf`; its IOMMU is not set. Groups are numbered as the engines. */
  constructor(host: SimulatedHost, process: HostProcess, bdf: string, group: number) {
    this.#host = host;
    this.#process = process;
    this.#bdf = bdf;
    this.fd = process.open('/dev/vfio/vfio');
    this.#group = this.#join(group);
  }

  /** GET_VMID: the number, or a negated errno. */
  get vmid(): number {
    const bytes = new Uint8Array(4);
    const result = this.#process.ioctl(this.fd, GET_VMID, bytes);
    return result < 0 ? result : new DataView(bytes.buffer).getUint32(0, true);
  }

  /** SET_VMID, whose argument is the number itself. */
  setVmid(vmid: number): number {
    return this.#process.ioctl(this.fd, SET_VMID, vmid);
  }

  setIommu(type = NESTING): number {
    const result = this.#process.ioctl(this.fd, SET_IOMMU, type);
    if (result !== 0) return result;
    const name = new TextEncoder().encode(`${this.#bdf}\0`);
    this.#device = this.#process.ioctl(this.#group, GET_DEVICE_FD, name);
    assert.ok(this.#device > 0);
    this.#engine.config.write(COMMAND, MEMORY_AND_MASTER, 2);
    return 0;
  }

  get requesterId(): number {
    const { bus, devfn } = this.#engine;
    return (bus!.number << 8) | devfn;
  }

  /** Domain id in the PASID entry that serves the engine's requests; undefined while it has none. */
  get tag(): number | undefined {
    const { functions } = this.#host.dump()['iommu'] as {
      functions: { requesterId: number; pasids: { pasid: number; entry: Record<string, number> }[] }[];
    };
    const own = functions.find(({ requesterId }) => requesterId === this.requesterId);
    return own?.pasids[0]?.entry['did'];
  }

  /** Maps the page of process memory at `address` at page frame `iova`. */
  map(iova: number, address: number): number {
    return this.#process.ioctl(this.fd, MAP_DMA, dma(32, READ_WRITE, [address, iova * PAGE, PAGE]));
  }

  unmap(iova: number): number {
    return this.#process.ioctl(this.fd, UNMAP_DMA, dma(24, 0, [iova * PAGE, PAGE]));
  }

  /** Whether the engine's write to page frame `iova` arrives. */
  writes(iova: number, bytes: Uint8Array): boolean {
    return this.#engine.dma.write(frameHi(iova), frameLo(iova), bytes) === MemTx.OK;
  }

  /** The device is closed, then the group: with it the container loses its domain. */
  close(): void {
    this.#process.close(this.#device);
    this.#process.close(this.#group);
  }

  get #engine(): ReturnType<SimulatedHost['function']> {
    return this.#host.function(this.#bdf);
  }

  #join(number: number): number {
    const group = this.#process.open(`/dev/vfio/${number}`);
    assert.ok(group > 0, `group ${number}: ${group}`);
    const argument = new Uint8Array(4);
    new DataView(argument.buffer).setInt32(0, this.fd, true);
    assert.equal(this.#process.ioctl(group, SET_CONTAINER, argument), 0);
    return group;
  }
}

/** argsz, flags, and 64-bit words. */
function dma(argsz: number, flags: number, words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(argsz);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, argsz, true);
  view.setUint32(4, flags, true);
  for (const [index, word] of words.entries()) {
    view.setUint32(8 + index * 8, loOf(word) >>> 0, true);
    view.setUint32(12 + index * 8, hiOf(word), true);
  }
  return bytes;
}
