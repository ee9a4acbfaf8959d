/** What programs reached: without it, agreement would mean little. */
import { faultName } from '@hw/intel-iommu/spec';
import { PATTERN_BYTES, SLOT_BYTES } from './layout.js';
import type { Outcome } from './compare.js';
import { DMA_BYTES, type Program } from './program.js';

const WRITTEN_FROM = 0;
const FAULT_LINES = 3;

export class Coverage {
  operations = 0;
  transfers = 0;
  /** Transfers whose bytes arrived. */
  arrived = 0;
  readonly reasons = new Map<string, number>();
  readonly justified = new Map<string, number>();
  readonly descriptors = new Map<number, number>();

  add(program: Program, { lines, theirs, justified }: Outcome): void {
    for (const [id, count] of justified) this.justified.set(id, (this.justified.get(id) ?? 0) + count);
    this.operations += program.operations.length;
    const dump = theirs.at(-1)!.slice('OK 0x'.length);
    const slotsOf = (from: number, slot: number): string =>
      dump.slice((from + slot * SLOT_BYTES) * 2, (from + slot * SLOT_BYTES + DMA_BYTES) * 2);
    let slot = 0;
    for (const [index, operation] of program.operations.entries()) {
      if (operation.kind === 'descriptor') {
        const type = operation.words[0]! & 0xf;
        this.descriptors.set(type, (this.descriptors.get(type) ?? 0) + 1);
      } else if (operation.kind === 'dma') {
        const own = slot++ % (PATTERN_BYTES / SLOT_BYTES);
        this.transfers++;
        const replies = theirs.filter((_, i) => lines[i]!.of === index);
        const arrived = operation.write
          ? replies.some(reply => reply === `OK 0x${slotsOf(WRITTEN_FROM, own)}`)
          : /^(a[0-3])\1+$/.test(slotsOf(PATTERN_BYTES, own));
        if (arrived) this.arrived++;
      } else if (operation.kind === 'faults') {
        const replies = theirs.filter((_, i) => lines[i]!.of === index);
        const high = replies[FAULT_LINES - 1]!.slice('OK 0x'.length);
        if (parseInt(high.slice(0, 1), 16) < 8) continue;
        const reason = faultName(parseInt(high.slice(6, 8), 16));
        this.reasons.set(reason, (this.reasons.get(reason) ?? 0) + 1);
      }
    }
  }
}
