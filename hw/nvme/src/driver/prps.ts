/** PRPs for a buffer that is scattered over pages (NVMe 1.4, 4.3). */
import type { MemoryPort } from '@remora/core';

export interface Prps {
  readonly prp1: number;
  readonly prp2: number;
}

/** An address as the driver's processor knows it, and as the controller does. */
export interface Page {
  readonly cpu: number;
  readonly device: number;
}

export interface PrpOptions {
  /** Pages of the buffer. All but the first are used from their beginning on. */
  readonly pages: readonly Page[];
  /** Where in the first page the buffer begins. */
  readonly offset: number;
  readonly bytes: number;
  readonly memory: MemoryPort;
  /** Pages for lists. */
  readonly page: () => Page;
  /** Where in its page the first list begins: a multiple of 8. */
  readonly listOffset?: number;
}

const PAGE = 4096;
const ENTRY = 8;
const TWO_32 = 0x1_0000_0000;

export function prpsFor({ pages, offset, bytes, memory, page, listOffset = 0 }: PrpOptions): Prps {
  const prp1 = pages[0]!.device + offset;
  const rest = pages.slice(1, Math.ceil((offset + bytes) / PAGE)).map(({ device }) => device);
  if (rest.length <= 1) return { prp1, prp2: rest[0] ?? 0 };
  const first = page();
  let list = { cpu: first.cpu + listOffset, room: (PAGE - listOffset) / ENTRY };
  const put = (address: number): void => {
    memory.store(Math.floor(list.cpu / TWO_32), list.cpu % TWO_32, Int32Array.of(address, address / TWO_32), 0, 2);
    list = { cpu: list.cpu + ENTRY, room: list.room - 1 };
  };
  for (const [index, address] of rest.entries()) {
    if (list.room === 1 && index < rest.length - 1) {
      const next = page();
      put(next.device);
      list = { cpu: next.cpu, room: PAGE / ENTRY };
    }
    put(address);
  }
  return { prp1, prp2: first.device + listOffset };
}
