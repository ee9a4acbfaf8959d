/** What programs for any unit are made of. */
import fc from 'fast-check';
import { PAGES, PASIDS, RIDS } from './world.js';

export type AnyOperation =
  | {
      readonly op: 'access';
      readonly offset: number;
      readonly size: number;
      readonly value: bigint;
      readonly write: boolean;
    }
  | { readonly op: 'aimed'; readonly register: number; readonly gene: number }
  | { readonly op: 'descriptors'; readonly genes: readonly number[]; readonly slots: number }
  | {
      readonly op: 'damage';
      readonly rid: number;
      readonly pasid: number;
      readonly page: number;
      readonly gene: number;
    }
  | {
      readonly op: 'request';
      readonly rid: number;
      readonly pasid: number;
      readonly page: number;
      readonly access: number;
    };

export interface AnyProgram {
  readonly configuration: number;
  readonly genes: readonly number[];
  readonly operations: readonly AnyOperation[];
}

const gene = fc.nat(0xf_ffff);
const rid = fc.nat(RIDS.length - 1);
const pasid = fc.nat(PASIDS.length * 2 - 1);
const page = fc.nat(PAGES.length - 1);
/** Half of the accesses are as registers want them. */
const offset = fc.oneof(
  fc.nat(0x27f).map(n => n & ~3),
  fc.nat(0xfff),
);
const access = fc.record({
  op: fc.constant('access' as const),
  offset,
  size: fc.constantFrom(1, 2, 4, 4, 4, 8, 8, 8),
  value: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  write: fc.boolean(),
});

const operation: fc.Arbitrary<AnyOperation> = fc.oneof(
  { weight: 2, arbitrary: access },
  { weight: 8, arbitrary: fc.record({ op: fc.constant('aimed' as const), register: gene, gene }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('descriptors' as const),
      genes: fc.array(gene, { minLength: 1, maxLength: 8, size: 'max' }),
      /** 256 fill a page, whatever their width. */
      slots: fc.constantFrom(4, 16, 256),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('damage' as const), rid, pasid, page, gene }) },
  { weight: 6, arbitrary: fc.record({ op: fc.constant('request' as const), rid, pasid, page, access: fc.nat(15) }) },
);

/** Programs for so many configurations. */
export function anyPrograms(configurations: number): fc.Arbitrary<AnyProgram> {
  const program = fc.record({
    configuration: fc.nat(configurations - 1),
    genes: fc.array(gene, { minLength: 24, maxLength: 24 }),
    operations: fc.array(operation, { minLength: 20, maxLength: 60, size: 'max' }),
  });
  return fc.noBias(program);
}
