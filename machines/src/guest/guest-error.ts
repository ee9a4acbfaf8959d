/** A guest's software cannot go on: what it needs is not there. */
export class GuestError extends Error {
  override readonly name = 'GuestError';
}
