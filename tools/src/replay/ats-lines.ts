/**
 * The lines of a recording that tell of devices with a TLB: translation requests (A), translated requests (D), page requests (P), the
 * responses to these (PR), and that an invalidation was done which took its time (C). Only this project writes them, in canonical form.
 */
import { BDF, CANONICAL, CANONICAL_PASID, CANONICAL_REQUEST, COUNT, type Form, requestOf } from './trace-parts.js';
import type { TranslationRequest } from './trace-text.js';

/** A request with AT = 1 (A) or AT = 2 (D), or its refusal. */
export interface DeviceRequestLine extends TranslationRequest {
  readonly kind: 'A' | 'AF' | 'D' | 'DF';
  readonly number: number;
  readonly text: string;
}

/** A page request that was taken (P) or refused (PF). */
export interface PageRequestLine extends TranslationRequest {
  readonly kind: 'P' | 'PF';
  readonly group: number;
  readonly last: boolean;
  readonly number: number;
  readonly text: string;
}

/** A page group response. */
export interface PageResponseLine {
  readonly kind: 'PR';
  /** What a host said that passes it on, 0 or an errno; undefined: the device itself was told. */
  readonly host: number | undefined;
  readonly number: number;
  readonly text: string;
}

/** The device has done the invalidation of which it said `later`. */
export interface InvalidationDoneLine {
  readonly kind: 'C';
  readonly later: number;
  readonly number: number;
  readonly text: string;
}

export type AtsLine = DeviceRequestLine | PageRequestLine | PageResponseLine | InvalidationDoneLine;

/** 0 .. 511. */
const GROUP = '(0|[1-9a-f][0-9a-f]?|1[0-9a-f]{2})';
const REFUSAL = '(?:ur|ca)';

export const ATS_FORMS: Readonly<Record<AtsLine['kind'], Form<AtsLine>>> = {
  A: deviceRequest(
    'A',
    ' -> addr mask perm [flags]',
    ` -> ${CANONICAL} ${CANONICAL} (?:(?=[rwx])r?w?x?|-)(?: (?=[upgn])u?p?g?n?)?`,
  ),
  AF: deviceRequest('AF', ' -> ur|ca', ` -> ${REFUSAL}`),
  D: deviceRequest('D', '', ''),
  DF: deviceRequest('DF', ' -> ur|ca', ` -> ${REFUSAL}`),
  P: pageRequest('P'),
  PF: pageRequest('PF'),
  PR: {
    form: 'PR bdf pasid group code [host errno]',
    pattern: new RegExp(`^PR ${BDF} ${CANONICAL_PASID} ${GROUP} [0-9a-f](?: host ${COUNT})?$`),
    build: (number, parts, text) => ({
      kind: 'PR',
      host: parts[5] === undefined ? undefined : parseInt(parts[5], 16),
      number,
      text,
    }),
  },
  C: {
    form: 'C number',
    pattern: new RegExp(`^C ${COUNT}$`),
    build: (number, [later], text) => ({ kind: 'C', later: parseInt(later!, 16), number, text }),
  },
};

function deviceRequest(kind: DeviceRequestLine['kind'], form: string, pattern: string): Form<DeviceRequestLine> {
  return {
    form: `${kind} bdf pasid addr rwxp${form}`,
    pattern: new RegExp(`^${kind} ${CANONICAL_REQUEST}${pattern}$`),
    build: (number, parts, text) => ({ ...requestOf(parts), kind, number, text }),
  };
}

function pageRequest(kind: PageRequestLine['kind']): Form<PageRequestLine> {
  return {
    form: `${kind} bdf pasid addr rwxp group last|more`,
    pattern: new RegExp(`^${kind} ${CANONICAL_REQUEST} ${GROUP} (last|more)$`),
    build: (number, parts, text) => {
      const group = parseInt(parts[6]!, 16);
      return { ...requestOf(parts), kind, group, last: parts[7] === 'last', number, text };
    },
  };
}
