/** `-trace`, `-d`, `-D` and `-msg`: which trace events are printed, and where. As in QEMU, later options add to those before. */
import { readFileSync } from 'node:fs';
import { checkNames, flagOf, parseKeyValues, textOf } from './key-values.js';
import { CommandLineError } from './mistake.js';
import type { GivenOption } from './options.js';

/** A pattern, and where it was written: `-trace vtd_*` or `events.txt:3`. */
export interface TracePattern {
  readonly pattern: string;
  readonly written: string;
}

export interface TraceOptions {
  /** In order. */
  readonly patterns: readonly TracePattern[];
  /** Undefined for standard error. */
  readonly file: string | undefined;
  /** Process and time before each event. */
  readonly timestamps: boolean;
  /** The events are asked for, not a machine. */
  readonly help: boolean;
  readonly warnings: readonly string[];
}

/** Items of QEMU's log of which nothing happens here. */
const NOTHING_TO_LOG = ['guest_errors', 'unimp', 'invalid_mem', 'int', 'cpu_reset', 'pcall', 'mmu', 'nochain'];
const HELP = ['help', '?'];
const TRACE_ITEM = 'trace:';

/** From all options of a command line. @throws CommandLineError */
export function traceOptions(given: readonly GivenOption[]): TraceOptions {
  const patterns: TracePattern[] = [];
  const warnings: string[] = [];
  let logFile: string | undefined;
  let traceFile: string | undefined;
  let timestamps = false;
  for (const option of given) {
    const { name, written, argument } = option;
    if (name === 'D') logFile = argument;
    else if (name === 'd') patterns.push(...logItems(option, warnings));
    else if (name === 'msg') timestamps = wantsTimestamps(option, timestamps);
    else if (name === 'trace') {
      const values = parseKeyValues(written, argument, 'enable');
      checkNames(written, values, ['enable', 'events', 'file']);
      const pattern = textOf(written, values, 'enable');
      const events = textOf(written, values, 'events');
      if (pattern !== undefined && argument !== '') patterns.push({ pattern, written });
      if (events !== undefined) patterns.push(...patternsIn(written, events));
      traceFile = textOf(written, values, 'file') ?? traceFile;
    }
  }
  return {
    patterns,
    file: (traceFile ?? logFile)?.replace('%d', String(process.pid)),
    timestamps,
    help: patterns.some(({ pattern }) => HELP.includes(pattern)),
    warnings,
  };
}

/** Of those that name one event, without `*` and `?`: warnings for what none of `events` is. */
export function unknownEvents(patterns: readonly TracePattern[], events: ReadonlySet<string>): string[] {
  return patterns
    .map(({ pattern, written }) => ({ written, event: pattern.replace(/^-/, '') }))
    .filter(({ event }) => !/[*?]/.test(event) && !events.has(event))
    .map(({ written, event }) => `${written}: there is no trace event '${event}'`);
}

function logItems({ written, argument }: GivenOption, warnings: string[]): TracePattern[] {
  const patterns: TracePattern[] = [];
  for (const item of argument.split(',')) {
    if (item.startsWith(TRACE_ITEM)) patterns.push({ pattern: item.slice(TRACE_ITEM.length), written });
    else if (NOTHING_TO_LOG.includes(item)) warnings.push(`${written}: of '${item}' there is nothing to log here`);
    else throw new CommandLineError(`${written}: '${item}' is not trace:PATTERN`);
  }
  return patterns;
}

function wantsTimestamps({ written, argument }: GivenOption, before: boolean): boolean {
  const values = parseKeyValues(written, argument);
  checkNames(written, values, ['timestamp', 'guest-name']);
  return flagOf(written, values, 'timestamp', before);
}

/** A pattern a line; empty ones and those that begin with # do not count. */
function patternsIn(written: string, file: string): TracePattern[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (failure) {
    throw new CommandLineError(`${written}: ${(failure as Error).message}`);
  }
  return text
    .split('\n')
    .map((line, index) => ({ pattern: line.trim(), written: `${file}:${index + 1}` }))
    .filter(({ pattern }) => pattern !== '' && !pattern.startsWith('#'));
}
