/** What a unit with interrupt remapping makes of an interrupt request: owned by the caller, filled by the unit, never allocated on the way. */
export class RemappedInterrupt {
  /** Whether a message goes on to the processors. A posted interrupt may need none: it waits in memory. */
  send = false;
  /** Byte address of that message. */
  hi = 0;
  lo = 0;
  data = 0;
}
