/** What global commands latched: in force whatever the registers say now. */
export class UnitState {
  translationEnabled = false;
  /** Root table, byte address. */
  rootHi = 0;
  rootLo = 0;
  /** Translation table mode, a Ttm value. */
  ttm = 0;
  queueEnabled = false;
  interruptRemapping = false;
  /** Interrupt remapping table: byte address, entries, and whether destinations have 32 bits. */
  interruptTableHi = 0;
  interruptTableLo = 0;
  interruptTableEntries = 0;
  extendedInterruptMode = false;
  /** Interrupts in compatibility format may pass (GSTS.CFIS). */
  compatibilityFormat = false;

  reset(): void {
    Object.assign(this, new UnitState());
  }
}
