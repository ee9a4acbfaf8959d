/** The server: one session over one stream of bytes. */
import type { Duplex } from 'node:stream';
import { MAX_TRANSFER } from './commands.js';
import { LineSplitter } from './line-splitter.js';
import { QtestSession } from './session.js';
import type { QtestTarget } from './target.js';

/** The longest line: a `write` of the most bytes that one carries. */
const MAX_LINE = 2 * MAX_TRANSFER + 256;

export interface QtestOptions {
  /** Takes what passes: `R` received, `S` sent, and the line without its end. */
  readonly log?: (direction: 'R' | 'S', line: string) => void;
  /** The stream is at its end, or broken. */
  readonly ended?: () => void;
}

/**
 * Serves `target` to whoever is at the other end of `stream`, one command after the other, until the result is disposed of or the stream
 * ends. While replies are not taken, no further command is read.
 */
export function serveQtest(stream: Duplex, target: QtestTarget, options: QtestOptions = {}): Disposable {
  const { log, ended } = options;
  const splitter = new LineSplitter(MAX_LINE);
  let open = true;
  /** Lines that have come, but not been carried out yet. */
  let waiting: Iterator<string | undefined> | undefined;
  const send = (line: string): void => {
    if (!open || !stream.writable) return;
    log?.('S', line);
    stream.write(`${line}\n`, 'latin1');
  };
  const session = new QtestSession(target, send);
  const goOn = (): void => {
    while (open && waiting !== undefined && !stream.writableNeedDrain) {
      const { done, value: line } = waiting.next();
      if (done === true) {
        waiting = undefined;
        stream.resume();
        return;
      }
      if (line !== undefined) log?.('R', line);
      send(line === undefined ? 'FAIL the line is too long' : session.execute(line));
    }
  };
  const take = (chunk: Uint8Array): void => {
    stream.pause();
    waiting = splitter.push(chunk);
    goOn();
  };
  const end = (): void => {
    if (!open) return;
    open = false;
    session[Symbol.dispose]();
    stream.off('data', take).off('drain', goOn).off('end', end).off('close', end);
    stream.destroy();
    ended?.();
  };
  stream.on('data', take).on('drain', goOn).on('end', end).on('close', end);
  // A client that vanishes is an end like any other; 'close' follows.
  stream.on('error', end);
  return { [Symbol.dispose]: end };
}
