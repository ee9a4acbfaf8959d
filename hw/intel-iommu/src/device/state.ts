import type { StateReader, StateWriter } from '@remora/core';

/** A whole word, of either sign. */
const WORD = { min: -(2 ** 31), max: 2 ** 32 - 1 };
const MAX_INTERRUPT_ENTRIES = 2 ** 16;

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

  save(into: StateWriter): void {
    into.flag('translation', this.translationEnabled).integer('root-hi', this.rootHi).integer('root-lo', this.rootLo);
    into.integer('ttm', this.ttm).flag('queue', this.queueEnabled).flag('remapping', this.interruptRemapping);
    into.integer('interrupt-table-hi', this.interruptTableHi).integer('interrupt-table-lo', this.interruptTableLo);
    into.integer('interrupt-entries', this.interruptTableEntries).flag('eim', this.extendedInterruptMode);
    into.flag('cfi', this.compatibilityFormat);
  }

  load(from: StateReader): void {
    this.translationEnabled = from.flag('translation');
    this.rootHi = from.integer('root-hi', WORD);
    this.rootLo = from.integer('root-lo', WORD);
    this.ttm = from.integer('ttm', { max: 3 });
    this.queueEnabled = from.flag('queue');
    this.interruptRemapping = from.flag('remapping');
    this.interruptTableHi = from.integer('interrupt-table-hi', WORD);
    this.interruptTableLo = from.integer('interrupt-table-lo', WORD);
    this.interruptTableEntries = from.integer('interrupt-entries', { max: MAX_INTERRUPT_ENTRIES });
    this.extendedInterruptMode = from.flag('eim');
    this.compatibilityFormat = from.flag('cfi');
  }
}
