/** Faults that the host's unit recorded, in numbers of the specification. */
import { frameHi, frameLo } from '@remora/bits';
import { NO_PASID } from '@remora/core';
import type { HostIommuFault } from '@remora/iommu';

/** Requester ids of the host's engines, 3f:00.0 and 3f:01.0. */
export const ENGINE_ID = 0x3f00;
export const SECOND_ENGINE_ID = 0x3f08;

/** Fault reasons (VT-d 7.1.3; vtd.md 7). */
export const Reason = {
  DIRECTORY_ENTRY_NOT_PRESENT: 0x51,
  PASID_ENTRY_NOT_PRESENT: 0x59,
  FIRST_STAGE_NOT_PRESENT: 0x71,
  SECOND_STAGE_NOT_PRESENT: 0x79,
  NO_WRITE_PERMISSION: 0x85,
} as const;

/** A refused request; `frame` is the page frame of its address. */
export function refused(
  reason: number,
  request: { pasid?: number; frame: number; write?: boolean; requesterId?: number },
): HostIommuFault {
  const { pasid = NO_PASID, frame, write = false, requesterId = ENGINE_ID } = request;
  return { requesterId, pasid, hi: frameHi(frame), lo: frameLo(frame), write, reason };
}
