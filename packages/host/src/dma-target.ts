import type { Hva } from '@remora/bits';
import type { VfioTrace } from './vfio/trace-events.js';

/** What memory is mapped in for DMA: a VFIO container, or an I/O address space of iommufd. */
export interface DmaTarget {
  /** For messages and the ledger. */
  readonly name: string;
  readonly trace: VfioTrace;
  /** Memory that may only be read cannot be mapped; default: it can. */
  readonly writableOnly?: boolean;
  /** Maps pages of process memory with Access bits. 0 or a negated errno; then nothing was mapped. */
  mapDma(iovaFrame: number, pages: number, address: Hva, access: number): number;
  /** Unmaps a range that holds `mappings` mappings (default 1), none of them in part. How many pages went, or a negated errno. */
  unmapDma(iovaFrame: number, pages: number, mappings?: number): number;
  /** For messages: which limit of the host keeps these pages from being mapped; undefined if none that it told of. */
  limitOn(iovaFrame: number, pages: number): string | undefined;
}
