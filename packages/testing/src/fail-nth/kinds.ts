/** How many there are of each kind in a dump: of each value of a property `kind`. */
export type Kinds = ReadonlyMap<string, number>;

export function kindsIn(dump: unknown, kinds = new Map<string, number>()): Kinds {
  if (typeof dump !== 'object' || dump === null) return kinds;
  for (const [key, value] of Object.entries(dump)) {
    if (key === 'kind' && typeof value === 'string') kinds.set(value, (kinds.get(value) ?? 0) + 1);
    else kindsIn(value, kinds);
  }
  return kinds;
}

/** What there is more of than both before and after a step, or less: `eventfd: 3, expected 1 to 2`; undefined if nothing. */
export function outside(actual: Kinds, before: Kinds, after: Kinds): string | undefined {
  for (const kind of new Set([...actual.keys(), ...before.keys(), ...after.keys()])) {
    const count = actual.get(kind) ?? 0;
    const ends = [before.get(kind) ?? 0, after.get(kind) ?? 0];
    const [least, most] = [Math.min(...ends), Math.max(...ends)];
    if (count < least || count > most)
      return `${kind}: ${count}, expected ${least === most ? least : `${least} to ${most}`}`;
  }
  return undefined;
}
