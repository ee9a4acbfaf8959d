import { bit, bits, frame, record } from '@remora/bits';

/** A fault recording register (VT-d 11.4.11). */
export const FaultRecord = record('vtd.frcd', 'VT-d 11.4.11', 16, {
  /** Page of the request, bits 63:12 of its address. */
  fi: frame(63, 12),
  sid: bits(79, 64),
  t2: bit(92),
  priv: bit(93),
  exe: bit(94),
  /** The request had a PASID. */
  pp: bit(95),
  fr: bits(103, 96),
  pv: bits(123, 104),
  at: bits(125, 124),
  /** With t2: 0 write, 1 read. */
  t1: bit(126),
  f: bit(127),
});

/** Byte offset in a fault record of the dword that holds F, and F in it. */
export const FRCD_F_OFFSET = 12;
export const FRCD_F = 0x8000_0000 | 0;

/**
 * Fault reasons (VT-d 7.1.3), by the specification's condition label: L legacy, S scalable; RT root, CT context, PD PASID directory,
 * PT PASID table, FS first stage, SS second stage, GN general.
 */
export const Fault = {
  NONE: 0,
  LRT_2: 0x01,
  LCT_2: 0x02,
  LCT_4: 0x03,
  LGN_1: 0x04,
  LGN_2: 0x05,
  LGN_3: 0x06,
  LSS_1: 0x07,
  LRT_1: 0x08,
  LCT_1: 0x09,
  LRT_3: 0x0a,
  LCT_3: 0x0b,
  LSS_2: 0x0c,
  LCT_5: 0x0d,
  LGN_4: 0x0e,
  IR_1: 0x20,
  IR_2: 0x21,
  IR_3: 0x22,
  IR_4: 0x23,
  IR_5: 0x24,
  IR_6: 0x25,
  IR_7: 0x26,
  IR_8: 0x27,
  IR_9: 0x28,
  IR_10: 0x29,
  RTA_1: 0x30,
  RTA_2: 0x31,
  RTA_3: 0x32,
  RTA_4: 0x33,
  SRT_1: 0x38,
  SRT_2: 0x39,
  SRT_3: 0x3a,
  SCT_1: 0x40,
  SCT_2: 0x41,
  SCT_3: 0x42,
  SCT_4: 0x43,
  SCT_5: 0x44,
  SCT_6: 0x45,
  SCT_7: 0x46,
  SCT_8: 0x47,
  SCT_9: 0x48,
  SPD_1: 0x50,
  SPD_2: 0x51,
  SPD_3: 0x52,
  SPT_1: 0x58,
  SPT_2: 0x59,
  SPT_3: 0x5a,
  SPT_4: 0x5b,
  SPT_5: 0x5c,
  SPT_6: 0x5d,
  SFS_1: 0x70,
  SFS_2: 0x71,
  SFS_3: 0x72,
  SFS_4: 0x73,
  SFS_5: 0x74,
  SFS_6: 0x75,
  SFS_7: 0x76,
  SFS_8: 0x77,
  SSS_1: 0x78,
  SSS_2: 0x79,
  SSS_3: 0x7a,
  SSS_4: 0x7b,
  SSS_5: 0x7c,
  SSS_6: 0x7d,
  SGN_1: 0x80,
  SGN_2: 0x81,
  SGN_3: 0x82,
  SGN_4: 0x83,
  SGN_5: 0x84,
  SGN_6: 0x85,
  SGN_7: 0x86,
  SGN_8: 0x87,
  SGN_9: 0x88,
  SGN_10: 0x89,
  SFS_9: 0x90,
  SFS_10: 0x91,
} as const;
export type FaultName = keyof typeof Fault;

