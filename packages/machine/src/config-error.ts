import { ConfigError } from '@remora/core';

/**
 * Runs `build` on behalf of the device or board listed at `path`: a ConfigError that it throws is told with that path, and with
 * the name of what was being built. Whoever is built knows its own name at most, not where it was listed; that name (any of
 * `names`) at the beginning of an error's path is replaced.
 */
export function located<T>(path: string, names: readonly string[], build: () => T): T {
  try {
    return build();
  } catch (cause) {
    if (!(cause instanceof ConfigError)) throw cause;
    const problem = cause.message.slice(cause.path.length + 2);
    throw new ConfigError(relocated(path, names, cause.path), `${problem} (${names[0]})`, { cause });
  }
}

function relocated(path: string, names: readonly string[], inner: string): string {
  for (const name of [path, ...names]) {
    if (inner === name) return path;
    if (inner.startsWith(`${name}.`)) return path + inner.slice(name.length);
  }
  return `${path}.${inner}`;
}
