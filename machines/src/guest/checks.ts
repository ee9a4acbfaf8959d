import { errnoName } from '@remora/core';

/** A guest that finds something wrong says so. @throws Error */
export function expect(right: boolean, problem: string): void {
  if (!right) throw new Error(`the guest: ${problem}`);
}

/** `status` is 0 or a negated errno. @throws Error unless it is 0. */
export function succeeded(what: string, status: number): void {
  expect(status === 0, `${what} failed: ${errnoName(status)}`);
}
