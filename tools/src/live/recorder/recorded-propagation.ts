import type { VirtualCommandResult, VtdPropagation } from '@hw/intel-iommu';

export interface PropagationListener {
  deviceTlb(requesterId: number, pasid: number, hi: number, lo: number, shift: number): void;
  /** A host is told something, by the name of a method. `refused`: the errno, or the call that it did not settle. */
  told(name: string, parameters: readonly (number | boolean)[], refused: number | undefined): void;
  /** A page group response that may be for a host: calls `respond`, whose result is undefined if it is not. */
  response(
    requesterId: number,
    pasid: number,
    group: number,
    code: number,
    respond: () => number | undefined,
  ): number | undefined;
  commanded(opcode: number, operand: number, answer: VirtualCommandResult): void;
}

/** What happens beyond a unit's own caches, with somebody who listens. */
export function recordedPropagation(below: VtdPropagation, listener: PropagationListener): VtdPropagation {
  type Parameters = readonly (number | boolean)[];
  const answered = (name: string, parameters: Parameters, result: number | undefined = 0): number => {
    listener.told(name, parameters, result === 0 ? undefined : -result);
    return result;
  };
  return {
    contextCacheInvalidate: (...parameters) =>
      answered('contextCacheInvalidate', parameters, below.contextCacheInvalidate?.(...parameters)),
    pasidCacheInvalidate: (...parameters) =>
      answered('pasidCacheInvalidate', parameters, below.pasidCacheInvalidate?.(...parameters)),
    pasidIotlbInvalidate: (...parameters) =>
      answered('pasidIotlbInvalidate', parameters, below.pasidIotlbInvalidate?.(...parameters)),
    iotlbInvalidate: (...parameters) => answered('iotlbInvalidate', parameters, below.iotlbInvalidate?.(...parameters)),
    settle: () => {
      const refused = below.settle?.() ?? -1;
      listener.told('settle', [], refused < 0 ? undefined : refused);
      return refused;
    },
    deviceTlbInvalidate: (requesterId, pasid, hi, lo, shift, global) => {
      listener.deviceTlb(requesterId, pasid, hi, lo, shift);
      below.deviceTlbInvalidate?.(requesterId, pasid, hi, lo, shift, global);
    },
    pageResponse: (requesterId, pasid, group, code) =>
      listener.response(requesterId, pasid, group, code, () => below.pageResponse?.(requesterId, pasid, group, code)),
    rootTableSet: () => {
      listener.told('rootTableSet', [], undefined);
      below.rootTableSet?.();
    },
    translationChanged: enabled => {
      listener.told('translationChanged', [enabled], undefined);
      below.translationChanged?.(enabled);
    },
    reset: () => {
      listener.told('reset', [], undefined);
      below.reset?.();
    },
    ...(below.virtualCommand === undefined
      ? {}
      : {
          virtualCommand: (opcode, operand) => {
            const answer = below.virtualCommand!(opcode, operand);
            listener.commanded(opcode, operand, answer);
            return answer;
          },
        }),
  };
}
