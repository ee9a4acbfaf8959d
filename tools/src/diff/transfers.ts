/** Transfers of programs: who, where, and whether one looks at the faults. */
import type { Random } from '@remora/bits';
import { INTERRUPT_RANGE_BASE, INTERRUPT_RANGE_BYTES } from '@hw/intel-iommu/spec';
import type { DiffConfig } from './configs.js';
import { type DeviceName, TARGET, TARGET_PAGES } from './layout.js';
import type { Operation } from './program.js';
import { FIRST_LEAF, LARGE_LEAF, LARGE_PAGE, type Tables } from './tables.js';

const PAGE = 0x1000;

/** What a step is made from. */
export interface Surroundings {
  readonly config: DiffConfig;
  readonly tables: Tables;
  readonly devices: readonly DeviceName[];
  readonly random: Random;
}

/** One transfer or two at that address, and a look at the faults mostly. */
export function transfers(given: Surroundings, iova: number): Operation[] {
  const { devices, random } = given;
  const one = (): Operation => {
    const by = devices[random.below(devices.length)]!;
    if (by !== 'iommu-testdev') return { kind: 'dma', by, write: random.below(2) === 0 && !isInterrupt(iova), iova };
    if (isInterrupt(iova)) return { kind: 'dma', by: 'edu', write: false, iova };
    const expected = TARGET + (Math.floor(iova / PAGE) % TARGET_PAGES) * PAGE + (iova % PAGE);
    return { kind: 'dma', by, write: true, iova, expected };
  };
  const made = [one(), ...(random.below(3) === 0 ? [one()] : [])];
  return random.below(5) === 0 ? made : [...made, { kind: 'faults', clear: random.below(6) !== 0 }];
}

/** A write there is an interrupt, and of the wrong kind would start the halted processor. */
function isInterrupt(iova: number): boolean {
  return Math.floor(iova / INTERRUPT_RANGE_BYTES) === INTERRUPT_RANGE_BASE / INTERRUPT_RANGE_BYTES;
}

/** Mostly where something is mapped. */
export function address({ tables: { pass }, random }: Surroundings): number {
  const inPage = random.below((PAGE - 8) / 4) * 4;
  if (pass && random.below(5) !== 0) return TARGET + random.below(TARGET_PAGES) * PAGE + inPage;
  const choice = random.below(24);
  if (choice < 15) return (FIRST_LEAF + random.below(TARGET_PAGES)) * PAGE + inPage;
  if (choice < 20) return LARGE_LEAF * LARGE_PAGE + random.below(TARGET_PAGES) * PAGE + inPage;
  if (choice < 21) return TARGET + random.below(TARGET_PAGES) * PAGE + inPage;
  if (choice < 22) return INTERRUPT_RANGE_BASE + inPage;
  return random.below(0x1_0000) * 2 ** 33 + random.below(0x400) * PAGE + inPage;
}
