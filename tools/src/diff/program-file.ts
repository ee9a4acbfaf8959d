/** Programs as files: JSON to run them again, and qtest lines for people who have a QEMU and no Remora. */
import { readFileSync, writeFileSync } from 'node:fs';
import { choice, ConfigError, bool, integer, properties, type Property, required, type Schema } from '@remora/core';
import { compile } from './compile.js';
import { CONFIGS } from './configs.js';
import { type DeviceName, DEVICES, QUEUE_BYTES } from './layout.js';
import { TRANSFER_NS } from './peers.js';
import type { Operation, Program } from './program.js';

const MAX_WORD = 0xffff_ffff;
const MAX_ADDRESS = 2 ** 53 - 1;
const LAST_REGISTER = 0xff8;
/** Of 64 MiB. */
const LAST_MEMORY = 0x3ff_ffc0;
const LEAST_DESCRIPTOR = 16;

/** Arrays of unsigned 32-bit words, of one of these lengths. */
function words(lengths: readonly number[], doc: string): Property<readonly number[]> {
  const parse = (value: unknown): readonly number[] => {
    const isWord = (word: unknown): boolean => Number.isInteger(word) && Number(word) >= 0 && Number(word) <= MAX_WORD;
    if (!Array.isArray(value) || !lengths.includes(value.length) || !value.every(isWord))
      throw new RangeError(
        `${shown(value)} is not a list of ${lengths.join(' or ')} whole numbers from 0 to ${MAX_WORD}`,
      );
    return value as number[];
  };
  return { type: 'words', fallback: [], doc, required: true, parse };
}

function lists<T>(item: Property<T>, doc: string): Property<readonly T[] | undefined> {
  const parse = (value: unknown): readonly T[] => {
    if (!Array.isArray(value)) throw new RangeError(`${shown(value)} is not a list`);
    return value.map((each, i) => told(`${i}: `, () => item.parse(each)));
  };
  return { type: 'lists', fallback: undefined, doc, required: false, parse };
}

const KIND = {
  kind: required(choice(['memory', 'register', 'descriptor', 'repair', 'dma', 'faults'], undefined, 'what it is')),
};
const WORDS_OF_DESCRIPTOR = [4, 8];
const KINDS: { readonly [K in Operation['kind']]: Schema<unknown> } = {
  memory: properties({
    ...KIND,
    at: required(integer({ max: LAST_MEMORY }, undefined, 'an address in memory')),
    words: words([2, 4, 8, 16], 'what is written'),
    then: lists(words(WORDS_OF_DESCRIPTOR, ''), 'descriptors that make it known'),
  }),
  register: properties({
    ...KIND,
    offset: required(integer({ max: LAST_REGISTER }, undefined, 'the offset of a register')),
    words: words([1, 2], 'what is written'),
  }),
  descriptor: properties({
    ...KIND,
    words: words(WORDS_OF_DESCRIPTOR, 'a descriptor'),
    times: integer({ min: 1, max: QUEUE_BYTES / LEAST_DESCRIPTOR - 1 }, undefined, 'how often it is submitted'),
  }),
  repair: properties(KIND),
  dma: properties({
    ...KIND,
    by: required(choice(Object.keys(DEVICES) as DeviceName[], undefined, 'the device')),
    write: required(bool(undefined, 'to memory')),
    iova: required(integer({ max: MAX_ADDRESS }, undefined, "the device's address")),
    expected: integer({ max: LAST_MEMORY }, undefined, 'where iommu-testdev looks for it'),
  }),
  faults: properties({ ...KIND, clear: required(bool(undefined, 'clears them')) }),
};

const operations: Property<readonly Operation[]> = {
  ...lists(
    {
      type: 'operation',
      fallback: undefined,
      doc: '',
      required: false,
      parse: (value: unknown): Operation => operation(value),
    },
    'what it does',
  ),
  fallback: [],
  required: true,
} as Property<readonly Operation[]>;

const PROGRAM = properties({
  config: required(
    choice(
      CONFIGS.map(({ name }) => name),
      undefined,
      'the configuration',
    ),
  ),
  seed: integer({ max: MAX_WORD }, 0, 'what it was made from'),
  operations,
});

function operation(value: unknown): Operation {
  if (typeof value !== 'object' || value === null) throw new RangeError(`${shown(value)} is not an operation`);
  const { kind } = value as { kind?: unknown };
  if (typeof kind !== 'string' || !Object.hasOwn(KINDS, kind))
    throw new RangeError(`${shown(value)}: kind is not one of ${Object.keys(KINDS).join(', ')}`);
  const schema = KINDS[kind as Operation['kind']];
  const parsed = told('', () => schema.parse(kind, value as Record<string, unknown>) as object);
  return Object.fromEntries(Object.entries(parsed).filter(([, field]) => field !== undefined)) as Operation;
}

/** What is wrong with a part becomes what is wrong with the whole. */
function told<T>(where: string, act: () => T): T {
  try {
    return act();
  } catch (cause) {
    if (!(cause instanceof RangeError || cause instanceof ConfigError)) throw cause;
    throw new RangeError(`${where}${cause.message}`, { cause });
  }
}

/** @throws ConfigError that names the file, if it cannot be read or is no program. */
export function readProgram(file: string): Program {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new ConfigError(file, (cause as Error).message, { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ConfigError(file, `is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ConfigError(file, 'is no program: expected an object with config and operations');
  return PROGRAM.parse(file, value as Record<string, unknown>) as Program;
}

/** @throws ConfigError that names the file, if it cannot be written. */
export function writeProgram(file: string, program: Program): void {
  write(file, `${JSON.stringify(program, undefined, 1)}\n`);
}

/** For a QEMU with the qtest accelerator, where time stands still until it is stepped. @throws ConfigError as writeProgram(). */
export function writeLines(file: string, program: Program): void {
  const lines = compile(program).flatMap(({ text, untilIdle }) =>
    untilIdle === true ? [`clock_step ${TRANSFER_NS}`, text] : [text],
  );
  write(file, `${lines.join('\n')}\n`);
}

function write(file: string, text: string): void {
  try {
    writeFileSync(file, text);
  } catch (cause) {
    throw new ConfigError(file, (cause as Error).message, { cause });
  }
}

const SHOWN = 60;

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}...` : text;
}
