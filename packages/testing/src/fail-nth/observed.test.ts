/** The second way to judge lives: by what their steps saw, on a world small enough to be wrong in one respect. */
import test from 'ava';
import { ConfigError, Errno } from '@remora/core';
import type { HostSyscalls } from '@remora/host';
import { explain } from './explain.js';
import type { ObservedLife, ObservedScenario, ObservedStep, ObservedWorld, SeenByStep } from './observed.js';
import { ScenarioError } from './outcome.js';
import type { FailurePorts } from './scenario.js';
import { failNth, isClean } from './sweep.js';

interface Mistakes {
  /** An eventfd that could not be used stays open. */
  readonly leaksFile?: boolean;
  /** Memory is not given back, not even in the end. */
  readonly leaksForGood?: boolean;
  /** A refused start leaves a file. */
  readonly leaksAtStart?: boolean;
  readonly lies?: boolean;
  readonly letsThrough?: boolean;
  readonly throwsPlainly?: boolean;
  /** A failure is remembered by the host. */
  readonly bearsGrudge?: boolean;
}

class SmallWorld implements ObservedWorld {
  readonly files: { readonly fd: number; readonly kind: string }[] = [];
  grudge = false;
  /** Of memory. */
  pages = 0;
  readonly #ports: FailurePorts;
  readonly #mistakes: Mistakes;

  constructor(ports: FailurePorts, mistakes: Mistakes) {
    this.#ports = ports;
    this.#mistakes = mistakes;
  }

  begin(): ObservedLife {
    return new SmallLife(this, this.#ports.syscalls(this.#syscalls()), this.#mistakes);
  }

  dump(): unknown {
    return { files: this.files.map(({ kind }) => ({ kind })), pages: this.pages };
  }

  [Symbol.dispose](): void {}

  #syscalls(): HostSyscalls {
    const add = (kind: string): number => {
      const fd = this.files.length + 3;
      this.files.push({ fd, kind });
      return fd;
    };
    const calls: Partial<HostSyscalls> = {
      open: path => add(path),
      eventfd: () => add('eventfd'),
      close: fd => {
        const at = this.files.findIndex(file => file.fd === fd);
        if (at >= 0) this.files.splice(at, 1);
        return 0;
      },
    };
    return calls as HostSyscalls;
  }
}

