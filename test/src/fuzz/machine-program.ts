/** What programs for a machine are made of: DMAs, and how the tables are bent before each. */
import fc from 'fast-check';
import { PAGES, PASIDS } from './world.js';

export interface Step {
  readonly device: 'engine' | 'testdev';
  /** Beyond the pool: requests without PASID. */
  readonly pasid: number;
  readonly page: number;
  /** Copies from there; otherwise a pattern is written. */
  readonly source: number | undefined;
  readonly offset: number;
  readonly length: number;
  readonly bend: boolean;
  readonly depth: number;
  readonly gene: number;
}

export interface MachineProgram {
  readonly configuration: number;
  readonly genes: readonly number[];
  readonly steps: readonly Step[];
}

const gene = fc.nat(0xf_ffff);
/** The first pages are within every width. */
const page = fc.oneof({ weight: 4, arbitrary: fc.nat(4) }, { weight: 1, arbitrary: fc.nat(PAGES.length - 1) });

const step: fc.Arbitrary<Step> = fc.record({
  device: fc.constantFrom('engine' as const, 'engine' as const, 'engine' as const, 'testdev' as const),
  pasid: fc.nat(PASIDS.length * 2 - 1),
  page,
  source: fc.option(page, { freq: 1, nil: undefined }),
  offset: fc.nat(0xfff),
  length: fc.oneof(fc.nat(63), fc.nat(0x2000)).map(n => n + 1),
  bend: fc.nat(2).map(n => n === 0),
  depth: gene,
  gene,
});

export function machinePrograms(configurations: number): fc.Arbitrary<MachineProgram> {
  const program = fc.record({
    configuration: fc.nat(configurations - 1),
    genes: fc.array(gene, { minLength: 24, maxLength: 24 }),
    steps: fc.array(step, { minLength: 8, maxLength: 16, size: 'max' }),
  });
  return fc.noBias(program);
}
