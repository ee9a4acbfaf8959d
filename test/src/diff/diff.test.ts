/** `remora diff`: programs, their comparison and how they are made small; and a run against a real QEMU where one is installed. */
import test from 'ava';
import {
  askQemu,
  compare,
  compile,
  CONFIGS,
  type DiffConfig,
  diffConfig,
  generate,
  type Line,
  ModelPeer,
  type Operation,
  type Peer,
  type Program,
  QemuPeer,
  shrink,
} from '@remora/tools/diff';
import { findQemu } from '../qmp/real-qemu.js';

const LEGACY = CONFIGS.find(({ name }) => name === 'legacy')!;
const PROGRAMS = 20;
const someOf = (config: DiffConfig): Program[] => Array.from({ length: PROGRAMS }, (_, i) => generate(config, 1 + i));

/** The model, with replies falsified. */
class Falsified implements Peer {
  readonly #model: ModelPeer;
  readonly #falsify: (line: Line, reply: string) => string;

  constructor(config: DiffConfig, falsify: (line: Line, reply: string) => string) {
    this.#model = new ModelPeer(config);
    this.#falsify = falsify;
  }

  reset(): Promise<void> {
    return this.#model.reset();
  }

  async run(lines: readonly Line[]): Promise<string[]> {
    const replies = await this.#model.run(lines);
    return replies.map((reply, i) => this.#falsify(lines[i]!, reply));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#model[Symbol.asyncDispose]();
  }
}

test('a seed is a program', t => {
  for (const config of CONFIGS) {
    t.deepEqual(generate(config, 7), generate(config, 7));
    t.notDeepEqual(generate(config, 7).operations, generate(config, 8).operations);
  }
});

for (const config of CONFIGS) {
  test(`${config.name}: no command is refused, transfers arrive, and the model agrees with itself after any number of programs`, async t => {
    await using ours = new ModelPeer(config);
    await using theirs = new Falsified(config, (_, reply) => {
      t.true(reply.startsWith('OK'), reply);
      return reply;
    });
    const { coverage, found } = await diffConfig(config, { ours, theirs }, someOf(config));
    t.is(found, undefined);
    const { read, write } = config.mode === 'pass' ? coverage.passed : coverage.translated;
    t.true(read > PROGRAMS && write > PROGRAMS);
    t.true(coverage.performed.size >= 5);
    await using fresh = new ModelPeer(config);
    t.is((await compare(generate(config, 99), { ours, theirs: fresh })).difference, undefined, 'nothing stays behind');
  });
}

test('what differs is found, and made as small as it can be', async t => {
  await using ours = new ModelPeer(LEGACY);
  // A unit that never says that it records a fault.
  await using theirs = new Falsified(LEGACY, ({ text }, reply) =>
    text === 'readl 0xfed90034' ? reply.replace(/2$/, '0') : reply,
  );
  const { found } = await diffConfig(LEGACY, { ours, theirs }, someOf(LEGACY));
  t.is(found?.difference.line.text, 'readl 0xfed90034');
  // Root table, translation, a transfer, and the look at the status.
  const kinds = found!.program.operations.map(({ kind }) => kind);
  t.true(kinds.length <= 5, kinds.join(' '));
  t.true(kinds.includes('dma'));
  const again = await compare(found!.program, { ours, theirs });
  t.deepEqual(again.difference, found!.difference, 'it can be run again');
});

test('justified differences are no differences, and are counted', async t => {
  await using ours = new ModelPeer(LEGACY);
  await using theirs = new Falsified(LEGACY, ({ text }, reply) =>
    text === 'readq 0xfed90008' ? reply.replace('0x80d', '0x00d') : reply,
  );
  const look: Operation = { kind: 'register', offset: 8, words: [0, 0] };
  const outcome = await compare({ config: LEGACY.name, seed: 1, operations: [look, look] }, { ours, theirs });
  t.is(outcome.difference, undefined);
  t.deepEqual([...outcome.justified], [['cap-esrtps', 2]]);
});

test('operations that do not matter are left out, one by one and many at once', async t => {
  const operations = Array.from({ length: 37 }, (_, i): Operation => ({ kind: 'memory', at: i, words: [i, 0] }));
  const needed = [3, 4, 30];
  const has = (at: number) => (operation: Operation) => operation.kind === 'memory' && operation.at === at;
  const small = await shrink({ config: 'legacy', seed: 1, operations }, program =>
    Promise.resolve(needed.every(at => program.operations.some(has(at)))),
  );
  t.deepEqual(
    small.operations.map(operation => operation.kind === 'memory' && operation.at),
    needed,
  );
});

test('every line belongs to an operation, or to what comes before or after all', t => {
  const program = generate(LEGACY, 3);
  const of = compile(program).map(line => line.of);
  t.is(of[0], -1);
  t.is(of.at(-1), program.operations.length);
  t.is(new Set(of).size, program.operations.length + 2);
});

const qemu = findQemu();
const withQemu = 'program' in qemu ? test : test.skip;

withQemu(
  `a real QEMU runs a program and can be put back${'missing' in qemu ? ` (skipped: ${qemu.missing})` : ''}`,
  async t => {
    if (!('program' in qemu)) throw new Error(qemu.missing);
    await using ours = new ModelPeer(LEGACY);
    await using theirs = await QemuPeer.start(LEGACY, {
      program: qemu.program,
      facts: await askQemu(qemu.program),
      testdev: false,
    });
    const { found, coverage } = await diffConfig(LEGACY, { ours, theirs }, someOf(LEGACY).slice(0, 5));
    t.is(found, undefined, JSON.stringify(found?.difference));
    t.true(coverage.translated.write > 0);
  },
);
