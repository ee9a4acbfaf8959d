/** Fault reasons that no untranslated request can have, and whose programs make the requests that can: see OUT_OF_REACH in vtd-unit.test.ts. */
import { Fault } from '@hw/intel-iommu';

/** vtd-interrupts.test.ts. */
export const INTERRUPT_REASONS: readonly number[] = [
  ...[Fault.IR_1, Fault.IR_2, Fault.IR_3, Fault.IR_4, Fault.IR_5, Fault.IR_6, Fault.IR_7, Fault.IR_8, Fault.IR_9],
];

/** vtd-ats.test.ts. */
export const DEVICE_TLB_REASONS: readonly number[] = [Fault.LCT_5, Fault.SCT_5, Fault.RTA_3, Fault.SCT_8];

/** Those of `reasons` that `measured`, a list of minimums, does not require: its names end with them. */
export function missing(reasons: readonly number[], measured: Readonly<Record<string, number>>): number[] {
  return reasons.filter(reason => {
    const name = ` 0x${reason.toString(16).padStart(2, '0')}`;
    return !Object.keys(measured).some(each => each.endsWith(name));
  });
}
