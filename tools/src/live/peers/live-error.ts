/** What a live machine needs is not there, or cannot be had. The message says what to do. */
export class LiveError extends Error {
  override readonly name = 'LiveError';
}
