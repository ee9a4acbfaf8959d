/**
 * What is around a model that is compared with a recording. It takes down what the model does; where the recorded unit had an answer (a
 * device's, a host's), it gives the same.
 */
import type { VirtualCommandResult, VtdEnvironment, VtdPropagation } from '@hw/intel-iommu';
import type { MemoryPort } from '@remora/core';
import { deviceAnswerText, pageResponseText } from './ats-text.js';
import { hostCallText, virtualCommandAnswerText, virtualCommandText } from './host-text.js';
import { rangeMask, recordText } from './model-text.js';
import type { ReplayFrame } from './replay-frame.js';
import { deviceTlbText, interruptText, suppressedText } from './trace-text.js';

/** Whom the surroundings tell. */
export interface ReplayListener {
  /** Of the operation under way. */
  frame(): ReplayFrame;
  /** Requester ids of devices with a TLB. */
  readonly deviceTlbs: ReadonlySet<number>;
  /** Of what hosts are told, what the recording tells of. */
  readonly hostCalls: ReadonlySet<string>;
  /** A device, or a host, was answered its page requests: it may do something about that at once. */
  responded(text: string): void;
  /** The device will say when it has done the invalidation, by this number. */
  awaits(later: number, completed: () => void): void;
}

/** A host without PASIDs, or none. */
const NO_ANSWER: VirtualCommandResult = { status: 'no-pasid', result: 0 };

export function replayEnvironment(memory: MemoryPort, listener: ReplayListener): VtdEnvironment {
  const did = (text: string): unknown => listener.frame().got.push(text);
  return {
    name: 'replay',
    memory,
    sendMsi: (hi, lo, data) => did(interruptText(hi, lo, data)),
    faultOffered: record => did(recordText(record)),
    faultSuppressed: reason => {
      listener.frame().suppressed = true;
      did(suppressedText(reason));
    },
    propagation: replayPropagation(listener),
    endpoint: requesterId => ({
      invalidate: (_pasid, global, _hi, _lo, _shift, completed) => invalidated(listener, global, completed),
      pageResponse: (pasid, group, code) => listener.responded(pageResponseText(requesterId, pasid, group, code)),
    }),
  };
}

/** The device was sent what deviceTlbInvalidate has just told of. */
function invalidated(listener: ReplayListener, global: boolean, completed: () => void): boolean {
  const { got, expected } = listener.frame();
  const at = got.length - 1;
  const line = expected[at];
  if (line?.kind !== 'N' || line.answer === undefined) return true;
  const { later } = line.answer;
  got[at] += deviceAnswerText(global, later);
  if (later === undefined) return true;
  listener.awaits(later, completed);
  return false;
}

function replayPropagation(listener: ReplayListener): VtdPropagation {
  /** Undefined if the host did not refuse. */
  const told = (name: string, parameters: readonly (number | boolean)[] = []): number | undefined => {
    if (!listener.hostCalls.has(name)) return undefined;
    const { got, next } = listener.frame();
    const refused = next?.kind === 'H' && next.call === name ? next.refused : undefined;
    got.push(hostCallText(name, parameters, refused));
    return refused;
  };
  const result = (name: string, parameters: readonly (number | boolean)[]): number => -(told(name, parameters) ?? 0);
  return {
    contextCacheInvalidate: (...parameters) => result('contextCacheInvalidate', parameters),
    pasidCacheInvalidate: (...parameters) => result('pasidCacheInvalidate', parameters),
    pasidIotlbInvalidate: (...parameters) => result('pasidIotlbInvalidate', parameters),
    iotlbInvalidate: (...parameters) => result('iotlbInvalidate', parameters),
    settle: () => told('settle') ?? -1,
    deviceTlbInvalidate: (requesterId, pasid, hi, lo, shift) => {
      if (!listener.deviceTlbs.has(requesterId)) return;
      listener.frame().got.push(deviceTlbText(requesterId, pasid, { hi, lo }, rangeMask(shift)));
    },
    rootTableSet: () => void told('rootTableSet'),
    translationChanged: enabled => void told('translationChanged', [enabled]),
    reset: () => void told('reset'),
    pageResponse: (requesterId, pasid, group, code) => {
      const { next } = listener.frame();
      if (next?.kind !== 'PR' || next.host === undefined) return undefined;
      listener.responded(pageResponseText(requesterId, pasid, group, code, next.host));
      return -next.host;
    },
    virtualCommand: (opcode, operand) => {
      const { next } = listener.frame();
      if (next?.kind !== 'VC') return NO_ANSWER;
      listener.frame().got.push(`${virtualCommandText(opcode, operand)}${virtualCommandAnswerText(next.answer)}`);
      return next.answer;
    },
  };
}
