import { format } from 'node:util';
import test from 'ava';
import createDebug from 'debug';
import type { Log } from './log.js';
import { logger, rateLimited } from './log.js';

/** What logs write. */
const lines: string[] = [];
createDebug.log = (...values: unknown[]) => void lines.push(format(...values));

function recorded(): { log: Log; written: string[] } {
  const written: string[] = [];
  const write = (format: string, ...values: unknown[]): void => void written.push([format, ...values].join(' '));
  return { log: { on: true, debug: write, warn: write }, written };
}

test.serial('a log is on where DEBUG says so, instance by instance', t => {
  createDebug.enable('remora:core:test:one');
  const one = logger('remora:core:test', 'one');
  const two = logger('remora:core:test', 'two');
  createDebug.disable();
  t.deepEqual([one.on, two.on, logger('remora:core:test').on], [true, false, false]);
});

test.serial('messages carry namespace, instance and arguments', t => {
  createDebug.enable('remora:core:test:*');
  const one = logger('remora:core:test', 'one');
  lines.length = 0;
  one.debug('unit %s', 'vtd0');
  one.warn('queue is full');
  createDebug.disable();
  t.is(lines.length, 2);
  t.regex(lines[0]!, /remora:core:test:one.*unit vtd0/s);
  t.regex(lines[1]!, /remora:core:test:one.*warning: queue is full/s);
});

test('a limited log falls silent, and says so', t => {
  const { log, written } = recorded();
  const limited = rateLimited(log, 3);
  for (let i = 0; i < 10; i++) limited.warn('refused', i);
  limited.debug('more');
  t.deepEqual(written, ['refused 0', 'refused 1', 'refused (and no more of these) 2']);
  t.true(limited.on);
});
