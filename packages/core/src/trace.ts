/**
 * Trace events: what a device does, by name and with its values, as they pass. Each event is switched by itself. QEMU: trace-events.
 *
 * The ledger keeps everything and its causes, and is on or off as a whole; logs are sentences for people. Trace events are for those who
 * follow one device by names that they know from elsewhere.
 *
 * Off, an event costs one boolean: call sites test `on` before they compute values.
 */
import { type Log, logger } from './log.js';

/** Numbers are printed in hexadecimal, negative ones as 32 bits; what has 64 bits comes as text (`hex` of the bits package). */
export type TraceValue = number | boolean | string;

/** Events by name, with the names of their values: `{ vtd_reg_read: ['addr', 'size'] }`. */
export type TraceDeclaration = Readonly<Record<string, readonly string[]>>;

/** What happened. */
export interface Traced {
  /** Whom it happened to: `vm0/intel-iommu`. */
  readonly source: string;
  readonly name: string;
  /** In the order in which they were declared. */
  readonly values: Readonly<Record<string, TraceValue>>;
}

export type TraceWatcher = (event: Traced) => void;

/** One event of one device. Made by `Trace.points`. */
export class TracePoint<Names extends readonly string[] = readonly string[]> {
  /** Whether anybody watches. */
  on = false;
  readonly source: string;
  readonly name: string;
  readonly #names: Names;
  #watchers: readonly TraceWatcher[] = [];

  constructor(source: string, name: string, names: Names) {
    this.source = source;
    this.name = name;
    this.#names = names;
  }

  /** Tells those who watch. To be called while `on`. */
  emit(...values: { readonly [Index in keyof Names]: TraceValue }): void {
    const named = Object.fromEntries(this.#names.map((name, index) => [name, values[index]!]));
    const event = { source: this.source, name: this.name, values: named };
    for (const tell of this.#watchers) tell(event);
  }

  /** For Trace: who is told from now on. */
  watchedBy(watchers: readonly TraceWatcher[]): void {
    this.#watchers = watchers;
    this.on = watchers.length > 0;
  }
}

export type TracePoints<D extends TraceDeclaration> = { readonly [Name in keyof D]: TracePoint<D[Name]> };

interface Watch {
  readonly patterns: readonly string[];
  readonly tell: TraceWatcher;
}

/** The trace events of one machine. */
export class Trace {
  /** By source and name: a device that comes back has those that it had. */
  readonly #points = new Map<string, TracePoint>();
  readonly #watches: Watch[] = [];

  /**
   * The points of the device called `source`, the same ones each time. Events that somebody watches already are on at once. Those that
   * DEBUG names, as `remora:core:trace:<event>`, are logged besides.
   */
  points<const D extends TraceDeclaration>(source: string, declared: D): TracePoints<D> {
    const points = Object.entries(declared).map(([name, names]) => [name, this.#point(source, name, names)]);
    return Object.fromEntries(points) as TracePoints<D>;
  }

  /**
   * Tells `tell` of all events that `patterns` select, also of devices that come later, until the result is disposed of. Patterns are as
   * for `isSelected`.
   */
  watch(patterns: readonly string[], tell: TraceWatcher): Disposable {
    const watch = { patterns, tell };
    this.#watches.push(watch);
    for (const point of this.#points.values()) this.#switch(point);
    return {
      [Symbol.dispose]: () => {
        const at = this.#watches.indexOf(watch);
        if (at >= 0) this.#watches.splice(at, 1);
        for (const point of this.#points.values()) this.#switch(point);
      },
    };
  }

  #point(source: string, name: string, names: readonly string[]): TracePoint {
    const key = `${source} ${name}`;
    let point = this.#points.get(key);
    if (point === undefined) {
      point = new TracePoint(source, name, names);
      this.#points.set(key, point);
      this.#switch(point);
    }
    return point;
  }

  #switch(point: TracePoint): void {
    const log = logger('remora:core:trace', point.name);
    const watchers = this.#watches.filter(({ patterns }) => isSelected(patterns, point.name)).map(({ tell }) => tell);
    point.watchedBy(log.on ? [...watchers, logged(log)] : watchers);
  }
}

/**
 * Whether `patterns` select an event, taken one after the other: each is a name, in which `*` stands for any characters and `?` for one;
 * one that begins with `-` takes away what those before it selected.
 */
export function isSelected(patterns: readonly string[], name: string): boolean {
  let selected = false;
  for (const pattern of patterns) {
    const takesAway = pattern.startsWith('-');
    if (matches(takesAway ? pattern.slice(1) : pattern, name)) selected = !takesAway;
  }
  return selected;
}

/** `vtd_reg_read addr=0x10 size=0x8`. */
export function formatTraced({ name, values }: Traced): string {
  return [name, ...Object.entries(values).map(([key, value]) => `${key}=${text(value)}`)].join(' ');
}

function text(value: TraceValue): string {
  if (typeof value === 'number') return `0x${(value < 0 ? value >>> 0 : value).toString(16)}`;
  return typeof value === 'boolean' ? String(Number(value)) : value;
}

function logged(log: Log): TraceWatcher {
  return event => log.debug('%s %s', event.source, formatTraced(event));
}

function matches(pattern: string, name: string): boolean {
  const expression = pattern
    .replace(/[\\^$.+()[\]{}|]/g, '\\$&')
    .replace(/\*/g, '.*')
    .replace(/\?/g, '.');
  return new RegExp(`^${expression}$`).test(name);
}
