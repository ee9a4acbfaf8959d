/**
 * For what nobody can be told of: whoever closes a descriptor gets no errno, and what a unit failed to confirm must not stay programmed because
 * of one bad moment. Returns the result of `act`, or of a second try if the first one failed.
 */
export function insist(act: () => number): number {
  const result = act();
  return result < 0 ? act() : result;
}
