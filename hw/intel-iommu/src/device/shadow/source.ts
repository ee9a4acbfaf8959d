/** What a function's requests without PASID go through, as its context and PASID entries stand in memory. */
import { ContextEntry, PasidEntry, Pgtt, ScalableContextEntry, TranslationType } from '../../spec/index.js';
import type { SecondStageTable } from './second-stage-ranges.js';

export const SourceKind = {
  /** They fault. */
  BLOCKED: 0,
  /** They pass through. */
  DIRECT: 1,
  /** A second-stage table, which can be shadowed. */
  SECOND_STAGE: 2,
  /** A first stage, alone or nested: a guest does not report what it adds to one (vtd.md 9, rule 2), so nobody can follow it. */
  FIRST_STAGE: 3,
} as const;
export type SourceKind = (typeof SourceKind)[keyof typeof SourceKind];

/** What is asked of the unit. Both reads return 0, or a fault reason. */
export interface EntryReader {
  readonly scalable: boolean;
  readonly translationEnabled: boolean;
  readContextEntry(requesterId: number, out: Int32Array): number;
  readPasidEntry(requesterId: number, pasid: number, out: Int32Array): number;
}

export interface Source extends SecondStageTable {
  readonly kind: SourceKind;
  /** Its domain id; 0 if it is blocked, as caching mode has it for entries that are not there. */
  readonly domain: number;
  /** PASID whose entry says so; 0 in legacy mode. */
  readonly pasid: number;
}

const PAGE_MASK = ~0xfff;
const PASS_THROUGH: Source = { kind: SourceKind.DIRECT, domain: 0, pasid: 0, rootHi: 0, rootLo: 0, levels: 0 };
const BLOCKED: Source = { ...PASS_THROUGH, kind: SourceKind.BLOCKED };

const context = new Int32Array(ScalableContextEntry.words);
const entry = new Int32Array(PasidEntry.words);

export function readSource(unit: EntryReader, requesterId: number): Source {
  if (!unit.translationEnabled) return PASS_THROUGH;
  if (unit.readContextEntry(requesterId, context) !== 0) return BLOCKED;
  return unit.scalable ? scalableSource(unit, requesterId) : legacySource();
}

export function sameSource(one: Source, other: Source): boolean {
  return (
    one.kind === other.kind &&
    one.domain === other.domain &&
    one.rootHi === other.rootHi &&
    one.rootLo === other.rootLo &&
    one.levels === other.levels
  );
}

function legacySource(): Source {
  const fields = ContextEntry.fields;
  const passes = fields.tt.get(context, 0) === TranslationType.PASS_THROUGH;
  return {
    kind: passes ? SourceKind.DIRECT : SourceKind.SECOND_STAGE,
    domain: fields.did.get(context, 0),
    pasid: 0,
    rootHi: context[1]!,
    rootLo: context[0]! & PAGE_MASK,
    levels: fields.aw.get(context, 0) + 2,
  };
}

function scalableSource(unit: EntryReader, requesterId: number): Source {
  const pasid = ScalableContextEntry.fields.ridPasid.get(context, 0);
  if (unit.readPasidEntry(requesterId, pasid, entry) !== 0) return { ...BLOCKED, pasid };
  const fields = PasidEntry.fields;
  const type = fields.pgtt.get(entry, 0);
  return {
    kind: KINDS.get(type) ?? SourceKind.BLOCKED,
    domain: fields.did.get(entry, 0),
    pasid,
    rootHi: entry[1]!,
    rootLo: entry[0]! & PAGE_MASK,
    levels: fields.aw.get(entry, 0) + 2,
  };
}

const KINDS = new Map<number, SourceKind>([
  [Pgtt.FIRST_STAGE, SourceKind.FIRST_STAGE],
  [Pgtt.SECOND_STAGE, SourceKind.SECOND_STAGE],
  [Pgtt.NESTED, SourceKind.FIRST_STAGE],
  [Pgtt.PASS_THROUGH, SourceKind.DIRECT],
]);
