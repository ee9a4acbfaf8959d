/** What lines of a recording have in common: their parts, and what these mean. */
import { Access, NO_PASID } from '@remora/core';
import type { TranslationRequest } from './trace-text.js';
import { parseWords } from './words.js';

/** What a pattern's groups matched. */
export type Parts = readonly string[];

/** What a kind of line looks like and what it means. */
export interface Form<Line> {
  /** For messages. */
  readonly form: string;
  readonly pattern: RegExp;
  /** `text` is the whole line. Undefined if the parts do not go together. */
  readonly build: (number: number, parts: Parts, text: string) => Line | undefined;
}

export const BDF = '([0-9a-f]{2}):([01][0-9a-f])\\.([0-7])';
export const PASID = '(-|[0-9a-f]{1,5})';
export const WIDE = '([0-9a-f]{1,16})';
/** Without leading zeros: in lines that only this project writes, which are in canonical form as they stand. */
export const CANONICAL = '(0|[1-9a-f][0-9a-f]{0,15})';
/** The same, of 32 bits. */
export const COUNT = '(0|[1-9a-f][0-9a-f]{0,7})';
const ACCESS = '(-|(?=[rwxp])r?w?x?p?)';
export const REQUEST = `${BDF} ${PASID} ${WIDE} ${ACCESS}`;
export const CANONICAL_PASID = '(-|0|[1-9a-f][0-9a-f]{0,4})';
export const CANONICAL_REQUEST = `${BDF} ${CANONICAL_PASID} ${CANONICAL} ${ACCESS}`;

/** Of the six parts of REQUEST or CANONICAL_REQUEST. */
export function requestOf([bus, device, fn, pasid, address, access]: Parts): TranslationRequest {
  return {
    requesterId: requesterOf(bus!, device!, fn!),
    pasid: pasidOf(pasid!),
    address: parseWords(address!),
    access: accessOf(access!),
  };
}

/** Of the three parts of BDF. */
export function requesterOf(bus: string, device: string, fn: string): number {
  return (parseInt(bus, 16) << 8) | (parseInt(device, 16) << 3) | Number(fn);
}

export function pasidOf(text: string): number {
  return text === '-' ? NO_PASID : parseInt(text, 16);
}

const LETTERS = Object.entries({ r: Access.READ, w: Access.WRITE, x: Access.EXECUTE, p: Access.PRIVILEGED });

export function accessOf(text: string): number {
  return LETTERS.reduce<number>((access, [letter, bit]) => access | (text.includes(letter) ? bit : 0), 0);
}
