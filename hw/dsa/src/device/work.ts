/** Work: a descriptor that was accepted by a work queue, with what it may do. */
import { NO_PASID, type StateReader, type StateWriter } from '@remora/core';
import { DESCRIPTOR_WORDS } from '../spec/index.js';

export interface Work {
  readonly queue: number;
  /** A copy of the descriptor, 16 words. */
  readonly words: Int32Array;
  readonly pasid: number;
  readonly privileged: boolean;
}

const MAX_PASID = 0xf_ffff;

export function saveWork(into: StateWriter, work: Work): void {
  into.integer('queue', work.queue).words('descriptor', work.words);
  into.integer('pasid', work.pasid).flag('privileged', work.privileged);
}

export function loadWork(from: StateReader, queues: number): Work {
  const words = new Int32Array(DESCRIPTOR_WORDS);
  from.words('descriptor', words);
  return {
    queue: from.integer('queue', { max: queues - 1 }),
    words,
    pasid: from.integer('pasid', { min: NO_PASID, max: MAX_PASID }),
    privileged: from.flag('privileged'),
  };
}
