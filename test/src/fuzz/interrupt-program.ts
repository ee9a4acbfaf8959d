/** What fuzz programs of interrupt requests are made of. Numbers choose from pools, or are bits of what is written. */
import fc from 'fast-check';

export type InterruptOperation =
  | {
      readonly op: 'request';
      readonly rid: number;
      readonly index: number;
      readonly how: number;
      readonly data: number;
    }
  /** An entry, mostly in order, and the descriptor that it leads to if it is a posted one. */
  | { readonly op: 'entry'; readonly index: number; readonly genes: readonly number[] }
  /** One bit of an entry or of its descriptor is inverted, a request meets it, and mostly it is put right again. */
  | { readonly op: 'damage'; readonly index: number; readonly bit: number; readonly how: number }
  | { readonly op: 'invalidate'; readonly index: number; readonly mask: number; readonly how: number }
  | { readonly op: 'command'; readonly how: number; readonly gene: number }
  /** What a fault handler does, well or badly. */
  | { readonly op: 'service'; readonly how: number };

export interface InterruptProgram {
  readonly configuration: number;
  readonly genes: readonly number[];
  readonly operations: readonly InterruptOperation[];
}

const gene = fc.nat(0xffff);
const genes = fc.array(gene, { minLength: 6, maxLength: 6 });

const operation: fc.Arbitrary<InterruptOperation> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      op: fc.constant('request' as const),
      rid: gene,
      index: gene,
      how: gene,
      data: fc.nat(0xffff_ffff),
    }),
  },
  { weight: 5, arbitrary: fc.record({ op: fc.constant('entry' as const), index: gene, genes }) },
  { weight: 8, arbitrary: fc.record({ op: fc.constant('damage' as const), index: gene, bit: fc.nat(639), how: gene }) },
  {
    weight: 3,
    arbitrary: fc.record({ op: fc.constant('invalidate' as const), index: gene, mask: fc.nat(31), how: gene }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('command' as const), how: gene, gene }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('service' as const), how: gene }) },
);

/** Programs for so many configurations. */
export function interruptPrograms(configurations: number): fc.Arbitrary<InterruptProgram> {
  return fc.noBias(
    fc.record({
      configuration: fc.nat(configurations - 1),
      genes: fc.array(gene, { minLength: 24, maxLength: 24 }),
      operations: fc.array(operation, { minLength: 15, maxLength: 40, size: 'max' }),
    }),
  );
}