class SmallLife implements ObservedLife {
  readonly steps: readonly ObservedStep[] = [
    { name: 'start', creates: true, run: () => this.#start() },
    { name: 'signal', run: () => this.#signal() },
    { name: 'exit', silent: true, run: () => this.#exit() },
  ];
  readonly #world: SmallWorld;
  readonly #syscalls: HostSyscalls;
  readonly #mistakes: Mistakes;

  constructor(world: SmallWorld, syscalls: HostSyscalls, mistakes: Mistakes) {
    this.#world = world;
    this.#syscalls = syscalls;
    this.#mistakes = mistakes;
  }

  [Symbol.dispose](): void {
    this.#world.files.length = 0;
  }

  #start(): SeenByStep {
    const file = this.#syscalls.open('/dev/small');
    if (file >= 0) return { grudge: this.#world.grudge };
    if (this.#mistakes.leaksAtStart === true) this.#world.files.push({ fd: 99, kind: 'left' });
    throw this.#mistakes.throwsPlainly === true ? new TypeError('not a file') : new ConfigError('file', 'none');
  }

  #signal(): SeenByStep {
    const fd = this.#syscalls.eventfd();
    if (fd >= 0) {
      this.#world.files.pop();
      return { status: 0, signalled: true, beyond: false };
    }
    const { leaksFile, leaksForGood, lies, letsThrough, bearsGrudge } = this.#mistakes;
    if (leaksForGood === true) this.#world.pages++;
    if (leaksFile === true) this.#world.files.push({ fd: 98, kind: 'eventfd' });
    if (bearsGrudge === true) this.#world.grudge = true;
    if (lies === true) return { status: 1, signalled: true, beyond: false };
    if (letsThrough === true) return { status: 0, signalled: false, beyond: true };
    return { status: fd, signalled: false, beyond: false };
  }

  #exit(): SeenByStep {
    this[Symbol.dispose]();
    return {};
  }
}

function small(mistakes: Mistakes = {}): ObservedScenario {
  return { name: 'small', createWorld: ports => new SmallWorld(ports, mistakes) };
}

function violated(mistakes: Mistakes): string[] {
  const { outcomes } = failNth(small(mistakes));
  return [...new Set(outcomes.flatMap(({ violations }) => violations.map(each => each.split(' (')[0]!)))];
}

test('a scenario without mistakes', t => {
  const report = failNth(small());
  t.true(isClean(report));
  t.deepEqual(
    report.outcomes.map(({ name, errno, step, told }) => `${name} ${errno} ${step} ${told}`),
    [
      'open /dev/small EACCES start refused',
      'open /dev/small EMFILE start refused',
      'open /dev/small ENOENT start refused',
      'eventfd EMFILE signal EMFILE',
      'eventfd ENOMEM signal ENOMEM',
    ],
  );
});

const planted: readonly (readonly [Mistakes, string])[] = [
  [{ leaksFile: true }, 'after signal the host holds eventfd: 1, expected 0'],
  [{ leaksForGood: true }, 'in the end the host holds .pages: 1, expected 0'],
  [{ leaksAtStart: true }, 'start, refused: the host holds .files[0]: {"kind":"left"}, expected nothing'],
  [{ lies: true }, 'signal: differs, and nobody is told: .status: 1, expected 0'],
  [{ letsThrough: true }, 'signal: gets through: .beyond'],
  [{ throwsPlainly: true }, 'throws TypeError: not a file'],
  [{ bearsGrudge: true }, 'the next life sees [0].grudge: true, expected false'],
];

for (const [mistakes, found] of planted) {
  test(`a planted mistake is found: ${Object.keys(mistakes).join()}`, t => {
    t.deepEqual(violated(mistakes), [found]);
  });
}

test('lives that differ undisturbed are no scenario', t => {
  let lives = 0;
  const different: ObservedScenario = {
    name: 'different',
    createWorld: () => ({
      begin: () => ({ steps: [{ name: 'only', run: () => ({ life: lives++ }) }], [Symbol.dispose]: () => undefined }),
      dump: () => 0,
      [Symbol.dispose]: () => undefined,
    }),
  };
  t.throws(() => failNth(different), { instanceOf: ScenarioError, message: /different each time: \[0\]\.life/ });
});

test("a person's file: what is no world, and what sees nothing", t => {
  const dispose = { [Symbol.dispose]: () => undefined };
  const run = (world: object): string => {
    const scenario = { name: 'own', createWorld: () => ({ ...dispose, ...world }) } as unknown as ObservedScenario;
    return t.throws(() => failNth(scenario), { instanceOf: ScenarioError }).message;
  };
  const living = (life: object): object => ({ begin: () => life, dump: () => 0 });
  t.is(run({ dump: () => 0 }), 'own: createWorld returns an object without begin()');
  t.is(run(living({ steps: [] })), 'own: begin returns an object without [Symbol.dispose]()');
  t.is(run(living(dispose)), 'own: its life has no steps');
  const steps = [{ name: 'only', run: () => undefined }];
  t.is(run(living({ steps, ...dispose })), 'own, only: it sees undefined, expected an object');
});

test('what explains a difference', t => {
  const told = (actual: unknown, expected: unknown): string => {
    const { told: answer, violation } = explain(actual, expected);
    return violation ?? answer;
  };
  t.is(told({ a: [1, true] }, { a: [1, true] }), 'all is well');
  t.is(told({ status: -Errno.EINVAL, on: [true] }, { status: 0, on: [false] }), 'EINVAL');
  t.is(told({ on: false }, { on: true }), 'does not get through');
  t.is(told({}, { bytes: [1] }), 'does not get through');
  t.is(told({ on: true }, { on: false }), 'gets through: .on');
  t.is(told({ bytes: [2] }, { bytes: [1] }), 'differs, and nobody is told: .bytes[0]: 2, expected 1');
  t.is(told({ status: -5 }, { status: -5 }), 'all is well');
});
