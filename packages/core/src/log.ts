import createDebug from 'debug';

/** Messages for people who look for a fault. Format strings with arguments (`%s`, `%d`, `%o`), not template literals. */
export interface Log {
  /** Captured when the log was made: hot paths test it before they build arguments. */
  readonly on: boolean;
  debug(format: string, ...values: unknown[]): void;
  /** Something is wrong that a person should know. What a guest can cause at will goes through `rateLimited`. */
  warn(format: string, ...values: unknown[]): void;
}

/**
 * A log that is written while the environment variable DEBUG matches. `namespace` mirrors the path of the code, for instance
 * `remora:hw:intel-iommu:inval`; `instance` tells devices apart.
 */
export function logger(namespace: string, instance?: string): Log {
  const name = instance === undefined ? namespace : `${namespace}:${instance}`;
  const debug = createDebug(name);
  return {
    on: debug.enabled,
    debug: (format, ...values) => debug(format, ...values),
    warn: (format, ...values) => debug(`warning: ${format}`, ...values),
  };
}

/** `log`, for the first `limit` messages; with the last one it says that it will be silent. */
export function rateLimited(log: Log, limit: number): Log {
  let left = limit;
  const limited = (write: Log['debug']): Log['debug'] => {
    return (format, ...values) => {
      if (left <= 0) return;
      left--;
      write(left === 0 ? `${format} (and no more of these)` : format, ...values);
    };
  };
  return { on: log.on, debug: limited(log.debug), warn: limited(log.warn) };
}
