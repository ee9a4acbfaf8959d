/** Page group responses on their way to the function that asked (vtd.md 7.4). */
import type { VtdEnvironment } from './environment.js';

/**
 * The unit matches nothing: the response goes to whom it names. 0, or a negated errno: a host lends that function, and does not pass the
 * response on.
 */
export function sendPageResponse(
  { propagation, endpoint }: VtdEnvironment,
  requesterId: number,
  pasid: number,
  group: number,
  code: number,
): number {
  const beyond = propagation?.pageResponse?.(requesterId, pasid, group, code);
  if (beyond !== undefined) return beyond;
  endpoint?.(requesterId)?.pageResponse(pasid, group, code);
  return 0;
}
