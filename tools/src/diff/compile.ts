/** The qtest lines that a program comes to. */
import { BUFFER_BASE, BUFFER_BYTES, DmaCommand, Reg as Edu } from '@hw/edu';
import { Fsts, Reg } from '@hw/intel-iommu/spec';
import { Reg as Testdev } from '@hw/iommu-testdev';
import { configNamed } from './configs.js';
import { harmless } from './descriptors.js';
import {
  BUFFER_IMAGE,
  DEVICES,
  EDUS,
  PATTERN_BYTES,
  QUEUE,
  QUEUE_BYTES,
  REGISTERS,
  SLOT_BYTES,
  STATUS_PAGE,
  TABLES,
  TABLES_BYTES,
  TARGET,
  TARGET_PAGES,
} from './layout.js';
import type { Line, Operation, Program } from './program.js';

/** Bytes that one transfer moves. */
export const DMA_BYTES = 8;
const FRCD = 0x220;
const FRCD_FAULT = FRCD + 12;
/** After VER, CAP and ECAP, which programs look at now and then: they never change. */
const DUMP_FROM = 0x18;
const WINDOW_BYTES = 0x230;
const PAGE = 0x1000;
const IDLE_BYTE = 0xee;

type EduName = (typeof EDUS)[number];
type Dma = Extract<Operation, { kind: 'dma' }>;

export const hex = (value: number): string => `0x${value.toString(16)}`;

/** The lines, in order. Two programs never share state: the peers are reset, and the first lines clear the memory that is used. */
export function compile(program: Program): Line[] {
  const lines = new Lines(usesTestdev(program), harmless(configNamed(program.config)));
  for (const [index, operation] of program.operations.entries()) {
    lines.of = index;
    lines.operation(operation);
  }
  lines.of = program.operations.length;
  lines.end();
  return lines.made;
}

/** Whether a peer must have iommu-testdev for it. */
export function usesTestdev({ operations }: Program): boolean {
  return operations.some(operation => operation.kind === 'dma' && operation.by === 'iommu-testdev');
}

class Lines {
  readonly made: Line[] = [];
  of = -1;
  #tail = 0;
  /** The queue has gone on at its start. */
  #wrapped = false;
  readonly #slots = { edu: 0, 'second-edu': 0 };

  readonly #harmless: readonly number[];

  constructor(testdev: boolean, harmlessDescriptor: readonly number[]) {
    this.#harmless = harmlessDescriptor;
    for (const { slot, bar } of testdev ? Object.values(DEVICES) : EDUS.map(name => DEVICES[name])) {
      for (const [register, value] of [
        [0x10, bar],
        [0x04, 6],
      ] as const) {
        this.#say(`outl 0xcf8 ${hex(0x8000_0000 + slot * 0x800 + register)}`);
        this.#say(`outl 0xcfc ${hex(value)}`);
      }
    }
    this.#say(`memset ${hex(TABLES)} ${hex(TABLES_BYTES)} 0x0`);
    for (let page = 0; page < TARGET_PAGES; page++)
      this.#say(`memset ${hex(TARGET + page * PAGE)} ${hex(PAGE)} ${hex(0xa0 + page)}`);
    for (const [index, edu] of EDUS.entries()) {
      const image = BUFFER_IMAGE + index * PAGE;
      this.#say(`write ${hex(image)} ${hex(BUFFER_BYTES)} 0x${bufferImage(index)}`);
      this.#transfer(edu, image, BUFFER_BASE, BUFFER_BYTES, false);
    }
  }

  operation(operation: Operation): void {
    switch (operation.kind) {
      case 'memory':
        this.#write(operation.at, operation.words);
        if (operation.then === undefined) break;
        this.#repair();
        for (const words of operation.then) this.#submit(words);
        break;
      case 'register':
        this.#register(operation.offset, operation.words);
        break;
      case 'descriptor':
        this.#submit(operation.words, operation.times);
        break;
      case 'repair':
        this.#repair();
        break;
      case 'dma':
        this.#dma(operation);
        break;
      case 'faults':
        this.#faults(operation.clear);
        break;
    }
  }

