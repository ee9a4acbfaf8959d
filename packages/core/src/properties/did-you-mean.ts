/**
 * The end of a message about an unknown name: `; did you mean "caching-mode"?` if `names` has similar ones, else what they are,
 * else nothing.
 */
export function didYouMean(written: string, names: readonly string[]): string {
  const limit = Math.max(2, Math.floor(written.length / 3));
  const near = [...new Set(names)]
    .map(name => ({ name, distance: similarity(written, name) }))
    .filter(({ distance }) => distance <= limit)
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 3)
    .map(({ name }) => `"${name}"`);
  if (near.length > 0) return `; did you mean ${near.join(' or ')}?`;
  return names.length === 0 ? '' : `; known: ${[...new Set(names)].sort().join(', ')}`;
}

/** 0 or 1 if the names differ in case, dashes or an `x-` in front only; else the number of edits. */
function similarity(written: string, name: string): number {
  const bare = (text: string): string => text.toLowerCase().replace(/^x-/, '').replace(/[-_]/g, '');
  if (bare(written) === bare(name)) return written.toLowerCase() === name.toLowerCase() ? 0 : 1;
  return edits(written.toLowerCase(), name.toLowerCase());
}

/** Levenshtein's distance. */
function edits(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const replaced = row[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[to.length]!;
}
