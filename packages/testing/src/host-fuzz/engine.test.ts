/** The fuzzer finds what it is there to find, and does the same for the same seed. */
import test from 'ava';
import { hva } from '@remora/bits';
import { Errno, Ram } from '@remora/core';
import { fuzzHost, type FuzzHost, type FuzzReport } from './engine.js';
import type { FuzzProcess } from './state.js';

interface Planted {
  /** What the nth ioctl does. */
  readonly ioctl?: (nth: number) => number;
  readonly leak?: boolean;
}

/** A host that refuses nearly everything. */
function host({ ioctl = () => -Errno.ENOTTY, leak = false }: Planted, requests: number[] = []): FuzzHost {
  let calls = 0;
  let alive = 0;
  const process = (): FuzzProcess => {
    let next = 3;
    alive++;
    return {
      open: () => next++,
      readlink: () => -Errno.ENOENT,
      readdir: () => -Errno.ENOENT,
      close: () => 0,
      ioctl: (_fd, request) => {
        requests.push(request);
        return ioctl(++calls);
      },
      read: () => 0,
      write: () => 0,
      pread: () => 0,
      pwrite: () => 0,
      mmap: length => ({ address: hva(0x7000_0000), ram: Ram.allocate(length) }),
      munmap: () => 0,
      eventfd: () => next++,
      onReadable: () => ({ [Symbol.dispose]: () => undefined }),
      [Symbol.dispose]: () => void alive--,
    };
  };
  return { process, dump: () => ({ alive, calls: leak ? calls : 0 }) };
}

const run = (made: FuzzHost, seed = 1, calls = 3000): FuzzReport =>
  fuzzHost(made, { seed, calls, names: ['0000:00:01.0'], groups: [1], devices: [0] });

test('a throw names seed, round and call', t => {
  const error = t.throws(() =>
    run(
      host({
        ioctl: nth => {
          if (nth === 1700) throw new TypeError('planted');
          return -Errno.EINVAL;
        },
      }),
      7,
    ),
  );
  t.regex(error.message, /^seed 7, round 1, call 199, \w+: TypeError: planted$/);
});

test('an answer that is no errno, or no integer, is found', t => {
  t.throws(() => run(host({ ioctl: nth => (nth === 20 ? -4095 : 0) })), { message: /answered -4095/ });
  t.throws(() => run(host({ ioctl: nth => (nth === 20 ? NaN : 0) })), { message: /answered NaN/ });
});

test('what is left over is found, and where', t => {
  t.throws(() => run(host({ leak: true })), { message: /round 0: left over: .*"calls":0.*"calls":1500/ });
});

test('the same seed makes the same calls, another makes others; all are counted', t => {
  const [one, again, other]: number[][] = [[], [], []];
  const report = run(host({ ioctl: () => 0 }, one));
  run(host({ ioctl: () => 0 }, again));
  run(host({ ioctl: () => 0 }, other), 2);
  t.deepEqual(again, one);
  t.notDeepEqual(other, one);
  t.is(one!.length, 3000);
  t.deepEqual([report.calls, report.succeeded, report.rounds], [3000, 3000, 2]);
});
