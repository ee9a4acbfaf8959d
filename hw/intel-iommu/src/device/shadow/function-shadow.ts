/** The shadow of one function's tables: what those who follow it were last told, and how they learn what changed. */
import { Errno, IommuMapEvent, type IommuNotifier, IommuNotifiers } from '@remora/core';
import { type Change, difference, wanted } from './difference.js';
import { endOf, firstEndingAfter, type MappedRange } from './mapped-range.js';

/** Ranges that are put into a list one by one, instead of building it anew. */
const FEW = 1000;

/** All page frames. */
export const ALL_FRAMES = 2 ** 52;

export interface ShadowServices {
  /** Appends what the function's requests are translated to in page frames [start, end): merged, ascending. 0, or a negated errno. */
  collect(start: number, end: number, found: MappedRange[]): number;
  /** Brings what the function goes through up to date: somebody begins to follow it. */
  started(): void;
  /** Page frames [start, end) are not as they ought to be. */
  failed(start: number, end: number, errno: number): void;
}

/**
 * Nobody is told anything but changes: what goes first, then what comes. A failure leaves what was told there before in force, keeps nothing
 * else from being told, and is tried again whenever the function is looked at.
 */
export class FunctionShadow {
  readonly notifiers: IommuNotifiers = new IommuNotifiers(notifier => this.#replay(notifier));
  readonly #services: ShadowServices;
  /** Ascending; neighbours may continue each other. */
  #told: MappedRange[] = [];
  /** Page frames [start, end) that hold all that failed; none if they are empty. */
  #owedStart = 0;
  #owedEnd = 0;
  #replayResult = 0;
  readonly #event = new IommuMapEvent();

  constructor(services: ShadowServices) {
    this.#services = services;
  }

  /** What was told, ascending. */
  get told(): readonly MappedRange[] {
    return this.#told;
  }

  /** Whether something failed and is to be tried again. */
  get owes(): boolean {
    return this.#owedStart < this.#owedEnd;
  }

  /** The result of the last replay, once. */
  takeReplayResult(): number {
    const result = this.#replayResult;
    this.#replayResult = 0;
    return result;
  }

  /** Nobody follows any more: what was told is forgotten, as those who were told have unmapped it. */
  forget(): void {
    this.#told = [];
    this.#owedStart = this.#owedEnd = 0;
  }

  /** Tells what changed in page frames [start, end), and what could not be told before. Returns the first negated errno of the range. */
  sync(start: number, end: number): number {
    if (this.notifiers.size === 0) return 0;
    const owedStart = this.#owedStart;
    const owedEnd = this.#owedEnd;
    this.#owedStart = this.#owedEnd = 0;
    const result = this.#sync(start, end);
    if (owedStart === owedEnd || (start <= owedStart && owedEnd <= end)) return result;
    // What failed before and is not asked for now says nothing about this invalidation, but may make room for it.
    const late = this.#sync(owedStart, owedEnd);
    if (result === 0 || late !== 0) return result;
    this.#owedStart = this.#owedEnd = 0;
    return this.#sync(start, end);
  }

  /** The first one to follow learns what the tables say, who comes later what the others know. */
  #replay(notifier: IommuNotifier): number {
    if (this.notifiers.size > 1) {
      const failed = this.#told.map(range => notifier.notify(this.#describe(range))).find(result => result !== 0);
      return failed ?? 0;
    }
    this.forget();
    this.#services.started();
    this.#replayResult = this.sync(0, ALL_FRAMES);
    return this.#replayResult;
  }

