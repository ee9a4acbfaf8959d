/**
 * The lines of a recording that tell of a host below the unit: its answers to virtual commands (VC), what it is told (H), and faults that it
 * reported (HF). Only this project writes them, in canonical form.
 */
import type { VirtualCommandResult } from '@hw/intel-iommu';
import { CANONICAL_REQUEST, COUNT, type Form, requestOf } from './trace-parts.js';
import type { TranslationRequest } from './trace-text.js';

/** A virtual command and what became of it. */
export interface VirtualCommandLine {
  readonly kind: 'VC';
  readonly answer: VirtualCommandResult;
  readonly number: number;
  readonly text: string;
}

/** A call to a host. */
export interface HostCallLine {
  readonly kind: 'H';
  /** The method of VtdPropagation. */
  readonly call: string;
  /** The errno with which the host refused, or which of the calls before a settlement it has refused. */
  readonly refused: number | undefined;
  readonly number: number;
  readonly text: string;
}

/** A fault of a host's unit. */
export interface HostFaultLine extends TranslationRequest {
  readonly kind: 'HF';
  readonly addressType: 0 | 1 | 2;
  readonly reason: number;
  readonly number: number;
  readonly text: string;
}

export type HostLine = VirtualCommandLine | HostCallLine | HostFaultLine;

const REASON = '(0|[1-9a-f][0-9a-f]?)';

export const HOST_FORMS: Readonly<Record<HostLine['kind'], Form<HostLine>>> = {
  VC: {
    form: 'VC opcode pasid -> ok|undefined|no-pasid pasid',
    pattern: new RegExp(`^VC ${REASON} ${COUNT} -> (ok|undefined|no-pasid) ${COUNT}$`),
    build: (number, [, , status, result], text) => {
      const answer = { status: status as VirtualCommandResult['status'], result: parseInt(result!, 16) };
      return { kind: 'VC', answer, number, text };
    },
  },
  H: {
    form: 'H call parameters... [-> number]',
    pattern: new RegExp(`^H ([a-zA-Z]+)(?: ${COUNT}){0,8}(?: -> ${COUNT})?$`),
    build: (number, [call, , refused], text) => {
      return {
        kind: 'H',
        call: call!,
        refused: refused === undefined ? undefined : parseInt(refused, 16),
        number,
        text,
      };
    },
  },
  HF: {
    form: 'HF bdf pasid addr rwxp 0|1|2 reason -> reason',
    pattern: new RegExp(`^HF ${CANONICAL_REQUEST} ([012]) ${REASON} -> ${REASON}$`),
    build: (number, parts, text) => {
      const addressType = Number(parts[6]) as 0 | 1 | 2;
      return { ...requestOf(parts), kind: 'HF', addressType, reason: parseInt(parts[7]!, 16), number, text };
    },
  },
};
