/** What programs reached, as the other side says: without it, agreement would mean little. */
import { GlobalCommand, Reg } from '@hw/intel-iommu/spec';
import type { Outcome } from './compare.js';
import { DMA_BYTES, slotOffset } from './compile.js';
import { EDUS, PATTERN_BYTES, REGISTERS, TARGET, TARGET_PAGES } from './layout.js';
import type { Operation, Program } from './program.js';

const PAGE = 0x1000;
const RECORD_LINE = 2;
const GSTS_LINE = `readl 0x${(REGISTERS + Reg.GSTS).toString(16)}`;
const IQT_LINE = `writeq 0x${(REGISTERS + Reg.IQT).toString(16)} `;
/** What iommu-testdev writes. */
const PATTERN_BYTE_TEXT = '78563412';
/** An edu reads what no edu writes. */
const TARGET_BYTES = /^(a[0-3])\1+$/;

type Dma = Extract<Operation, { kind: 'dma' }>;

export class Coverage {
  operations = 0;
  /** Transfers, and those whose bytes went to or came from another address than the device's, by direction. */
  readonly transfers = { read: 0, write: 0 };
  readonly translated = { read: 0, write: 0 };
  /** Those whose bytes arrived where the device said, while translation was enabled. */
  readonly passed = { read: 0, write: 0 };
  /** Fault reasons that were recorded. */
  readonly reasons = new Map<number, number>();
  /** Types of descriptors that were performed, and of those that stopped the queue. */
  readonly performed = new Map<number, number>();
  readonly refused = new Map<number, number>();
  /** Hits of justified differences. */
  readonly justified = new Map<string, number>();

  add(program: Program, { lines, theirs, justified }: Outcome): void {
    for (const [id, count] of justified) this.justified.set(id, (this.justified.get(id) ?? 0) + count);
    this.operations += program.operations.length;
    const replies = program.operations.map((_, index) =>
      lines.flatMap((line, i) => (line.of === index ? [{ text: line.text, reply: theirs[i]! }] : [])),
    );
    // The last but one reply that is a read of a whole buffer is the first edu's.
    const dumps = theirs.filter((_, i) => lines[i]!.text.startsWith('read ') && lines[i]!.text.endsWith(' 0x1000'));
    const buffers = new Map(EDUS.map((edu, i) => [edu, dumps[i]!.slice('OK 0x'.length)] as const));
    const slots = { edu: 0, 'second-edu': 0 };
    let enabled = false;
    for (const [index, operation] of program.operations.entries()) {
      const told = replies[index]!;
      for (const { text, reply } of told)
        if (text === GSTS_LINE) enabled = (Number(reply.split(' ')[1]) & GlobalCommand.TE) !== 0;
      if (operation.kind === 'dma') {
        const { by } = operation;
        const slot = by === 'iommu-testdev' ? 0 : slotOffset(slots[by]++);
        const buffer = by === 'iommu-testdev' ? '' : buffers.get(by)!;
        this.#dma(operation, told, { buffer, slot, enabled });
      } else if (operation.kind === 'faults') this.#fault(told[RECORD_LINE]!.reply);
      else if (operation.kind === 'descriptor' || operation.kind === 'memory') this.#descriptors(operation, told);
    }
  }

  #dma(operation: Dma, told: readonly Told[], at: { buffer: string; slot: number; enabled: boolean }): void {
    const direction = operation.write ? 'write' : 'read';
    this.transfers[direction]++;
    const bytes = (from: number): string => at.buffer.slice(from * 2, (from + DMA_BYTES) * 2);
    const sent = operation.by === 'iommu-testdev' ? PATTERN_BYTE_TEXT.repeat(DMA_BYTES / 4) : bytes(at.slot);
    const arrived = operation.write
      ? told.some(({ reply }) => reply === `OK 0x${sent}`)
      : TARGET_BYTES.test(bytes(at.slot + PATTERN_BYTES));
    if (!arrived || !at.enabled) return;
    const same = operation.iova >= TARGET && operation.iova < TARGET + TARGET_PAGES * PAGE;
    (same ? this.passed : this.translated)[direction]++;
  }

  #fault(reply: string): void {
    const high = reply.slice('OK 0x'.length);
    if (parseInt(high[0]!, 16) >= 8) increase(this.reasons, parseInt(high.slice(6, 8), 16));
  }

  #descriptors(operation: Extract<Operation, { kind: 'descriptor' | 'memory' }>, told: readonly Told[]): void {
    const submitted = operation.kind === 'descriptor' ? [operation.words] : (operation.then ?? []);
    const tails = told.flatMap(({ text }, i) => (text.startsWith(IQT_LINE) ? [i] : [])).slice(-submitted.length);
    for (const [i, words] of submitted.entries()) {
      const tail = tails[i]!;
      const done = Number(told[tail + 1]!.reply.split(' ')[1]) === Number(told[tail]!.text.split(' ')[2]);
      increase(done ? this.performed : this.refused, words[0]! & 0xf);
    }
  }
}

interface Told {
  readonly text: string;
  readonly reply: string;
}

function increase<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
