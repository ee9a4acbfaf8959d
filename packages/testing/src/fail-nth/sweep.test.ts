/** The sweep itself, on scenarios small enough to be wrong in one respect. */
import test from 'ava';
import { ConfigError, Errno, trackDisposable, untrackDisposable } from '@remora/core';
import type { HostSyscalls } from '@remora/host';
import { assertFailNth } from './ava.js';
import { plausibleErrnos } from './errnos.js';
import { ScenarioError } from './outcome.js';
import {
  ALL_IS_WELL,
  type FailNthLife,
  type FailNthScenario,
  type FailNthStep,
  type FailurePorts,
} from './scenario.js';
import { failNth, type FailNthOptions, isClean } from './sweep.js';

/** What a small host holds: open descriptors by number, and a thing that is allocated when one is opened. */
class SmallHost {
  readonly open = new Map<number, string>();
  things = 0;

  syscalls(): Pick<HostSyscalls, 'open' | 'close' | 'eventfd'> {
    return {
      open: path => this.#add(path),
      close: fd => (this.open.delete(fd) ? 0 : -Errno.EBADF),
      eventfd: () => this.#add('eventfd'),
    };
  }

  #add(what: string): number {
    let fd = 3;
    while (this.open.has(fd)) fd++;
    this.open.set(fd, what);
    return fd;
  }
}

/** Ways of being wrong. */
interface Mistakes {
  /** The file stays open when the eventfd cannot be had. */
  readonly leaksFile?: boolean;
  /** The thing is not given back when the file cannot be had. */
  readonly leaksThing?: boolean;
  readonly swallowsError?: boolean;
  readonly throwsPlainly?: boolean;
  readonly cannotTryAgain?: boolean;
  readonly tellsSomethingElse?: boolean;
  readonly leaksObject?: boolean;
  readonly everDifferent?: boolean;
}

let lives = 0;

/** Opens a file and an eventfd, or nothing; then closes both. */
class SmallLife implements FailNthLife {
  readonly steps: readonly FailNthStep[];
  readonly #host = new SmallHost();
  readonly #syscalls: HostSyscalls;
  readonly #ports: FailurePorts;
  readonly #mistakes: Mistakes;
  readonly #objects: object[] = [];
  #fds: number[] = [];
  #tried = 0;

