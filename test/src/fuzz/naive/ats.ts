/**
 * Translation requests, translated requests and page requests as vtd.md 4.3, 4.4, 4.7, 4.9 and 7 tell them, for a unit that has nothing
 * cached. What a page grants is defined by what untranslated requests to it may do.
 */
import type { TableMemory } from '../table-memory.js';
import type { Facts } from './facts.js';
import { recordOf, type RecordQuads } from './faults.js';
import { isRefusal, legacyContext, scalableContext, type Refusal } from './lookup.js';
import { Overlay } from './overlay.js';
import { EXECUTE, inInterruptRange, PRIVILEGED, READ, WRITE } from './paging.js';
import { NaiveUnit, type Outcome, type Request } from './translate.js';

/** A refusal; reason 0 if nothing is recorded. */
export interface Verdict {
  readonly status: 'ok' | 'unsupported' | 'abort';
  readonly reason: number;
  readonly fpd: boolean;
}

export interface Completion extends Verdict {
  /** The page, its size and what is granted; only if the status is ok. */
  readonly base: bigint;
  readonly shift: number;
  readonly access: number;
  readonly privileged: boolean;
  readonly untranslatedOnly: boolean;
  /** Entries that the unit writes, as they are afterwards. */
  readonly writes: ReadonlyMap<bigint, bigint>;
}

export type Kind = 'translation' | 'translated' | 'page';

const OK: Verdict = { status: 'ok', reason: 0, fpd: false };
const NOT_SERVED: Verdict = { status: 'unsupported', reason: 0, fpd: false };
/** vtd.md 4.9: answered with nothing granted. The second line is UNCONFIRMED; the third is the interrupt range and privilege. */
const RECOVERABLE = [
  ...[0x05, 0x06, 0x51, 0x59, 0x70, 0x71, 0x72, 0x73, 0x80, 0x81, 0x85],
  ...[0x79, 0x82, 0x84, 0x86],
  ...[0x0e, 0x87, 0x5d],
];
/** A permission is missing. */
const DENIED = [0x05, 0x06, 0x85, 0x86];
/** The unit serves no such request (UNCONFIRMED). */
const UNSUPPORTED = [0x0d, 0x31, 0x33, 0x44, 0x45, 0x46];

/** The record of a refused request (vtd.md 1.14): a translation request is a read; only page requests have T2 without T1. */
export function atsRecordOf(request: Request, reason: number, kind: Kind): RecordQuads {
  const asRead = { ...request, access: request.access & ~WRITE };
  const [low, high] = recordOf(kind === 'translated' ? request : asRead, reason);
  if (kind === 'page') return [low, (high & ~(1n << 62n)) | (1n << 28n)];
  return [low, high | ((kind === 'translation' ? 1n : 2n) << 60n)];
}

export class NaiveAts {
  enabled = false;
  root = 0n;
  mode = 0;
  readonly #facts: Facts;
  readonly #memory: TableMemory;

  constructor(facts: Facts, memory: TableMemory) {
    this.#facts = facts;
    this.#memory = memory;
  }

