/** Trace events, a line each: on standard error, or in a file. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { formatTraced, Trace } from '@remora/core';
import { CommandLineError } from './mistake.js';
import type { TraceOptions } from './trace-options.js';

/** A machine's Trace, of which the lines that were asked for are written from the start. */
export interface TraceLog extends Disposable {
  readonly trace: Trace;
}

/** @throws CommandLineError for a file that cannot be written. */
export function openTraceLog({ patterns, file, timestamps }: TraceOptions): TraceLog {
  const trace = new Trace();
  const fd = file === undefined ? undefined : openFile(file);
  const watching = trace.watch(
    patterns.map(({ pattern }) => pattern),
    event => {
      const line = `${timestamps ? stamp() : ''}${formatTraced(event)}\n`;
      if (fd === undefined) process.stderr.write(line);
      else writeSync(fd, line);
    },
  );
  return {
    trace,
    [Symbol.dispose]: () => {
      watching[Symbol.dispose]();
      if (fd !== undefined) closeSync(fd);
    },
  };
}

/** QEMU's: process, seconds since 1970 with six digits after the point. */
function stamp(): string {
  const us = Math.floor((performance.timeOrigin + performance.now()) * 1000);
  return `${process.pid}@${Math.floor(us / 1e6)}.${String(us % 1e6).padStart(6, '0')}:`;
}

function openFile(file: string): number {
  try {
    return openSync(file, 'w');
  } catch (failure) {
    throw new CommandLineError((failure as Error).message);
  }
}
