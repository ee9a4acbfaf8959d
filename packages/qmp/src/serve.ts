import type { Duplex } from 'node:stream';
import { QmpSession, type QmpOptions } from './session.js';
import type { QmpTarget } from './target.js';

/**
 * Serves one client: greets it, runs what it asks of `target`, tells it events, until it leaves or the session is disposed of. Any number of
 * clients may share a target. A socket is a stream; for standard input and output there is Duplex.from().
 */
export function serveQmp(stream: Duplex, target: QmpTarget, options?: QmpOptions): QmpSession {
  return new QmpSession(stream, target, options);
}
