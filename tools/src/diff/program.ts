/** Programs that both sides run: abstract operations, so that any can be left out, and the qtest lines that they come to. */
import { Reg } from '@hw/intel-iommu/spec';
import { BUFFER_BASE, DmaCommand, Reg as Edu } from '@hw/edu';
import {
  BAR,
  BUFFER_IMAGE,
  PATTERN_BYTES,
  QUEUE,
  REGISTERS,
  SLOT_BYTES,
  STATUS_PAGE,
  TABLES,
  TABLES_BYTES,
  TARGET,
  TARGET_PAGES,
} from './layout.js';

/** `words` are unsigned 32-bit ones, the lowest first. */
export type Operation =
  | { readonly kind: 'memory'; readonly at: number; readonly words: readonly number[] }
  | { readonly kind: 'register'; readonly offset: number; readonly words: readonly number[] }
  | { readonly kind: 'descriptor'; readonly words: readonly number[] }
  | { readonly kind: 'dma'; readonly write: boolean; readonly iova: number }
  | { readonly kind: 'faults'; readonly clear: boolean };

export interface Program {
  /** Name of the configuration. */
  readonly config: string;
  readonly seed: number;
  readonly operations: readonly Operation[];
}

/** One command; `until` is a transfer that is waited for by the peer's means: the reply is that of reading its command register. */
export interface Line {
  /** Index of the operation; -1 before the first, and the number of operations after the last. */
  readonly of: number;
  readonly text: string;
  readonly untilIdle?: true;
}

/** Bytes that one DMA moves. */
export const DMA_BYTES = 8;
const FRCD = 0x220;
const FRCD_FAULT = FRCD + 12;
const WINDOW_BYTES = 0x230;
const PAGE = 0x1000;
const IDLE_BYTE = 0xee;
const QUEUE_BYTES = 0x1000;

export const hex = (value: number): string => `0x${value.toString(16)}`;

/** The lines, in order. Two programs never share state: the peers are reset, and the first lines clear the memory that is used. */
export function compile(program: Program): Line[] {
  const lines: Line[] = [];
  let of = -1;
  const say = (text: string): void => void lines.push({ of, text });
  const transfer = (from: number, to: number, bytes: number, outwards: boolean): void => {
    say(`writeq ${hex(BAR + Edu.DMA_SRC)} ${hex(from)}`);
    say(`writeq ${hex(BAR + Edu.DMA_DST)} ${hex(to)}`);
    say(`writeq ${hex(BAR + Edu.DMA_COUNT)} ${hex(bytes)}`);
    const command = DmaCommand.encode({ run: 1, toMemory: outwards ? 1 : 0 })[0]!;
    say(`writel ${hex(BAR + Edu.DMA_CMD)} ${hex(command)}`);
    lines.push({ of, text: `readl ${hex(BAR + Edu.DMA_CMD)}`, untilIdle: true });
  };

  for (const [register, value] of [
    [0x10, BAR],
    [0x04, 6],
  ] as const) {
    say(`outl 0xcf8 ${hex(0x8000_1000 + register)}`);
    say(`outl 0xcfc ${hex(value)}`);
  }
  say(`memset ${hex(TABLES)} ${hex(TABLES_BYTES)} 0x0`);
  for (let page = 0; page < TARGET_PAGES; page++)
    say(`memset ${hex(TARGET + page * PAGE)} ${hex(PAGE)} ${hex(0xa0 + page)}`);
  say(`write ${hex(BUFFER_IMAGE)} ${hex(PAGE)} 0x${bufferImage()}`);
  transfer(BUFFER_IMAGE, BUFFER_BASE, PAGE, false);

  let tail = 0;
  let slot = 0;
  for (const [index, operation] of program.operations.entries()) {
    of = index;
    switch (operation.kind) {
      case 'memory':
        for (let i = 0; i < operation.words.length; i += 2)
          say(`writeq ${hex(operation.at + i * 4)} ${quad(operation.words, i)}`);
        break;
      case 'register': {
        const narrow = operation.words.length === 1;
        const at = hex(REGISTERS + operation.offset);
        say(narrow ? `writel ${at} ${hex(operation.words[0]!)}` : `writeq ${at} ${quad(operation.words, 0)}`);
        say(`${narrow ? 'readl' : 'readq'} ${at}`);
        say(`readl ${hex(REGISTERS + Reg.GSTS)}`);
        break;
      }
      case 'descriptor':
        for (let i = 0; i < operation.words.length; i += 2)
          say(`writeq ${hex(QUEUE + tail + i * 4)} ${quad(operation.words, i)}`);
        tail = (tail + operation.words.length * 4) % QUEUE_BYTES;
        say(`writeq ${hex(REGISTERS + Reg.IQT)} ${hex(tail)}`);
        say(`readq ${hex(REGISTERS + Reg.IQH)}`);
        say(`readl ${hex(REGISTERS + Reg.FSTS)}`);
        say(`readl ${hex(REGISTERS + Reg.ICS)}`);
        say(`read ${hex(STATUS_PAGE)} 0x10`);
        break;
      case 'dma': {
        // Each has a part of the buffer of its own, so that what it moved can be told from the rest.
        const own = BUFFER_BASE + (slot++ % (PATTERN_BYTES / SLOT_BYTES)) * SLOT_BYTES;
        if (operation.write) transfer(own, operation.iova, DMA_BYTES, true);
        else transfer(operation.iova, own + PATTERN_BYTES, DMA_BYTES, false);
        const inPage = operation.iova % PAGE;
        for (let page = 0; operation.write && page < TARGET_PAGES; page++)
          say(`read ${hex(TARGET + page * PAGE + inPage)} ${hex(DMA_BYTES)}`);
        break;
      }
      case 'faults':
        say(`readl ${hex(REGISTERS + Reg.FSTS)}`);
        say(`readq ${hex(REGISTERS + FRCD)}`);
        say(`readq ${hex(REGISTERS + FRCD + 8)}`);
        say(`readl ${hex(REGISTERS + Reg.FECTL)}`);
        if (!operation.clear) break;
        say(`writel ${hex(REGISTERS + FRCD_FAULT)} 0x80000000`);
        say(`writel ${hex(REGISTERS + Reg.FSTS)} 0x11`);
        say(`readl ${hex(REGISTERS + Reg.FSTS)}`);
        break;
    }
  }

  of = program.operations.length;
  for (let at = 0; at < WINDOW_BYTES; at += 16) say(`read ${hex(REGISTERS + at)} 0x10`);
  say(`b64read ${hex(TABLES)} ${hex(TABLES_BYTES)}`);
  say(`writel ${hex(REGISTERS + Reg.GCMD)} 0x0`);
  transfer(BUFFER_BASE, BUFFER_IMAGE, PAGE, true);
  say(`read ${hex(BUFFER_IMAGE)} ${hex(PAGE)}`);
  return lines;
}

function quad(words: readonly number[], at: number): string {
  return `0x${[words[at + 1]!, words[at]!].map(word => (word >>> 0).toString(16).padStart(8, '0')).join('')}`;
}

/** First what is written to memory, different everywhere, then what is read into. */
function bufferImage(): string {
  return Array.from({ length: PAGE }, (_, i) => (i < PATTERN_BYTES ? ((i >> 4) ^ (i << 4)) & 0x7f : IDLE_BYTE))
    .map(byte => byte.toString(16).padStart(2, '0'))
    .join('');
}
