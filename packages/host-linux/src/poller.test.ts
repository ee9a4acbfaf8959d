// The poller with a poll() of its own: what there is to wait for, and when it is asked anew.
import test from 'ava';
import { Errno } from '@remora/core';
import { Poller, PollEvent, type PollingCalls } from './poller.js';

const POLLFD_BYTES = 8;

/** One poll() at a time, which ends when the test says so. */
class ScriptedCalls implements PollingCalls {
  readonly closed: number[] = [];
  #pollfds: DataView | undefined;
  #done: (() => void) | undefined;

  /** The descriptors that are polled for. */
  get asked(): number[] {
    const pollfds = this.#pollfds!;
    return Array.from({ length: pollfds.byteLength / POLLFD_BYTES }, (_, index) =>
      pollfds.getInt32(index * POLLFD_BYTES, true),
    );
  }

  poll(pollfds: Uint8Array, _count: number, _milliseconds: number, done: () => void): void {
    this.#pollfds = new DataView(pollfds.buffer);
    this.#done = done;
  }

  /** The poll ends: `fd` is readable, if any is given. */
  end(fd?: number): void {
    if (fd !== undefined) this.#pollfds!.setInt16(this.asked.indexOf(fd) * POLLFD_BYTES + 6, PollEvent.IN, true);
    this.#done!();
  }

  eventfd(): number {
    return -Errno.EMFILE;
  }

  close(fd: number): void {
    this.closed.push(fd);
  }
}

test('a process that has no descriptor left polls on: what changes is seen when the time is up', t => {
  const calls = new ScriptedCalls();
  const poller = new Poller(calls);
  const seen: string[] = [];
  const first = poller.watch(7, () => seen.push('first'));
  first.events = PollEvent.IN;
  const second = poller.watch(8, () => seen.push('second'));
  t.notThrows(() => (second.events = PollEvent.IN));
  t.deepEqual(calls.asked, [-1, 7]);
  calls.end(7);
  t.deepEqual(calls.asked, [-1, 7, 8]);
  calls.end(8);
  t.deepEqual(seen, ['first', 'second']);
  first[Symbol.dispose]();
  second[Symbol.dispose]();
  calls.end();
  t.deepEqual(calls.closed, []);
});
