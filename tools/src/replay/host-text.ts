/** What a host below the unit says, in the words of a recording. See trace-text.ts. */
import type { HostStage1Fault } from '@remora/iommu';
import type { VirtualCommandResult } from '@hw/intel-iommu';
import { requestText } from './trace-text.js';

/** A virtual command, without its answer. */
export function virtualCommandText(opcode: number, operand: number): string {
  return `VC ${opcode.toString(16)} ${operand.toString(16)}`;
}

export function virtualCommandAnswerText({ status, result }: VirtualCommandResult): string {
  return ` -> ${status} ${result.toString(16)}`;
}

/** A call to a host, `name` being that of a method of VtdPropagation. `refused`: see HostCallLine. */
export function hostCallText(name: string, parameters: readonly (number | boolean)[], refused?: number): string {
  const call = ['H', name, ...parameters.map(each => (Number(each) >>> 0).toString(16))].join(' ');
  return refused === undefined ? call : `${call} -> ${refused.toString(16)}`;
}

/** What VtdUnit.hostFault told the guest: a reason, or 0. */
export function hostFaultText(requesterId: number, fault: HostStage1Fault, told: number): string {
  const { pasid, hi, lo, access, addressType, reason } = fault;
  const request = requestText({ requesterId, pasid, address: { hi, lo }, access });
  return `HF ${request} ${addressType} ${reason.toString(16)} -> ${told.toString(16)}`;
}
