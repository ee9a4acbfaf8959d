import test from 'ava';
import { hva } from '@remora/bits';
import { Errno } from '@remora/core';
import { ForwardingSyscalls, type HostSyscalls } from '@remora/host';
import { FaultPlan } from './fault-plan.js';

/** Counts what reaches it, and answers 7. */
class Counting extends ForwardingSyscalls {
  readonly reached: string[] = [];

  constructor() {
    super(undefined as unknown as HostSyscalls);
  }

  override open(path: string): number {
    return this.#count(`open ${path}`);
  }
  override readlink(path: string): number {
    return this.#count(`readlink ${path}`);
  }
  override close(fd: number): number {
    return this.#count(`close ${fd}`);
  }
  override ioctl(_fd: number, request: number): number {
    return this.#count(`ioctl ${request}`);
  }
  override pread(): number {
    return this.#count('pread');
  }
  override pwrite(): number {
    return this.#count('pwrite');
  }
  override mmap(): number {
    return this.#count('mmap');
  }
  override munmap(): number {
    return this.#count('munmap');
  }
  override eventfd(): number {
    return this.#count('eventfd');
  }

  #count(call: string): number {
    this.reached.push(call);
    return 7;
  }
}

function made(): { host: Counting; plan: FaultPlan } {
  const host = new Counting();
  return { host, plan: new FaultPlan(host) };
}

test('without faults everything passes', t => {
  const { host, plan } = made();
  t.is(plan.ioctl(3, 10), 7);
  t.deepEqual(host.reached, ['ioctl 10']);
});

test('the nth call of a number fails, so many times, and the host does not hear of it', t => {
  const { host, plan } = made();
  const fault = plan.arm({ request: 10, nth: 2, times: 2, result: -Errno.EIO });
  const results = [10, 11, 10, 10, 10].map(request => plan.ioctl(3, request));
  t.deepEqual(results, [7, 7, -Errno.EIO, -Errno.EIO, 7]);
  t.deepEqual(host.reached, ['ioctl 10', 'ioctl 11', 'ioctl 10']);
  t.deepEqual([fault.matched, fault.struck], [4, 2]);
});

test('a swallowed call looks like a success', t => {
  const { host, plan } = made();
  plan.arm({ request: 10, result: 'swallow' });
  t.is(plan.ioctl(3, 10), 0);
  t.deepEqual(host.reached, []);
  t.is(plan.ioctl(3, 10), 7);
});

test('a condition looks at the argument or the path', t => {
  const { plan } = made();
  plan.arm({ when: call => (call.argument as Uint8Array)[4] === 2, result: -Errno.EINVAL });
  t.is(plan.ioctl(3, 10, Uint8Array.of(0, 0, 0, 0, 1)), 7);
  t.is(plan.ioctl(3, 10, Uint8Array.of(0, 0, 0, 0, 2)), -Errno.EINVAL);
  plan.arm({ op: 'open', when: call => call.path === '/dev/vfio/4', result: -Errno.EBUSY });
  t.is(plan.open('/dev/vfio/3'), 7);
  t.is(plan.open('/dev/vfio/4'), -Errno.EBUSY);
});

test('every call can fail', t => {
  const { host, plan } = made();
  const calls: readonly [Parameters<FaultPlan['arm']>[0]['op'], () => unknown][] = [
    ['open', () => plan.open('/x')],
    ['readlink', () => plan.readlink('/x')],
    ['ioctl', () => plan.ioctl(3, 1)],
    ['pread', () => plan.pread(3, new Uint8Array(1), 0)],
    ['pwrite', () => plan.pwrite(3, new Uint8Array(1), 0)],
    ['mmap', () => plan.mmap(4096)],
    ['munmap', () => plan.munmap(hva(0), 4096)],
    ['eventfd', () => plan.eventfd()],
  ];
  for (const [op, call] of calls) {
    plan.arm({ ...(op === undefined ? {} : { op }), result: -Errno.EIO });
    t.is(call(), -Errno.EIO, op);
    t.deepEqual(host.reached.splice(0), [], op);
    t.is(call(), 7, op);
    host.reached.length = 0;
  }
});

test('a close that fails has closed; one that is swallowed leaks', t => {
  const { host, plan } = made();
  plan.arm({ op: 'close', result: -Errno.EIO });
  t.is(plan.close(5), -Errno.EIO);
  t.deepEqual(host.reached, ['close 5']);
  plan.arm({ op: 'close', result: 'swallow' });
  t.is(plan.close(6), 0);
  t.deepEqual(host.reached, ['close 5']);
});

test('disposed of, a fault is gone; of two that match, the first decides', t => {
  const { plan } = made();
  const first = plan.arm({ request: 10, times: 9, result: -1 });
  plan.arm({ request: 10, times: 9, result: -2 });
  t.is(plan.ioctl(3, 10), -1);
  first[Symbol.dispose]();
  t.is(plan.ioctl(3, 10), -2);
});