  #sync(start: number, end: number): number {
    const found: MappedRange[] = [];
    const failure = this.#services.collect(start, end, found);
    if (failure !== 0) {
      this.#failed(start, end, failure);
      return failure;
    }
    const first = firstEndingAfter(this.#told, start);
    let past = first;
    while (past < this.#told.length && this.#told[past]!.frame < end) past++;
    const told = this.#told.slice(first, past);
    const { kept, changes } = difference(told, wanted(told, found, start, end));
    if (changes.length === 0) return 0;
    const now = [...kept];
    const result = this.#tell(kept, changes, now);
    now.sort((a, b) => a.frame - b.frame);
    if (now.length < FEW) this.#told.splice(first, past - first, ...now);
    else this.#told = this.#told.slice(0, first).concat(now, this.#told.slice(past));
    return result;
  }

  /** Adds to `now` what is told in place of the changes. */
  #tell(kept: readonly MappedRange[], changes: readonly Change[], now: MappedRange[]): number {
    let result = this.#takeBack(kept, changes, now);
    const note = (failure: number): void => {
      if (result === 0) result = failure;
    };
    for (const change of changes)
      if (change.gone.length > 0 && change.come.length > 0) note(this.#replace(change, now));
    let exhausted = false;
    for (const { gone, come } of changes) {
      if (gone.length > 0) continue;
      for (const range of come) {
        // A host that has no room left is not asked for each of many ranges.
        if (exhausted) {
          this.#owe(range.frame, endOf(range));
          continue;
        }
        const failure = this.#map(range);
        if (failure === 0) now.push(range);
        else this.#failed(range.frame, endOf(range), failure);
        exhausted = failure === -Errno.ENOSPC || failure === -Errno.ENOMEM;
        note(failure);
      }
    }
    return result;
  }

  /** Whatever goes without anything in its place: neighbours by one event, as long as nothing that stays lies between. */
  #takeBack(kept: readonly MappedRange[], changes: readonly Change[], now: MappedRange[]): number {
    let result = 0;
    let run: MappedRange[] = [];
    let at = 0;
    const flush = (): void => {
      const failure = this.#unmap(run);
      if (failure !== 0) now.push(...run);
      if (result === 0) result = failure;
      run = [];
    };
    for (const { gone, come } of changes) {
      const start = Math.min(gone[0]?.frame ?? Infinity, come[0]?.frame ?? Infinity);
      const stays = at;
      while (at < kept.length && kept[at]!.frame < start) at++;
      if (at > stays || (gone.length > 0 && come.length > 0)) flush();
      if (come.length === 0) run.push(...gone);
    }
    flush();
    return result;
  }

  /** All of a change, or none of it. */
  #replace({ gone, come }: Change, now: MappedRange[]): number {
    const unmapped = this.#unmap(gone);
    if (unmapped !== 0) {
      now.push(...gone);
      return unmapped;
    }
    let result = 0;
    let done = 0;
    while (result === 0 && done < come.length) if ((result = this.#map(come[done]!)) === 0) done++;
    if (result === 0) {
      now.push(...come);
      return 0;
    }
    this.#failed(Math.min(gone[0]!.frame, come[0]!.frame), Math.max(endOf(gone.at(-1)!), endOf(come.at(-1)!)), result);
    // What was there before comes back.
    const begun = come.slice(0, done);
    if (this.#unmap(begun) !== 0) now.push(...begun);
    else for (const range of gone) if (this.#map(range) === 0) now.push(range);
    return result;
  }

  #map(range: MappedRange): number {
    return this.notifiers.notify(this.#describe(range));
  }

  /** Takes ascending ranges back by one event. */
  #unmap(ranges: readonly MappedRange[]): number {
    const first = ranges[0];
    if (first === undefined) return 0;
    const end = endOf(ranges.at(-1)!);
    const result = this.notifiers.notify(
      this.#describe({ frame: first.frame, pages: end - first.frame, outFrame: 0, access: 0 }),
    );
    if (result !== 0) this.#failed(first.frame, end, result);
    return result;
  }

  #describe({ frame, pages, outFrame, access }: MappedRange): IommuMapEvent {
    return Object.assign(this.#event, { frame, pages, outFrame, access });
  }

  #failed(start: number, end: number, errno: number): void {
    this.#owe(start, end);
    this.#services.failed(start, end, errno);
  }

  #owe(start: number, end: number): void {
    const none = this.#owedStart === this.#owedEnd;
    this.#owedStart = none ? start : Math.min(this.#owedStart, start);
    this.#owedEnd = none ? end : Math.max(this.#owedEnd, end);
  }
}