  /** The registers, the tables, and the devices' buffers. */
  end(): void {
    this.#say(`readq ${hex(REGISTERS + DUMP_FROM)}`);
    for (let at = DUMP_FROM + 8; at < WINDOW_BYTES; at += 16) this.#say(`read ${hex(REGISTERS + at)} 0x10`);
    this.#say(`b64read ${hex(TABLES)} ${hex(TABLES_BYTES)}`);
    this.#say(`writel ${hex(REGISTERS + Reg.GCMD)} 0x0`);
    for (const [index, edu] of EDUS.entries()) {
      const image = BUFFER_IMAGE + index * PAGE;
      this.#transfer(edu, BUFFER_BASE, image, BUFFER_BYTES, true);
      this.#say(`read ${hex(image)} ${hex(BUFFER_BYTES)}`);
    }
  }

  #say(text: string): void {
    this.made.push({ of: this.of, text });
  }

  #write(at: number, words: readonly number[]): void {
    for (let i = 0; i < words.length; i += 2) this.#say(`writeq ${hex(at + i * 4)} ${quad(words, i)}`);
  }

  #register(offset: number, words: readonly number[]): void {
    const narrow = words.length === 1;
    const at = hex(REGISTERS + offset);
    this.#say(narrow ? `writel ${at} ${hex(words[0]!)}` : `writeq ${at} ${quad(words, 0)}`);
    this.#say(`${narrow ? 'readl' : 'readq'} ${at}`);
    this.#say(`readl ${hex(REGISTERS + Reg.GSTS)}`);
  }

  #submit(words: readonly number[], times = 1): void {
    const bytes = words.length * 4;
    if (times === 1) this.#write(QUEUE + this.#tail, words);
    for (let left = times; times > 1 && left > 0;) {
      const run = Math.min(left, (QUEUE_BYTES - this.#tail) / bytes);
      this.#say(`write ${hex(QUEUE + this.#tail)} ${hex(run * bytes)} 0x${byteText(words).repeat(run)}`);
      left -= run;
      this.#advance(run * bytes);
    }
    if (times === 1) this.#advance(bytes);
    this.#say(`writeq ${hex(REGISTERS + Reg.IQT)} ${hex(this.#tail)}`);
    this.#say(`readq ${hex(REGISTERS + Reg.IQH)}`);
    this.#say(`readl ${hex(REGISTERS + Reg.FSTS)}`);
    this.#say(`readl ${hex(REGISTERS + Reg.ICS)}`);
    this.#say(`read ${hex(STATUS_PAGE)} 0x10`);
  }

  #advance(bytes: number): void {
    this.#tail += bytes;
    if (this.#tail === QUEUE_BYTES) {
      this.#tail = 0;
      this.#wrapped = true;
    }
  }

  #repair(): void {
    const used = this.#wrapped ? QUEUE_BYTES : this.#tail;
    if (used === 0) return;
    const bytes = this.#harmless.length * 4;
    this.#say(`write ${hex(QUEUE)} ${hex(used)} 0x${byteText(this.#harmless).repeat(used / bytes)}`);
    this.#say(`writel ${hex(REGISTERS + Reg.FSTS)} ${hex(Fsts.IQE)}`);
    this.#say(`writeq ${hex(REGISTERS + Reg.IQT)} ${hex(this.#tail)}`);
    this.#say(`readq ${hex(REGISTERS + Reg.IQH)}`);
  }

  #dma({ by, write, iova, expected = TARGET }: Dma): void {
    if (by === 'iommu-testdev') this.#testdev(iova, expected);
    else {
      // Each has a part of the buffer of its own, so that what it moved can be told from the rest.
      const own = BUFFER_BASE + slotOffset(this.#slots[by]++);
      if (write) this.#transfer(by, own, iova, DMA_BYTES, true);
      else this.#transfer(by, iova, own + PATTERN_BYTES, DMA_BYTES, false);
    }
    const inPage = iova % PAGE;
    for (let page = 0; write && page < TARGET_PAGES; page++)
      this.#say(`read ${hex(TARGET + page * PAGE + inPage)} ${hex(DMA_BYTES)}`);
  }

  #testdev(iova: number, expected: number): void {
    const set = (offset: number, value: number): void =>
      this.#say(`writel ${hex(DEVICES['iommu-testdev'].bar + offset)} ${hex(value)}`);
    set(Testdev.GVA_LO, iova % 2 ** 32);
    set(Testdev.GVA_HI, Math.floor(iova / 2 ** 32));
    set(Testdev.GPA_LO, expected);
    set(Testdev.GPA_HI, 0);
    set(Testdev.LEN, DMA_BYTES);
    set(Testdev.ATTRS, 0);
    set(Testdev.DBELL, 1);
    for (const offset of [Testdev.TRIGGERING, Testdev.RESULT])
      this.#say(`readl ${hex(DEVICES['iommu-testdev'].bar + offset)}`);
  }

  #transfer(edu: EduName, from: number, to: number, bytes: number, outwards: boolean): void {
    const { bar } = DEVICES[edu];
    this.#say(`writeq ${hex(bar + Edu.DMA_SRC)} ${hex(from)}`);
    this.#say(`writeq ${hex(bar + Edu.DMA_DST)} ${hex(to)}`);
    this.#say(`writeq ${hex(bar + Edu.DMA_COUNT)} ${hex(bytes)}`);
    const command = DmaCommand.encode({ run: 1, toMemory: outwards ? 1 : 0 })[0]!;
    this.#say(`writel ${hex(bar + Edu.DMA_CMD)} ${hex(command)}`);
    this.made.push({ of: this.of, text: `readl ${hex(bar + Edu.DMA_CMD)}`, untilIdle: true });
  }

  #faults(clear: boolean): void {
    this.#say(`readl ${hex(REGISTERS + Reg.FSTS)}`);
    this.#say(`readq ${hex(REGISTERS + FRCD)}`);
    this.#say(`readq ${hex(REGISTERS + FRCD + 8)}`);
    this.#say(`readl ${hex(REGISTERS + Reg.FECTL)}`);
    if (!clear) return;
    this.#say(`writel ${hex(REGISTERS + FRCD_FAULT)} 0x80000000`);
    this.#say(`writel ${hex(REGISTERS + Reg.FSTS)} ${hex(Fsts.PFO | Fsts.IQE)}`);
    this.#say(`readl ${hex(REGISTERS + Reg.FSTS)}`);
  }
}

/** Where in the buffer an edu's transfers, counted from 0, have what they write; what they read comes PATTERN_BYTES behind. */
export function slotOffset(transfer: number): number {
  return (transfer % (PATTERN_BYTES / SLOT_BYTES)) * SLOT_BYTES;
}

function quad(words: readonly number[], at: number): string {
  return `0x${[words[at + 1]!, words[at]!].map(word => (word >>> 0).toString(16).padStart(8, '0')).join('')}`;
}

/** As they stand in memory. */
function byteText(words: readonly number[]): string {
  return Buffer.from(Uint32Array.from(words).buffer).toString('hex');
}

/** First what is written to memory, different everywhere, then what is read into. */
function bufferImage(edu: number): string {
  return Array.from({ length: BUFFER_BYTES }, (_, i) =>
    i < PATTERN_BYTES ? (((i >> 4) ^ (i << 4)) & 0x3f) | (edu << 6) : IDLE_BYTE,
  )
    .map(byte => byte.toString(16).padStart(2, '0'))
    .join('');
}