  constructor(ports: FailurePorts, mistakes: Mistakes) {
    this.#ports = ports;
    this.#mistakes = mistakes;
    this.#syscalls = ports.syscalls(this.#host.syscalls() as HostSyscalls);
    lives++;
    this.steps = [
      { name: 'open', creates: true, run: () => this.#open() },
      { name: 'signal', tells: 'no signal', run: () => this.#signal() },
      { name: 'close', run: () => this.#close() },
    ];
  }

  dump(): unknown {
    return { open: [...this.#host.open.values()].filter(what => what !== 'signal'), things: this.#host.things };
  }

  look(): string {
    return this.#fds.length === 2 ? 'open' : '';
  }

  [Symbol.dispose](): void {
    if (this.#mistakes.leaksObject !== true)
      for (const object of this.#objects) untrackDisposable(object as Disposable);
  }

  #open(): string {
    if (this.#mistakes.cannotTryAgain === true && this.#tried++ > 0) throw new ConfigError('file', 'once is enough');
    const object = { [Symbol.dispose]: () => undefined };
    trackDisposable(object, 'small object');
    this.#objects.push(object);
    if (this.#mistakes.everDifferent === true && lives % 2 === 0) this.#syscalls.close(99);
    const none = this.#ports.inject('thing');
    if (none !== 0) throw new ConfigError('thing', 'none');
    this.#host.things++;
    const file = this.#syscalls.open('/dev/small');
    if (file < 0) {
      if (this.#mistakes.leaksThing !== true) this.#host.things--;
      if (this.#mistakes.throwsPlainly === true) throw new TypeError('not a file');
      throw new ConfigError('file', 'no such file');
    }
    const event = this.#syscalls.eventfd();
    if (event < 0) {
      if (this.#mistakes.leaksFile !== true) this.#syscalls.close(file);
      this.#host.things--;
      throw new ConfigError('eventfd', 'none');
    }
    this.#fds = [file, event];
    return ALL_IS_WELL;
  }

  #signal(): string {
    const fd = this.#syscalls.eventfd();
    if (fd >= 0) {
      this.#ports.uncounted(() => this.#syscalls.close(fd));
      return ALL_IS_WELL;
    }
    if (this.#mistakes.swallowsError === true) {
      this.#fds = [];
      return ALL_IS_WELL;
    }
    return this.#mistakes.tellsSomethingElse === true ? 'bad luck' : 'no signal';
  }

  #close(): string {
    for (const fd of this.#fds.splice(0)) this.#syscalls.close(fd);
    for (const fd of [...this.#host.open.keys()]) this.#ports.uncounted(() => this.#syscalls.close(fd));
    if (this.#mistakes.leaksThing !== true) this.#host.things = 0;
    else if (this.#host.things > 0) this.#host.things--;
    return ALL_IS_WELL;
  }
}

function small(mistakes: Mistakes = {}): FailNthScenario {
  return { name: 'small', minimum: 6, begin: ports => new SmallLife(ports, mistakes) };
}

/** Points and what is violated there. */
function violated(scenario: FailNthScenario): string[] {
  const { outcomes } = failNth(scenario);
  return outcomes.flatMap(({ name, violations }) => violations.map(each => `${name}: ${each.split(' (')[0]}`));
}

test('a scenario without mistakes: each point with each plausible errno, nothing violated', t => {
  const report = failNth(small());
  t.true(isClean(report));
  t.deepEqual([report.points, report.minimum], [6, 6]);
  t.deepEqual(
    report.outcomes.map(({ point, name, errno, step, told }) => `${point} ${name} ${errno} ${step} ${told}`),
    [
      '0 allocate thing ENOMEM open refused',
      '1 open /dev/small EACCES open refused',
      '1 open /dev/small EMFILE open refused',
      '1 open /dev/small ENOENT open refused',
      '2 eventfd EMFILE open refused',
      '2 eventfd ENOMEM open refused',
      '3 eventfd EMFILE signal no signal',
      '3 eventfd ENOMEM signal no signal',
      '4 close EIO close all is well',
      '4 close EINTR close all is well',
      '5 close EIO close all is well',
      '5 close EINTR close all is well',
    ],
  );
  assertFailNth(t, small());
});

const planted: readonly { readonly mistakes: Mistakes; readonly found: readonly string[] }[] = [
  {
    mistakes: { leaksFile: true },
    found: Array<string>(2).fill('eventfd: open, refused: the host holds .open[0]: "/dev/small", expected nothing'),
  },
  {
    mistakes: { leaksThing: true },
    found: Array<string>(3).fill('open /dev/small: open, refused: the host holds .things: 1, expected 0'),
  },
  {
    mistakes: { swallowsError: true },
    found: Array<string>(2).fill('eventfd: after signal: sees "", expected "open"'),
  },
  { mistakes: { throwsPlainly: true }, found: Array<string>(3).fill('open /dev/small: throws TypeError: not a file') },
  { mistakes: { tellsSomethingElse: true }, found: Array<string>(2).fill('eventfd: signal tells bad luck') },
];

for (const { mistakes, found } of planted) {
  test(`a planted mistake is found: ${Object.keys(mistakes).join()}`, t => {
    t.deepEqual(violated(small(mistakes)), found);
    t.false(isClean(failNth(small(mistakes))));
  });
}

test('a planted mistake is found: what cannot be tried again', t => {
  const found = violated(small({ cannotTryAgain: true }));
  t.deepEqual([...new Set(found)].length, 3);
  t.true(found.every(each => each.endsWith('open, tried again: refused')));
});

test('a planted mistake is found: an object that is not disposed of', t => {
  t.throws(() => failNth(small({ leaksObject: true })), { instanceOf: ScenarioError, message: /small object/ });
});

test('lives that are not the same are no sweep', t => {
  const message = /^small is different each time: point 0 is (allocate thing, then close|close, then allocate thing)$/;
  t.throws(() => failNth(small({ everDifferent: true })), { instanceOf: ScenarioError, message });
});

test('what is seen has to be the same, too', t => {
  let count = 0;
  const different = (dump: () => unknown): string => {
    const begin = (ports: FailurePorts): FailNthLife =>
      Object.assign(new SmallLife(ports, {}), { dump }) satisfies FailNthLife;
    return t.throws(() => failNth({ name: 'own', begin }), { instanceOf: ScenarioError }).message;
  };
  t.is(
    different(() => ({ at: count++ })),
    'own is different each time: .dump.at: 1, expected 0',
  );
  const begun = lives;
  t.is(
    different(() => ({ life: lives - begun })),
    'own is different each time: .before.dump.life: 2, expected 1',
  );
});

test('lives that are not the same later on are found, too', t => {
  let begun = 0;
  const later: FailNthScenario = {
    name: 'later',
    begin: ports => {
      lives = begun++ < 2 ? 0 : 1;
      return new SmallLife(ports, { everDifferent: true });
    },
  };
  t.true(violated(later).some(each => each.includes('the point was')));
});

test('an undisturbed life has to work', t => {
  const broken: FailNthScenario = {
    name: 'broken',
    begin: () => ({
      steps: [{ name: 'only', run: () => 'bad luck' }],
      dump: () => 0,
      look: () => '',
      [Symbol.dispose]: () => undefined,
    }),
  };
  t.throws(() => failNth(broken), {
    instanceOf: ScenarioError,
    message: 'broken, only: nothing failed, and it answers "bad luck", expected "all is well"',
  });
});

const dispose = { [Symbol.dispose]: () => undefined };
const well = { name: 'only', run: () => ALL_IS_WELL };
const lifeless: readonly (readonly [unknown, string | RegExp])[] = [
  [undefined, 'own: begin returns undefined, expected an object'],
  [Promise.resolve(), 'own: begin returns a promise; lives are not asynchronous'],
  [{ look: () => '', ...dispose }, 'own: begin returns an object without dump()'],
  [{ dump: () => 0, ...dispose }, 'own: begin returns an object without look()'],
  [{ dump: () => 0, look: () => '' }, 'own: begin returns an object without [Symbol.dispose]()'],
  [{ dump: () => 0, look: () => '', ...dispose }, 'own: its life has no steps'],
  [{ steps: [], dump: () => 0, look: () => '', ...dispose }, 'own: its life has no steps'],
  [{ steps: [well, {}], dump: () => 0, look: () => '', ...dispose }, 'own: step 1 of its life is not { name, run }'],
  [
    { steps: [{ ...well, run: () => undefined }], dump: () => 0, look: () => '', ...dispose },
    'own, only: nothing failed, and it answers "undefined", expected "all is well"',
  ],
  [
    { steps: [{ ...well, run: () => [].at(0)!['x'] }], dump: () => 0, look: () => '', ...dispose },
    /^own, only: throws TypeError: Cannot read .* \(at .*sweep\.test.*\)$/,
  ],
  [
    { steps: [well], dump: () => 0, look: () => '', ...dispose },
    'own asks nothing of its host; do its system calls go through ports.syscalls()?',
  ],
];

for (const [index, [life, message]] of lifeless.entries()) {
  test(`a person's file, not a life: ${index}`, t => {
    const scenario = { name: 'own', begin: () => life } as unknown as FailNthScenario;
    t.throws(() => failNth(scenario), { instanceOf: ScenarioError, message });
  });
}

test("a person's file that throws, and what is no Error", t => {
  const throwing = (thrown: unknown): FailNthScenario => ({
    name: 'own',
    begin: () => {
      throw thrown;
    },
  });
  const message = (thrown: unknown): string =>
    t.throws(() => failNth(throwing(thrown)), { instanceOf: ScenarioError }).message;
  t.is(message('a word'), 'own: throws a word');
  t.is(message(new ConfigError('board', 'no such board')), 'own: board: no such board');
  t.regex(message(new TypeError('not that')), /^own: throws TypeError: not that \(at .*\)$/);
});

test('one point, one errno; there are no others', t => {
  const { outcomes } = failNth(small(), { point: 2, errno: Errno.EIO });
  t.deepEqual(
    outcomes.map(({ name, errno }) => [name, errno]),
    [['eventfd', 'EIO']],
  );
  t.deepEqual(
    failNth(small(), { only: 'close' }).outcomes.map(({ point }) => point),
    [4, 4, 5, 5],
  );
  t.deepEqual(
    failNth(small(), { only: 'open' }).outcomes.map(({ name }) => name),
    Array<string>(3).fill('open /dev/small'),
  );
  t.throws(() => failNth(small(), { only: 'eventfds' }), { message: /"eventfds"; did you mean "eventfd"\?/ });
  t.throws(() => failNth(small(), { only: 'mmap' }), { instanceOf: RangeError, message: /no point of failure "mmap"/ });
  t.throws(() => failNth(small(), { point: 6 }), { instanceOf: RangeError, message: /has 6 points of failure/ });
  t.true(failNth(small(), { errno: Errno.EIO }).outcomes.every(({ errno }) => errno === 'EIO'));
});

test('too few points of failure are not clean', t => {
  t.false(isClean(failNth({ ...small(), minimum: 7 })));
});

test('register accesses all fail, unless so many of them are asked for; memory accesses are sampled beside them', t => {
  const scenario: FailNthScenario = { name: 'registers', begin: ports => new RegisterLife(ports) };
  const count = (options: FailNthOptions): readonly number[] => {
    const report = failNth(scenario, options);
    t.true(isClean(report));
    t.deepEqual([report.points, report.accesses], [41, 30]);
    const failed = (name: string): number =>
      new Set(report.outcomes.filter(each => each.name === name).map(({ point }) => point)).size;
    t.is(report.pointsFailed, failed('eventfd') + failed('pread'));
    t.is(report.accessesFailed, failed('memory access'));
    return [report.pointsFailed, report.accessesFailed];
  };
  t.deepEqual(count({}), [41, 16]);
  t.deepEqual(count({ samples: 3 }), [41, 3]);
  t.deepEqual(count({ samples: Infinity, registers: 5 }), [6, 30]);
  t.deepEqual(count({ samples: 0, registers: 0 }), [1, 0]);
  t.deepEqual(count({ registers: 5, errno: Errno.EIO }), [6, 0], 'an errno is nothing that memory has');
  t.deepEqual(count({ only: 'pread', registers: 5 }), [40, 0], 'whoever names points gets them all');
  t.deepEqual(count({ point: 41 }), [0, 1]);
});

test('which registers are chosen depends on the seed, and which memory accesses on nothing else', t => {
  const scenario: FailNthScenario = { name: 'registers', begin: ports => new RegisterLife(ports) };
  const chosen = (seed: number, registers: number, name: string): number[] =>
    failNth(scenario, { seed, registers, samples: 5 })
      .outcomes.filter(each => each.name === name)
      .map(({ point }) => point);
  t.deepEqual(chosen(1, 5, 'pread'), chosen(1, 5, 'pread'));
  t.notDeepEqual(chosen(1, 5, 'pread'), chosen(2, 5, 'pread'));
  t.deepEqual(chosen(1, 5, 'memory access'), chosen(1, Infinity, 'memory access'));
});

test('memory accesses are chosen by the seed', t => {
  const scenario: FailNthScenario = { name: 'memory', begin: ports => new MemoryLife(ports) };
  const chosen = (seed: number): string[] => {
    const report = failNth(scenario, { seed, samples: 4 });
    t.deepEqual([report.points, report.accesses, report.outcomes.length], [0, 50, 8]);
    t.true(isClean(report));
    return seen.splice(0);
  };
  const first = chosen(1);
  t.deepEqual(chosen(1), first);
  t.notDeepEqual(chosen(2), first);
});

const seen: string[] = [];

/** Writes fifty times, and again if one write failed. */
class MemoryLife implements FailNthLife {
  readonly #written: string[] = [];
  readonly steps: readonly FailNthStep[];

  constructor(ports: FailurePorts) {
    const memory = ports.memory({ load: () => 0, store: () => 0, read: () => 0, write: () => 0 });
    const run = (): string => {
      for (let at = 0; at < 50; at++) {
        if (memory.write(0, at, new Uint8Array(1)) === 0) continue;
        seen.push(String(at));
        return 'not written';
      }
      return ALL_IS_WELL;
    };
    this.steps = [{ name: 'write', tells: 'not written', run }];
  }

  dump(): unknown {
    return this.#written;
  }

  look(): string {
    return '';
  }

  [Symbol.dispose](): void {}
}

/** Reads a register forty times, memory thirty times, and has an eventfd. */
class RegisterLife implements FailNthLife {
  readonly steps: readonly FailNthStep[];

  constructor(ports: FailurePorts) {
    const syscalls = ports.syscalls({ pread: () => 0, eventfd: () => 3 } as Partial<HostSyscalls> as HostSyscalls);
    const memory = ports.memory({ load: () => 0, store: () => 0, read: () => 0, write: () => 0 });
    const byte = new Uint8Array(1);
    const run = (): string => {
      let well = syscalls.eventfd() >= 0;
      for (let at = 0; at < 40; at++) well = syscalls.pread(3, byte, at) === 0 && well;
      for (let at = 0; at < 30; at++) well = memory.read(0, at, byte) === 0 && well;
      return well ? ALL_IS_WELL : 'not read';
    };
    this.steps = [{ name: 'read', tells: 'not read', run }];
  }

  dump(): unknown {
    return {};
  }

  look(): string {
    return '';
  }

  [Symbol.dispose](): void {}
}

test('every point has an errno', t => {
  const names = ['close', 'VFIO_IOMMU_BIND', 'allocate file descriptor', 'allocate anything', 'queue fault', '0x1234'];
  t.deepEqual(
    names.map(name => plausibleErrnos(name)[0]),
    [Errno.EIO, Errno.ENOMEM, Errno.EMFILE, Errno.ENOMEM, Errno.ENOMEM, Errno.EIO],
  );
});

test('the AVA helper fails where something is violated', t => {
  const told: string[] = [];
  const noted = {
    log: (...lines: string[]) => told.push(...lines),
    deepEqual: (actual: unknown) => told.push(...(actual as string[])),
    true: () => undefined,
  };
  assertFailNth(noted, small({ swallowsError: true }));
  t.regex(told[0]!, /^6 of 6 points of failure and 0 of 0 memory accesses: 12 lives, /);
  t.true(told.includes('--seed 1 --point 3 (eventfd: EMFILE): after signal: sees "", expected "open"'));
});
