/**
 * The lines of a recording, format `vtd-trace 1`. Numbers are hexadecimal, lengths of accesses decimal. A line that is indented
 * happened during the last line above it with less indentation.
 */
import { ATS_FORMS, type AtsLine } from './ats-lines.js';
import { deviceAnswerText } from './ats-text.js';
import { HOST_FORMS, type HostLine } from './host-lines.js';
import {
  accessOf,
  BDF,
  COUNT,
  type Form,
  type Parts,
  PASID,
  pasidOf,
  REQUEST,
  requesterOf,
  requestOf,
  WIDE,
} from './trace-parts.js';
import {
  blockedText,
  deviceTlbText,
  faultText,
  type InterruptRequest,
  interruptText,
  memoryText,
  refusedText,
  registerText,
  remappedText,
  resetText,
  suppressedText,
  translatedText,
  type TranslationRequest,
} from './trace-text.js';
import { parseWords, type Words } from './words.js';

/** Guest memory with its contents; `bytes` is undefined if there was a bus error instead. */
export interface MemoryLine {
  readonly kind: 'M' | 'MR' | 'MW';
  readonly number: number;
  readonly address: Words;
  readonly length: number;
  readonly bytes: Uint8Array | undefined;
  readonly text: string;
}

/** A register access of the guest. */
export interface RegisterLine {
  readonly kind: 'W' | 'R';
  readonly number: number;
  readonly offset: number;
  readonly size: number;
  readonly value: Words;
  readonly text: string;
}

/** A translation (T) or its refusal (TF). */
export interface TranslationLine extends TranslationRequest {
  readonly kind: 'T' | 'TF';
  readonly number: number;
  readonly text: string;
}

/** An interrupt request that was remapped (I) or blocked (IF). */
export interface InterruptLine extends InterruptRequest {
  readonly kind: 'I' | 'IF';
  readonly number: number;
  readonly text: string;
}

/** An invalidation that a device with a TLB was sent. */
export interface DeviceTlbLine {
  readonly kind: 'N';
  readonly number: number;
  readonly requesterId: number;
  /** What the device said: that it is done, or by which number it would say so. Absent in what QEMU recorded. */
  readonly answer: { readonly later: number | undefined } | undefined;
  readonly text: string;
}

/** One line. `number` counts from 1; `text` is what the model must have done, in canonical form. */
export type TraceLine =
  | MemoryLine
  | RegisterLine
  | TranslationLine
  | InterruptLine
  | DeviceTlbLine
  | AtsLine
  | HostLine
  | {
      readonly kind: 'Z';
      readonly number: number;
      readonly text: string;
      readonly address: Words;
      readonly length: number;
    }
  | { readonly kind: 'RESET' | 'IRQ' | 'F' | 'FPD'; readonly number: number; readonly text: string };

const INTERRUPT = `([0-9a-f]{4}) ${WIDE} ([0-9a-f]{1,8}) ([fn])`;

/** Every kind of line: what it looks like and what it means. */
const FORMS: Readonly<Record<string, Form<TraceLine>>> = {
  RESET: {
    form: 'RESET cap=CAP ecap=ECAP',
    pattern: new RegExp(`^RESET cap=${WIDE} ecap=${WIDE}$`),
    build: (number, [cap, ecap]) => ({ kind: 'RESET', number, text: resetText(parseWords(cap!), parseWords(ecap!)) }),
  },
  W: register('W'),
  R: register('R'),
  T: {
    form: 'T bdf pasid iova rw -> addr mask perm [off]',
    pattern: new RegExp(`^T ${REQUEST} -> ${WIDE} ${WIDE} (rw|r|w|-)( off)?$`),
    build: (number, parts) => {
      const request = requestOf(parts);
      const page = parseWords(parts[6]!);
      return {
        ...request,
        kind: 'T',
        number,
        text: translatedText(request, page, parseWords(parts[7]!), accessOf(parts[8]!), parts[9] !== undefined),
      };
    },
  },
  TF: {
    form: 'TF bdf pasid iova rw -> reason mask',
    pattern: new RegExp(`^TF ${REQUEST} -> ([0-9a-f]{1,2}) ${WIDE}$`),
    build: (number, parts) => {
      const request = requestOf(parts);
      return { ...request, kind: 'TF', number, text: refusedText(request, parseInt(parts[6]!, 16)) };
    },
  },
  I: {
    form: 'I sid addr data f|n -> addr data',
    pattern: new RegExp(`^I ${INTERRUPT} -> ${WIDE} ([0-9a-f]{1,8})$`),
    build: (number, parts) => {
      const request = interruptOf(parts);
      const text = remappedText(request, parseWords(parts[4]!), parseInt(parts[5]!, 16));
      return { ...request, kind: 'I', number, text };
    },
  },
  IF: {
    form: 'IF sid addr data f|n -> reason',
    pattern: new RegExp(`^IF ${INTERRUPT} -> ([0-9a-f]{1,2})$`),
    build: (number, parts) => {
      const request = interruptOf(parts);
      return { ...request, kind: 'IF', number, text: blockedText(request, parseInt(parts[4]!, 16)) };
    },
  },
  N: {
    form: 'N bdf pasid iova mask devtlb [[all] done|later number]',
    pattern: new RegExp(`^N ${BDF} ${PASID} ${WIDE} ${WIDE} devtlb(( all)? (?:done|later ${COUNT}))?$`),
    build: (number, [bus, device, fn, pasid, address, mask, answer, all, later]) => {
      const requesterId = requesterOf(bus!, device!, fn!);
      const text = deviceTlbText(requesterId, pasidOf(pasid!), parseWords(address!), parseWords(mask!));
      if (answer === undefined) return { kind: 'N', number, requesterId, text, answer };
      const when = later === undefined ? undefined : parseInt(later, 16);
      const words = deviceAnswerText(all !== undefined, when);
      return { kind: 'N', number, requesterId, text: `${text}${words}`, answer: { later: when } };
    },
  },
  M: memory('M', ''),
  MR: memory('MR', '|ERR'),
  MW: memory('MW', ''),
  Z: {
    form: 'Z addr len',
    pattern: new RegExp(`^Z ${WIDE} ([0-9a-f]{1,8})$`),
    build: (number, [address, length]) => {
      return { kind: 'Z', number, text: 'Z', address: parseWords(address!), length: parseInt(length!, 16) };
    },
  },
  IRQ: {
    form: 'IRQ addr data',
    pattern: new RegExp(`^IRQ ${WIDE} ([0-9a-f]{1,8})$`),
    build: (number, [address, data]) => {
      const { hi, lo } = parseWords(address!);
      return { kind: 'IRQ', number, text: interruptText(hi, lo, parseInt(data!, 16)) };
    },
  },
  F: {
    form: 'F sid hi=HI lo=LO',
    pattern: new RegExp(`^F ([0-9a-f]{1,4}) hi=${WIDE} lo=${WIDE}$`),
    build: (number, [source, hi, lo]) => {
      return { kind: 'F', number, text: faultText(parseInt(source!, 16), parseWords(hi!), parseWords(lo!)) };
    },
  },
  FPD: {
    form: 'FPD reason',
    pattern: /^FPD ([0-9a-f]{1,2})$/,
    build: (number, [reason]) => ({ kind: 'FPD', number, text: suppressedText(parseInt(reason!, 16)) }),
  },
  ...ATS_FORMS,
  ...HOST_FORMS,
};

