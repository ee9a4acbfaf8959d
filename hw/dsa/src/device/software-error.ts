/** SWERR (DSA 9.2.15): errors that no completion record tells. */
import { NO_PASID } from '@remora/core';
import { Descriptor, Reg, Swerr } from '../spec/index.js';
import type { Registers } from './registers.js';
import type { Work } from './work.js';

export interface SoftwareError {
  readonly error: number;
  readonly queue: number;
  /** Undefined if no descriptor is concerned. */
  readonly work?: Work;
  /** The descriptor, of a batch that which failed. */
  readonly words?: Int32Array;
  /** Which of a batch; undefined for one that is in none. */
  readonly batchIndex?: number;
  readonly write?: boolean;
  readonly hi?: number;
  readonly lo?: number;
  readonly invalidFlags?: number;
}

const AT = Reg.SWERR >>> 2;

/** Reports `error`, unless one is reported that software has not seen. */
export function reportSoftwareError(registers: Registers, error: SoftwareError): void {
  const { fields } = Swerr;
  if (fields.valid.get(registers.words, AT) !== 0) {
    fields.overflow.set(registers.words, AT, 1);
    return;
  }
  const { work, words, batchIndex } = error;
  registers.words.set(
    Swerr.encode({
      valid: 1,
      descriptorValid: words === undefined ? 0 : 1,
      queueValid: 1,
      batch: batchIndex === undefined ? 0 : 1,
      write: error.write === true ? 1 : 0,
      privileged: work?.privileged === true ? 1 : 0,
      error: error.error,
      queue: error.queue,
      operation: words === undefined ? 0 : Descriptor.fields.operation.get(words, 0),
      pasid: work === undefined || work.pasid === NO_PASID ? 0 : work.pasid,
      batchIndex: batchIndex ?? 0,
      invalidFlags: error.invalidFlags ?? 0,
      addressLo: (error.lo ?? 0) >>> 0,
      addressHi: (error.hi ?? 0) >>> 0,
    }),
    AT,
  );
  registers.softwareError();
}
