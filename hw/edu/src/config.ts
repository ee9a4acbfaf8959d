import { properties, type Property } from '@remora/core';
import type { PciPlacement, TypedDevice } from '@remora/pci';
import { DEFAULT_DMA_MASK } from './spec.js';

const LARGEST_MASK = 2n ** 64n - 1n;

/** A 64-bit mask, kept as hexadecimal text: `0xfffffff`. It may be written as a number, a bigint or text. */
const dmaMask: Property<string> = {
  type: 'mask',
  fallback: DEFAULT_DMA_MASK,
  required: false,
  doc: 'address bits that the DMA engine has: others are cleared',
  parse(value) {
    const mask = wholeNumber(value);
    if (mask === undefined || mask < 0n || mask > LARGEST_MASK) {
      throw new RangeError(`"${String(value)}" is not a mask of up to 64 bits, as ${DEFAULT_DMA_MASK}`);
    }
    return `0x${mask.toString(16)}`;
  },
};

function wholeNumber(value: unknown): bigint | undefined {
  if (typeof value === 'bigint') return value;
  if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : undefined;
  return typeof value === 'string' && /^(0x[0-9a-f]+|\d+)$/i.test(value) ? BigInt(value) : undefined;
}

export const eduProperties = properties({ dma_mask: dmaMask });
export type EduConfig = ReturnType<typeof eduProperties.parse>;

/** Options of an edu device. */
export interface EduOptions extends PciPlacement {
  /** Address bits of the DMA engine; 28 by default. */
  readonly dma_mask?: string | number | bigint;
}

/** `-device edu` as an object. */
export function edu(options: EduOptions = {}): TypedDevice {
  return { driver: 'edu', options: { ...options } };
}