  translation(request: Request): Completion {
    const { pasid, address } = request;
    const privileged = pasid !== -1 && (request.access & PRIVILEGED) !== 0;
    const nothing = { base: address & ~0xfffn, shift: 12, access: 0, privileged, untranslatedOnly: false };
    const refuse = (verdict: Verdict): Completion => ({ ...verdict, ...nothing, writes: new Map() });
    const verdict = this.#context(request, 'translation');
    if (verdict !== OK) return refuse(verdict);
    if (pasid === -1 && inInterruptRange(address)) return { ...refuse(OK), untranslatedOnly: true };
    const writes = (request.access & WRITE) !== 0 || !this.#facts.noWriteFlag;
    const mode = privileged ? PRIVILEGED : 0;
    const tries = [READ, ...(writes ? [WRITE] : [])].map(access => this.#try({ ...request, access: access | mode }));
    const changed = union(tries.map(each => each.writes));
    // Where writing is wanted and not denied, the page is used for both.
    for (const { outcome, writes: done } of tries.toReversed()) {
      if (isError(outcome)) return { ...refuse(this.#failure(outcome)), writes: done };
    }
    const [read, write] = tries.map(({ outcome }) => (isRefusal(outcome) ? undefined : outcome));
    const page = read ?? write;
    if (page === undefined) return { ...refuse(OK), writes: changed };
    const passThrough = tries[0]!.by === 'scalable pass-through';
    const executes = this.#facts.executeRequests && pasid !== -1 && (request.access & EXECUTE) !== 0 && !passThrough;
    const access =
      (read === undefined ? 0 : READ) |
      (write !== undefined || (!writes && read !== undefined && (read.access & WRITE) !== 0) ? WRITE : 0) |
      (executes ? page.access & EXECUTE : 0);
    return { ...OK, ...nothing, base: page.base, shift: page.shift, access, writes: changed };
  }

  translated(request: Request): Verdict {
    const verdict = this.#context(request, 'translated');
    if (verdict !== OK) return verdict;
    const scalable = this.mode === 1;
    if (request.address >> BigInt(this.#facts.haw) !== 0n) return this.#refusal(scalable ? 0x83 : 0x04, request);
    return inInterruptRange(request.address) ? this.#refusal(scalable ? 0x87 : 0x0e, request) : OK;
  }

  /** `unsupported` without a reason also for what is malformed. */
  page(request: Request): Verdict {
    const { access, pasid } = request;
    if (!this.#facts.pageRequests) return NOT_SERVED;
    const verdict = this.#context(request, 'page');
    if (verdict !== OK) return verdict;
    return pasid !== -1 && (access & EXECUTE) !== 0 && (access & READ) === 0 ? NOT_SERVED : OK;
  }

  #context(request: Request, kind: Kind): Verdict {
    const { rid, pasid } = request;
    const facts = this.#facts;
    if (!this.enabled || !facts.deviceTlb) return NOT_SERVED;
    if (this.mode === 0) {
      if (kind === 'page') return this.#failure({ reason: 0x32, fpd: false });
      if (pasid !== -1) return this.#failure({ reason: 0x31, fpd: false });
      const context = legacyContext(facts, new Overlay(this.#memory), this.root, rid);
      if (isRefusal(context)) return this.#failure(context);
      return context.deviceTlb ? OK : this.#failure({ reason: 0x0d, fpd: context.fpd });
    }
    if (this.mode !== 1 || !facts.scalable) return this.#failure({ reason: 0x30, fpd: false });
    const context = scalableContext(facts, new Overlay(this.#memory), this.root, rid);
    if (isRefusal(context)) return this.#failure(context);
    const { fpd } = context;
    if (kind !== 'page' && !context.deviceTlb) return this.#failure({ reason: 0x44, fpd });
    if (pasid !== -1 && !context.paside) return this.#failure({ reason: 0x45, fpd });
    if (pasid !== -1 && kind !== 'translated' && pasid >= context.limit) return this.#failure({ reason: 0x46, fpd });
    return kind === 'page' && !context.pageRequests ? this.#failure({ reason: 0x47, fpd }) : OK;
  }

  /** A refusal after the context entry was in order: with its FPD. */
  #refusal(reason: number, { rid }: Request): Verdict {
    const overlay = new Overlay(this.#memory);
    const find = this.mode === 1 ? scalableContext : legacyContext;
    return this.#failure({ reason, fpd: find(this.#facts, overlay, this.root, rid).fpd });
  }

  #failure({ reason, fpd }: Refusal): Verdict {
    return { status: UNSUPPORTED.includes(reason) ? 'unsupported' : 'abort', reason, fpd };
  }

  /** An untranslated request to a unit that has nothing cached. */
  #try(request: Request) {
    const unit = new NaiveUnit(this.#facts, this.#memory);
    unit.setRoot(this.root | (BigInt(this.mode) << 10n));
    unit.enabled = true;
    const [only, ...others] = unit.possibilities(request);
    if (only === undefined || others.length > 0) throw new Error('a cold unit has one answer');
    return only;
  }
}

function isError(outcome: Outcome): outcome is Refusal {
  return isRefusal(outcome) && !RECOVERABLE.includes(outcome.reason) && !DENIED.includes(outcome.reason);
}

/** What is left of several walks that set accessed and dirty bits in the same entries. */
function union(all: readonly ReadonlyMap<bigint, bigint>[]): Map<bigint, bigint> {
  const result = new Map<bigint, bigint>();
  for (const each of all) for (const [at, value] of each) result.set(at, (result.get(at) ?? 0n) | value);
  return result;
}
