/** Whatever software writes anywhere: nothing throws, and the unit writes to memory only where its tables and queue say. */
import { Random } from '@remora/bits';
import { NO_PASID } from '@remora/core';
import test from 'ava';
import fc from 'fast-check';
import { Fault, GlobalCommand, Reg } from '../spec/index.js';
import { Bench, FULL, RAM_FRAMES } from './bench.test.helper.js';

/** Few frames, so that random pointers form tables, loops and self-references. */
const FRAMES = 8;
const RUNS = 60;

/** A quadword as tables have it: a pointer to one of the frames, or beyond memory, with random low and high bits. */
const quadword = fc
  .tuple(
    fc.integer({ min: 0, max: FRAMES - 1 }),
    fc.integer({ min: 0, max: 0xfff }),
    fc.oneof({ weight: 6, arbitrary: fc.constant(0n) }, { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 0xfffn }) }),
  )
  .map(([frame, low, high]) => (high << 52n) | (BigInt(frame) << 12n) | BigInt(low | 1));

/** Every quadword of the frames is an entry of sorts. */
function fillTables(bench: Bench, random: Random): void {
  for (let at = 0; at < FRAMES * 512; at++) {
    const high = random.below(8) === 0 ? random.below(0x1000) : 0;
    const low = random.below(FRAMES) * 4096 + random.below(0x1000);
    bench.put64(at * 8, (BigInt(high) << 52n) | BigInt(low | 1));
  }
}

const offset = fc.oneof(
  fc.constantFrom(...Object.values(Reg), 0xf0, 0xf8, 0x22c, 0xe00, 0xe10),
  fc.nat({ max: 0xffc }).map(at => at & ~3),
);

const step = fc.oneof(
  fc.record({ kind: fc.constant('write32' as const), offset, value: fc.nat({ max: 0xffffffff }) }),
  fc.record({ kind: fc.constant('write64' as const), offset: offset.map(at => at & ~7), value: quadword }),
  fc.record({ kind: fc.constant('memory' as const), at: fc.nat({ max: FRAMES * 512 - 1 }), value: quadword }),
  fc.record({
    kind: fc.constant('request' as const),
    iova: fc.oneof(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), fc.bigInt({ min: 0n, max: 0xfff_ffffn })),
    access: fc.nat({ max: 15 }),
    pasid: fc.oneof(fc.constant(NO_PASID as number), fc.nat({ max: 0xfffff })),
    rid: fc.nat({ max: 0xffff }),
  }),
);

for (const options of [
  {},
  FULL,
  { 'x-scalable-mode': 'modern' },
  { compat: 'qemu-10.2', 'x-scalable-mode': 'on' },
] as const) {
  test(`random programs: ${JSON.stringify(options)}`, t => {
    const known = new Set<number>(Object.values(Fault));
    let refused = 0;
    let translated = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 10, maxLength: 60 }), fc.nat(), (steps, seed) => {
        const bench = new Bench(options as ConstructorParameters<typeof Bench>[0]);
        fillTables(bench, new Random(seed));
        bench.write64(Reg.RTADDR, 'x-scalable-mode' in options || 'nesting' in options ? 0x400n : 0n);
        bench.command(GlobalCommand.SRTP);
        bench.command(GlobalCommand.TE);
        for (const each of steps) {
          if (each.kind === 'write32') bench.write32(each.offset, each.value);
          else if (each.kind === 'write64') bench.write64(each.offset, each.value);
          else if (each.kind === 'memory') bench.put64(each.at * 8, each.value);
          else {
            const outcome = bench.request(each.iova, each.access, each.pasid, each.rid);
            if ('fault' in outcome) {
              refused++;
              if (!known.has(outcome.fault)) return false;
            } else translated++;
          }
        }
        return bench.memory.stores.every(({ address }) => address < RAM_FRAMES * 4096);
      }),
      { numRuns: RUNS, seed: 20 },
    );
    t.true(refused > RUNS);
    t.true(translated > 0);
  });
}