/** What others do to the unit. */
const OPERATIONS = ['T', 'TF', 'I', 'IF', 'A', 'AF', 'D', 'DF', 'P', 'PF', 'C', 'HF'] as const;
/** Kinds that stand on their own; what happens during them is nested. */
const TOP_LEVEL: ReadonlySet<string> = new Set(['RESET', 'W', 'R', 'M', 'Z', ...OPERATIONS]);
/** Those of them that may come during what a unit's message to a device has it do. */
const ANSWERING: ReadonlySet<string> = new Set(OPERATIONS);
const NESTED: ReadonlySet<string> = new Set(['MR', 'MW', 'R', 'IRQ', 'F', 'FPD', 'N', 'PR', 'VC', 'H']);

/** Where a line stands: on its own, in an operation, or in a message to a device (PR) during one. */
export type Place = 'alone' | 'nested' | 'answering';

const KINDS: Readonly<Record<Place, ReadonlySet<string>>> = { alone: TOP_LEVEL, nested: NESTED, answering: ANSWERING };
const LINES: Readonly<Record<Place, string>> = {
  alone: 'a line',
  nested: 'an indented line',
  answering: 'a line below PR',
};

/**
 * Parses line `number`, without its indentation. Returns a text that says what was expected if it is not a line of the format.
 */
export function parseTraceLine(text: string, number: number, place: Place): TraceLine | string {
  const kind = text.slice(0, text.search(/ |$/));
  const kinds = KINDS[place];
  const form = kinds.has(kind) ? FORMS[kind] : undefined;
  if (form === undefined) return `expected ${LINES[place]} of kind ${[...kinds].join(', ')}, found ${excerpt(text)}`;
  const match = form.pattern.exec(text);
  return (match && form.build(number, match.slice(1), text)) ?? `expected "${form.form}", found ${excerpt(text)}`;
}

/** The beginning of `text` as it can be printed in one line. */
export function excerpt(text: string): string {
  if (text === '') return 'an empty line';
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}...` : text);
}

function register(kind: 'W' | 'R'): Form<TraceLine> {
  return {
    form: `${kind} off 4|8 val`,
    pattern: new RegExp(`^${kind} ([0-9a-f]{1,3}) ([48]) ${WIDE}$`),
    build: (number, [digits, bytes, digitsOfValue]) => {
      const offset = parseInt(digits!, 16);
      const size = Number(bytes);
      const value = parseWords(digitsOfValue!);
      if (size === 4 && value.hi !== 0) return undefined;
      return { kind, number, offset, size, value, text: registerText(kind, offset, size, value.hi, value.lo) };
    },
  };
}

function memory(kind: 'M' | 'MR' | 'MW', orError: '' | '|ERR'): Form<TraceLine> {
  return {
    form: `${kind} addr len ${orError === '' ? 'hex' : 'hex|ERR'}`,
    pattern: new RegExp(`^${kind} ${WIDE} ([1-9][0-9]{0,4}) ((?:[0-9a-f]{2})+${orError})$`),
    build: (number, [digits, decimal, contents]) => {
      const address = parseWords(digits!);
      const length = Number(decimal);
      const bytes = contents === 'ERR' ? undefined : Buffer.from(contents!, 'hex');
      if (bytes !== undefined && bytes.length !== length) return undefined;
      const text = bytes === undefined ? kind : memoryText('MW', address.hi, address.lo, bytes);
      return { kind, number, address, length, bytes, text };
    },
  };
}

function interruptOf([source, address, data, report]: Parts): InterruptRequest {
  return {
    requesterId: parseInt(source!, 16),
    address: parseWords(address!),
    data: parseInt(data!, 16),
    report: report === 'f',
  };
}
