// A diff that finds nothing must mean something: bugs that were put into the model are found by the programs that CI runs.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { askQemu, compare, configNamed, generate, ModelPeer, QemuPeer, QUOTA_PROGRAMS } from '@remora/tools/diff';
import { altered, Workshop } from '../mutants/workshop.js';
import { findQemu } from '../qmp/real-qemu.js';
import { hunt } from './hunt.js';
import { SEEDED_BUGS } from './seeded-bugs.js';

const LEAST = 10;
const TIMEOUT_MS = 300_000;
const REPOSITORY = new URL('../../../', import.meta.url);

test('there are ten or more, and each still fits the code', t => {
  t.true(SEEDED_BUGS.length >= LEAST);
  for (const { name, alteration } of SEEDED_BUGS) {
    const text = readFileSync(fileURLToPath(new URL(alteration.file, REPOSITORY)), 'utf8');
    t.notThrows(() => altered(text, alteration), name);
  }
});

const qemu = findQemu();
const withQemu = 'program' in qemu ? test.serial : test.serial.skip;
const skipped = 'missing' in qemu ? ` (skipped: ${qemu.missing})` : '';
/** By configuration: the last program that was needed to find a bug. */
const needed = new Map<string, number>();

for (const { name, alteration, config } of SEEDED_BUGS) {
  withQemu(`${name}: found${skipped}`, async t => {
    t.timeout(TIMEOUT_MS);
    if (!('program' in qemu)) throw new Error(qemu.missing);
    await using workshop = await Workshop.open([alteration], true);
    const found = await hunt(workshop, { qemu: qemu.program, config, count: QUOTA_PROGRAMS });
    t.truthy(found);
    t.log(`${config}, seed ${found!.seed}: ${found!.line}`);
    needed.set(config, Math.max(needed.get(config) ?? 0, found!.seed));
  });
}

withQemu(`the model itself agrees in all those programs${skipped}`, async t => {
  t.timeout(TIMEOUT_MS);
  if (!('program' in qemu)) throw new Error(qemu.missing);
  const facts = await askQemu(qemu.program);
  for (const [name, count] of needed) {
    const config = configNamed(name);
    await using theirs = await QemuPeer.start(config, { program: qemu.program, facts, testdev: false });
    await using ours = new ModelPeer(config);
    for (let seed = 1; seed <= count; seed++) {
      const { difference } = await compare(generate(config, seed), { ours, theirs });
      t.is(difference, undefined, `${name}, seed ${seed}`);
    }
  }
});
