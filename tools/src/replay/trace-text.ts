/**
 * What the model does, in the words of a recording. Expected lines are brought into the same form, so that comparing is comparing
 * text, and a difference is reported as both sides would have been recorded.
 */
import { Access, NO_PASID } from '@remora/core';
import { allDigitsOf, digitsOf, type Words } from './words.js';

/** Who asks for what: the inputs of a translation. */
export interface TranslationRequest {
  /** bus << 8 | devfn. */
  readonly requesterId: number;
  readonly pasid: number;
  readonly address: Words;
  /** Access bits. */
  readonly access: number;
}

/** What the guest read, or wrote, of the registers. */
export function registerText(kind: 'R' | 'W', offset: number, size: number, hi: number, lo: number): string {
  return `${kind} ${offset.toString(16).padStart(3, '0')} ${size} ${digitsOf(hi, lo)}`;
}

/** CAP and ECAP after a reset. */
export function resetText(cap: Words, ecap: Words): string {
  return `RESET cap=${allDigitsOf(cap.hi, cap.lo)} ecap=${allDigitsOf(ecap.hi, ecap.lo)}`;
}

/** `mask`: the size of the page, minus 1. `off`: translation is disabled. */
export function translatedText(
  request: TranslationRequest,
  page: Words,
  mask: Words,
  granted: number,
  off: boolean,
): string {
  const answer = `${digitsOf(page.hi, page.lo)} ${digitsOf(mask.hi, mask.lo)} ${accessText(granted)}`;
  return `T ${requestText(request)} -> ${answer}${off ? ' off' : ''}`;
}

export function refusedText(request: TranslationRequest, reason: number): string {
  return `TF ${requestText(request)} -> ${reason.toString(16)}`;
}

/** What the unit read, or wrote, of guest memory. */
export function memoryText(kind: 'MR' | 'MW', hi: number, lo: number, bytes: Uint8Array): string {
  const digits = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
  return `${kind} ${digitsOf(hi, lo)} ${bytes.length} ${digits}`;
}

/** The bus answered with an error. */
export function memoryErrorText(hi: number, lo: number, length: number): string {
  return `MR ${digitsOf(hi, lo)} ${length} ERR`;
}

export function interruptText(hi: number, lo: number, data: number): string {
  return `IRQ ${digitsOf(hi, lo)} ${(data >>> 0).toString(16)}`;
}

/** Who signals what: the inputs of interrupt remapping. */
export interface InterruptRequest {
  /** bus << 8 | devfn. */
  readonly requesterId: number;
  readonly address: Words;
  readonly data: number;
  /** Whether a fault is reported; otherwise somebody only asks what the interrupt would become. */
  readonly report: boolean;
}

export function remappedText(request: InterruptRequest, address: Words, data: number): string {
  return `I ${interruptRequestText(request)} -> ${digitsOf(address.hi, address.lo)} ${(data >>> 0).toString(16)}`;
}

/** `reason` is 0 if no fault was recorded. */
export function blockedText(request: InterruptRequest, reason: number): string {
  return `IF ${interruptRequestText(request)} -> ${reason.toString(16)}`;
}

/** A device's TLB is told to forget `mask` + 1 bytes at `address`. */
export function deviceTlbText(requesterId: number, pasid: number, address: Words, mask: Words): string {
  const range = `${digitsOf(address.hi, address.lo)} ${digitsOf(mask.hi, mask.lo)}`;
  return `N ${deviceText(requesterId)} ${pasidText(pasid)} ${range} devtlb`;
}

export function faultText(sourceId: number, hi: Words, lo: Words): string {
  return `F ${sourceId.toString(16).padStart(4, '0')} hi=${allDigitsOf(hi.hi, hi.lo)} lo=${allDigitsOf(lo.hi, lo.lo)}`;
}

export function suppressedText(reason: number): string {
  return `FPD ${reason.toString(16)}`;
}

export function requestText({ requesterId, pasid, address, access }: TranslationRequest): string {
  return `${deviceText(requesterId)} ${pasidText(pasid)} ${digitsOf(address.hi, address.lo)} ${requestedText(access)}`;
}

function interruptRequestText({ requesterId, address, data, report }: InterruptRequest): string {
  const source = requesterId.toString(16).padStart(4, '0');
  return `${source} ${digitsOf(address.hi, address.lo)} ${(data >>> 0).toString(16)} ${report ? 'f' : 'n'}`;
}

export function deviceText(requesterId: number): string {
  return `${byteText(requesterId >>> 8)}:${byteText((requesterId >>> 3) & 31)}.${requesterId & 7}`;
}

export function pasidText(pasid: number): string {
  return pasid === NO_PASID ? '-' : pasid.toString(16);
}

function byteText(value: number): string {
  return value.toString(16).padStart(2, '0');
}

/** What is asked for: besides reading and writing, to execute (x), and in privileged mode (p). */
function requestedText(access: number): string {
  return `${readWriteText(access)}${access & Access.EXECUTE ? 'x' : ''}${access & Access.PRIVILEGED ? 'p' : ''}` || '-';
}

/** What a mapping grants. */
export function accessText(access: number): string {
  return readWriteText(access) || '-';
}

function readWriteText(access: number): string {
  return `${access & Access.READ ? 'r' : ''}${access & Access.WRITE ? 'w' : ''}`;
}
