import { ConfigError, StateError } from '@remora/core';
import { UsageError } from './usage-error.js';

/** Whether an error is a person's mistake, to be told in one line. */
export function isMistake(error: unknown): error is Error {
  return error instanceof ConfigError || error instanceof UsageError || error instanceof StateError;
}
