import type { VtdPropagation } from '@hw/intel-iommu';

export interface PropagationListener {
  deviceTlb(requesterId: number, pasid: number, hi: number, lo: number, shift: number): void;
  /** Something beyond the unit decided what the unit does next. */
  decided(what: string): void;
}

/** What happens beyond a unit's own caches, with somebody who listens. */
export function recordedPropagation(below: VtdPropagation, listener: PropagationListener): VtdPropagation {
  const answered = (result: number | undefined): number => {
    if (result !== undefined && result !== 0) listener.decided('a host refused an invalidation');
    return result ?? 0;
  };
  return {
    contextCacheInvalidate: (...parameters) => answered(below.contextCacheInvalidate?.(...parameters)),
    pasidCacheInvalidate: (...parameters) => answered(below.pasidCacheInvalidate?.(...parameters)),
    pasidIotlbInvalidate: (...parameters) => answered(below.pasidIotlbInvalidate?.(...parameters)),
    iotlbInvalidate: (...parameters) => answered(below.iotlbInvalidate?.(...parameters)),
    deviceTlbInvalidate: (requesterId, pasid, hi, lo, shift, global) => {
      listener.deviceTlb(requesterId, pasid, hi, lo, shift);
      below.deviceTlbInvalidate?.(requesterId, pasid, hi, lo, shift, global);
    },
    rootTableSet: () => below.rootTableSet?.(),
    translationChanged: enabled => below.translationChanged?.(enabled),
    reset: () => below.reset?.(),
    ...(below.virtualCommand === undefined
      ? {}
      : {
          virtualCommand: (opcode, pasid) => {
            listener.decided('a host carried out a virtual command');
            return below.virtualCommand!(opcode, pasid);
          },
        }),
  };
}
