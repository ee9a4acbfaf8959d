/** What the programs of each configuration must have reached, if agreement is to mean something. The table is reviewed. */
import { DescriptorType, Fault, faultName } from '@hw/intel-iommu/spec';
import type { Coverage } from './coverage.js';

/** Quotas are told of any run, and bind from this many programs of a configuration on. */
export const QUOTA_PROGRAMS = 400;
/** Share of all transfers. */
const LEAST_SHARE = 0.3;
/** Share of either direction. */
const LEAST_DIRECTION = 0.1;

export interface Quota {
  /** How transfers must have gone: to another address than the device's, or, where nothing translates, past translation. */
  readonly transfers: 'translated' | 'passed';
  /** Fault reasons: all that recordings of such units show for requests without PASID (a test compares). */
  readonly reasons: readonly number[];
  /** Types of descriptors that must have been performed. */
  readonly performed: readonly number[];
  /** Types that must have stopped the queue. */
  readonly refused: readonly number[];
}

const LOOKUP = [Fault.LRT_2, Fault.LRT_3, Fault.LCT_1, Fault.LCT_2, Fault.LCT_3];
const SCALABLE_LOOKUP = [...LOOKUP, Fault.SPD_2, Fault.SPT_1, Fault.SPT_2, Fault.SPT_4];
/** Those of a walk of the second stage, in a table of legacy mode or not. */
const SECOND_STAGE = [Fault.LCT_4, Fault.LGN_1, Fault.LGN_2, Fault.LGN_3, Fault.LSS_1, Fault.LSS_2];
const FIRST_STAGE = [Fault.SFS_1, Fault.SFS_2, Fault.SFS_3, Fault.SGN_1, Fault.SGN_2, Fault.SGN_6];

const NARROW = [
  ...[DescriptorType.CONTEXT_CACHE, DescriptorType.IOTLB, DescriptorType.DEVICE_TLB],
  ...[DescriptorType.INTERRUPT_ENTRY_CACHE, DescriptorType.WAIT],
];
/** With a PASID: they need a queue of 256-bit descriptors. */
const WIDE = [DescriptorType.PASID_IOTLB, DescriptorType.PASID_CACHE, DescriptorType.PASID_DEVICE_TLB];

const LEGACY: Quota = {
  transfers: 'translated',
  reasons: [...LOOKUP, ...SECOND_STAGE, Fault.LGN_4],
  performed: NARROW,
  refused: WIDE,
};
const SCALABLE = { performed: [...NARROW, ...WIDE], refused: [] };

export const QUOTAS: Readonly<Record<string, Quota>> = {
  legacy: LEGACY,
  'caching-mode': LEGACY,
  'scalable-second-stage': {
    ...SCALABLE,
    transfers: 'translated',
    reasons: [...SCALABLE_LOOKUP, ...SECOND_STAGE, Fault.SGN_8],
  },
  'first-stage': {
    ...SCALABLE,
    transfers: 'translated',
    // Such a unit has legacy mode, too.
    reasons: [...SCALABLE_LOOKUP, ...SECOND_STAGE, ...FIRST_STAGE, Fault.SGN_8],
  },
  // Nothing is walked: what the lookup reports remains.
  'pass-through': { ...SCALABLE, transfers: 'passed', reasons: SCALABLE_LOOKUP },
};

/** What is missing, as sentences without their end. */
export function missedQuotas({ transfers, performed, refused, reasons }: Quota, coverage: Coverage): string[] {
  const missed: string[] = [];
  const all = coverage.transfers.read + coverage.transfers.write;
  const { read, write } = coverage[transfers];
  const percent = (part: number): string => `${all === 0 ? 0 : Math.floor((part * 100) / all)} %`;
  if (read + write < LEAST_SHARE * all || all === 0)
    missed.push(`${percent(read + write)} of the transfers ${transfers}, not ${LEAST_SHARE * 100} %`);
  for (const [name, part] of Object.entries({ read, write }))
    if (part < LEAST_DIRECTION * all)
      missed.push(`${percent(part)} of the transfers ${name} and ${transfers}, not ${LEAST_DIRECTION * 100} %`);
  for (const reason of reasons) if (!coverage.reasons.has(reason)) missed.push(`no fault ${faultName(reason)}`);
  for (const type of performed)
    if (!coverage.performed.has(type)) missed.push(`no descriptor of type ${type} performed`);
  for (const type of refused) if (!coverage.refused.has(type)) missed.push(`no descriptor of type ${type} refused`);
  return missed;
}
