import { hex } from '@remora/bits';
import type { Inspector } from '@remora/core';
import type { Iotlb, PagingStructureCache } from '@remora/iommu';
import {
  Cap,
  Ecap,
  EventControl,
  FaultStatus,
  InterruptTableAddress,
  PageQueueAddress,
  QueueAddress,
  Reg,
  RootTableAddress,
} from '../spec/index.js';
import type { OutstandingInvalidation } from './device-tlb-invalidation.js';
import type { InterruptEntryCache } from './interrupt-entry-cache.js';
import type { Lookup } from './lookup.js';
import { Pe } from './pasid-entry-cache.js';
import type { RegisterFile } from './register-file.js';
import type { UnitState } from './state.js';

const GSTS_HEX_DIGITS = 8;

/** A unit's registers, latches and caches. */
export function inspectUnit(
  into: Inspector,
  registers: RegisterFile,
  state: UnitState,
  lookup: Lookup,
  iotlb: Pick<Iotlb, 'entries'>,
  interruptEntries: InterruptEntryCache,
  outstanding: readonly OutstandingInvalidation[],
): void {
  const { words } = registers;
  const shown = into.child('registers');
  shown.record('cap', Cap, words, Reg.CAP >>> 2).record('ecap', Ecap, words, Reg.ECAP >>> 2);
  shown.value('gsts', `0x${registers.read(Reg.GSTS).toString(16).padStart(GSTS_HEX_DIGITS, '0')}`);
  shown.record('rtaddr', RootTableAddress, words, Reg.RTADDR >>> 2).record('iqa', QueueAddress, words, Reg.IQA >>> 2);
  shown.value('iqh', registers.read(Reg.IQH)).value('iqt', registers.read(Reg.IQT));
  shown.record('fsts', FaultStatus, words, Reg.FSTS >>> 2).record('fectl', EventControl, words, Reg.FECTL >>> 2);
  shown.record('irta', InterruptTableAddress, words, Reg.IRTA >>> 2);
  shown.record('pqa', PageQueueAddress, words, Reg.PQA >>> 2).record('pectl', EventControl, words, Reg.PECTL >>> 2);
  shown
    .value('pqh', registers.read(Reg.PQH))
    .value('pqt', registers.read(Reg.PQT))
    .value('prs', registers.read(Reg.PRS));
  into.value('translationEnabled', state.translationEnabled).value('translationTableMode', state.ttm);
  into.value('rootTable', hex(state.rootHi, state.rootLo)).value('queueEnabled', state.queueEnabled);

  into
    .value('interruptRemapping', state.interruptRemapping)
    .value('interruptTableEntries', state.interruptTableEntries);
  into.value('interruptTable', hex(state.interruptTableHi, state.interruptTableLo));
  into.value('extendedInterruptMode', state.extendedInterruptMode);

  into.value(
    'deviceTlbInvalidations',
    outstanding.map(({ requesterId, pasid, hi, lo, shift, deadline }) => ({
      requesterId,
      pasid,
      address: hex(hi, lo),
      shift,
      deadline,
    })),
  );

  const caches = into.child('caches');
  caches.value('contexts', [...lookup.contexts.requesters()]);
  const pe = lookup.pasids.words;
  caches.value(
    'pasids',
    [...lookup.pasids.records()].map(at => ({
      requesterId: pe[at + Pe.REQUESTER],
      pasid: pe[at + Pe.PASID],
      domain: pe[at + Pe.DOMAIN],
      pgtt: pe[at + Pe.PGTT],
    })),
  );
  caches.value('iotlb', [...iotlb.entries()]);
  caches.value('pagingStructures', countsByLevel(lookup.structures));
  caches.value('faulting', [
    ...(lookup.faulting?.contexts.entries() ?? []),
    ...(lookup.faulting?.pasids.entries() ?? []),
  ]);
  caches.value('interruptEntries', interruptEntries.indices());
}

/** How many entries of paging structures are cached: `level 2: 7`, and those at which a walk ends: `level 1, dead end: 3`. */
function countsByLevel(structures: PagingStructureCache | undefined): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { level, deadEnd } of structures?.entries() ?? []) {
    const name = `level ${level}${deadEnd ? ', dead end' : ''}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}