const DESCRIPTIONS: Partial<Record<FaultName, string>> = {
  LRT_2: 'root entry not present',
  LCT_2: 'context entry not present',
  LCT_4: 'context entry invalid',
  LGN_1: 'address beyond the width',
  LGN_2: 'write without permission',
  LGN_3: 'read without permission',
  LSS_1: 'second-stage entry not readable',
  LRT_1: 'root table not readable',
  LCT_1: 'context table not readable',
  LRT_3: 'root entry: reserved bits',
  LCT_3: 'context entry: reserved bits',
  LSS_2: 'second-stage entry: reserved bits',
  LCT_5: 'ATS request blocked by the translation type',
  LGN_4: 'output in the interrupt range',
  IR_1: 'remappable request: reserved bits',
  IR_2: 'interrupt index beyond the table',
  IR_3: 'IRTE not present',
  IR_4: 'IRTE not readable',
  IR_5: 'IRTE: reserved bits',
  IR_6: 'compatibility-format interrupt blocked',
  IR_7: 'interrupt source not verified',
  IR_8: 'posted descriptor not accessible',
  IR_9: 'posted descriptor: reserved bits',
  RTA_1: 'translation table mode not supported',
  RTA_2: 'request with PASID in legacy mode',
  RTA_3: 'page request in legacy mode',
  RTA_4: 'request in abort-DMA mode',
  SRT_1: 'root table not readable',
  SRT_2: 'root entry not present',
  SRT_3: 'root entry: reserved bits',
  SCT_1: 'context table not readable',
  SCT_2: 'context entry not present',
  SCT_3: 'context entry: reserved bits',
  SCT_4: 'context entry invalid',
  SCT_5: 'ATS request, device TLB not enabled',
  SCT_6: 'request with PASID, PASIDs not enabled',
  SCT_7: 'PASID beyond the directory',
  SCT_8: 'page request, page requests not enabled',
  SCT_9: 'RID_PASID invalid',
  SPD_1: 'PASID directory not readable',
  SPD_2: 'PASID directory entry not present',
  SPD_3: 'PASID directory entry: reserved bits',
  SPT_1: 'PASID table not readable',
  SPT_2: 'PASID entry not present',
  SPT_3: 'PASID entry: reserved bits',
  SPT_4: 'PASID entry invalid',
  SPT_5: 'execute request not enabled',
  SPT_6: 'supervisor request not enabled',
  SFS_1: 'first-stage entry not readable',
  SFS_2: 'first-stage entry not present',
  SFS_3: 'first-stage entry: reserved bits',
  SFS_4: 'first-stage root not readable',
  SFS_5: 'first-stage table beyond the second-stage width',
  SFS_6: 'first-stage root: no second-stage read permission',
  SFS_7: 'first-stage table: no second-stage read permission',
  SFS_8: 'first-stage accessed/dirty: no second-stage write permission',
  SSS_1: 'second-stage entry not readable',
  SSS_2: 'second-stage entry not present',
  SSS_3: 'second-stage entry: reserved bits',
  SSS_4: 'second-stage root not readable',
  SSS_5: 'second-stage accessed/dirty update not snooped',
  SSS_6: 'second-stage accessed/dirty update failed',
  SGN_1: 'address not canonical',
  SGN_2: 'user request to a supervisor page',
  SGN_3: 'execute without permission',
  SGN_4: 'address beyond the host width',
  SGN_5: 'address beyond the second-stage width',
  SGN_6: 'write without permission',
  SGN_7: 'read without permission',
  SGN_8: 'interrupt address range',
  SFS_9: 'first-stage accessed/dirty update not snooped',
  SFS_10: 'first-stage accessed/dirty update failed',
};

const NAMES = new Map<number, FaultName>(Object.entries(Fault).map(([name, code]) => [code, name as FaultName]));

/** `SFS.2 (0x71: first-stage entry not present)`, for messages. */
export function faultName(reason: number): string {
  const name = NAMES.get(reason);
  const code = `0x${reason.toString(16)}`;
  if (name === undefined) return `reason ${code}`;
  const description = DESCRIPTIONS[name];
  return `${name.replace('_', '.')} (${code}${description === undefined ? '' : `: ${description}`})`;
}

/** Faults that are recorded whatever FPD says: what was read before any FPD, and failed reads of lookup structures. */
const UNQUALIFIED: readonly number[] = [
  ...[Fault.LRT_1, Fault.LRT_2, Fault.LRT_3, Fault.LCT_1],
  ...[Fault.IR_1, Fault.IR_2, Fault.IR_4, Fault.IR_6, Fault.IR_10],
  ...[Fault.RTA_1, Fault.RTA_2, Fault.RTA_3, Fault.RTA_4],
  ...[Fault.SRT_1, Fault.SRT_2, Fault.SRT_3, Fault.SCT_1, Fault.SPD_1, Fault.SPT_1],
];

/** By reason: 1 if the fault is qualified, that is, suppressed by an FPD bit on the way. */
export const QUALIFIED: Uint8Array = Uint8Array.from({ length: 256 }, (_, reason) =>
  NAMES.has(reason) && reason !== 0 && !UNQUALIFIED.includes(reason) ? 1 : 0,
);
