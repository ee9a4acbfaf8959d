/** What it needs of a test: AVA's `t`, or another runner's. */
export interface Teardown {
  teardown(close: () => void): void;
}

/**
 * Ties resources to a test, on the line that creates them: `const host = own(simulatedHost(...))`. AVA disposes of them when the
 * test ends, newest first, and of all even if one throws.
 */
export function owner(t: Teardown): <T extends Disposable>(resource: T) => T {
  return resource => {
    t.teardown(() => resource[Symbol.dispose]());
    return resource;
  };
}
