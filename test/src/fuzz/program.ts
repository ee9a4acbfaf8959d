/** What fuzz programs are made of. */
import fc from 'fast-check';
import { DOMAINS, PAGES, PASIDS, RIDS, type LeafGenes } from './world.js';

/** Who asks for what; numbers choose from the pools. */
export interface Who {
  readonly rid: number;
  /** Beyond the pool: a request without PASID. */
  readonly pasid: number;
  readonly page: number;
  readonly offset: number;
  readonly access: number;
}

export interface DescriptorGenes {
  readonly type: number;
  readonly granularity: number;
  readonly domain: number;
  readonly rid: number;
  readonly pasid: number;
  readonly page: number;
  readonly mask: number;
  readonly flags: number;
  /** A bit to invert, if it is below 256. */
  readonly flip: number;
}

export type Operation =
  | { readonly op: 'request'; readonly who: Who }
  | {
      readonly op: 'damage';
      readonly who: Who;
      readonly depth: number;
      readonly how: number;
      readonly gene: number;
      /** How it is bent once more. */
      readonly second: number | undefined;
      /** Caches are emptied first, so that the damage is met. */
      readonly cold: boolean;
      /** The structure is as before afterwards. */
      readonly undo: boolean;
    }
  | { readonly op: 'remap'; readonly who: Who; readonly gene: number }
  | { readonly op: 'map'; readonly table: number; readonly page: number; readonly leaf: LeafGenes }
  | { readonly op: 'context'; readonly rid: number; readonly genes: readonly number[] }
  | { readonly op: 'pasid'; readonly directory: number; readonly pasid: number; readonly genes: readonly number[] }
  | { readonly op: 'submit'; readonly descriptors: readonly DescriptorGenes[] }
  | { readonly op: 'flush'; readonly how: number }
  | { readonly op: 'command'; readonly how: number; readonly gene: number }
  | { readonly op: 'register'; readonly which: number; readonly gene: number };

export interface Program {
  readonly configuration: number;
  readonly genes: readonly number[];
  readonly operations: readonly Operation[];
}

const gene = fc.nat(0xffff);
const genes = fc.array(gene, { minLength: 5, maxLength: 5 });
const index = (pool: readonly unknown[]): fc.Arbitrary<number> => fc.nat(pool.length - 1);

const who: fc.Arbitrary<Who> = fc.record({
  rid: index(RIDS),
  pasid: fc.nat(PASIDS.length * 2 - 1),
  page: index(PAGES),
  offset: fc.nat(0x3f_ffff),
  access: fc.nat(31),
});

const descriptor: fc.Arbitrary<DescriptorGenes> = fc.record({
  type: fc.nat(0xff),
  granularity: fc.nat(3),
  domain: index(DOMAINS),
  rid: index(RIDS),
  pasid: index(PASIDS),
  page: index(PAGES),
  mask: fc.nat(63),
  flags: gene,
  flip: fc.nat(1500),
});

const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ op: fc.constant('request' as const), who }) },
  {
    weight: 10,
    arbitrary: fc.record({
      op: fc.constant('damage' as const),
      who,
      depth: gene,
      how: gene,
      gene,
      second: fc.option(gene, { freq: 3, nil: undefined }),
      cold: fc.boolean(),
      undo: fc.nat(7).map(n => n !== 0),
    }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('remap' as const), who, gene }) },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('map' as const),
      table: gene,
      page: index(PAGES),
      leaf: fc.record({ level: fc.constantFrom(1, 1, 2, 3), target: gene, attributes: gene }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('context' as const), rid: index(RIDS), genes }) },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant('pasid' as const), directory: fc.nat(1), pasid: index(PASIDS), genes }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('submit' as const),
      descriptors: fc.array(descriptor, { minLength: 1, maxLength: 4 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('flush' as const), how: gene }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('command' as const), how: gene, gene }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('register' as const), which: gene, gene }) },
);

/** Programs for so many configurations. */
export function programs(configurations: number): fc.Arbitrary<Program> {
  // Without fast-check's preference for small numbers and extremes: here they mean nothing.
  const program = fc.record({
    configuration: fc.nat(configurations - 1),
    genes: fc.array(gene, { minLength: 24, maxLength: 24 }),
    operations: fc.array(operation, { minLength: 15, maxLength: 45, size: 'max' }),
  });
  return fc.noBias(program);
}
