/** What devices with a TLB and the unit say to each other, in the words of a recording. See trace-text.ts. */
import { Access } from '@remora/core';
import { type AtsCompletion, AtsStatus, type PageRequest } from '@remora/iommu';
import { rangeMask } from './model-text.js';
import { accessText, deviceText, pasidText, requestText, type TranslationRequest } from './trace-text.js';
import { digitsOf } from './words.js';

/** The completion statuses of requests that were refused. */
const REFUSALS: Readonly<Record<number, string>> = { [AtsStatus.UNSUPPORTED]: 'ur', [AtsStatus.ABORT]: 'ca' };

/** Letters of a completion's flags. */
const FLAGS = { u: 'untranslatedOnly', p: 'privileged', g: 'global', n: 'nonSnooped' } as const;

/** What VtdUnit.translationRequest answered. */
export function completionText(request: TranslationRequest, status: AtsStatus, out: AtsCompletion): string {
  if (status !== AtsStatus.OK) return refusedAtsText('AF', request, status);
  const { hi, lo } = rangeMask(out.shift);
  const rights = `${accessText(out.access)}${(out.access & Access.EXECUTE) === 0 ? '' : 'x'}`.replace('-x', 'x');
  const flags = Object.entries(FLAGS).flatMap(([letter, name]) => (out[name] ? [letter] : []));
  const answer = `${digitsOf(out.hi, out.lo)} ${digitsOf(hi, lo)} ${rights}`;
  return `A ${requestText(request)} -> ${answer}${flags.length === 0 ? '' : ` ${flags.join('')}`}`;
}

/** What VtdUnit.translatedRequest answered. */
export function translatedRequestText(request: TranslationRequest, status: AtsStatus): string {
  return status === AtsStatus.OK ? `D ${requestText(request)}` : refusedAtsText('DF', request, status);
}

function refusedAtsText(kind: 'AF' | 'DF', request: TranslationRequest, status: number): string {
  return `${kind} ${requestText(request)} -> ${REFUSALS[status]}`;
}

/** What VtdUnit.pageRequest answered: whether it has `taken` the request. */
export function pageRequestText({ hi, lo, group, last, ...asked }: PageRequest, taken: boolean): string {
  const request = requestText({ ...asked, address: { hi, lo } });
  return `${taken ? 'P' : 'PF'} ${request} ${group.toString(16)} ${last ? 'last' : 'more'}`;
}

/** A device is answered its page requests of `group`. `host`: a host took the response to it, 0 or the errno with which it did not. */
export function pageResponseText(
  requesterId: number,
  pasid: number,
  group: number,
  code: number,
  host?: number,
): string {
  const response = `PR ${deviceText(requesterId)} ${pasidText(pasid)} ${group.toString(16)} ${code.toString(16)}`;
  return host === undefined ? response : `${response} host ${host.toString(16)}`;
}

/**
 * What a device says of an invalidation, behind the words of deviceTlbText: it has done it, or will say so later, by the number `later`.
 * `global`: it was to be done for all PASIDs.
 */
export function deviceAnswerText(global: boolean, later?: number): string {
  return `${global ? ' all' : ''} ${later === undefined ? 'done' : `later ${later.toString(16)}`}`;
}

/** A device has done what it said `later` of. */
export function invalidationDoneText(later: number): string {
  return `C ${later.toString(16)}`;
}
