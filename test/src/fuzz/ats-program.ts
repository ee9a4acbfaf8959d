/** What fuzz programs of device TLBs are made of. Numbers choose from pools. */
import fc from 'fast-check';
import type { Who } from './program.js';
import { PAGES, PASIDS, RIDS } from './world.js';

export type AtsKind = 'translation' | 'translated' | 'page';

export interface AtsRequest {
  readonly kind: AtsKind;
  readonly who: Who;
  /** Of a page request: its group, and whether it is the last of it. */
  readonly group: number;
  readonly last: boolean;
}

export type AtsOperation =
  | { readonly op: 'request'; readonly request: AtsRequest }
  | {
      readonly op: 'damage';
      readonly request: AtsRequest;
      readonly depth: number;
      readonly how: number;
      readonly gene: number;
      readonly undo: boolean;
    }
  | { readonly op: 'context'; readonly rid: number; readonly genes: readonly number[]; readonly enables: number }
  | { readonly op: 'pasid'; readonly directory: number; readonly pasid: number; readonly genes: readonly number[] }
  /** What a page request handler does, well or badly. */
  | { readonly op: 'serve'; readonly how: number; readonly gene: number }
  /** One request while translation is off, or in another mode. */
  | { readonly op: 'mode'; readonly request: AtsRequest; readonly how: number };

export interface AtsProgram {
  readonly configuration: number;
  readonly genes: readonly number[];
  readonly operations: readonly AtsOperation[];
}

const gene = fc.nat(0xffff);
const genes = fc.array(gene, { minLength: 5, maxLength: 5 });

const request: fc.Arbitrary<AtsRequest> = fc.record({
  kind: fc.constantFrom('translation', 'translation', 'translation', 'translated', 'page'),
  who: fc.record({
    rid: fc.nat(RIDS.length - 1),
    pasid: fc.nat(PASIDS.length * 2 - 1),
    page: fc.nat(PAGES.length - 1),
    offset: fc.nat(0x3f_ffff),
    access: fc.nat(31),
  }),
  group: fc.nat(511),
  last: fc.boolean(),
});

const operation: fc.Arbitrary<AtsOperation> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ op: fc.constant('request' as const), request }) },
  {
    weight: 10,
    arbitrary: fc.record({
      op: fc.constant('damage' as const),
      request,
      depth: gene,
      how: gene,
      gene,
      undo: fc.nat(7).map(n => n !== 0),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant('context' as const), rid: fc.nat(RIDS.length - 1), genes, enables: gene }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('pasid' as const),
      directory: fc.nat(1),
      pasid: fc.nat(PASIDS.length - 1),
      genes,
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('serve' as const), how: gene, gene }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('mode' as const), request, how: gene }) },
);

/** Programs for so many configurations. */
export function atsPrograms(configurations: number): fc.Arbitrary<AtsProgram> {
  return fc.noBias(
    fc.record({
      configuration: fc.nat(configurations - 1),
      genes: fc.array(gene, { minLength: 24, maxLength: 24 }),
      operations: fc.array(operation, { minLength: 15, maxLength: 40, size: 'max' }),
    }),
  );
}
