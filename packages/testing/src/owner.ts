import type { ExecutionContext } from 'ava';

/**
 * Ties resources to a test, on the line that creates them: `const host = own(simulatedHost(...))`. AVA disposes of them when the
 * test ends, newest first, and of all even if one throws.
 */
export function owner(t: ExecutionContext): <T extends Disposable>(resource: T) => T {
  return resource => {
    t.teardown(() => resource[Symbol.dispose]());
    return resource;
  };
}
